# SPDX-License-Identifier: MIT
"""What a scenario is, how one is run, and how it is judged."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness import Failed, Groups, Program, Scene, Skip
from observer import Finding, Observer

FOUND_WITHIN_SECONDS = 40.0  # far beyond any hold time: later is a miss
WATCHED_SECONDS = 20.0       # positives are watched on: nothing else may be found on them
SILENT_SECONDS = 30.0        # negatives: more than two memory windows

# How many at the same time; 0: --jobs. laggard attributes one suspect's memory after the other, so that several at once
# would measure their queue.
LANES = {"light": 0, "heavy": 1, "memory": 2}

INTERRUPTED = threading.Event()  # nothing new begins, everything ends

Culprit = Program | Iterable[int]
Setup = Callable[[Scene], Culprit | None]


@dataclass(frozen=True)
class Scenario:
    name: str
    description: str
    setup: Setup
    kind: str | None = None                            # None: nothing may be found
    also: frozenset[str] = frozenset()                 # kinds that other processes of it may show too, without a link
    seconds: float = SILENT_SECONDS
    lane: str = "light"                                # a key of LANES


@dataclass
class Outcome:
    scenario: Scenario
    culprits: set[int] = field(default_factory=set)
    began: float = 0.0
    problem: str = ""                                  # why it could not be played
    skipped: bool = False
    found: Finding | None = None
    false: list[Finding] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        return None if self.found is None else max(0.0, self.found.arrived - self.began)

    @property
    def good(self) -> bool:
        return not self.problem and not self.false and (self.scenario.kind is None or self.found is not None)


SCENARIOS: list[Scenario] = []


def _add(setup: Setup, kind: str | None, also: Iterable[str], seconds: float, lane: str) -> Setup:
    description = " ".join((setup.__doc__ or "").split())
    SCENARIOS.append(Scenario(setup.__name__.replace("_", "-"), description, setup, kind, frozenset(also), seconds, lane))
    return setup


def positive(kind: str, also: Iterable[str] = ()) -> Callable[[Setup], Setup]:
    """The function returns the culprit: a program, or pids one of which must be named."""
    lane = "memory" if kind in ("user-space-buffering", "heap-growth") else "light"
    return lambda setup: _add(setup, kind, also, WATCHED_SECONDS, lane)


def negative(heavy: bool = False, seconds: float = SILENT_SECONDS) -> Callable[[Setup], Setup]:
    return lambda setup: _add(setup, None, (), seconds, "heavy" if heavy else "light")


def play(scenario: Scenario, groups: Groups, observer: Observer, keep_logs: Path | None) -> Outcome:
    """Sets the scene, watches for as long as needed, clears it. Judged later, when all lines are in."""
    outcome = Outcome(scenario)
    if INTERRUPTED.is_set():
        outcome.problem = "interrupted"
        return outcome
    scene = Scene(scenario.name, groups, keep_logs)
    try:
        culprit = scenario.setup(scene)
        outcome.began = time.monotonic()
        outcome.culprits = {culprit.pid} if isinstance(culprit, Program) else set(culprit or ())
        watch(outcome, scene, observer)
    except Skip as reason:
        outcome.skipped, outcome.problem = True, str(reason)
    except (Failed, OSError) as error:
        outcome.problem = str(error)
    finally:
        scene.close()
    return outcome


def watch(outcome: Outcome, scene: Scene, observer: Observer) -> None:
    wanted = outcome.scenario.kind
    cast = scene.running()
    while True:
        observer.check_alive()
        for program in cast:
            program.check_running()
        scene.pids()  # remembered, for findings about processes that have gone when they arrive
        elapsed = time.monotonic() - outcome.began
        found = wanted is None or any(is_expected(outcome, finding) for finding in observer.of(scene.name))
        if elapsed >= (outcome.scenario.seconds if found else FOUND_WITHIN_SECONDS):
            return
        if INTERRUPTED.wait(0.2):
            raise Failed("interrupted")


def is_expected(outcome: Outcome, finding: Finding) -> bool:
    return finding.kind == outcome.scenario.kind and bool(finding.pids & outcome.culprits)


def judge(outcome: Outcome, findings: list[Finding]) -> None:
    """One finding is the expected one. Others are false, unless they concern a counterpart and the scenario lists their
    kind, or they say themselves that they follow from one of these."""
    def is_counterpart(one: Finding) -> bool:
        return not one.pids & outcome.culprits

    outcome.found = next((one for one in findings if is_expected(outcome, one)), None)
    explained = {one.id for one in findings
                 if one is outcome.found or (is_counterpart(one) and one.kind in outcome.scenario.also)}
    for _ in findings:  # as often as the longest chain could need
        # peer_finding is mutual: on the culprit's own process it explains nothing.
        explained |= {one.id for one in findings
                      if explained & one.linked("symptom_of") or
                      (is_counterpart(one) and explained & one.linked("peer_finding"))}
    outcome.false = [one for one in findings if one.id not in explained]
