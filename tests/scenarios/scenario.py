# SPDX-License-Identifier: MIT
"""What a scenario is, how one is run, and how it is judged."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import Failed, Groups, Program, Scene, Skip
from observer import Finding, Observer

FOUND_WITHIN_SECONDS = 40.0  # far beyond any hold time: later is a miss
WATCHED_SECONDS = 20.0       # positives are watched on: nothing else may be found on them
SILENT_SECONDS = 30.0        # negatives: more than two memory windows

# How many at the same time; 0: --jobs. Memory is attributed of 16 processes at once, and some of these load a core. Slow ones
# take minutes and load nothing; those that are played alone come when all other positives are done.
LANES = {"light": 0, "heavy": 1, "memory": 5, "slow": 8, "alone": 1}

INTERRUPTED = threading.Event()  # nothing new begins, everything ends

Culprit = Program | Iterable[int]
Setup = Callable[[Scene], Culprit | None]
Check = Callable[[Finding, "Outcome"], str | None]
LateCheck = Callable[["Outcome", Observer], str | None]


@dataclass(frozen=True)
class Scenario:
    name: str
    description: str
    setup: Setup
    kind: str | None = None                            # None: nothing may be found
    or_kind: str | None = None                         # as right, and which of the two it is depends on the machine
    also: frozenset[str] = frozenset()                 # kinds that other processes of it may show too, without a link
    beside: frozenset[str] = frozenset()               # kinds that the culprits may show too
    seconds: float = SILENT_SECONDS
    within: float = FOUND_WITHIN_SECONDS
    lane: str = "light"                                # a key of LANES
    each: bool = False                                 # every culprit must be named, not one of them
    check: Check | None = None
    at_end: LateCheck | None = None                    # once everything has ended and the last lines are in
    recording: str | None = None                       # tests/replay has one of this name


@dataclass
class Outcome:
    scenario: Scenario
    laggard: Path                                      # that watches, for checks that want to ask it more
    culprits: set[int] = field(default_factory=set)
    dir: Path = Path()                                 # of the scene, until it ends: what its programs have written
    began: float = 0.0
    problem: str = ""                                  # why it could not be played
    skipped: bool = False
    note: str = ""                                     # what the check has seen
    wrong: str = ""                                    # what it has seen instead
    named: list[Finding] = field(default_factory=list)  # the expected one, or one for each culprit that was named
    false: list[Finding] = field(default_factory=list)

    @property
    def found(self) -> Finding | None:
        """The last one that had to be waited for."""
        wanted = len(self.culprits) if self.scenario.each else 1
        return max(self.named, key=lambda one: one.arrived, default=None) if len(self.named) == wanted else None

    @property
    def seconds(self) -> float | None:
        return None if self.found is None else max(0.0, self.found.arrived - self.began)

    @property
    def good(self) -> bool:
        return not (self.problem or self.wrong or self.false) and (self.scenario.kind is None or self.found is not None)


SCENARIOS: list[Scenario] = []


def _add(setup: Setup, kind: str | None, **more: Any) -> Setup:
    description = " ".join((setup.__doc__ or "").split())
    SCENARIOS.append(Scenario(setup.__name__.replace("_", "-"), description, setup, kind, **more))
    return setup


def positive(kind: str, also: Iterable[str] = (), check: Check | None = None, recording: str | None = None,
             beside: Iterable[str] = (), at_end: LateCheck | None = None, or_kind: str | None = None,
             seconds: float = WATCHED_SECONDS, within: float = FOUND_WITHIN_SECONDS, lane: str | None = None,
             each: bool = False) -> Callable[[Setup], Setup]:
    """The function returns the culprit: a program, or pids one of which must be named; with `each`, all of them.

    `check` is called once, while all still runs, with the finding as far as it has been told; it returns a note for the
    table, or raises Failed with a sentence. So does `at_end`, when nothing runs any more."""
    lane = lane or ("memory" if kind in ("user-space-buffering", "heap-growth") else "light")
    return lambda setup: _add(setup, kind, also=frozenset(also), beside=frozenset(beside), seconds=seconds, within=within,
                              lane=lane, each=each, check=check, at_end=at_end, recording=recording, or_kind=or_kind)


def negative(heavy: bool = False, seconds: float = SILENT_SECONDS, may: Iterable[str] = (),
             at_end: LateCheck | None = None) -> Callable[[Setup], Setup]:
    """Nothing may be found but the kinds in `may`, about which `at_end` decides."""
    return lambda setup: _add(setup, None, also=frozenset(may), seconds=seconds, lane="heavy" if heavy else "light",
                              at_end=at_end)


def turn_of(scenario: Scenario) -> int:
    return 2 if scenario.kind is None else int(scenario.lane == "alone")


def play_all(scenarios: list[Scenario], jobs: int, play_one: Callable[[Scenario], Outcome]) -> list[Outcome]:
    """Positives first, then negatives: what loads the machine must not blur when a positive is found."""
    outcomes: list[Outcome] = []
    for turn in range(3):
        batch = [one for one in scenarios if turn_of(one) == turn]
        with ExitStack() as stack:
            lanes = {name: stack.enter_context(ThreadPoolExecutor(size or jobs)) for name, size in LANES.items()}
            futures = [lanes[one.lane].submit(play_one, one) for one in batch]
            outcomes += [future.result() for future in futures]
    return outcomes


def play(scenario: Scenario, groups: Groups, observer: Observer, keep_logs: Path | None,
         begun: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Sets the scene, watches for as long as needed, clears it. Judged later, when all lines are in."""
    outcome = Outcome(scenario, observer.program)
    if INTERRUPTED.is_set():
        outcome.problem = "interrupted"
        return outcome
    scene = Scene(scenario.name, groups, keep_logs)
    outcome.dir = scene.dir
    try:
        culprit = scenario.setup(scene)
        outcome.began = time.monotonic()
        outcome.culprits = {culprit.pid} if isinstance(culprit, Program) else set(culprit or ())
        begun(outcome)
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
    checked = outcome.scenario.check is None
    while True:
        observer.check_alive()
        for program in cast:
            program.check_running()
        scene.pids()  # remembered, for findings about processes that have gone when they arrive
        outcome.named = expected_of(outcome, observer.of(scene.name))
        found = outcome.found
        if found and not checked:
            assert outcome.scenario.check is not None
            note_of(outcome, lambda check=outcome.scenario.check: check(found, outcome))
            checked = True
        patience = outcome.scenario.seconds if found or wanted is None else outcome.scenario.within
        if time.monotonic() - outcome.began >= patience:
            return
        if INTERRUPTED.wait(0.2):
            raise Failed("interrupted")


