# SPDX-License-Identifier: MIT
"""The two programs of most rows: laggard, whose processor time and memory are sampled, and the load that it watches."""
from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rows import Context, Failed

SAMPLE_SECONDS = 0.5
DEADLINE_SECONDS = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds_of(command: list[str | Path], seconds: float = DEADLINE_SECONDS) -> tuple[float, float]:
    """User and kernel time, and wall-clock time, of a command whose output is thrown away."""
    start = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        timer.cancel()
    if process.returncode != 0:
        raise Failed(f"{Path(command[0]).name} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - start


class Load:
    """build/load; connections stand when the constructor returns."""

    def __init__(self, context: Context, mode: str, count: int, *options: str) -> None:
        self._process = subprocess.Popen([context.build / "load", mode, str(count), *options], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.pid = self._process.pid
        self.done: dict[str, float] = {}
        assert self._process.stdout is not None
        line = self._process.stdout.readline()  # interrupted, its standard input closes with us
        if not line.startswith("ready "):
            rest = self._process.communicate()[0]
            raise Failed(f"load {mode} {count}: {(line + rest).strip()}")
        self.ready_at = time.time()
        self.children = children_of(self.pid)

    def stop(self) -> None:
        if self.done:
            return
        out, _ = self._process.communicate(timeout=DEADLINE_SECONDS)  # its standard input closes
        self.done = {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+)", out)} or {"failed": 1}

    def __enter__(self) -> Load:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


@dataclass
class Sample:
    at: float
    cpu_seconds: float
    rss_bytes: int


class Watch:
    """`laggard watch`. Output goes to a file, unless `stdout` is given."""

    def __init__(self, context: Context, *options: str, output: str = "json", stdout: int | None = None) -> None:
        self.port = free_port()
        self.log = context.work / f"watch-{self.port}.out"
        self.errors = context.work / f"watch-{self.port}.err"
        command: list[str | Path] = [context.laggard, "watch", "--output", output, "--metrics", f"127.0.0.1:{self.port}",
                                     "--duration", "15m", *options]  # an end of its own, should we be killed
        with self.log.open("wb") as log, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log if stdout is None else stdout,
                                            stderr=errors, start_new_session=True)
        self.pid = self.process.pid
        self.samples: list[Sample] = []
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            if stdout is None:
                self._wait_started(output)
                self.begin_sampling()
        except BaseException:  # a signal, too: nobody else would end it
            self.stop()
            raise

    def _wait_started(self, output: str) -> None:
        end = time.monotonic() + DEADLINE_SECONDS
        # As text it says so on stderr: that is no finding.
        while " watching " not in (self.errors if output == "text" else self.log).read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failed(f"laggard does not start: {self.errors.read_text(errors='replace').strip()}")
            time.sleep(0.02)

    def begin_sampling(self) -> None:
        """What laggard costs from now on; its start is a row of its own."""
        self._sample()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{self.pid}/status").read_text()
        kib = {key: int(value) for key, value in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.M)}
        if "VmRSS" not in kib:
            return  # it has ended
        self.samples.append(Sample(time.monotonic(), (int(fields[11]) + int(fields[12])) / TICKS, kib["VmRSS"] * 1024))
        self.peak_bytes = kib["VmHWM"] * 1024

    def _collect(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            try:
                self._sample()
            except OSError:
                return

    def run(self, seconds: float) -> None:
        """Watches on; a laggard that ends meanwhile has failed."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise Failed(f"laggard ended with {self.process.returncode}: {self.errors.read_text(errors='replace').strip()}")

    def shares(self, seconds: float = 30.0) -> list[float]:
        """Percent of one core in each window of so many seconds; in all the time, if that is shorter."""
        samples = list(self.samples)
        found = []
        last = 0
        for first, start in enumerate(samples):
            while last < len(samples) and samples[last].at < start.at + seconds - SAMPLE_SECONDS / 4:
                last += 1
            if last == len(samples):
                if first == 0:
                    last -= 1
                else:
                    break
            if last > first:
                found.append(100 * (samples[last].cpu_seconds - start.cpu_seconds) / (samples[last].at - start.at))
        return found

    def rss(self, since: float = 0.0) -> list[float]:
        return [float(sample.rss_bytes) for sample in list(self.samples) if sample.at >= since]

    def metrics(self, seconds: float = 5.0) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=seconds) as page:
            text = page.read().decode()
        return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.M)}

    def stop(self) -> int:
        """Its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._ended.set()
        return int(self.process.returncode)

    def lines(self) -> list[dict[str, Any]]:
        """What it wrote as JSON."""
        return [json.loads(line) for line in self.log.read_text(errors="replace").splitlines() if line.strip()]

    def lost(self) -> float:
        """Of all causes, from its last words."""
        last = self.lines()[-1]
        if last.get("event.name") != "laggard.agent.stopped":
            raise Failed("laggard did not say goodbye")
        return float(last["laggard.quality.lost_records"])

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def summed(metrics: dict[str, float], name: str, **labels: str) -> float:
    """Of all series of one family that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(value for series, value in metrics.items()
               if series.partition("{")[0] == name and all(label in series for label in wanted))
