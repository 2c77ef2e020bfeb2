# SPDX-License-Identifier: MIT
"""A transport library that takes buffers over and, now and then, never gives one back."""
from __future__ import annotations

from pathlib import Path

from harness import Program, Scene, Skip, free_port
from observer import Observer
from scenario import Culprit, LateCheck, Outcome, negative, positive
from toolbox import built, expect, unpaired

SENDS, COMPLETIONS = 5498, 5475
PER_SECOND = 300
PAUSE_AFTER, PAUSE_SECONDS = 1500, 20  # five times --unpaired

PAIRS = """\
[[pair]]
name = "courier-send"
binary = "{library}"
begin = "courier_send"
begin_key = "arg4"
end = "courier_complete"
end_key = "arg2"

[[pair]]
name = "courier-send-usdt"
binary = "{library}"
begin = "usdt:courier:send"
end = "usdt:courier:complete"
"""


def build(name: str, *words: str | Path) -> Path:
    # With frame pointers: a USDT probe has no return address at hand, as the entry of a function has.
    return built(name, lambda out: ["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-fno-omit-frame-pointer", "-o", out,
                                    *words], Path(__file__).parent)


def library() -> Path:
    return build("libcourier.so", "-shared", "-fPIC", "courier.c")


def options() -> list[str]:
    """By path and in advance, so that the first send is counted, too."""
    try:
        pairs = library().with_name("courier-pairs.toml")
    except Skip:
        return []
    pairs.write_text(PAIRS.format(library=library()))
    return ["--pairs", str(pairs)]


def client(scene: Scene, habit: str, *pause: int) -> Program:
    program = build("courier", "main.c", library(), f"-Wl,-rpath,{library().parent}")
    port = free_port()
    scene.start(program, "peer", port, *pause).wait_says("ready\n")
    return scene.start(program, "client", port, habit, SENDS, PER_SECOND).wait_says("sent ")


def exactly(pair: str) -> LateCheck:
    def check(outcome: Outcome, observer: Observer) -> str:
        [pid] = outcome.culprits
        lines = unpaired(outcome, observer, pair, pid).lines
        expect(lines[-1]["event.name"] == "laggard.finding.resolved", "its end is not told")
        begun, ended, outstanding, unmatched = (lines[-1][f"laggard.evidence.{name}"]
                                                for name in ("begun", "ended", "outstanding", "unmatched"))
        expect((begun, ended, outstanding, unmatched) == (SENDS, COMPLETIONS, SENDS - COMPLETIONS, 0),
               f"{begun} begun, {ended} ended, {outstanding} outstanding, {unmatched} unmatched")
        oldest = lines[-1]["laggard.evidence.oldest_seconds"]
        expect(oldest > 0, "the oldest has no age")
        stack = lines[-1].get("laggard.evidence.stack", "")
        expect("publish_quote" in stack, f"the stack does not name who sends: {stack}")
        return f"{begun} begun, {ended} ended: {outstanding} outstanding, the oldest {oldest:.0f} s, {stack}"

    return check


@positive("unpaired-operations", beside=["unpaired-operations"], at_end=exactly("courier-send"), seconds=28,
          recording="case-msquic")
def forgets(scene: Scene) -> Culprit:
    """Acknowledgements get lost, and the library forgets the sends that later ones overtake. By functions."""
    return client(scene, "forgets")


@positive("unpaired-operations", beside=["unpaired-operations"], at_end=exactly("courier-send-usdt"), seconds=28)
def forgets_usdt(scene: Scene) -> Culprit:
    """The same by USDT probes."""
    return client(scene, "forgets")


@negative()
def completes(scene: Scene) -> None:
    """The same losses, and the library completes what was overtaken."""
    client(scene, "completes")


@negative(seconds=36)
def peer_pauses(scene: Scene) -> None:
    """The peer acknowledges nothing for 20 s, and then all."""
    client(scene, "completes", PAUSE_AFTER, PAUSE_SECONDS)
