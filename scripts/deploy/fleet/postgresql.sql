-- laggard's records of many hosts in PostgreSQL 15 or newer: one table and what is asked of it at 3 a.m.
-- Run as it stands here by tests/deploy/fleet_test.py on the records of two hosts.
--
--   psql -f postgresql.sql                                  once; again after an upgrade, it replaces the views
--   psql -f postgresql-load.sql < host-a.ndjson             or any collector that inserts the line into column `line`
--   psql -c 'select * from laggard_connections'             who holds whom back, both ends
--   psql -c "select * from laggard_ranking('1 day')"        which services are worst
--   psql -c "select * from laggard_blind('1 hour')"         where nobody looks

create extension if not exists pgcrypto; -- digest(); comes with PostgreSQL (contrib) and needs no superuser

create table if not exists laggard_lines (
  received timestamptz not null default now(),
  line jsonb not null
);
create index if not exists laggard_lines_received on laggard_lines (received);
create index if not exists laggard_lines_finding on laggard_lines ((line->>'laggard.finding.id'));

-- Older definitions go first: `create or replace view` cannot remove a column.
drop function if exists laggard_ranking(interval);
drop function if exists laggard_blind(interval);
drop view if exists laggard_connections;
drop view if exists laggard_ends;
drop view if exists laggard_findings;

-- Community ID v1, seed 0, of a connection as laggard.examples writes it: "10.0.0.7:80>[fd00::1]:4000".
create or replace function laggard_community_id(transport text, connection text) returns text
language sql immutable strict as $$
  with ends as (
    select substring(inet_send(host(part[1]::inet)::inet) from 5) as address, -- without family, mask, flag and length
           substring(int4send(part[2]::int) from 3) as port                   -- two bytes, big end first
      from regexp_split_to_table(connection, '>') as text_of_end,
           regexp_match(text_of_end, '^\[?([0-9a-fA-F.:]+?)\]?:([0-9]+)$') as part
  )
  select '1:' || encode(digest('\x0000'::bytea || string_agg(address, ''::bytea order by address, port)
                               || case transport when 'tcp' then '\x0600'::bytea when 'udp' then '\x1100'::bytea end
                               || string_agg(port, ''::bytea order by address, port), 'sha1'), 'base64')
    from ends
$$;

-- One row for each finding: what its last line says, and the worst severity of all of them ("resolved" is an info).
create view laggard_findings as
select distinct on (host, finding)
       coalesce(line->>'k8s.node.name', line->>'host.name') as host,
       line->>'laggard.finding.id' as finding,
       line->>'laggard.finding.kind' as kind,
       bool_or(line->>'severity' = 'error') over finding_lines as critical,
       -- These kinds are the end that is held back; the guilty end is the peer.
       line->>'laggard.finding.kind' in ('remote-slow-reader', 'fin-wait-2') as is_victim,
       coalesce(line->>'k8s.namespace.name' || '/' || coalesce(line->>'k8s.container.name', line->>'k8s.pod.name'),
                line->>'laggard.systemd.unit', line->>'process.executable.name', '(unknown)') as service,
       line->>'process.executable.name' as executable,
       (line->>'process.pid')::bigint as pid,
       (line->>'laggard.finding.start_time')::timestamptz as started,
       coalesce((line->>'laggard.finding.end_time')::timestamptz, (line->>'timestamp')::timestamptz) as last_known,
       (line->>'laggard.finding.duration_seconds')::double precision as seconds,
       coalesce((line->>'laggard.finding.count')::bigint, 1) as subjects,
       line->>'laggard.finding.resolution' as resolution,
       line->>'laggard.finding.symptom_of' as symptom_of,
       line->>'message' as message
  from laggard_lines
 where line->>'laggard.finding.id' is not null
window finding_lines as (partition by coalesce(line->>'k8s.node.name', line->>'host.name'), line->>'laggard.finding.id')
 order by host, finding, (line->>'laggard.finding.sequence')::bigint desc;

-- The connections of each finding by Community ID. A finding about many connections names its worst one in
-- network.community_id, another one perhaps in each line, and up to five in laggard.examples.
create view laggard_ends as
select coalesce(line->>'k8s.node.name', line->>'host.name') as host, line->>'laggard.finding.id' as finding,
       line->>'network.community_id' as community_id
  from laggard_lines where line ? 'laggard.finding.id' and line ? 'network.community_id'
