# SPDX-License-Identifier: MIT
"""The one laggard that watches all scenarios, and what it said."""
from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import DEADLINE_SECONDS, Failed, eventually

# Shorter hold times, so that a run takes minutes. What they are measured with stays as it is: --lag, --bite and the
# shares are defaults. The memory rule keeps its default pace (8 MiB in 30 s is 3.2 MiB in 12 s, rounded up).
QUICK: dict[str, str] = {
    "--hold": "3s",
    "--stall": "5s",
    "--close-wait": "8s",
    "--fin-wait": "8s",
    "--idle": "9s",
    "--leak-count": "10",
    "--memory-window": "12s",
    "--memory-growth": "4MiB",
    "--attribution": "3s",
    "--unpaired": "4s",
    "--late-window": "12s",
    "--drop-window": "24s",
    "--dead-peer": "6s",
    "--leftover": "20s",
}
Json = dict[str, Any]


@dataclass
class Finding:
    """All lines about one finding."""

    id: str
    kind: str
    pid: int
    arrived: float  # time.monotonic() of the first line
    scenario: str | None
    lines: list[Json] = field(default_factory=list)

    @property
    def message(self) -> str:
        return str(self.lines[0]["message"])

    @property
    def pids(self) -> set[int]:
        return {self.pid, *(pid for line in self.lines for pid in line.get("laggard.process.holders", []))}

    def linked(self, key: str) -> set[str]:
        """The findings that any line points to, as `symptom_of` or `peer_finding`."""
        name = f"laggard.finding.{key}"
        return {line[name] for line in self.lines if name in line}


class Observer:
    def __init__(self, laggard: Path, options: dict[str, str], work: Path,
                 scenario_of: Callable[[int], str | None], more: Sequence[tuple[str, str]] = ()) -> None:
        # A copy: the original may be rebuilt while we run.
        self.program = work / "laggard"
        shutil.copy2(laggard, self.program)
        help_text = subprocess.run([self.program, "--help"], capture_output=True, text=True, timeout=DEADLINE_SECONDS).stdout
        known = set(re.findall(r"--[a-z-]+", help_text))
        pairs = [*options.items(), *more]
        self.unknown_options = sorted({option for option, _ in pairs} - known)
        self.options = [word for option, value in pairs if option in known for word in (option, value)]
        self.command = ["laggard", "watch", "--output", "json", *self.options]
        self.findings: dict[str, Finding] = {}
        self.degraded: list[str] = []
        self._scenario_of = scenario_of
        self._started = False
        self._log = (work / "laggard.ndjson").open("w")
        self._errors = work / "laggard.stderr"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen([self.program, *self.command[1:]], stdin=subprocess.DEVNULL,
                                             stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def wait_started(self) -> None:
        eventually(lambda: self._started or not self._thread.is_alive(), "laggard says that it observes")
        if not self._started:
            raise Failed(f"laggard did not start: {self.errors.strip()}")

    def check_alive(self) -> None:
        if not self._thread.is_alive():
            raise Failed(f"laggard ended with {self._process.wait()}: {self.errors.strip()}")

    @property
    def errors(self) -> str:
        """What it said on stderr."""
        return self._errors.read_text(errors="replace")

    def of(self, scenario: str) -> list[Finding]:
        return [finding for finding in list(self.findings.values()) if finding.scenario == scenario]

    def stop(self) -> None:
        self._process.terminate()
        self._thread.join(DEADLINE_SECONDS)
        self._process.wait(DEADLINE_SECONDS)
        self._log.close()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            arrived = time.monotonic()
            self._log.write(text)
            line: Json = json.loads(text)
            event = line["event.name"]
            if event == "laggard.agent.started":
                self._started = True
            elif event == "laggard.agent.degraded":
                self.degraded.append(line["message"])
            elif event.startswith("laggard.finding."):
                self._take(line, arrived)

    def _take(self, line: Json, arrived: float) -> None:
        name = line["laggard.finding.id"]
        if name in self.findings:
            self.findings[name].lines.append(line)
            return
        pid = line.get("process.pid", 0)
        self.findings[name] = Finding(name, line["laggard.finding.kind"], pid, arrived, self._scenario_of(pid), [line])