def note_of(outcome: Outcome, check: Callable[[], str | None]) -> None:
    try:
        outcome.note = "; ".join(filter(None, (outcome.note, check())))
    except Failed as difference:
        outcome.wrong = "; ".join(filter(None, (outcome.wrong, str(difference))))


def check_at_end(outcome: Outcome, observer: Observer) -> None:
    """After `judge`, with all lines in."""
    check = outcome.scenario.at_end
    if check is not None and not outcome.problem and (outcome.found or outcome.scenario.kind is None):
        note_of(outcome, lambda: check(outcome, observer))


def is_expected(outcome: Outcome, finding: Finding) -> bool:
    return finding.kind in (outcome.scenario.kind, outcome.scenario.or_kind) and bool(finding.pids & outcome.culprits)


def expected_of(outcome: Outcome, findings: list[Finding]) -> list[Finding]:
    """The first finding as expected, or the first about each culprit."""
    expected = [one for one in findings if is_expected(outcome, one)]
    if not outcome.scenario.each:
        return expected[:1]
    firsts = (next((one for one in expected if pid in one.pids), None) for pid in sorted(outcome.culprits))
    return [one for one in firsts if one is not None]


def judge(outcome: Outcome, findings: list[Finding]) -> None:
    """One finding is the expected one. Others are false, unless the scenario lists their kind, for a counterpart or for
    the culprit, or they say themselves that they follow from one of these."""
    def is_counterpart(one: Finding) -> bool:
        return not one.pids & outcome.culprits

    outcome.named = expected_of(outcome, findings)
    explained = {one.id for one in findings
                 if one in outcome.named or
                 one.kind in (outcome.scenario.also if is_counterpart(one) else outcome.scenario.beside)}
    for _ in findings:  # as often as the longest chain could need
        # peer_finding is mutual: on the culprit's own process it explains nothing.
        explained |= {one.id for one in findings
                      if explained & one.linked("symptom_of") or
                      (is_counterpart(one) and explained & one.linked("peer_finding"))}
    outcome.false = [one for one in findings if one.id not in explained]
