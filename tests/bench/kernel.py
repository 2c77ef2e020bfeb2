# SPDX-License-Identifier: MIT
"""What laggard costs others: one read, one page, one probe; the kernel's memory and verifier; a start, a snapshot."""
from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import statistics
import struct
import subprocess
import time
from pathlib import Path

from process import Load, Watch, cpu_seconds_of
from rows import Context, Failed, Measure, Skip, row

SKIPPED = 77


def say(context: Context, program: str, *arguments: str) -> str:
    """What one of the C++ benchmarks prints; it judges itself, too."""
    path = context.build / program
    if not path.exists():
        raise Skip(f"{path} is not built")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode == SKIPPED:
        raise Skip(done.stdout.strip())
    if done.returncode not in (0, 1):
        raise Failed(f"{program} ended with {done.returncode}: {done.stdout.strip()} {done.stderr.strip()}")
    return done.stdout


def numbers(pattern: str, text: str) -> list[float]:
    found = [float(word) for word in re.findall(pattern, text)]
    if not found:
        raise Failed(f"no '{pattern}' in: {text.strip()}")
    return found


@row("read-cost", "≤ 1.3 × an empty program on the same hook",
     "bench_read_cost: rounds without, with an empty program, with laggard's alternate")
def read_cost(context: Context) -> list[Measure]:
    text = say(context, "bench_read_cost", "60" if context.quick else "200")
    same = numbers(r"1-byte reads:[^\n]*added cost ([\d.]+)", text)
    turn = numbers(r"in turn:[^\n]*added cost ([\d.]+)", text)
    # Other tenants only add: the best attempt is the judge, as in the program.
    return [Measure("added to a 1-byte read", "x", same, at_most=1.3, judged=min(same)),
            Measure("added to reads of 1 and 2 bytes in turn", "x", turn)]


@row("attribution-cost", "suspect ≤ 1.5 ×, bystander ≤ 1.2 ×",
     "bench_attribution_cost: rounds without and with an attribution alternate")
def attribution_cost(context: Context) -> list[Measure]:
    text = say(context, "bench_attribution_cost", "20" if context.quick else "60")
    return [Measure("a suspect's fresh page, read from a socket", "x", numbers(r"suspect.* = ([\d.]+) x", text), at_most=1.5),
            Measure("a bystander's fresh page", "x", numbers(r"bystander.* = ([\d.]+) x", text), at_most=1.2)]


@row("pair-cost", "≤ 6 µs beside the trap", "bench_pair_cost: a function that does nothing, alone, with idle probes, with ours")
def pair_cost(context: Context) -> list[Measure]:
    text = say(context, "bench_pair_cost")
    cost, trap = numbers(r"([\d.]+) ns per hit", text)[0], numbers(r"trap ([\d.]+)", text)[0]
    return [Measure("one hit of a pair's probe beside the trap", "µs", [(cost - trap) / 1e3], at_most=6.0,
                    note=f"trap {trap / 1e3:.1f} µs")]


@row("idle-tick", "one tick ≤ 1/20 of ss, a cold snapshot ≤ 1/2",
     "bench_idle_cost: CPU against `ss -tinmp` of the same 36 000 idle sockets")
def idle_tick(context: Context) -> list[Measure]:
    ticks, snapshots = [], []
    for _ in range(1 if context.quick else 3):
        text = say(context, "bench_idle_cost", str(context.laggard), str(context.size(36_000)))
        ticks += [1 / value for value in numbers(r"= 1/(\d+) of ss", text)]
        snapshots += numbers(r"= ([\d.]+) of ss \(budget 0.50\)", text)
    return [Measure("one tick, of ss", "x", ticks, at_most=0.05), Measure("snapshot, of ss", "x", snapshots, at_most=0.5)]


