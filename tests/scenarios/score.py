# SPDX-License-Identifier: MIT
"""Prints what came out."""
from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable

from observer import Finding
from scenario import Outcome, Scenario


def verdict(outcome: Outcome) -> str:
    if outcome.skipped:
        return f"SKIP  {outcome.problem}"
    if outcome.problem:
        return f"BROKEN  {outcome.problem}"
    wrong = f"WRONG  {outcome.wrong}" if outcome.wrong else ""
    missed = "MISSED" if outcome.scenario.kind and not outcome.found else ""
    if missed and outcome.scenario.each:
        missed += f" {len(outcome.culprits) - len(outcome.named)} of {len(outcome.culprits)}"
    false = f"FALSE: {', '.join(sorted(one.kind for one in outcome.false))}" if outcome.false else ""
    return "  ".join(filter(None, (missed, wrong, false))) or "ok"


def row(outcome: Outcome) -> str:
    seconds = "" if outcome.seconds is None else f"{outcome.seconds:.1f} s"
    return f"{outcome.scenario.name:<40} {outcome.scenario.kind or '-':<22} {seconds:>7}  {verdict(outcome)}"


def progress(outcome: Outcome) -> None:
    print(row(outcome), file=sys.stderr, flush=True)


def print_list(scenarios: Iterable[Scenario]) -> None:
    for one in scenarios:
        print(f"{one.name:<40} {one.kind or '-':<22} {one.description}")


def print_findings(title: str, findings: list[Finding]) -> None:
    if findings:
        print(f"\n{title}:")
    for finding in findings:
        print(f"  {finding.message}")


def print_table(outcomes: list[Outcome]) -> None:
    print(f"\n{'scenario':<40} {'expected':<22} {'found':>7}  verdict")
    for outcome in outcomes:
        print(row(outcome))
    for outcome in outcomes:
        print_findings(f"false in {outcome.scenario.name}", outcome.false)
    positives = [one for one in outcomes if one.scenario.kind and not one.skipped]
    negatives = [one for one in outcomes if not one.scenario.kind and not one.skipped]
    found = [one.seconds for one in positives if one.seconds is not None]
    share = f"{len(found)}/{len(positives)} = {100 * len(found) / max(1, len(positives)):.0f} %"
    print(f"\nrecall {share}   false findings {sum(len(one.false) for one in negatives)} in {len(negatives)} negatives, "
          f"{sum(len(one.false) for one in positives)} in {len(positives)} positives   "
          f"median seconds to detection {statistics.median(found) if found else float('nan'):.1f}")
    problems = [one for one in outcomes if one.problem]
    if problems:
        print(f"{sum(one.skipped for one in problems)} skipped, {sum(not one.skipped for one in problems)} broken")
