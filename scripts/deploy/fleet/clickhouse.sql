-- laggard's records of many hosts in ClickHouse. NOT run here (Debian 12 has 18.16 only): written from ClickHouse's
-- reference, 24 or newer, after postgresql.sql, which runs in the tests. Where the two differ, that one is right.
--
--   clickhouse-client --multiquery < clickhouse.sql
--   clickhouse-client --query 'insert into laggard_lines (line) format JSONAsString' < host-a.ndjson
--   clickhouse-client --query 'select * from laggard_connections'
--
-- Keys are not paths for JSONExtract: 'host.name' is the one key with a dot in it.

create table if not exists laggard_lines (
  line String,
  at DateTime64(9, 'UTC') materialized parseDateTime64BestEffort(JSONExtractString(line, 'timestamp'), 9, 'UTC'),
  event LowCardinality(String) materialized JSONExtractString(line, 'event.name'),
  severity LowCardinality(String) materialized JSONExtractString(line, 'severity'),
  host LowCardinality(String) materialized
    if(JSONHas(line, 'k8s.node.name'), JSONExtractString(line, 'k8s.node.name'), JSONExtractString(line, 'host.name')),
  finding String materialized JSONExtractString(line, 'laggard.finding.id'),
  sequence UInt64 materialized JSONExtractUInt(line, 'laggard.finding.sequence')
)
engine = MergeTree
order by (host, at)
ttl toDateTime(at) + interval 90 day;

-- One row for each finding: what its last line says, and the worst severity of all of them ("resolved" is an info).
create or replace view laggard_findings as
select host, finding, argMax(line, sequence) as last, JSONExtractString(last, 'laggard.finding.kind') as finding_kind,
       finding_kind in ('remote-slow-reader', 'fin-wait-2') as is_victim, max(severity = 'error') as critical,
       multiIf(JSONHas(last, 'k8s.namespace.name'),
               concat(JSONExtractString(last, 'k8s.namespace.name'), '/', JSONExtractString(last, 'k8s.container.name')),
               JSONHas(last, 'laggard.systemd.unit'), JSONExtractString(last, 'laggard.systemd.unit'),
               JSONExtractString(last, 'process.executable.name')) as service,
       JSONExtractString(last, 'process.executable.name') as executable, JSONExtractUInt(last, 'process.pid') as pid,
       parseDateTime64BestEffort(JSONExtractString(last, 'laggard.finding.start_time'), 9, 'UTC') as started,
       max(at) as last_known,
       JSONExtractFloat(last, 'laggard.finding.duration_seconds') as seconds,
       greatest(JSONExtractUInt(last, 'laggard.finding.count'), 1) as subjects,
       JSONExtractString(last, 'laggard.finding.resolution') as resolution,
       JSONExtractString(last, 'laggard.finding.symptom_of') as symptom_of, JSONExtractString(last, 'message') as text
  from laggard_lines
 where finding != ''
 group by host, finding;

-- The connections of each finding, by their two ends in order: the one that a line is about and the up to five in
-- laggard.examples, local end first; the other host writes the same the other way round.
create or replace view laggard_ends as
select distinct host, finding,
       concat(JSONExtractString(line, 'network.transport'), ' ',
              arrayStringConcat(arraySort(arrayJoin(arrayConcat(
                if(JSONHas(line, 'network.peer.address'),
                   [arrayMap((address, port) -> concat(if(position(address, ':') > 0, concat('[', address, ']'), address),
                                                       ':', toString(port)),
                             [JSONExtractString(line, 'network.local.address'), JSONExtractString(line, 'network.peer.address')],
                             [JSONExtractUInt(line, 'network.local.port'), JSONExtractUInt(line, 'network.peer.port')])],
                   []),
                arrayMap(example -> splitByChar('>', example), JSONExtract(line, 'laggard.examples', 'Array(String)'))))), ' ')) as connection
  from laggard_lines
 where finding != '';

-- Who holds whom back: one host's laggard says that a sender of its is held back, another's says which program it is.
-- Both must have been going on at the same time, ports are used again; a minute is for clocks that differ. Victims whose
-- guilty end nobody named have no row here; in postgresql.sql they do.
create or replace view laggard_connections as
select guilty.host as guilty_host, guilty.service as guilty_service, guilty.pid as guilty_pid,
       guilty.finding_kind as guilty_kind,
       victim.host as victim_host, victim.service as victim_service, victim.pid as victim_pid,
       victim.finding_kind as victim_kind,
       groupUniqArray(victim_end.connection) as connections, max(greatest(victim.seconds, guilty.seconds)) as seconds,
       any(guilty.text) as message
  from laggard_ends as victim_end
  join laggard_findings as victim on victim.host = victim_end.host and victim.finding = victim_end.finding
  join laggard_ends as guilty_end on guilty_end.connection = victim_end.connection
  join laggard_findings as guilty on guilty.host = guilty_end.host and guilty.finding = guilty_end.finding
 where victim.is_victim and not guilty.is_victim
   and guilty.started <= victim.last_known + interval 1 minute
   and victim.started <= guilty.last_known + interval 1 minute
 group by guilty_host, guilty_service, guilty_pid, guilty_kind, victim_host, victim_service, victim_pid, victim_kind
 order by seconds desc;

-- Services of the last day by what they do to others.
create or replace view laggard_ranking as
select service, count() as findings, countIf(critical) as critical_findings, sum(subjects) as connections,
       uniqExact(host) as hosts, sum(seconds * subjects) as connection_seconds, countIf(resolution = '') as still_open,
       groupUniqArray(finding_kind) as kinds
  from laggard_findings
 where not is_victim and symptom_of = '' and last_known > now() - interval 1 day
 group by service
 order by critical_findings desc, connection_seconds desc;

-- Where a quiet log proves nothing: laggard stopped, or sees less. Silence alone is what a healthy host gives: ask the
-- metrics.
create or replace view laggard_blind as
select host, argMaxIf(event, at, event in ('laggard.agent.started', 'laggard.agent.stopped')) as life,
       countIf(event = 'laggard.agent.degraded' and at > now() - interval 1 hour) as degraded, max(at) as last_heard
  from laggard_lines
 group by host
having life = 'laggard.agent.stopped' or degraded > 0
 order by last_heard;