def slope(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: slope and value at 0."""
    fit = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return fit.slope, fit.intercept


@row("snapshot-linear", "linear, ≤ 1.2 µs per socket",
     "CPU of `laggard snapshot` over 1 k to 100 k idle sockets; slope of the least of five each")
def snapshot_linear(context: Context) -> list[Measure]:
    points = []
    for connections in (500, 5000) if context.quick else (500, 5000, 20_000, 50_000):
        with Load(context, "idle", connections):
            # Others only add to it, by what they push out of the caches: the least counts.
            runs = [cpu_seconds_of([context.laggard, "snapshot", "--output", "json"])[0] for _ in range(5)]
            points.append((2.0 * connections, min(runs)))
    steps = [1e6 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(points, points[1:])]
    per_socket = 1e6 * slope(points)[0]
    return [Measure("snapshot, per socket", "µs", steps, at_most=1.2, judged=per_socket, note="min to max: between two sizes")]


def slab_bytes() -> float:
    """Of what the kernel allocates by size, in which the state of sockets is."""
    lines = Path("/proc/slabinfo").read_text().splitlines()[2:]
    return sum(float(words[1]) * float(words[3]) for words in map(str.split, lines) if words[0].startswith("kmalloc-"))


def slabs_grow(context: Context, connections: int, seconds: float) -> float:
    before = slab_bytes()
    with Load(context, "busy", connections):
        time.sleep(seconds)  # all are read and swept
        return slab_bytes() - before


@row("kernel-memory", "≤ 512 B per socket",
     "growth of the kmalloc slabs while sockets come that are read, with laggard there, less the same without it")
def kernel_memory(context: Context) -> list[Measure]:
    connections = 5000 if context.quick else 18_000
    slabs_grow(context, connections, 2)  # warms the slabs up
    states = []
    for _ in range(1 if context.quick else 5):
        without = slabs_grow(context, connections, 6)
        with Watch(context) as watch:
            watch.run(2)
            states.append((slabs_grow(context, connections, 6) - without) / (2 * connections))
    return [Measure("kernel memory per socket", "B", states, at_most=512, note="both ends of each connection; others allocate, too")]


def prog_info(prog_id: int) -> tuple[str, int]:
    """Name and verified_insns: struct bpf_prog_info; bpftool does not print the latter everywhere."""
    number = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
    if number is None:
        raise Skip("the number of bpf(2) on this architecture is not known here")
    call = ctypes.CDLL(None, use_errno=True).syscall
    by_id = ctypes.create_string_buffer(struct.pack("=III", prog_id, 0, 0), 12)
    fd = call(number, 13, by_id, len(by_id))  # BPF_PROG_GET_FD_BY_ID
    if fd < 0:
        raise Failed(f"program {prog_id}: {os.strerror(ctypes.get_errno())}")
    info = ctypes.create_string_buffer(220)
    asked = ctypes.create_string_buffer(struct.pack("=IIQ", fd, len(info), ctypes.addressof(info)), 16)
    status = call(number, 15, asked, len(asked))  # BPF_OBJ_GET_INFO_BY_FD
    os.close(fd)
    if status != 0:
        raise Failed(f"program {prog_id}: {os.strerror(ctypes.get_errno())}")
    return info.raw[64:80].rstrip(b"\0").decode(), int(struct.unpack_from("=I", info, 216)[0])


@row("verified", "no budget; the kernel gives up at 1 000 000",
     "bpf_prog_info.verified_insns of all programs of a running laggard, on this kernel")
def verified(context: Context) -> list[Measure]:
    with Watch(context) as watch:
        ids = set()
        for info in Path(f"/proc/{watch.pid}/fdinfo").iterdir():
            ids.update(int(found) for found in re.findall(r"^prog_id:\s+(\d+)", info.read_text(), re.M))
        programs = sorted(prog_info(one) for one in ids)
    if not programs:
        raise Failed("laggard holds no program")
    largest = max(count for _, count in programs)
    return [Measure("verified instructions of the largest program", "", [float(largest)], at_most=1e6, budget="< 1 000 000"),
            *(Measure(f"verified instructions of {name}", "", [float(count)], detail=True) for name, count in programs)]


@row("start-up", "≤ bpftrace", "wall-clock time of `laggard snapshot` against `bpftrace -e 'BEGIN{exit()}'`, in turn")
def start_up(context: Context) -> list[Measure]:
    bpftrace = shutil.which("bpftrace")
    ours, theirs = [], []
    for _ in range(int(context.seconds(11, 3))):
        ours.append(cpu_seconds_of([context.laggard, "snapshot", "--output", "json"])[1])
        if bpftrace is not None:
            theirs.append(cpu_seconds_of([bpftrace, "-e", "BEGIN{exit()}"])[1])
    if bpftrace is None:
        return [Measure("start to the first look", "s", ours, note="bpftrace is not installed: nothing to compare with")]
    ratios = [a / b for a, b in zip(ours, theirs)]
    return [Measure("start to the first look", "s", ours), Measure("of bpftrace", "x", ratios, at_most=1.0)]
