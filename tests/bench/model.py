# SPDX-License-Identifier: MIT
"""From what was measured to a million connections: straight lines, and which limit each of them meets first."""
from __future__ import annotations

import math
from collections.abc import Callable

from kernel import slope
from process import summed
from rows import MIB, Context, Measure, Point, Skip, row
from scale import CPU_SLACK, IDLE_BYTES, JUDGED_BYTES, MAX_CPU_PERCENT, START_BYTES

MILLION = 1_000_000
PATIENCE_SECONDS = 10.0  # --stall: with sweeps further apart, a finding takes twice as long as the rule asks for


def sweep_seconds(point: Point) -> float:
    """Processor time of one look at all sockets."""
    looks = summed(point.metrics, "laggard_sweep_duration_seconds_count")
    return summed(point.metrics, "laggard_sweep_duration_seconds_sum") / looks if looks else 0.0


def ratio(numerator: float, denominator: float) -> float:
    """Where a line meets a limit that it only meets if it is steeper."""
    return numerator / denominator if denominator > 0 else math.inf


def line(points: list[Point], value: Callable[[Point], float]) -> tuple[float, float]:
    return slope([(float(point.connections), value(point)) for point in points])


def at_a_million(points: list[Point], value: Callable[[Point], float]) -> float:
    """What does not grow, because laggard looks less often instead, stays what it is."""
    steep, start = line(points, value)
    return start + steep * MILLION if steep > 0 else max(map(value, points))


def breaking_points(series: str, points: list[Point]) -> dict[str, float]:
    """At how many connections each limit is reached."""
    allowed = IDLE_BYTES * 2 if series == "idle" else JUDGED_BYTES
    rss, rss_0 = line(points, lambda point: point.rss_bytes)
    cpu, cpu_0 = line(points, lambda point: point.cpu_percent)
    sweep, sweep_0 = line(points, sweep_seconds)
    limits = {
        "RSS is over its bound": max(ratio(START_BYTES - rss_0, rss - allowed), 0.0),
        "CPU is over 1.3 × --max-cpu": ratio(MAX_CPU_PERCENT * CPU_SLACK - cpu_0, cpu),
        f"looks at all sockets are {PATIENCE_SECONDS:.0f} s apart": ratio(PATIENCE_SECONDS * MAX_CPU_PERCENT / 100 - sweep_0, sweep),
        "one look takes a second of a core": ratio(1.0 - sweep_0, sweep),
    }
    for name, metric in (("sockets are evicted", "laggard_sockets_evicted_total"), ("records are lost", "laggard_lost_total")):
        seen = [point.connections for point in points if summed(point.metrics, metric) > 0]
        if seen:
            limits[f"{name} (seen)"] = float(min(seen))
    return limits


@row("model", "what breaks first on the way to 1 M connections",
     "least squares through the points of busy-*, stalled-* and idle-* of this run")
def model(context: Context) -> list[Measure]:
    measures = []
    for series in ("idle", "busy", "stalled"):
        points = [point for point in context.points if point.series == series]
        if len({point.connections for point in points}) < 2:
            continue
        rss, cpu = line(points, lambda point: point.rss_bytes)[0], line(points, lambda point: point.cpu_percent)[0]
        look = at_a_million(points, sweep_seconds)
        limits = sorted(breaking_points(series, points).items(), key=lambda item: item[1])
        first, second = limits[0], limits[1]
        measures += [
            Measure(f"RSS of 1 M {series} connections", "MiB", [at_a_million(points, lambda point: point.rss_bytes) / MIB],
                    note=f"{rss:.0f} B per connection"),
            Measure(f"CPU of 1 M {series} connections", "%", [at_a_million(points, lambda point: point.cpu_percent)],
                    note=f"{cpu * 1000:.3f} % per 1 000"),
            Measure(f"one look at 1 M {series} connections", "s", [look],
                    note=f"CPU; {100 * look / MAX_CPU_PERCENT:.0f} s apart to stay within --max-cpu"),
            Measure(f"breaks first: {series}, {first[0]}", "connections", [first[1]], note=f"then, at {second[1]:.0f}: {second[0]}"),
        ]
    if not measures:
        raise Skip("needs two sizes of busy, stalled or idle in the same run")
    return measures
