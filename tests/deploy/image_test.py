# SPDX-License-Identifier: MIT
"""The container image, run with what the DaemonSet gives it, names a slow reader in another container and its pod.

The capabilities, the user, the read-only root, the mounts, the limits and the probe are read from daemonset.yaml, so that
what is tested is what is deployed. The image is made by its own Containerfile; only the build stage is left out, in favour
of the laggard that was built here. The other container's cgroup and log names are as a kubelet makes them.
"""
from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import containers
import stage
from containers import check_privileges, make_image, make_laggard_image, memory_of, podman_in

NAMESPACE, POD, CONTAINER = "shop", "feed-reader-7c9d8b6f5-x2x8q", "reader"
NODE = "node-17"


class Podman:
    """With a storage of its own, which is gone with the block."""

    def __init__(self, work: Path) -> None:
        self.folder = work
        self.command = podman_in(work)

    def __enter__(self) -> Podman:
        return self

    def __exit__(self, *_: object) -> None:
        containers.leave(self.folder)

    def run(self, *words: str | Path) -> str:
        return containers.run([*self.command, *words])

    @contextlib.contextmanager
    def container(self, name: str, options: Sequence[str], image: str, arguments: Sequence[str], output: Path) -> Iterator[int]:
        """The container's first process, in the host's pid namespace."""
        # Without CAP_SYS_RESOURCE a limit above ours cannot be set.
        limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=30000:30000"]
        command = [*self.command, "run", "--rm", "--name", name, "--network", "none", *limits, *options, image, *arguments]
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


def options_of(pod: stage.Json, log_folder: Path) -> list[str]:
    """podman's words for what the DaemonSet says. What is not known here fails, so that nothing is left out unseen."""
    container, = pod["containers"]
    security = dict(container["securityContext"])
    assert security.pop("privileged") is False
    options = ["--user", f"{security.pop('runAsUser')}:{security.pop('runAsGroup')}"]
    capabilities = security.pop("capabilities")
    for capability in capabilities["drop"]:
        options += ["--cap-drop", capability]
    for capability in capabilities["add"]:
        options += ["--cap-add", capability]
    assert security.pop("allowPrivilegeEscalation") is False
    options += ["--security-opt", "no-new-privileges"]
    assert security.pop("readOnlyRootFilesystem") is True
    options += ["--read-only", "--read-only-tmpfs=false"]
    # Not this one: the filter of Debian 12's podman knows nothing of CAP_BPF. `./scripts/test kubernetes` has it on.
    assert security.pop("seccompProfile") == {"type": "RuntimeDefault"}
    options += ["--security-opt", "seccomp=unconfined"]
    assert not security, f"this test does not know {security}"

    assert pod["hostPID"] is True
    options += ["--pid", "host", "--stop-timeout", str(pod["terminationGracePeriodSeconds"])]
    limits = container["resources"]["limits"]
    options += ["--memory", limits["memory"].removesuffix("i"), "--cpus", str(int(limits["cpu"].removesuffix("m")) / 1000)]
    for variable in container["env"]:
        assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
        options += ["--env", f"{variable['name']}={NODE}"]

    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        volume, target = volumes[mount["name"]], mount["mountPath"]
        if "emptyDir" in volume:
            assert volume["emptyDir"]["medium"] == "Memory"
            options += ["--mount", f"type=tmpfs,destination={target},tmpfs-mode=0777,notmpcopyup"]  # the mode that the kubelet gives
            continue
        assert mount["readOnly"] is True
        source = volume["hostPath"]["path"]
        if source.startswith("/var/log/"):
            source = f"{log_folder}{source}"
        options += ["--volume", f"{source}:{target}:ro"]
    return options


def name_log(log_folder: Path, container_id: str, pod_uid: str) -> None:
    file = Path(f"{log_folder}/var/log/pods/{NAMESPACE}_{POD}_{pod_uid}/{CONTAINER}/0.log")
    file.parent.mkdir(parents=True)
    file.touch()
    link = Path(f"{log_folder}/var/log/containers/{POD}_{NAMESPACE}_{CONTAINER}-{container_id}.log")
    link.symlink_to(str(file).removeprefix(str(log_folder)))


