# SPDX-License-Identifier: MIT
"""A server object that is lost whenever its port is in use."""
from __future__ import annotations

from pathlib import Path

from harness import Program, Scene, free_port
from observer import Finding
from programs import source
from scenario import Culprit, Outcome, negative, positive
from toolbox import built, expect, explain, stacks

REGISTRY_BYTES_PER_SECOND = 100_000


def service(scene: Scene, habit: str) -> Program:
    """Tries for ever to listen where somebody else does."""
    port = free_port()
    scene.actor("sink", port)
    program = built("http", lambda out: ["g++", "-std=c++20", "-O2", "-g", "-Wall", "-Wextra", "-o", out, "http.cpp",
                                         "server.cpp"], Path(__file__).parent)
    return scene.start(program, habit, port, source(scene, REGISTRY_BYTES_PER_SECOND)).wait_says("ready\n")


def names_the_loser(found: Finding, outcome: Outcome) -> str:
    line = found.lines[0]
    blamed = [key for key in line if key.startswith(("laggard.socket.", "network.")) or key == "laggard.examples"]
    expect(not blamed, f"blames a socket: {', '.join(blamed)}")
    explanation = explain(outcome, found.pid)
    share = explanation[0]["laggard.evidence.attributed_ratio"]
    expect(share < 0.1, f"explain says that {share:.0%} came with what was read from sockets")
    top = stacks(explanation)[0]
    frames = top["laggard.stack.frames"]
    said = " < ".join(frame.partition("+")[0].partition("(")[0] for frame in frames)
    expect("http_server::listen_losing" in said, f"the largest stack does not name who allocates: {said}")
    above = frames[:next(index for index, frame in enumerate(frames) if "listen_losing" in frame)]
    expect(any("libstdc++" in frame for frame in above), f"not through libstdc++: {said}")
    return f"no socket, http_server::listen_losing in {top['laggard.evidence.attributed_ratio']:.0%}, through libstdc++"


@positive("heap-growth", check=names_the_loser, recording="case-swoole")
def lost(scene: Scene) -> Culprit:
    """listen() makes a server with new, and returns early without it."""
    return service(scene, "loses")


@negative()
def fixed(scene: Scene) -> None:
    """listen() makes it with make_unique."""
    service(scene, "owns")
