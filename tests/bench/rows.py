# SPDX-License-Identifier: MIT
"""What a row of the bench is, and how its measures are judged and printed."""
from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MIB = 1 << 20
MOST_NOISE = 0.05  # what is less certain shows nothing, whichever side of the limit it is on


class Skip(Exception):
    """This machine cannot measure the row."""


class Failed(Exception):
    """What the row needs could not be set up, or did not do what it must."""


@dataclass
class Measure:
    """Several values of one thing, one of which is judged."""

    what: str
    unit: str
    values: list[float]
    at_most: float | None = None
    at_least: float | None = None
    judged: float | None = None  # default: the median
    budget: str = ""             # as the table says it; default: made from the limit
    note: str = ""
    good: bool | None = None     # where no limit decides
    noise: float = 0.0           # how far the judged value may be off
    detail: bool = False         # not for README's table

    def __post_init__(self) -> None:
        if self.judged is None:
            self.judged = statistics.median(self.values)
        if not self.budget and self.at_most is not None:
            self.budget = f"≤ {show(self.at_most, self.unit)}"
        if not self.budget and self.at_least is not None:
            self.budget = f"≥ {show(self.at_least, self.unit)}"

    @property
    def verdict(self) -> str:
        assert self.judged is not None
        if self.good is not None:
            return "pass" if self.good else "FAIL"
        if self.at_most is None and self.at_least is None:
            return "-"
        beyond = max(self.judged - self.at_most if self.at_most is not None else 0.0,
                     self.at_least - self.judged if self.at_least is not None else 0.0)
        if beyond <= 0:
            return "pass" if self.noise <= MOST_NOISE else "noise"
        return "noise" if beyond < self.noise else "FAIL"

    def spread(self) -> str:
        low, middle, high = min(self.values), statistics.median(self.values), max(self.values)
        return " / ".join(show(value, "") for value in (low, middle, high)) if len(self.values) > 1 else ""


@dataclass
class Point:
    """What one number of connections costs, for the model."""

    series: str
    connections: int
    rss_bytes: float
    cpu_percent: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass
class Context:
    laggard: Path
    build: Path
    work: Path
    quick: bool
    points: list[Point] = field(default_factory=list)

    def seconds(self, full: float, quick: float) -> float:
        return quick if self.quick else full

    def size(self, full: int) -> int:
        """A tenth of the connections shows in --quick that the row works; it judges nothing about scale."""
        return max(full // 10, 20) if self.quick else full


@dataclass
class Row:
    name: str
    budget: str
    method: str
    measure: Callable[[Context], list[Measure]]


ROWS: list[Row] = []


def row(name: str, budget: str, method: str) -> Callable[[Callable[[Context], list[Measure]]], None]:
    def add(measure: Callable[[Context], list[Measure]]) -> None:
        ROWS.append(Row(name, budget, method, measure))

    return add


@dataclass
class Outcome:
    row: Row
    measures: list[Measure] = field(default_factory=list)
    skipped: str = ""
    failed: str = ""

    @property
    def bad(self) -> bool:
        return bool(self.failed) or any(measure.verdict == "FAIL" for measure in self.measures)


def show(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 3 if abs(value) < 1.5 else 2
    text = f"{value:.{digits}f}"
    return f"{text} {unit}" if unit else text


def summary(outcomes: list[Outcome]) -> str:
    bad = [outcome.row.name for outcome in outcomes if outcome.bad]
    unsure = [one.row.name for one in outcomes if not one.bad and any(measure.verdict == "noise" for measure in one.measures)]
    words = [f"{len(outcomes)} rows", f"{sum(bool(outcome.skipped) for outcome in outcomes)} skipped"]
    words.append(f"{len(bad)} missed: {', '.join(bad)}" if bad else "none missed")
    if unsure:
        words.append(f"{len(unsure)} lost in the noise of this machine: {', '.join(unsure)}")
    return "; ".join(words)


def play(one: Row, context: Context) -> Outcome:
    try:
        return Outcome(one, one.measure(context))
    except Skip as reason:
        return Outcome(one, skipped=str(reason))
    except (Failed, OSError) as problem:
        return Outcome(one, failed=str(problem))


def print_outcome(outcome: Outcome) -> None:
    name = outcome.row.name
    if outcome.skipped or outcome.failed:
        print(f"{name:18} {'SKIP' if outcome.skipped else 'FAIL'}  {outcome.skipped or outcome.failed}", flush=True)
        return
    for measure in outcome.measures:
        assert measure.judged is not None
        line = (f"{name:18} {measure.verdict:5} {measure.what}: {show(measure.judged, measure.unit)}"
                + (f" ({measure.budget})" if measure.budget else "")
                + (f"; min/median/max {measure.spread()}" if len(measure.values) > 1 else "")
                + (f"; {measure.note}" if measure.note else ""))
        print(line, flush=True)


def print_list() -> None:
    for one in ROWS:
        print(f"{one.name:18} {one.budget}\n{'':18} {one.method}")


def machine() -> str:
    return f"{os.cpu_count()} cores, kernel {platform.release().split('-')[0]}, load {os.getloadavg()[0]:.1f}"


VERDICTS = {"FAIL": "**missed**", "noise": "lost in noise", "pass": "kept", "-": ""}


def markdown(outcomes: Iterable[Outcome]) -> str:
    """README's table: one line per row, with what was judged and its minimum, median and maximum."""
    lines = ["| row | budget | measured (min / median / max) | |", "|---|---|---|---|"]
    for outcome in outcomes:
        shown = [measure for measure in outcome.measures if not measure.detail]
        if not shown:
            lines.append(f"| `{outcome.row.name}` | {outcome.row.budget} | {outcome.skipped or outcome.failed} | |")
            continue
        verdicts = {measure.verdict for measure in outcome.measures}
        worst = next(VERDICTS[verdict] for verdict in VERDICTS if verdict in verdicts)
        lines.append(f"| `{outcome.row.name}` | {outcome.row.budget} | {'; '.join(map(in_table, shown))} | {worst} |")
    return "\n".join(lines)


def in_table(measure: Measure) -> str:
    assert measure.judged is not None
    spread = f" ({measure.spread()})" if len(measure.values) > 1 else ""
    return f"{measure.what} {show(measure.judged, measure.unit)}{spread}"


def as_json(outcomes: Iterable[Outcome], context: Context) -> dict[str, Any]:
    return {
        "machine": machine(),
        "rows": [{"name": one.row.name, "budget": one.row.budget, "method": one.row.method, "skipped": one.skipped,
                  "failed": one.failed, "measures": [asdict(measure) | {"verdict": measure.verdict} for measure in one.measures]}
                 for one in outcomes],
        "points": [asdict(point) for point in context.points],
    }
