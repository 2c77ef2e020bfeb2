# SPDX-License-Identifier: MIT
"""A program whose operations are too many to probe."""
from __future__ import annotations

from pathlib import Path

from harness import Scene
from observer import Observer
from scenario import Outcome, negative
from toolbox import built, expect

PAIR = "too-often"


def options() -> list[str]:
    return ["--pairs", str(Path(__file__).with_name("pairs.toml"))]


def is_detached(outcome: Outcome, observer: Observer) -> str:
    """laggard says so, as an event and to whoever reads its stderr, and only once."""
    told = [message for message in observer.degraded if f"pair '{PAIR}'" in message and "were hit" in message]
    expect(len(told) == 1 and "is probed no more" in told[0], f"is not said to be let go: {told}")
    expect(f"laggard: {told[0]}" in observer.errors.splitlines(), "stderr does not say it")
    return told[0].partition(f"pair '{PAIR}': ")[2]


@negative(at_end=is_detached, seconds=20)
def detached(scene: Scene) -> None:
    """100 thousand hits per second: the process is probed no more, with a message, and goes on at its pace."""
    program = built("hit-limit", lambda out: ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", out, "main.c"],
                    Path(__file__).parent)
    scene.start(program).wait_says("ready\n")
