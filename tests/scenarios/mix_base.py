# SPDX-License-Identifier: MIT
"""What the mixes share: servers under bounded load, all at the same time and under default thresholds."""
from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from checks import has_subsided
from harness import HERE, Groups, Program, Scene
from observer import Observer
from score import print_findings


@dataclass(frozen=True)
class Load:
    """What is asked of a server; it is starved if less than half of it gets done."""

    what: str
    per_minute: float
    done: Callable[[], float]  # so far
    subsides: int = 0          # a process whose memory falls again: about it, one finding that subsides is allowed


Part = Callable[[Scene], Iterator[Load]]
MEMORY = ("user-space-buffering", "heap-growth")


def actor(scene: Scene, role: str, *arguments: str | int) -> Program:
    return scene.start(sys.executable, "-B", HERE / "actors/load.py", role, *arguments).wait_says("ready\n")


def said(program: Program, pattern: str) -> list[str]:
    return re.findall(pattern, program.log.read_text(errors="replace"), re.M)


def total(program: Program) -> Callable[[], float]:
    """The last one that an actor said."""
    return lambda: float((said(program, r"^\d+$") or ["0"])[-1])


def play(name: str, parts: Iterable[Part], minutes: float, observer: Observer, groups: Groups, keep_logs: Path | None) -> bool:
    scene = Scene(name, groups, keep_logs)
    try:
        loads = [load for part in parts for load in part(scene)]
        cast, began, busy = scene.running(), time.monotonic(), cpu_seconds(scene)
        while time.monotonic() < began + minutes * 60:
            observer.check_alive()
            for program in cast:
                program.check_running()
            scene.pids()
            time.sleep(1)
        took, busy = time.monotonic() - began, cpu_seconds(scene) - busy
        starved = report(loads, took)
    finally:
        scene.close()
    observer.stop()
    found = observer.of(name)
    allowed = [one for load in loads for one in found if load.subsides and one.pid == load.subsides][:1]
    false = [one for one in found if one not in allowed or one.kind not in MEMORY or not has_subsided(one)]
    print(f"{100 * busy / took / (os.cpu_count() or 1):.0f} % of {os.cpu_count()} CPUs, "
          f"{len(found)} findings in {minutes:g} minutes of everyday servers under load")
    print_findings("false", false)
    print_findings("allowed", [one for one in found if one not in false])
    return not false and not starved


def report(loads: list[Load], seconds: float) -> bool:
    """Whether a load was starved: silence would prove little."""
    rates = [(load, load.done() / seconds * 60) for load in loads]
    for load, rate in rates:
        print(f"{load.what:<50} {rate:>8.0f} a minute{'   STARVED' if rate < load.per_minute / 2 else ''}")
    return any(rate < load.per_minute / 2 for load, rate in rates)


def cpu_seconds(scene: Scene) -> float:
    usage = re.search(r"usage_usec (\d+)", (scene.group / "cpu.stat").read_text())
    return int(usage[1]) / 1e6 if usage else 0.0
