#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two hosts that each see one end, and the shipped SQL that puts the ends together and names the guilty one.

A host is a network namespace and a host name of its own, with a laggard restricted to it; a veth pair joins them. On web-1
a program sends; on db-2 one takes it too slowly on two connections, another takes nothing at all, a third takes all.
"""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import packages
import stage
from stage import Json

FLEET = stage.SOURCE / "scripts/deploy/fleet"
ACTOR = Path(__file__).resolve().parent / "fleet_actor.py"
PREFIX = f"fd00:{os.getpid() % 65536:x}::"
PORT = 24017
VIEWER = 'vie"w\\er\n'  # what JSON must escape, COPY must not take for its own
VECTORS = {  # of the Community ID specification, as tests/unit checks them too
    ("tcp", "128.232.110.120:34855>66.35.250.204:80"): "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
    ("udp", "192.168.1.52:54585>8.8.8.8:53"): "1:d/FP5EW3wiY1vCndhwleRRKHowQ=",
    ("tcp", "[2001:470:e5bf:dead:4957:2174:e82c:4887]:63943>[2607:f8b0:400c:c03::1a]:25"): "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
}


@dataclass
class Host:
    name: str
    namespace: str
    address: str

    def enter(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace]

    def actor(self, *words: str) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        return stage.started([*self.enter(), sys.executable, ACTOR, *words], stdout=subprocess.PIPE)

    @contextlib.contextmanager
    def observed(self, file: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
        netns = os.stat(f"/run/netns/{self.namespace}").st_ino
        environment = {name: value for name, value in os.environ.items() if name != "NODE_NAME"}
        with file.open("w") as out, stage.started(
                ["unshare", "--uts", "sh", "-c", 'hostname "$1" && shift && exec "$@"', "sh", self.name, stage.LAGGARD,
                 "--netns", str(netns), *stage.QUICK, "--lag", "250ms", "--stall", "3s", *options],
                stdout=out, env=environment) as laggard:
            yield laggard


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    hosts = [Host(name, f"laggard-{name}-{os.getpid()}", f"{PREFIX}{number}") for number, name in ((1, "web-1"), (2, "db-2"))]
    with contextlib.ExitStack() as cleanup:
        for host in hosts:
            made = subprocess.run(["ip", "netns", "add", host.namespace], capture_output=True, text=True)
            if made.returncode != 0:
                raise stage.Skip("no network namespaces here: " + made.stderr.strip())
            cleanup.callback(subprocess.run, ["ip", "netns", "del", host.namespace], check=True)
        ip(f"link add eth0 netns {hosts[0].namespace} type veth peer name eth0 netns {hosts[1].namespace}")
        for host in hosts:
            ip(f"-n {host.namespace} addr add {host.address}/64 dev eth0 nodad")
            ip(f"-n {host.namespace} link set eth0 up")
        yield hosts[0], hosts[1]


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


class Postgres:
    """A server of its own in `work`, on a socket only, which ends with the test."""

    def __init__(self, work: Path) -> None:
        self.work, self.data, self.log = work, work / "data", work / "postgres.log"
        work.mkdir()
        shutil.chown(work, "nobody")
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda file: int(file.parts[-3]))
        if installed:
            self.binaries, self.environment = installed[-1].parent, dict(os.environ)
            return
        unpacked = packages.provide("postgresql-15", "/usr/lib/postgresql/15/bin/postgres")
        # Not below the build folder: nobody may not be let in there.
        shutil.copytree(unpacked.root, work / "installed", symlinks=True)
        self.binaries = work / "installed/usr/lib/postgresql/15/bin"
        self.environment = {**os.environ, "LD_LIBRARY_PATH": unpacked.environment["LD_LIBRARY_PATH"].replace(
            str(unpacked.root), str(work / "installed"))}

    def as_nobody(self, program: str) -> list[str | Path]:
        """PostgreSQL does not run as root."""
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", self.binaries / program]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        subprocess.run([*self.as_nobody("initdb"), "--no-sync", "--auth=trust", "--username=test", "--encoding=UTF8",
                        "--no-locale", self.data], cwd=self.work, env=self.environment, check=True, capture_output=True)
        with self.log.open("w") as log, stage.started(
                [*self.as_nobody("postgres"), "-D", self.data, "-k", self.work, "-c", "listen_addresses=", "-c", "fsync=off"],
                cwd=self.work, env=self.environment, stdout=log, stderr=log):
            ready = [self.binaries / "pg_isready", "-q", "-h", self.work, "-U", "test"]
            stage.eventually(lambda: subprocess.run(ready, env=self.environment).returncode == 0, "PostgreSQL takes connections")
            yield

    def psql(self, *words: str | Path, stdin: Path | None = None) -> str:
        with open(stdin or os.devnull, "rb") as source:
            done = subprocess.run([self.binaries / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.work, "-U", "test",
                                   "-d", "postgres", *words], stdin=source, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise stage.Failed(f"psql {' '.join(map(str, words))}: {done.stderr}{done.stdout}")
        return done.stdout

    def rows(self, query: str) -> list[Json]:
        return [json.loads(row) for row in self.psql("-At", "-c", f"select to_json(r) from ({query}) as r").splitlines()]


def read(file: Path) -> list[Json]:
    """The whole lines so far."""
    text = file.read_text()
    return stage.lines_of(text[: text.rfind("\n") + 1])


def record_incident(work: Path) -> tuple[list[Path], dict[str, int]]:
    """The records of both hosts while their laggards run, of a third whose laggard has stopped, and who has which pid."""
    web, db, stopped = (work / f"{name}.ndjson" for name in ("web-1", "db-2", "cache-3"))
    loaded = [web.with_suffix(".loaded"), db.with_suffix(".loaded"), stopped]
    with contextlib.ExitStack() as stack:
        one, two = stack.enter_context(two_hosts())
        actors = {"feed": stack.enter_context(one.actor("feed", one.address, str(PORT)))}
        assert actors["feed"].stdout and actors["feed"].stdout.readline() == "ready\n", "the sender does not listen"
        for name, behaviour in ((VIEWER, "slow"), ("archiver", "stalled"), ("healthy", "reads")):
            actors[name] = stack.enter_context(two.actor(name, one.address, str(PORT), behaviour))
        stack.enter_context(one.observed(web))
        stack.enter_context(two.observed(db))
        with Host("cache-3", two.namespace, two.address).observed(stopped, "--duration", "1s") as short:
            short.wait(timeout=stage.DEADLINE_SECONDS)
        stage.eventually(lambda: any(line["severity"] == "error" and line["laggard.finding.kind"] == "slow-reader"
                                     for line in read(db)), "the slow reader is critical")
        for file, kind, connections in ((web, "remote-slow-reader", 3), (db, "slow-reader", 2), (db, "stalled-reader", 1)):
            stage.eventually(lambda: said(file, kind, connections), f"{file} says {kind} of {connections} connections")
        for file, copy in ((web, loaded[0]), (db, loaded[1])):  # while all is open, and both hosts have eyes
            copy.write_text("".join(json.dumps(line) + "\n" for line in read(file)))
        # `ip netns exec` becomes the program that it runs.
        pids = {name: process.pid for name, process in actors.items()}
    for file in (web, db, stopped):
        stage.check_schema(read(file))
    return loaded, pids


def said(file: Path, kind: str, connections: int) -> bool:
    """Findings of one process are one finding with a count."""
    return any(line.get("laggard.finding.kind") == kind and line.get("laggard.finding.count", 1) == connections
               for line in read(file))


def test(work: Path) -> None:
    stage.require("ip", "unshare", "setpriv")
    stage.require_observer()
    if os.geteuid() != 0:
        raise stage.Skip("needs root")
    postgres = Postgres(work / "postgres")
    files, pids = record_incident(work)
    with postgres.running():
        postgres.psql("-f", FLEET / "postgresql.sql")
        postgres.psql("-f", FLEET / "postgresql.sql")  # a second time, as after an upgrade
        check_community_ids(postgres, VECTORS)
        for file in files:
            postgres.psql("-f", FLEET / "postgresql-load.sql", stdin=file)
        lines = [line for file in files for line in read(file)]
        loaded = [row["line"] for row in postgres.rows("select line from laggard_lines")]
        assert loaded == lines, f"{len(lines)} lines were loaded as {len(loaded)}, or changed"
        check_community_ids(postgres, {(line["network.transport"], connection(line)): line["network.community_id"]
                                       for line in lines if "network.community_id" in line})
        check_answers(postgres, pids)


def connection(line: Json) -> str:
    ends = ((line[f"network.{end}.address"], line[f"network.{end}.port"]) for end in ("local", "peer"))
    return ">".join(f"[{address}]:{port}" if ":" in address else f"{address}:{port}" for address, port in ends)


def check_community_ids(postgres: Postgres, expected: dict[tuple[str, str], str]) -> None:
    """SQL's Community IDs are those of the standard, and laggard's, from either end."""
    assert expected
    for (transport, ends), community_id in expected.items():
        for text in (ends, ">".join(reversed(ends.split(">")))):
            row, = postgres.rows(f"select laggard_community_id('{transport}', '{text}') as id")
            assert row["id"] == community_id, f"{transport} {text}: {row['id']} instead of {community_id}"


def check_answers(postgres: Postgres, pids: dict[str, int]) -> None:
    def say(rows: Sequence[Json]) -> str:
        return json.dumps(rows, indent=1)

    connections = postgres.rows("select * from laggard_connections")
    ends = {(row["guilty_host"], row["guilty_executable"], row["guilty_pid"], row["guilty_kind"]): row["connections"]
            for row in connections}
    assert ends == {("db-2", VIEWER, pids[VIEWER], "slow-reader"): 2,
                    ("db-2", "archiver", pids["archiver"], "stalled-reader"): 1}, say(connections)
    for row in connections:
        victim = [row[f"victim_{what}"] for what in ("host", "executable", "pid", "kind")]
        assert victim == ["web-1", "feed", pids["feed"], "remote-slow-reader"], say(connections)
    assert len({one for row in connections for one in row["community_ids"]}) == 3, say(connections)

    ranking = postgres.rows("select * from laggard_ranking('1 day')")
    assert ranking[0]["service"] == VIEWER, f"the worst comes first: {say(ranking)}"
    assert {row["service"]: row["subjects"] for row in ranking} == {VIEWER: 2, "archiver": 1}, say(ranking)

    blind = postgres.rows("select * from laggard_blind('1 hour')")
    degraded = postgres.rows("""select distinct line->>'host.name' as host from laggard_lines
                                where line->>'event.name' = 'laggard.agent.degraded'""")  # by a busy machine
    expected = {("cache-3", "stopped"), *((row["host"], "degraded") for row in degraded)}
    assert {(row["host"], row["why"]) for row in blind} == expected and len(blind) == len(expected), say(blind)


stage.run(test)
