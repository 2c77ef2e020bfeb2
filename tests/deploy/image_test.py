# SPDX-License-Identifier: MIT
"""The container image, run with what the DaemonSet gives it, names a slow reader in another container and its pod.

The capabilities, the user, the read-only root, the mounts, the limits and the probe are read from daemonset.yaml, so that
what is tested is what is deployed. The image is made by its own Containerfile; only the build stage is left out, in favour
of the laggard that was built here. The other container's cgroup and log names are as a kubelet makes them.
"""
from __future__ import annotations

import uuid
from pathlib import Path

import containers
import stage
from containers import Podman, check_privileges, make_laggard_image, make_workload_image, memory_of, name_log

NODE = "node-17"


def options_of(pod: stage.Json, log_folder: Path) -> list[str]:
    """podman's words for what the DaemonSet says. What is not known here fails, so that nothing is left out unseen."""
    container, = pod["containers"]
    security = dict(container["securityContext"])
    assert security.pop("privileged") is False
    # podman would give capabilities to others, too; containerd does not.
    assert security["runAsUser"] == 0, "with another user containerd starts it without capabilities"
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

    assert pod["hostPID"] is True, "without hostPID nobody's cgroup can be read"
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
        make_workload_image(podman.command, work, "localhost/workload:test")
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

        kubelet_like = [*podman.pod_cgroup(pod_uid), "--stop-timeout", "0"]
        with podman.container("reader", kubelet_like, "localhost/workload:test",
                              ["slow-reader", "--bite", "1024", "--every", "50ms", "--rate", "1000000", "--lifetime", "120"],
                              work / "reader.out") as reader:
            container_id = podman.run("inspect", "--format", "{{.Id}}", "reader")
            names = name_log(work / "node", container_id, pod_uid)
            def found() -> stage.Json | None:
                return next((line for line in lines() if line.get("laggard.finding.kind") == "slow-reader"
                             and line.get("process.pid") == reader), None)
            finding = stage.eventually(found, "the slow reader is named")
            print(finding["message"])
            print(f"healthy: {podman.run('exec', 'laggard', *container['livenessProbe']['exec']['command'])}")
            expected = {"container.id": container_id, "k8s.node.name": NODE, "host.name": NODE, **names}
            said = {key: finding.get(key) for key in expected}
            assert said == expected, f"expected {expected}, found {said}"
            assert Path(f"/proc/{reader}/ns/net").readlink() != Path(f"/proc/{laggard}/ns/net").readlink()
        print(f"memory: {memory_of(laggard)}, of {container['resources']['limits']['memory']}")
    assert lines()[-1]["event.name"] == "laggard.agent.stopped"
    stage.check_schema(lines())


if __name__ == "__main__":
    containers.hide_unified_cgroup()
    stage.run(test)
