# SPDX-License-Identifier: MIT
"""What the tests that run containers share: how images are made of what was built here, and looks at a running process."""
from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import stage

DEPLOY = stage.SOURCE / "scripts/deploy"
MAX_IMAGE_BYTES = 30_000_000
PR_SET_CHILD_SUBREAPER = 36


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


def leave(folder: Path) -> None:
    """What podman left running to tidy up ends, and its mounts go, so that the folder can."""
    def processes() -> list[Path]:
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended
                if f"{folder}/".encode() in file.read_bytes():
                    found.append(file)
        return found
    stage.eventually(lambda: not processes(), "podman's processes have ended", 20)
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if (place := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", place], check=False)


def cgroups(path: str) -> list[Path]:
    """The folders of this cgroup, whether it is there or not: one of v2, or one in each hierarchy of v1."""
    root = Path("/sys/fs/cgroup")
    return [Path(f"{top}{path}") for top in [root, *root.iterdir()] if not top.is_symlink() and (top / "cgroup.procs").exists()]


def adopt_orphans() -> None:
    """What a child of ours leaves behind becomes our child, not init's."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def bury_dead() -> bool:
    """No child is left, dead or alive. The living stay so."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        return True
    return False


def remove_cgroups(path: str) -> None:
    """With what is below it. Its processes may still be on their way out; dead ones keep it until they are waited for."""
    def are_gone() -> bool:
        bury_dead()
        for top in cgroups(path):
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        return not any(top.exists() for top in cgroups(path))
    stage.eventually(are_gone, f"the cgroup {path} is gone", 20)
    for parent in (folder for parents in list(Path(path).parents)[:-1] for folder in cgroups(str(parents))):
        with contextlib.suppress(OSError):  # not there; or there are others in it
            parent.rmdir()


def make_laggard_image(podman: Sequence[str], work: Path, tag: str) -> None:
    """By its own Containerfile; only the build stage is left out, in favour of the laggard that was built here."""
    run([DEPLOY / "container/collect", stage.LAGGARD, work / "build/image"])
    run([DEPLOY / "container/build", tag, "--isolation", "chroot", "--build-context", f"build={work / 'build'}"],
        env={**os.environ, "BUILDER": " ".join(podman)})
    size = int(run([*podman, "image", "inspect", "--format", "{{.Size}}", tag]))
    print(f"image: {size / 1e6:.1f} MB")
    assert size < MAX_IMAGE_BYTES


def make_image(podman: Sequence[str], work: Path, tag: str, command: Sequence[str | Path]) -> None:
    """Holds the program that the command begins with, and what it needs."""
    program = Path(command[0])
    folder = work / f"image-of-{program.name}"
    run([DEPLOY / "container/collect", program, folder])
    shutil.make_archive(str(folder), "tar", folder)
    entrypoint = json.dumps([f"/usr/bin/{program.name}", *map(str, command[1:])])
    run([*podman, "import", "--change", f"ENTRYPOINT {entrypoint}", f"{folder}.tar", tag])


def make_workload_image(podman: Sequence[str], work: Path, tag: str) -> None:
    make_image(podman, work, tag, [stage.WORKLOAD])


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
        file = Path(f"/sys/fs/cgroup/memory{path}/memory.max_usage_in_bytes" if controllers == "memory"
                    else f"/sys/fs/cgroup{path}/memory.peak")
        if controllers in ("memory", "") and file.exists():
            peak = int(file.read_text())
    return f"{status_of(pid)['VmRSS']} resident, at most {peak / 2**20:.1f} MiB in its cgroup"


class Podman:
    """With a storage of its own, which is gone with the block."""

    def __init__(self, work: Path) -> None:
        self.folder = work
        self.command = podman_in(work)
        self.cgroups: list[str] = []
        adopt_orphans()

    def __enter__(self) -> Podman:
        return self

    def __exit__(self, *_: object) -> None:
        leave(self.folder)
        for path in self.cgroups:
            remove_cgroups(path)

    def run(self, *words: str | Path) -> str:
        return run([*self.command, *words])

    def pod_cgroup(self, pod_uid: str) -> list[str]:
        """Options that put a container where a kubelet would. podman leaves that behind: it is removed in the end."""
        self.cgroups.append(f"/kubepods/besteffort/pod{pod_uid}")
        return ["--cgroup-parent", self.cgroups[-1]]

    @contextlib.contextmanager
    def container(self, name: str, options: Sequence[str], image: str, arguments: Sequence[str], output: Path) -> Iterator[int]:
        """The container's first process, in the host's pid namespace."""
        # Without CAP_SYS_RESOURCE a limit above ours cannot be set.
        limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=30000:30000"]
        command = [*self.command, "run", "--rm", "--interactive", "--name", name, "--network", "none", *limits, *options,
                   image, *arguments]
        with output.open("w") as out, Path(f"{output}.errors").open("w") as errors, \
                stage.started(command, stdout=out, stderr=errors) as process:
            def pid() -> int:
                if process.poll() is not None:
                    raise stage.Failed(f"{name} ended: {Path(errors.name).read_text().strip()}")
                state = subprocess.run([*self.command, "inspect", "--format", "{{.State.Pid}}", name], capture_output=True, text=True)
                return int(state.stdout) if state.returncode == 0 else 0
            try:
                yield stage.eventually(pid, f"{name} runs")
            finally:
                if process.poll() is None:
                    self.run("stop", name)


def name_log(root: Path, container_id: str, pod_uid: str) -> dict[str, str]:
    """As a kubelet would below `root`; gives the names in it, as laggard says them."""
    namespace, pod, container = "shop", "feed-reader-7c9d8b6f5-x2x8q", "reader"
    log = Path(f"/var/log/pods/{namespace}_{pod}_{pod_uid}/{container}/0.log")
    link = Path(f"{root}/var/log/containers/{pod}_{namespace}_{container}-{container_id}.log")
    for folder in (Path(f"{root}{log}").parent, link.parent):
        folder.mkdir(parents=True, exist_ok=True)
    Path(f"{root}{log}").touch()
    link.symlink_to(log)
    return {"k8s.namespace.name": namespace, "k8s.pod.name": pod, "k8s.pod.uid": pod_uid, "k8s.container.name": container}


def hide_unified_cgroup() -> None:
    """On a hybrid machine: starts this program again where v2 is out of sight, so that crun takes it for one of v1, as a
    kubelet does."""
    unified = Path("/sys/fs/cgroup/unified")
    if unified.is_mount() and "--own-mounts" not in sys.argv:
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                              f"mount -t tmpfs tmpfs {unified} && exec \"$@\"", "sh", sys.executable, sys.argv[0], "--own-mounts"])
