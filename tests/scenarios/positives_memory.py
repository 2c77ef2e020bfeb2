# SPDX-License-Identifier: MIT
"""More memory that grows: in steps, in crowds, with messages, visits and connections, slowly, and without any socket."""
from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from harness import HERE, Failed, Program, Scene, free_port, output
from observer import Finding, Observer
from programs import compiled, redis, require, source
from scenario import Check, Culprit, Outcome, positive

# What a shortened window needs is 350 kB/s; steps of 16 MB every 13 s are in it what 6 MB every 5 s are here.
STEP, STEP_SECONDS = 6_000_000, 5
LARGE, SMALL = 2_000_000, 500_000  # bytes per second
CROWD_SECONDS = 30                 # a window of 12 s, and six attributions one after the other
FORECAST_SECONDS = 2000            # less than the hour in which a store is worth a finding

Start = Callable[..., Program]
Family = Callable[[Scene, Start], Culprit]


# ---- one scenario per runtime ----


def java(scene: Scene, role: str, *arguments: str | int) -> Program:
    require(["javac", "java"])
    output("javac", "-d", str(scene.dir), str(HERE / "actors/Growth.java"))
    return scene.start("java", "-cp", scene.dir, "Growth", role, *arguments).wait_says("ready\n")


RUNTIMES: dict[str, Callable[..., Program]] = {"python": Scene.actor, "node": Scene.node, "java": java}


def in_each(runtimes: str, kind: str, **more: Any) -> Callable[[Family], Family]:
    """`python_NAME`, `node_NAME` ... of a function that gets what starts an actor of this runtime."""
    def register(setup: Family) -> Family:
        for runtime in runtimes.split():
            def play(scene: Scene, start: Start = RUNTIMES[runtime]) -> Culprit:
                return setup(scene, functools.partial(start, scene))

            play.__name__ = f"{runtime}_{setup.__name__}"
            play.__doc__ = f"{runtime}: {setup.__doc__}"
            positive(kind, **more)(play)
        return setup

    return register


# ---- what the findings must say ----


def evidence(finding: Finding, name: str) -> float:
    return float(finding.lines[-1][f"laggard.evidence.{name}"])


def says(pattern: str) -> Check:
    def check(found: Finding, outcome: Outcome) -> str:
        said = re.search(pattern, found.message)
        if said is None:
            raise Failed(f"does not say '{pattern}': {found.message}")
        return said[0]

    return check


def says_what_a_message_leaves(found: Finding, outcome: Outcome) -> str:
    """And over which socket the messages came."""
    note = says(r"each (message|read) leaves .* behind")(found, outcome)
    assert note is not None
    port = (outcome.dir / "port").read_text()
    examples = found.lines[-1].get("laggard.examples", [])
    if not any(f":{port}" in example for example in examples):
        raise Failed(f"no socket with port {port} among {', '.join(examples) or 'no examples'}")
    return note


def has_read_what_was_sent(found: Finding, outcome: Outcome) -> str:
    """Within a fifth: the finding's window began and ended up to a tick away from ours."""
    window = float(found.lines[-1]["laggard.threshold.memory_window_seconds"])
    lines = [line.split() for line in (outcome.dir / "ledger").read_text().splitlines()]
    by_then = {float(time): int(total) for time, total in lines if float(time) <= found.arrived}
    before = max((total for time, total in by_then.items() if time <= found.arrived - window), default=0)
    sent = max(by_then.values()) - before
    read, ratio = evidence(found, "read_bytes"), evidence(found, "retained_ratio") if evidence(found, "read_bytes") else 0
    if abs(read - sent) > sent / 5:
        raise Failed(f"read_bytes {read:.0f}, and {sent} were sent in {window:.0f} s")
    if not 0.8 <= ratio <= 1.3:
        raise Failed(f"retained_ratio {ratio:.2f}, and each byte is kept once")
    return f"{read:.0f} of {sent} read, ratio {ratio:.2f}"


def both_ends_follow(outcome: Outcome, observer: Observer) -> str:
    """The memory of client and server is a symptom of the client's connections, and neither hoards."""
    assert outcome.found is not None
    findings = observer.of(outcome.scenario.name)
    if hoarders := [one for one in findings if one.kind == "user-space-buffering"]:
        raise Failed(f"user-space-buffering of {', '.join(str(one.pid) for one in hoarders)}")
    symptoms = {one.pid for one in findings if one.kind == "heap-growth" and outcome.found.id in one.linked("symptom_of")}
    client = outcome.found.pid
    missing = [end for end, is_there in (("client", client in symptoms), ("server", symptoms - {client})) if not is_there]
    if missing:
        raise Failed(f"no heap-growth of the {' and the '.join(missing)} is a symptom of {outcome.found.id}")
    return "memory of both ends is a symptom"


# ---- steps ----


