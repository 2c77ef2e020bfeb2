# SPDX-License-Identifier: MIT
"""laggard on the host reports a slow reader in a real container with the container's id; where cgroup and log names look
like a kubelet's, with pod, namespace and container name, too; where there are no log names, it says that they are missing.
Each container has a network namespace of its own."""
from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import containers
import stage
from containers import Podman, make_workload_image, name_log

SLOW = ["slow-reader", "--bite", "1024", "--every", "50ms", "--rate", "1000000", "--lifetime", "90"]


class Watch:
    """A laggard that sees `logs` as /var/log, and everything else as it is."""

    def __init__(self, output: Path) -> None:
        self.output = output

    @classmethod
    @contextlib.contextmanager
    def over(cls, logs: Path, output: Path) -> Iterator[Watch]:
        logs.mkdir(parents=True, exist_ok=True)
        command = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /var/log && exec "$@"', logs,
                   stage.LAGGARD, "--output", "json", "--command-line", *stage.QUICK]
        with output.open("w") as file, stage.started(command, stdout=file):
            yield cls(output)
        stage.check_schema(stage.lines_of(output.read_text()))

    def lines(self, event: str) -> list[stage.Json]:
        complete = stage.lines_of(self.output.read_text().rpartition("\n")[0])
        return [line for line in complete if line["event.name"] == f"laggard.{event}"]

    def nameless(self) -> list[stage.Json]:
        return [line for line in self.lines("agent.degraded") if "names of pods" in line["message"]]

    def finding(self, pid: int) -> stage.Json:
        def opened() -> stage.Json | None:
            return next((line for line in self.lines("finding.opened") if line.get("process.pid") == pid), None)
        found = stage.eventually(opened, f"the slow reader {pid} is reported")
        print(found["message"])
        return found


def test(work: Path) -> None:
    stage.require("podman", "crun", "ldd", "strip", "unshare")
    stage.require_observer()
    uid = str(uuid.uuid4())
    with Podman(work) as podman:
        make_workload_image(podman.command, work, "localhost/workload:test")
        with podman.container("plain", [], "localhost/workload:test", SLOW, work / "plain.out") as plain, \
                podman.container("pod", podman.pod_cgroup(uid), "localhost/workload:test", SLOW, work / "pod.out") as pod:
            ids = {pid: podman.run("inspect", "--format", "{{.Id}}", name) for pid, name in ((plain, "plain"), (pod, "pod"))}
            names = name_log(work, ids[pod], uid)
            with Watch.over(work / "var/log", work / "named.ndjson") as watch:
                alone, in_pod = watch.finding(plain), watch.finding(pod)
                assert not watch.nameless(), watch.nameless()
            with Watch.over(work / "empty", work / "nameless.ndjson") as watch:
                nameless = watch.finding(pod)
                said = stage.eventually(watch.nameless, "it says that names are missing")
    assert alone["container.id"] == ids[plain] and alone["container.runtime.name"] == "podman" and "k8s.pod.name" not in alone, alone
    assert {key: in_pod.get(key) for key in ["container.id", *names]} == {"container.id": ids[pod], **names}, in_pod
    assert alone["process.command_line"].endswith(" ".join(["workload", *SLOW])), alone
    assert in_pod["laggard.socket.netns"] != alone["laggard.socket.netns"]
    assert nameless["k8s.pod.uid"] == uid and "k8s.pod.name" not in nameless, nameless
    assert len(said) == 1, said


if __name__ == "__main__":
    containers.hide_unified_cgroup()
    stage.run(test)
