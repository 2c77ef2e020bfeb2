# SPDX-License-Identifier: MIT
"""Many connections: what they cost laggard in memory and processor time, and whether it still sees all of them."""
from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

from process import Load, Watch, summed
from rows import MIB, Context, Failed, Measure, Point, row

START_BYTES = 24 * MIB
JUDGED_BYTES, IDLE_BYTES = 1024, 200
MAX_CPU_PERCENT = 1.0  # the default of --max-cpu
CPU_SLACK = 1.3
WINDOW_SECONDS = 30.0


def rss_measure(watch: Watch, judged: int, idle: int = 0) -> Measure:
    bound = START_BYTES + judged * JUDGED_BYTES + idle * IDLE_BYTES
    values = [value / MIB for value in watch.rss()]
    return Measure("RSS", "MiB", values, at_most=bound / MIB, judged=max(values), note=f"VmHWM {watch.peak_bytes / MIB:.1f} MiB")


def cpu_measure(watch: Watch, at_most: float | None = MAX_CPU_PERCENT * CPU_SLACK) -> Measure:
    values = watch.shares(WINDOW_SECONDS)
    if not values:
        raise Failed("laggard was not sampled")
    return Measure("CPU of the busiest 30 s", "%", values, at_most=at_most, judged=max(values))


def complete(watch: Watch) -> list[Measure]:
    """After the end: nothing was lost, and it says so itself."""
    code = watch.stop()
    return [Measure("records lost", "", [watch.lost()], at_most=0), Measure("exit code", "", [float(code)], at_most=0, detail=code == 0)]


def remember(context: Context, series: str, connections: int, watch: Watch, before: dict[str, float] | None = None) -> None:
    """For the model, while laggard still runs. `before`: counters when the connections stood, if laggard was there first."""
    metrics = {name: value - (before or {}).get(name, 0.0) if re.search(r"_(total|sum|count)\b", name) else value
               for name, value in watch.metrics().items()}
    context.points.append(Point(series, connections, max(watch.rss()), max(watch.shares(WINDOW_SECONDS), default=0.0), metrics))


def busy(context: Context, full: int) -> list[Measure]:
    count = context.size(full)
    with Load(context, "busy", count) as load:
        with Watch(context) as watch:
            watch.run(context.seconds(28, 6))
            remember(context, "busy", count, watch)
            measures = [rss_measure(watch, count), cpu_measure(watch, None), *complete(watch)]
        load.stop()
    rate = load.done.get("per_second", 0) / count
    # Where the machine is too slow for the load itself, the row says nothing about laggard.
    measures.append(Measure("reads per second and connection", "", [rate], note="of the load, 1 is wanted", detail=rate > 0.95))
    return measures


def idle(context: Context, full: int) -> list[Measure]:
    count = context.size(full)
    with Load(context, "idle", count), Watch(context) as watch:
        watch.run(context.seconds(45, 6))
        remember(context, "idle", count, watch)
        return [rss_measure(watch, 0, 2 * count), cpu_measure(watch, MAX_CPU_PERCENT), *complete(watch)]


def stalled(context: Context, full: int, processes: int = 1) -> list[Measure]:
    """laggard is there first: it sees them come, stand, and go."""
    count = context.size(full)
    with Watch(context) as watch:
        watch.run(context.seconds(4, 2))
        before = watch.samples[-1].rss_bytes
        with Load(context, "stalled", count, "--processes", str(processes), "--per-process", "15100"):
            standing = watch.metrics()
            watch.run(context.seconds(60, 14))
            remember(context, "stalled", count, watch, standing)
        gone = time.monotonic()
        watch.run(context.seconds(30, 6))
        after = [value / before for value in watch.rss(gone)]
        opened = summed(watch.metrics(), "laggard_findings_opened_total", kind="stalled-reader")
        measures = [rss_measure(watch, count), cpu_measure(watch), *complete(watch)]
    measures.append(Measure("RSS 30 s after they are gone, of what it was before", "x", after, at_most=1.5, judged=after[-1]))
    measures.append(Measure("findings", "", [opened]))
    return measures


@row("rss-start", "RSS ≤ 24 MiB at start", "/proc/PID/status of a laggard that has watched for 10 s whatever there is")
def rss_start(context: Context) -> list[Measure]:
    with Watch(context) as watch:
        watch.run(context.seconds(10, 3))
        return [rss_measure(watch, 0)]


