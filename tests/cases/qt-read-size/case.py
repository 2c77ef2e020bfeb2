# SPDX-License-Identifier: MIT
"""A Qt client that takes one record of 12 bytes per readyRead."""
from __future__ import annotations

from pathlib import Path

from harness import Program, Scene
from observer import Finding
from programs import source
from scenario import Culprit, Outcome, negative, positive
from toolbox import built, expect, explain, pkg_config, stacks

RECORD_BYTES = 12
READ_BUFFER_BYTES = 64 * 1024


def client(scene: Scene, habit: str, port: int, read_buffer_bytes: int = 0) -> Program:
    program = built("qt-client", lambda out: ["g++", "-std=c++20", "-O2", "-fPIC", "-Wall", "-Wextra", "-o", out, "client.cpp",
                                              *pkg_config("Qt6Network")], Path(__file__).parent)
    return scene.start(program, habit, port, read_buffer_bytes).wait_says("ready\n")


def offers_too_much(scene: Scene) -> int:
    """60 MB/s. With a send buffer of a default size seconds of data would wait in it, and the reader's lag would speak."""
    return source(scene, 60_000_000, send_buffer=64 * 1024)


def is_qt_buffer(found: Finding, outcome: Outcome) -> str:
    ratio = found.lines[0]["laggard.evidence.retained_ratio"]
    expect(0.9 <= ratio <= 1.1, f"the retained ratio is {ratio:.2f}")
    largest = stacks(explain(outcome, found.pid))[0]
    share = largest["laggard.evidence.attributed_ratio"]
    expect(share >= 0.5, f"the largest stack has only {share:.0%} of the growth")
    names = [frame.partition("+")[0].partition("(")[0] for frame in largest["laggard.stack.frames"]]
    expect("QRingBuffer::reserve" in names, f"explain does not name Qt's buffer: {' < '.join(names)}")
    return f"ratio {ratio:.2f}, QRingBuffer::reserve in {share:.0%}"


@positive("user-space-buffering", check=is_qt_buffer, recording="case-qt-hoarder")
def hoarder(scene: Scene) -> Culprit:
    """Qt reads 5 MB/s from the kernel into its own buffer, of which the program takes next to nothing."""
    return client(scene, "takes-one", source(scene, 5_000_000))


def is_small_bites(found: Finding, outcome: Outcome) -> str:
    line = found.lines[0]
    lag = line["laggard.evidence.lag_seconds"]
    expect("laggard.threshold.bite_bytes" in line and lag < 1, f"found by its lag of {lag:.1f} s, not by its bites")
    # The mean may be 11.99: what remains of a segment is read in two pieces, 4 and 8 bytes.
    median = line["laggard.evidence.read_size_p50_bytes"]
    mean = line["laggard.evidence.consumed_bytes_per_second"] / line["laggard.evidence.reads_per_second"]
    expect(median == RECORD_BYTES, f"the median read is of {median} bytes")
    expect(abs(mean - RECORD_BYTES) < 0.1, f"the mean read is of {mean:.2f} bytes")
    bites = f"the program takes {median} B per call"
    expect(line["laggard.finding.advice"].startswith(bites), f"does not say that {bites}: {line['laggard.finding.advice']}")
    return f"median {median} B, mean {mean:.2f} B, {1000 * lag:.0f} ms behind"


@positive("slow-reader", check=is_small_bites, recording="case-qt-small-bites")
def small_bites(scene: Scene) -> Culprit:
    """With setReadBufferSize Qt stops reading when its buffer is full: it then reads what the program took, 12 bytes."""
    return client(scene, "takes-one", offers_too_much(scene), READ_BUFFER_BYTES)


@negative()
def fixed(scene: Scene) -> None:
    """Takes records while bytesAvailable(), of 5 MB/s."""
    client(scene, "drains", source(scene, 5_000_000))


@negative(heavy=True, seconds=18)
def fixed_bounded(scene: Scene) -> None:
    """The same with setReadBufferSize, of 60 MB/s."""
    client(scene, "drains", offers_too_much(scene), READ_BUFFER_BYTES)
