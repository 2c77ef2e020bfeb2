# SPDX-License-Identifier: MIT
"""What the tests that run containers share: how images are made of what was built here, and looks at a running process."""
from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import stage

DEPLOY = stage.SOURCE / "scripts/deploy"
MAX_IMAGE_BYTES = 30_000_000


def podman_in(folder: Path) -> list[str]:
    """podman with a storage of its own. crun, which starts containers on cgroup v1 and without CAP_SYS_RESOURCE, too."""
    return ["podman", "--root", str(folder / "storage"), "--runroot", str(folder / "run"), "--tmpdir", str(folder / "tmp"),
            "--cgroup-manager", "cgroupfs", "--runtime", "crun", "--events-backend", "none"]


def run(command: Sequence[str | Path], **options: str | Path | dict[str, str]) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=stage.DEADLINE_SECONDS * 2,
                          **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise stage.Failed(f"{' '.join(map(str, command))} failed: {done.stderr.strip()}")
    return str(done.stdout).strip()


def make_laggard_image(podman: Sequence[str], work: Path, tag: str) -> None:
    """By its own Containerfile; only the build stage is left out, in favour of the laggard that was built here."""
    run([DEPLOY / "container/collect", stage.LAGGARD, work / "build/image"])
    run([DEPLOY / "container/build", tag, "--isolation", "chroot", "--build-context", f"build={work / 'build'}"],
        env={**os.environ, "BUILDER": " ".join(podman)})
    size = int(run([*podman, "image", "inspect", "--format", "{{.Size}}", tag]))
    print(f"image: {size / 1e6:.1f} MB")
    assert size < MAX_IMAGE_BYTES


def make_workload_image(podman: Sequence[str], work: Path, tag: str) -> None:
    run([DEPLOY / "container/collect", stage.WORKLOAD, work / "workload"])
    shutil.make_archive(str(work / "workload"), "tar", work / "workload")
    run([*podman, "import", "--change", 'ENTRYPOINT ["/usr/bin/workload"]', work / "workload.tar", tag])


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def check_privileges(pid: int) -> None:
    """laggard became nobody, with no capability left and no way to any."""
    status = status_of(pid)
    assert int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0, f"capabilities are left: {status['CapEff']}"
    assert set(status["Uid"].split()) == {"65534"}, f"it is not nobody: {status['Uid']}"
    assert status["NoNewPrivs"] == "1"
    assert any(fields[4] == "/" and "ro" in fields[5].split(",")
               for fields in map(str.split, Path(f"/proc/{pid}/mountinfo").read_text().splitlines())), "its root can be written"


def memory_of(pid: int) -> str:
    """Resident, and the peak of its cgroup, which counts the kernel's maps, too."""
    peak = 0
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for file in (f"/sys/fs/cgroup/memory{path}/memory.max_usage_in_bytes", f"/sys/fs/cgroup{path}/memory.peak"):
            if controllers in ("", "memory") and Path(file).exists():
                peak = max(peak, int(Path(file).read_text()))
    return f"{status_of(pid)['VmRSS']} resident, at most {peak / 2**20:.1f} MiB in its cgroup"