@contextlib.contextmanager
def cgroup(path: str) -> Iterator[str]:
    """For a container to be put below: podman makes it, and leaves it behind, with its parents."""
    yield path
    containers.remove_cgroups(path)
    for place in (place for parent in Path(path).parents for place in containers.cgroups(str(parent)) if str(parent) != "/"):
        with contextlib.suppress(OSError):  # not there; or another's pods are in it
            place.rmdir()


def test(work: Path) -> None:
    stage.require("podman", "crun", "ldd", "strip")
    stage.require_observer()
    try:
        import yaml
    except ImportError:
        raise stage.Skip("python3-yaml is not installed") from None
    daemonset = yaml.safe_load((containers.DEPLOY / "kubernetes/daemonset.yaml").read_text())
    pod = daemonset["spec"]["template"]["spec"]
    with Podman(work) as podman:
        make_laggard_image(podman.command, work, "localhost/laggard:test")
        content = podman.run("image", "mount", "localhost/laggard:test")
        programs = [file.name for folder in ("bin", "sbin", "usr/bin", "usr/sbin") for file in Path(content, folder).glob("*")]
        assert programs == ["laggard"], f"the image has other programs, a shell perhaps: {programs}"
        make_image(podman.command, work, "localhost/workload:test", [stage.WORKLOAD])
        watch(podman, pod, work)


def watch(podman: Podman, pod: stage.Json, work: Path) -> None:
    container, = pod["containers"]
    for folder in ("containers", "pods"):
        (work / "node/var/log" / folder).mkdir(parents=True)

    pod_uid = str(uuid.uuid4())
    output = work / "laggard.ndjson"
    def lines() -> list[stage.Json]:
        return stage.lines_of(output.read_text().rpartition("\n")[0])

    with podman.container("laggard", options_of(pod, work / "node"), "localhost/laggard:test",
                          [*container["args"], *stage.QUICK], output) as laggard:
        stage.eventually(lines, "laggard has started")
        check_privileges(laggard)

        with cgroup(f"/kubepods/besteffort/pod{pod_uid}") as parent, \
                podman.container("reader", ["--cgroup-parent", parent, "--stop-timeout", "0"], "localhost/workload:test",
                              ["slow-reader", "--bite", "1024", "--every", "50ms", "--rate", "1000000", "--no-stdin"],
                              work / "reader.out") as reader:
            container_id = podman.run("inspect", "--format", "{{.Id}}", "reader")
            name_log(work / "node", container_id, pod_uid)
            def found() -> stage.Json | None:
                return next((line for line in lines() if line.get("laggard.finding.kind") == "slow-reader"
                             and line.get("process.pid") == reader), None)
            finding = stage.eventually(found, "the slow reader is named")
            print(finding["message"])
            print(f"healthy: {podman.run('exec', 'laggard', *container['livenessProbe']['exec']['command'])}")
            expected = {"container.id": container_id, "k8s.namespace.name": NAMESPACE, "k8s.pod.name": POD, "k8s.pod.uid": pod_uid,
                        "k8s.container.name": CONTAINER, "k8s.node.name": NODE}
            said = {key: finding.get(key) for key in expected}
            assert said == expected, f"expected {expected}, found {said}"
            assert Path(f"/proc/{reader}/ns/net").readlink() != Path(f"/proc/{laggard}/ns/net").readlink()
        print(f"memory: {memory_of(laggard)}, of {container['resources']['limits']['memory']}")
    assert lines()[-1]["event.name"] == "laggard.agent.stopped"
    stage.check_schema(lines())


if __name__ == "__main__":
    unified = Path("/sys/fs/cgroup/unified")
    if unified.is_mount() and "--own-mounts" not in sys.argv:
        # A hybrid machine: crun takes it for one of cgroup v1, as a kubelet does, where v2 is out of sight.
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                              f"umount -l {unified} && exec \"$@\"", "sh", sys.executable, __file__, "--own-mounts"])
    stage.run(test)
