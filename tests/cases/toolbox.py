# SPDX-License-Identifier: MIT
"""What several cases need: compiling once per run, and asking laggard why."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import Failed, Scene, Skip, output
from observer import Finding, Json, Observer
from programs import require
from scenario import LateCheck, Outcome

BUILD_SECONDS = 180.0

_work = tempfile.TemporaryDirectory(prefix="laggard-cases-build-")
_lock = threading.Lock()


def built(name: str, command: Callable[[Path], Sequence[str | Path]], source: Path) -> Path:
    """The program that `command`, given where to put it, makes in the folder `source`; the same one for all variants."""
    program = Path(_work.name) / name
    with _lock:
        if program.exists():
            return program
        words = [str(word) for word in command(program)]
        if shutil.which(words[0]) is None:
            raise Skip(f"{words[0]} is not installed")
        done = subprocess.run(words, cwd=source, capture_output=True, text=True, timeout=BUILD_SECONDS)
        if done.returncode != 0:
            raise Failed(f"{' '.join(words)}: {done.stderr.strip()[-600:]}")
        return program


def go_built(name: str, source: Path, stripped: bool) -> Path:
    """Debian's libraries are a GOPATH; Go's own build cache makes the second time cheap."""
    require(["go"])
    environment = ["GO111MODULE=off", "GOPATH=/usr/share/gocode", "GOFLAGS=",
                   f"GOCACHE={os.environ.get('GOCACHE', Path.home() / '.cache/go-build')}"]
    flags = ["-ldflags", "-s -w"] if stripped else []
    return built(f"{name}-stripped" if stripped else name,
                 lambda out: ["env", *environment, "go", "build", *flags, "-o", out, "."], source)


def pkg_config(package: str) -> list[str]:
    """Flags for the compiler."""
    if shutil.which("pkg-config") is None:
        raise Skip("pkg-config is not installed")
    done = subprocess.run(["pkg-config", "--cflags", "--libs", package], capture_output=True, text=True)
    if done.returncode != 0:
        raise Skip(f"{package} is not installed")
    return done.stdout.split()


def certificate(scene: Scene) -> tuple[Path, Path]:
    """And its key. Made anew, for 127.0.0.1, signed by itself."""
    require(["openssl"])
    made, key = scene.dir / "certificate.pem", scene.dir / "key.pem"
    output("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
           "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made))
    key.chmod(0o644)  # nginx runs as nobody
    return made, key


def explain(outcome: Outcome, pid: int, seconds: int = 4) -> list[Json]:
    """The lines of `laggard explain`: the whole, one per socket, one per stack, the largest first."""
    command = [outcome.laggard, "explain", "--pid", str(pid), "--duration", f"{seconds}s", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    if done.returncode != 0:
        raise Failed(f"laggard explain ended with {done.returncode}: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def stacks(explanation: list[Json]) -> list[Json]:
    return [line for line in explanation if line["event.name"] == "laggard.explanation.stack"]


def unpaired(outcome: Outcome, observer: Observer, pair: str, pid: int) -> Finding:
    """What was found about the operations of this pair in this process."""
    found = [one for one in observer.of(outcome.scenario.name) if one.kind == "unpaired-operations" and one.pid == pid and
             one.lines[0]["laggard.evidence.pair"] == pair]
    expect(len(found) == 1, f"{len(found)} findings about {pair} in {pid}")
    return found[0]


def memory_follows(outcome: Outcome, observer: Observer, pid: int) -> None:
    """Memory that was found to grow in a process that completes less than it begins is no incident of its own."""
    own = [one for one in observer.of(outcome.scenario.name) if one.pid == pid]
    causes = {one.id for one in own if one.kind in ("unpaired-operations", "connection-leak")}
    for one in own:
        expect(one.kind not in ("heap-growth", "user-space-buffering") or bool(causes & one.linked("symptom_of")),
               f"the {one.kind} of {pid} is no symptom of {' or '.join(sorted(causes))}")


PILE_SECONDS = 28.0  # three times --unpaired until they are found, and another ten until laggard tells how many more


def piles_up(pair: str, caller: str) -> LateCheck:
    """For `at_end`: each culprit begins more and more operations of the pair in a function that `caller` calls."""
    def check(outcome: Outcome, observer: Observer) -> str:
        grown: list[str] = []
        for pid in sorted(outcome.culprits):
            lines = unpaired(outcome, observer, pair, pid).lines
            first, last = (line["laggard.evidence.outstanding"] for line in (lines[0], lines[-1]))
            expect(last > first, f"{pair}: {first} outstanding, and later {last}")
            frames = lines[-1].get("laggard.evidence.stack", "").split(" < ")
            expect(any(caller in frame for frame in frames[1:]), f"{pair}: {caller} does not call: {' < '.join(frames)}")
            grown.append(f"{first} to {last}")
            memory_follows(outcome, observer, pid)
        return f"{pair}: {', '.join(grown)} outstanding, begun in {caller}"

    return check


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Failed(otherwise)
