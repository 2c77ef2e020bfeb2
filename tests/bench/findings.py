# SPDX-License-Identifier: MIT
"""Many of the same: few findings, few lines, in time; and a reader of them that has stopped."""
from __future__ import annotations

import fcntl
import json
import os
import re
import select
import threading
import time
from pathlib import Path
from typing import Any

from process import Load, Watch, summed
from rows import Context, Failed, Measure, row

DRAIN_SECONDS = 3.0  # of silence: that was all
OURS = ("--comm", "load-reader", "--comm", "load-writer")  # whatever else lags on this machine is not counted


@row("processes-200", "one finding about the readers, with a count of processes; ≤ 40 lines of text",
     "load lagging: 200 processes, one slow connection each, one sender; 45 s of text output until laggard is stopped")
def processes(context: Context) -> list[Measure]:
    count = context.size(200)
    with Watch(context, *OURS, output="text") as watch, Load(context, "lagging", count):
        watch.run(context.seconds(45, 14))
        opened = watch.metrics()
        watch.stop()
    text = watch.log.read_text(errors="replace")
    about_readers = sum(summed(opened, "laggard_findings_opened_total", kind=kind) for kind in ("slow-reader", "stalled-reader"))
    everything = summed(opened, "laggard_findings_opened_total")
    said = re.search(rf"\b{count} processes\b", text) is not None
    return [
        Measure("findings about the readers", "", [about_readers], budget="1", good=about_readers == 1,
                note=f"{everything:.0f} in all"),
        Measure("count of processes", "", [float(said)], budget=f"'{count} processes' is said", good=said),
        Measure("lines of text", "", [float(text.count(chr(10)))], at_most=40),
    ]


@row("endpoints-2k", "≤ 5 findings", "load endpoints: one process with 2 000 stuck connections to 2 000 endpoints; 45 s")
def endpoints(context: Context) -> list[Measure]:
    with Watch(context, *OURS) as watch, Load(context, "endpoints", context.size(2000)):
        watch.run(context.seconds(45, 14))
        opened = summed(watch.metrics(), "laggard_findings_opened_total")
        code = watch.stop()
    updates = sum(line["event.name"] == "laggard.finding.updated" for line in watch.lines())
    return [Measure("findings", "", [opened], at_most=5, note=f"{updates} updates"),
            Measure("exit code", "", [float(code)], at_most=0)]


@row("time-to-finding", "≤ 2 intervals or one sweep period beyond the rule's own hold time",
     "load stalled 1, --stall 3s: from the last byte's arrival to the time of the finding, less 3 s")
def time_to_finding(context: Context) -> list[Measure]:
    late = []
    with Watch(context, *OURS, "--only", "stalled-reader", "--stall", "3s") as watch:
        for number in range(int(context.seconds(7, 2))):
            with Load(context, "stalled", 1) as load:
                late.append(opened_at(watch, number) - load.ready_at - 3)
            watch.run(2.2)  # it is resolved
        period = summed(watch.metrics(), "laggard_sweep_period_seconds")
    return [Measure("beyond the hold time", "s", late, at_most=max(2.0, period), judged=max(late), note=f"sweep period {period:.1f} s")]


def opened_at(watch: Watch, number: int) -> float:
    """When the finding of this number was written, to 20 ms."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if watch.log.read_text(errors="replace").count('"laggard.finding.opened"') > number:
            return time.time()
        time.sleep(0.02)
    raise Failed("the stalled connection is not found within 30 s")


class Reader:
    """Of a small pipe; it can stop. Then the pipe is full to the brim."""

    def __init__(self) -> None:
        self.end, self.write_end = os.pipe()
        fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, 4096)
        self._buffer = b""

    def line(self, seconds: float) -> dict[str, Any] | None:
        """The next one that is not filling."""
        deadline = time.monotonic() + seconds
        while True:
            head, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                if head.strip():
                    return dict(json.loads(head))
                continue
            if not select.select([self.end], [], [], max(deadline - time.monotonic(), 0))[0]:
                return None
            self._buffer += os.read(self.end, 65536)

    def fill(self) -> None:
        # A description of our own: O_NONBLOCK must not become that of laggard's output.
        writer = os.open(f"/proc/self/fd/{self.write_end}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(writer, b"\n" * 4096)
        except BlockingIOError:
            pass
        finally:
            os.close(writer)


@row("stopped-reader", "ticks, heartbeat and metrics go on; what was dropped is said first when the reader is back",
     "stdout is a full pipe that nobody reads for 30 s while 200 processes lag; --heartbeat, --metrics")
def stopped_reader(context: Context) -> list[Measure]:
    heartbeat = context.work / "heartbeat"
    reader = Reader()
    seconds = context.seconds(30, 14)
    with Watch(context, *OURS, "--heartbeat", str(heartbeat), stdout=reader.write_end) as watch:
        if reader.line(30) is None:
            raise Failed("laggard does not start")
        with Load(context, "lagging", context.size(200)):
            reader.fill()
            before, ages, ticks = beats(watch, heartbeat, seconds)
            # From now on there is a reader again, whose first line counts.
            first = reader.line(5)
            lines = [first] if first else []
            rest = drain(reader, lines)
            code = watch.stop()
            rest.join(DRAIN_SECONDS + 2)
    # Without a word of it from laggard: what it had found while nobody read, and did not write afterwards.
    written = sum(line.get("event.name") == "laggard.finding.opened" for line in lines)
    missing = max(summed(before, "laggard_findings_opened_total") - written, 0)
    dropped = sum(value for name, value in before.items() if "dropped" in name and not name.startswith("laggard_findings"))
    said = first is not None and ("dropped" in first.get("message", "")
                                  or any("dropped" in key and value for key, value in first.items()))
    goes_on = ticks / seconds >= 0.9
    return [
        Measure("ticks per second while nobody reads", "", [ticks / seconds], at_least=0.9),
        Measure("age of the heartbeat", "s", ages, at_most=3.0, judged=max(ages)),
        Measure("what was dropped is said first", "", [float(said)], budget="yes, if anything was",
                good=said or (goes_on and not dropped and not missing),
                note=f"{dropped:.0f} dropped by its metrics, {missing:.0f} findings missing; "
                     f"first line: {first.get('event.name') if first else 'none'}"),
        Measure("exit code", "", [float(code)]),
    ]


def beats(watch: Watch, heartbeat: Path, seconds: float) -> tuple[dict[str, float], list[float], float]:
    """The last metrics, the ages of the heartbeat, and how many ticks there were."""
    ages, seen = [], []
    metrics: dict[str, float] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ages.append(time.time() - heartbeat.stat().st_mtime)
        try:
            metrics = watch.metrics(2.0)
            seen.append(metrics["laggard_ticks_total"])
        except OSError:
            pass  # no answer in time: its ticks are missing
        time.sleep(0.5)
    return metrics, ages, seen[-1] - seen[0] if seen else 0.0


def drain(reader: Reader, lines: list[dict[str, Any]]) -> threading.Thread:
    def read() -> None:
        while (line := reader.line(DRAIN_SECONDS)) is not None:
            lines.append(line)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread
