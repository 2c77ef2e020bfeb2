# SPDX-License-Identifier: MIT
"""What the deployment tests share: the built laggard, a program that reads too slowly, and the schema of every line.

Each `*_test.py` beside this is one ctest test, `deploy.<name>`: a program that calls `run(test)`. LAGGARD_BUILD_DIR says
where the binaries are (default: build).
"""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LAGGARD_BUILD_DIR", SOURCE / "build")).resolve()
LAGGARD = BUILD / "laggard"
WORKLOAD = BUILD / "workload"
SCHEMA = SOURCE / "userspace/output/laggard.schema.json"
DEADLINE_SECONDS = 60.0
# Found within seconds; what it is judged by (--lag, --bite, the shares) stays as it is.
QUICK = ["--hold", "2s"]
Json = dict[str, Any]
T = TypeVar("T")


class Skip(Exception):
    """This machine cannot run the test."""


class Failed(Exception):
    pass


def run(test: Callable[[Path], None]) -> None:
    """Calls the test with an empty folder of its own. ctest reads 77 as a skip."""
    try:
        with tempfile.TemporaryDirectory(prefix="laggard-deploy-") as work:
            Path(work).chmod(0o755)  # not everything here runs as root
            test(Path(work))
    except Skip as reason:
        print(f"SKIP: {reason}")
        sys.exit(77)
    except (Failed, AssertionError) as reason:
        print(f"FAILED: {reason}")
        sys.exit(1)


def require(*programs: str) -> None:
    for program in programs:
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            raise Skip(f"{program} is not installed")


def require_observer() -> None:
    """laggard can observe here."""
    doctor = subprocess.run([LAGGARD, "doctor"], capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    if doctor.returncode != 0:
        raise Skip("laggard cannot observe here: " + (doctor.stdout.strip().splitlines() or ["?"])[0])


def eventually(condition: Callable[[], T], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Polls until the condition holds, and returns what it said."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise Failed(f"gave up waiting until {what}")
        time.sleep(0.05)
    return value


@contextlib.contextmanager
def started(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that ends with the block, by SIGTERM and then by force."""
    options = {"stdin": subprocess.PIPE, "text": True, **options}
    process = subprocess.Popen([str(word) for word in command], **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def slow_reader(prefix: Sequence[str | Path] = (), lifetime: int = 120) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """A sender of 1 MB/s on loopback and a client that takes 1 KiB every 50 ms; `prefix` runs it elsewhere."""
    return started([*prefix, WORKLOAD, "slow-reader", "--bite", "1024", "--every", "50ms", "--rate", "1000000",
                    "--lifetime", str(lifetime)], stdout=subprocess.DEVNULL)


def lines_of(text: str) -> list[Json]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def check_schema(lines: Sequence[Json]) -> None:
    """Every line is what the schema says."""
    try:
        import jsonschema
    except ImportError:
        raise Skip("python3-jsonschema is not installed") from None
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    for line in lines:
        for error in validator.iter_errors(line):
            raise Failed(f"{error.message} in {json.dumps(line)}")