@in_each("python node java", "user-space-buffering")
def keeps_in_steps(scene: Scene, start: Start) -> Culprit:
    """It copies all it reads, 1.2 MB/s, into blocks of 6 MB, which are touched when they are made."""
    return start("step-hoarder", source(scene, STEP // STEP_SECONDS), STEP)


@in_each("java", "heap-growth", within=80, or_kind="user-space-buffering")
def keeps_in_a_map(scene: Scene, start: Start) -> Culprit:
    """Records of a stream fill a map on the heap, which grows by 12 MB every 7 s: it is the collector that touches them, or,
    where that is late, the thread that reads."""
    return start("fills-map", source(scene, 1_500_000))


@in_each("python node", "heap-growth")
def leaks_in_steps(scene: Scene, start: Start) -> Culprit:
    """A timer leaves 6 MB behind every 5 s; a stream of 20 kB/s is read meanwhile, and not kept."""
    return start("leaks-beside", source(scene, 20_000), STEP, STEP_SECONDS)


# ---- crowds ----


@in_each("python node", "user-space-buffering", within=CROWD_SECONDS, seconds=CROWD_SECONDS, lane="alone", each=True)
def ten_hoarders(scene: Scene, start: Start) -> Culprit:
    """One that keeps 500 kB/s among nine python programs that keep 2 MB/s each: all ten are named."""
    stream = source(scene, LARGE)
    large = [scene.actor("hoarder", stream) for _ in range(9)]
    return [program.pid for program in (*large, start("hoarder", source(scene, SMALL)))]


@in_each("python node", "user-space-buffering", also=["heap-growth"], within=CROWD_SECONDS, seconds=CROWD_SECONDS,
         lane="alone")
def hoarder_among_leaks(scene: Scene, start: Start) -> Culprit:
    """One that keeps 500 kB/s of a stream, while nine python programs leak 2 MB/s each beside theirs."""
    stream = source(scene, 20_000)
    for _ in range(9):
        scene.actor("leaks-beside", stream, LARGE // 10, 0.1)
    return start("hoarder", source(scene, SMALL))


# ---- more than was read: 20 messages of 20 bytes per second, and each leaves 80 kB behind ----


def known_port(scene: Scene) -> int:
    """That a finding's examples are compared with."""
    port = free_port()
    scene.file("port", str(port))
    return port


@in_each("python node", "heap-growth", check=says_what_a_message_leaves)
def leaves_with_each_push(scene: Scene, start: Start) -> Culprit:
    """A TCP client to which 20 messages per second are pushed."""
    port = known_port(scene)
    scene.actor("pushes", port, 20, 20)
    return start("leaves-per-push", port, 80_000)


@in_each("python node", "heap-growth", check=says_what_a_message_leaves)
def leaves_with_each_request(scene: Scene, start: Start) -> Culprit:
    """A TCP server that answers 20 requests per second: it answers as a store does, and is none."""
    port = known_port(scene)
    server = start("leaves-per-request", port, 80_000)
    scene.actor("requests", port, 20, 20)
    return server


@in_each("python node", "heap-growth", check=says_what_a_message_leaves)
def leaves_with_each_datagram(scene: Scene, start: Start) -> Culprit:
    """A UDP service that gets 20 datagrams per second."""
    port = known_port(scene)
    service = start("leaves-per-datagram", port, 80_000)
    scene.actor("datagrams", port, 20, 20)
    return service


# ---- read once ----


def visited(scene: Scene, start: Start, at_once: int) -> Culprit:
    port = free_port()
    server = start("keeps-visits", port, 64_000, at_once)
    scene.actor("visits", port, 64_000, 20, at_once, "ledger")
    return server


@in_each("python node", "user-space-buffering", check=has_read_what_was_sent)
def keeps_each_visit(scene: Scene, start: Start) -> Culprit:
    """A server whose clients come 20 times per second with 64 kB, each read once and kept, and closed."""
    return visited(scene, start, 0)


@in_each("python node", "user-space-buffering", check=has_read_what_was_sent)
def keeps_each_long_visit(scene: Scene, start: Start) -> Culprit:
    """The same with clients that stay connected for 7 s: none is read a second time."""
    return visited(scene, start, 140)


# ---- no socket that lives ----


@positive("heap-growth")
def c_fails_to_bind(scene: Scene) -> Culprit:
    """A C program tries 50 times per second to bind a port that is taken; 20 kB private and 20 kB shared stay each time."""
    port = free_port()
    scene.actor("sink", port)
    return scene.start(compiled(scene, "fails_to_bind"), port, 20_480, 50).wait_says("ready\n")


@in_each("python node", "heap-growth")
def is_refused(scene: Scene, start: Start) -> Culprit:
    """It tries 50 times per second to connect to a closed port; 20 kB stay each time."""
    return start("refused", free_port(), 20_000, 50)


# ---- memory per connection ----


@in_each("python node", "connection-leak", at_end=both_ends_follow, seconds=45)
def keeps_all_connections(scene: Scene, start: Start) -> Culprit:
    """A client opens 20 connections per second, uses each once and keeps them; each costs 25 kB at either end."""
    port = free_port()
    start("keeps-clients", port, 25_000)
    return start("keeps-connections", port, 25_000, 20)


# ---- slowly ----


@in_each("python node", "heap-growth", within=150, lane="slow")
def leaks_slowly(scene: Scene, start: Start) -> Culprit:
    """A timer leaves 100 kB/s behind, too little for the window, while 100 bytes per second are read."""
    port = free_port()
    scene.actor("ticker", port)
    return start("leaks-beside", port, 10_000, 0.1)


# ---- stores that run out of room ----


@in_each("python node", "heap-growth", check=says("keeps what its clients send"))
def store_runs_out_of_room(scene: Scene, start: Start) -> Culprit:
    """A server that keeps and answers each request, 1 MB/s, in a cgroup that will be full in half an hour."""
    port = free_port()
    scene.limit_memory(1_000_000 * FORECAST_SECONDS)
    server = start("keeps-requests", port, 20_000)
    scene.actor("requests", port, 20_000, 50)
    return server


@positive("heap-growth", check=says("keeps what its clients send"))
def redis_runs_out_of_room(scene: Scene) -> Culprit:
    """redis is fed new keys for ever, 1 MB/s, in a cgroup that will be full in half an hour."""
    scene.limit_memory(1_000_000 * FORECAST_SECONDS)
    server = redis(scene)
    scene.actor("redis-feeder", server.port, 1_000_000)
    return server.program