RSS_BUDGET = "RSS ≤ 24 MiB + 1 KiB per connection with something to judge + 200 B per idle one"
BUSY_BUDGET = f"0 records lost, exit 0, {RSS_BUDGET}"
BUSY_METHOD = "load busy: one message per second and connection, read at once; watched for 28 s"
STALLED_BUDGET = f"{RSS_BUDGET}; CPU ≤ 1.3 × --max-cpu in any 30 s; RSS back to 1.5 × within 30 s after they are gone"
STALLED_METHOD = "load stalled: 4 KiB each that nobody reads; they come while laggard watches, stay for 60 s and go"

row("idle-10k", "CPU ≤ 1 % of a core, RSS ≤ 24 MiB + 200 B per socket", "load idle; watched for 45 s")(lambda c: idle(c, 10_000))
row("idle-50k", "CPU ≤ 1 % of a core, RSS ≤ 24 MiB + 200 B per socket", "load idle; watched for 45 s")(lambda c: idle(c, 50_000))
row("busy-1k", BUSY_BUDGET, BUSY_METHOD)(lambda c: busy(c, 1000))
row("busy-5k", BUSY_BUDGET, BUSY_METHOD)(lambda c: busy(c, 5000))
row("busy-18k", BUSY_BUDGET, BUSY_METHOD)(lambda c: busy(c, 18_000))
row("busy-20k", BUSY_BUDGET, BUSY_METHOD)(lambda c: busy(c, 20_000))
row("busy-50k", BUSY_BUDGET, BUSY_METHOD)(lambda c: busy(c, 50_000))
row("stalled-1k", STALLED_BUDGET, STALLED_METHOD)(lambda c: stalled(c, 1000))
row("stalled-15k", STALLED_BUDGET, STALLED_METHOD)(lambda c: stalled(c, 15_000))
row("stalled-60k", STALLED_BUDGET, f"{STALLED_METHOD}; of four processes")(lambda c: stalled(c, 60_000, 4))
row("stalled-100k", STALLED_BUDGET, f"{STALLED_METHOD}; of seven processes")(lambda c: stalled(c, 100_000, 7))


def map_of(pid: int, name: str) -> int:
    """The id of a map of this process: others may watch this machine as well."""
    ids = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        ids.update(int(found) for found in re.findall(r"^map_id:\s+(\d+)", info.read_text(), re.M))
    for one in ids:
        shown = subprocess.run(["bpftool", "-j", "map", "show", "id", str(one)], capture_output=True, text=True, check=False)
        if shown.returncode == 0 and json.loads(shown.stdout).get("name") == name:
            return one
    raise Failed(f"laggard has no map '{name}'")


def bytes_counted(map_id: int, tgids: list[int]) -> int:
    """As the kernel side has added them up: `struct process_totals` begins with read_bytes."""
    total = 0
    for tgid in tgids:
        key = list(tgid.to_bytes(4, "little"))
        shown = subprocess.run(["bpftool", "-j", "map", "lookup", "id", str(map_id), "key", *map(str, key)], capture_output=True,
                               text=True, check=False)
        if shown.returncode == 0:
            total += int.from_bytes(bytes(int(byte, 16) for byte in json.loads(shown.stdout)["value"][:8]), "little")
    return total


@row("churn", "bytes of short-lived connections ≥ 0.999 counted, or the loss is said; RSS flat; exit 0 or 4",
     "load churn: two clients and two servers, connect, request, reply, close, for 60 s; "
     "bytes in laggard's map against the load's own account")
def churn(context: Context) -> list[Measure]:
    with Watch(context) as watch:
        totals = map_of(watch.pid, "totals")
        with Load(context, "churn", 2) as load:
            watch.run(context.seconds(60, 8))
            load.stop()
        watch.run(2.5)  # the last bytes are folded at the next tick
        counted = bytes_counted(totals, load.children)
        rss, shares = watch.rss(), watch.shares(WINDOW_SECONDS)
        code = watch.stop()
        lost = watch.lost()
    read = load.done.get("bytes_read", 0)
    share = counted / max(read, 1)
    # Each lost record excuses one connection, not any number of them.
    excused = lost * read / max(load.done.get("connections", 0), 1)
    half = len(rss) // 2
    growth = max(rss[half:]) / max(rss[len(rss) // 6:half])  # the first sixth: the tables are filled
    return [
        Measure("connections per second", "", [load.done.get("per_second", 0)]),
        Measure("bytes counted", "x", [share], budget="≥ 0.999, or the loss is said", good=share <= 1.001 and counted + excused >= 0.999 * read,
                note=f"{lost:.0f} records lost"),
        Measure("RSS of the second half, of the first", "x", [growth], at_most=1.05, note=f"{max(rss) / MIB:.1f} MiB"),
        Measure("CPU of the busiest 30 s", "%", shares, judged=max(shares)),
        Measure("exit code", "", [float(code)], budget="0, or 4 with losses", good=code == 0 or (code == 4 and lost > 0)),
    ]