union
select coalesce(line->>'k8s.node.name', line->>'host.name'), line->>'laggard.finding.id',
       laggard_community_id(line->>'network.transport', example)
  from laggard_lines, jsonb_array_elements_text(line->'laggard.examples') as example
 where line ? 'laggard.finding.id' and line ? 'network.transport';

-- Who holds whom back: one host's laggard says that a sender of its is held back, another's says which program it is.
-- A port is used again some day, so both must have been going on at the same time; a minute is for clocks that differ.
-- guilty_host is null where the other end's host has no laggard, is blind, or sees no fault in its program.
create view laggard_connections as
select guilty.host as guilty_host, guilty.service as guilty_service, guilty.executable as guilty_executable,
       guilty.pid as guilty_pid, guilty.kind as guilty_kind,
       victim.host as victim_host, victim.service as victim_service, victim.executable as victim_executable,
       victim.pid as victim_pid, victim.kind as victim_kind,
       count(*) as connections, max(greatest(victim.seconds, guilty.seconds)) as seconds,
       array_agg(victim_end.community_id order by victim_end.community_id) as community_ids,
       coalesce(guilty.message, victim.message) as message
  from laggard_findings as victim
  join laggard_ends as victim_end using (host, finding)
  left join (select ends.community_id, findings.*
               from laggard_ends as ends join laggard_findings as findings using (host, finding)
              where not findings.is_victim) as guilty
    on guilty.community_id = victim_end.community_id
   and guilty.started <= victim.last_known + interval '1 minute'
   and victim.started <= guilty.last_known + interval '1 minute'
 where victim.is_victim
 group by guilty.host, guilty.finding, guilty.service, guilty.executable, guilty.pid, guilty.kind, guilty.message,
          victim.host, victim.finding, victim.service, victim.executable, victim.pid, victim.kind, victim.message
 order by guilty.host is null, seconds desc, connections desc;

-- Services by what they do to others: victims and what only follows from another finding of the same host are left out.
-- First those with critical findings; `seconds` counts each connection of a finding.
create or replace function laggard_ranking(period interval default '1 day')
returns table (service text, findings bigint, critical bigint, subjects numeric, hosts bigint, seconds double precision,
               still_open bigint, kinds text, worst text)
language sql stable as $$
  select service, count(*), count(*) filter (where critical), sum(subjects), count(distinct host), sum(seconds * subjects),
         count(*) filter (where resolution is null), string_agg(distinct kind, ', ' order by kind),
         (array_agg(message order by critical desc, seconds * subjects desc))[1]
    from laggard_findings
   where not is_victim and symptom_of is null and last_known > now() - period
   group by service
   order by count(*) filter (where critical) desc, sum(seconds * subjects) desc
$$;

-- Where a quiet log proves nothing. laggard says nothing while nothing is wrong, so `silent` is a hint only: whether it
-- still runs is what its metrics are for (prometheus.md). To see `never`, name the hosts: a laggard_hosts(host) of yours.
create or replace function laggard_blind(period interval default '1 hour')
returns table (host text, why text, since timestamptz, detail text)
language sql stable as $$
  with said as (
    select coalesce(line->>'k8s.node.name', line->>'host.name') as host, line->>'event.name' as event,
           (line->>'timestamp')::timestamptz as at, line->>'message' as message
      from laggard_lines
  ), last_life as (
    select distinct on (said.host) said.* from said
     where event in ('laggard.agent.started', 'laggard.agent.stopped') order by said.host, at desc
  ), last_heard as (
    select said.host, max(at) as at from said group by said.host
  )
  select last_life.host, 'stopped', at, message from last_life where event = 'laggard.agent.stopped'
  union all
  select said.host, 'degraded', max(at), (array_agg(message order by at desc))[1] from said
   where event = 'laggard.agent.degraded' and at > now() - period group by said.host
  union all
  select last_heard.host, 'silent', last_heard.at, 'nothing heard since' from last_heard
    join last_life on last_life.host = last_heard.host and event = 'laggard.agent.started'
   where last_heard.at <= now() - period
   order by 1, 2
$$;
