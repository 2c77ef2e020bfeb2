#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A lagging program in a real container is reported with its container id; with its pod, namespace and container name
where cgroup and log directory look like a kubelet's. Both containers have network namespaces of their own."""
from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from containers import Podman, copy_program
from stage import LAGGARD, QUICK, WORKLOAD, Json, check_schema, eventually, lines_of, require_observer, run, started


def test(work: Path) -> None:
    require_observer()
    root = work / "root"
    for directory in ("proc", "dev", "sys", "etc", "run", "tmp"):
        (root / directory).mkdir(parents=True)
    copy_program(WORKLOAD, root)
    podman = Podman(work)
    uid = str(uuid.uuid4())
    logs = work / "log"
    pod_logs = logs / f"pods/shop_cart-0_{uid}/web"
    pod_logs.mkdir(parents=True)
    (logs / "containers").mkdir()
    slow = ["/workload", "slow-reader", "--bite", "1024", "--every", "50ms", "--rate", "1000000", "--lifetime", "90"]
    output = work / "laggard.ndjson"
    options = ["--network", "none"]
    tag = uid[:8]
    with podman.running(f"plain-{tag}", options, ["--rootfs", root], slow) as plain, \
            podman.running(f"pod-{tag}", [*options, "--cgroup-parent", f"/kubepods/besteffort/pod{uid}"], ["--rootfs", root], slow) as pod:
        (pod_logs / "0.log").touch()
        (logs / f"containers/cart-0_shop_web-{pod}.log").symlink_to(f"/var/log/pods/shop_cart-0_{uid}/web/0.log")
        # Nothing else is different in there: laggard reads /proc, /sys/fs/cgroup and /var/log as everywhere.
        elsewhere = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /var/log && exec "$@"', logs]
        with output.open("w") as file, started([*elsewhere, LAGGARD, "--output", "json", *QUICK, "--lag", "500ms"], stdout=file):

            def findings() -> list[Json]:
                return [line for line in lines_of(output.read_text()) if line["event.name"] == "laggard.finding.opened"]

            def of(container: str) -> Json | None:
                return next((line for line in findings() if line.get("container.id") == container), None)

            alone = eventually(lambda: of(plain), "the slow reader in the container is reported")
            in_pod = eventually(lambda: of(pod), "the slow reader in the pod is reported")
    check_schema(lines_of(output.read_text()))
    assert alone["container.runtime.name"] == "podman" and "k8s.pod.name" not in alone, alone
    assert alone["laggard.finding.kind"] == "slow-reader" and alone["process.vpid"] == 1, alone
    expected = {"k8s.namespace.name": "shop", "k8s.pod.name": "cart-0", "k8s.pod.uid": uid, "k8s.container.name": "web"}
    assert {key: in_pod.get(key) for key in expected} == expected, in_pod
    assert in_pod["laggard.socket.netns"] != alone["laggard.socket.netns"]
    # Whoever has no such names on this host still gets the uid that the cgroup says, and it is said what is missing.
    print(f"plain: {alone['message']}\npod:   {in_pod['message']}")
    text = subprocess.run([LAGGARD, "snapshot", "--output", "json"], capture_output=True, text=True, timeout=60).stdout
    check_schema(lines_of(text))


run(test)
