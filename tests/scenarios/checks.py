# SPDX-License-Identifier: MIT
"""What scenarios want to know at their end, when all lines are in (`at_end`)."""
from __future__ import annotations

from collections import Counter

from harness import Failed
from observer import Finding, Observer
from scenario import Outcome


def never_critical(outcome: Outcome, observer: Observer) -> str:
    """A deliberate pace is worth a warning, on either end."""
    for finding in observer.of(outcome.scenario.name):
        for line in finding.lines:
            if line["severity"] == "error":
                raise Failed(f"critical: {line['message']}")
    return "never critical"


def one_each(outcome: Outcome, observer: Observer) -> str:
    """At most one finding per kind, process and endpoint, and each has its port."""
    findings = observer.of(outcome.scenario.name)
    for line in (line for finding in findings for line in finding.lines):
        ends = [line.get(f"{side}.port", 1) for side in ("network.local", "network.peer", "server")]
        if 0 in ends or any(":0>" in example for example in line.get("laggard.examples", [])):
            raise Failed(f"without its port: {line['message']}")
    often = [kind for (kind, _), count in Counter((one.kind, one.pid) for one in findings).items() if count > 1]
    if often:
        raise Failed(f"{', '.join(often)} more than once for one process")
    return "one finding per kind"


def clients_are_a_symptom(outcome: Outcome, observer: Observer) -> str:
    """Of what has been found; that nothing else is told, `judge` sees."""
    assert outcome.found is not None
    if not any(one.kind == "close-wait" and outcome.found.id in one.linked("symptom_of")
               for one in observer.of(outcome.scenario.name)):
        raise Failed(f"no close-wait is a symptom of {outcome.found.id}")
    return "close-wait of the clients is a symptom"


def has_subsided(finding: Finding) -> bool:
    return finding.lines[-1].get("laggard.finding.resolution") == "subsided"


def subsides_once(outcome: Outcome, observer: Observer) -> str:
    """Found at most once, and not any more when it is over. The kind, `judge` sees."""
    findings = observer.of(outcome.scenario.name)
    if len(findings) > 1:
        raise Failed(f"found {len(findings)} times: {', '.join(one.kind for one in findings)}")
    if findings and not has_subsided(findings[0]):
        raise Failed(f"has not subsided: {findings[0].lines[-1]['message']}")
    return "found once, and subsided" if findings else "not found"
