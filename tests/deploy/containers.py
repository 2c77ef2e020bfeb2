# SPDX-License-Identifier: MIT
"""Real containers without a registry: podman runs a folder as a root file system, with storage of its own."""
from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from stage import DEADLINE_SECONDS, Failed, eventually, require, started


def copy_program(program: Path, root: Path) -> None:
    """Into `root`, with the libraries and the loader it needs."""
    libraries = re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout)
    for file in [*libraries]:
        (root / file.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / file.lstrip("/"))
    shutil.copy(program, root / program.name)


class Podman:
    def __init__(self, work: Path) -> None:
        require("podman", "crun", "runc", "unshare")
        self._work = work
        # On a hybrid host crun must not see the v2 hierarchy, which has no controllers; on v2 runc asks for less.
        hybrid = Path("/sys/fs/cgroup/unified").is_mount()
        v1 = hybrid or not Path("/sys/fs/cgroup/cgroup.controllers").exists()
        self._command = [*(["unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified && exec "$@"', "sh"] if hybrid else []),
                         "podman", "--root", str(work / "storage"), "--runroot", str(work / "runroot"),
                         "--cgroup-manager", "cgroupfs", "--runtime", "crun" if v1 else "runc"]
        self._limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=30000:30000", *([] if v1 else ["--pids-limit", "-1"])]

    @contextlib.contextmanager
    def running(self, name: str, options: Sequence[str], root_or_image: Sequence[str | Path],
                command: Sequence[str | Path]) -> Iterator[str]:
        """A container from start to end; gives its id."""
        id_file = self._work / f"{name}.id"
        log = self._work / f"{name}.log"
        with log.open("wb") as output, started(
                [*self._command, "run", "--rm", "-i", "--name", name, "--cidfile", id_file, *self._limits, *options, *root_or_image,
                 *command], stdout=output, stderr=subprocess.STDOUT) as process:

            def has_begun() -> bool:
                if process.poll() is not None:
                    raise Failed(f"podman run {name}: {log.read_text(errors='replace').strip()[-500:]}")
                return bool(self.inspect(name, "{{.State.Running}}") == "true")

            try:
                eventually(has_begun, f"container {name} runs")
                yield id_file.read_text().strip()
            finally:
                self.call("rm", "-f", "-t", "0", name)

    def inspect(self, name: str, what: str) -> str:
        return self.call("inspect", "-f", what, name).stdout.strip()

    def call(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._command, *map(str, words)], capture_output=True, text=True, timeout=DEADLINE_SECONDS,
                              stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"})
