# SPDX-License-Identifier: MIT
"""laggard on the host reports a slow reader in a real container with the container's id; where cgroup and log names look
like a kubelet's, with pod, namespace and container name, too. Each has a network namespace of its own."""
from __future__ import annotations

import uuid
from pathlib import Path

import containers
import stage
from containers import Podman, make_workload_image, name_log

SLOW = ["slow-reader", "--bite", "1024", "--every", "50ms", "--rate", "1000000", "--lifetime", "90"]


def test(work: Path) -> None:
    stage.require("podman", "crun", "ldd", "strip", "unshare")
    stage.require_observer()
    uid = str(uuid.uuid4())
    (work / "var/log/pods").mkdir(parents=True)
    (work / "var/log/containers").mkdir()
    output = work / "laggard.ndjson"
    # Nothing else is different in there: laggard reads /proc, /sys/fs/cgroup and /var/log as everywhere.
    laggard = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /var/log && exec "$@"', work / "var/log",
               stage.LAGGARD, "--output", "json", "--command-line", *stage.QUICK]
    with Podman(work) as podman:
        make_workload_image(podman.command, work, "localhost/workload:test")
        with podman.container("plain", [], "localhost/workload:test", SLOW, work / "plain.out") as plain, \
                podman.container("pod", podman.pod_cgroup(uid), "localhost/workload:test", SLOW, work / "pod.out") as pod:
            ids = {pid: podman.run("inspect", "--format", "{{.Id}}", name) for pid, name in ((plain, "plain"), (pod, "pod"))}
            names = name_log(work, ids[pod], uid)
            with output.open("w") as file, stage.started(laggard, stdout=file):

                def of(pid: int) -> stage.Json | None:
                    complete = stage.lines_of(output.read_text().rpartition("\n")[0])
                    return next((line for line in complete if line["event.name"] == "laggard.finding.opened"
                                 and line.get("process.pid") == pid), None)

                alone = stage.eventually(lambda: of(plain), "the slow reader in the container is reported")
                in_pod = stage.eventually(lambda: of(pod), "the slow reader in the pod is reported")
    print(f"{alone['message']}\n{in_pod['message']}")
    stage.check_schema(stage.lines_of(output.read_text()))
    assert alone["container.id"] == ids[plain] and alone["container.runtime.name"] == "podman" and "k8s.pod.name" not in alone, alone
    assert {key: in_pod.get(key) for key in ["container.id", *names]} == {"container.id": ids[pod], **names}, in_pod
    assert alone["process.command_line"].endswith(" ".join(["workload", *SLOW])), alone
    assert in_pod["laggard.socket.netns"] != alone["laggard.socket.netns"]


if __name__ == "__main__":
    containers.hide_unified_cgroup()
    stage.run(test)
