# SPDX-License-Identifier: MIT
"""The unit of the package under a real systemd, the init of a container: ready, a finding in the journal, no privileges, the
watchdog, a clean end, and a score of 'systemd-analyze security'."""
from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from containers import leave, podman_in, remove_cgroups
from debian import copy_of, done, package, small_debian
from stage import SOURCE, WORKLOAD, Failed, Json, Skip, check_schema, eventually, lines_of, require, require_observer, run

HIGHEST_EXPOSURE = 3.0
FILE_DROP_IN = SOURCE / "scripts/deploy/collectors/systemd-file.conf"
# A hybrid or v1 machine's empty cgroup2 would have crun take it for a v2 machine.
OWN_MOUNTS = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec \"$@\""
# The test is not to wait for four minutes, nor for five seconds of a queue that is not empty.
QUICK_WATCHDOG = "[Service]\nWatchdogSec=10s\nTimeoutAbortSec=1s\nRestartSec=100ms\n"

CONFIGURATION = """hold = "2s"
metrics = "127.0.0.1:22907"
metrics-textfile = "/run/laggard/laggard.prom"
"""


class Machine:
    """A container with systemd in it."""

    def __init__(self, work: Path, root: Path):
        self.work = work
        self.root = root
        # Not this program itself: it removes the container's cgroups, of all hierarchies.
        self.podman = ["unshare", "--mount", "sh", "-c", OWN_MOUNTS, "sh", *podman_in(work)]
        self.name = f"laggard-systemd-{os.getpid()}"
        self.inside: list[str] = []  # while it runs

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        # It ends by itself even where this program is killed.
        command = [*self.podman, "run", "--detach", "--timeout=240", "--name", self.name, f"--cgroup-parent=/{self.name}", "--privileged",
                   "--systemd=always", "--network=none", "--security-opt=seccomp=unconfined",
                   "--ulimit=nofile=1000:1000", "--ulimit=nproc=30000:30000", "--rootfs", str(self.root), "/lib/systemd/systemd"]
        # To a file: conmon stays and would hold a pipe open.
        log = self.root.parent / "podman.log"
        with log.open("w") as out:
            begun = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60)
        try:
            if begun.returncode != 0:
                raise Skip(f"no container can be run here: {log.read_text().strip()[-300:]}")
            # 'podman exec' takes half a second each time.
            pid = done(*self.podman, "inspect", "--format", "{{.State.Pid}}", self.name).strip()
            self.inside = ["nsenter", "--all", "--target", pid]
            yield
        finally:
            subprocess.run([*self.podman, "rm", "--force", "--time=1", self.name], stdin=subprocess.DEVNULL,
                           capture_output=True, timeout=60)
            leave(self.work)
            remove_cgroups(f"/{self.name}")

    def __call__(self, *command: str) -> str:
        return done(*self.inside, *command, seconds=60)

    def says(self, *command: str) -> str:
        """Whatever it leaves with."""
        try:
            return self(*command)
        except Failed as said:
            return str(said)

    def shows(self, *names: str) -> dict[str, str]:
        arguments = [f"--property={name}" for name in names]
        return dict(line.split("=", 1) for line in self("systemctl", "show", *arguments, "laggard").splitlines())

    def journal(self) -> list[Json]:
        """What laggard wrote to standard output."""
        messages = [json.loads(line)["MESSAGE"]
                    for line in self("journalctl", "--identifier=laggard", "--output=json", "--no-pager", "--all").splitlines()]
        return [json.loads(message) for message in messages if message.startswith("{")]


def is_laggards(process: dict[str, str]) -> bool:
    return process.get("ActiveState") == "active" and process.get("MainPID", "0") != "0"


def test(work: Path) -> None:
    require("podman", "crun")
    require_observer()
    deb = package()
    root = copy_of(small_debian(deb), work / "root")
    (root / "tmp/laggard.deb").write_bytes(deb.read_bytes())
    done("chroot", root, "dpkg", "-i", "/tmp/laggard.deb")
    done("cp", WORKLOAD, root / "usr/bin/slowpoke")
    (root / "etc/laggard/laggard.toml").write_text(CONFIGURATION)
    machine = Machine(work, root)
    with machine.running():
        eventually(lambda: machine.says("systemctl", "is-system-running").strip() in ("running", "degraded"), "systemd is up")

        exposure = machine("systemd-analyze", "security", "--no-pager", "laggard.service")
        score = float(re.search(r"Overall exposure level for laggard.service: ([0-9.]+)", exposure)[1])  # type: ignore[index]
        print(f"systemd-analyze security: {score}")
        assert score <= HIGHEST_EXPOSURE, exposure

        # 'start' returns when laggard said that it is ready.
        machine("systemctl", "start", "laggard")
        state = machine.shows("ActiveState", "MainPID", "StatusText", "NRestarts")
        assert is_laggards(state) and re.fullmatch(r"\d+ findings open, \d+ sockets", state["StatusText"]), state
        status = machine("cat", f"/proc/{state['MainPID']}/status")
        for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1",
                     "Seccomp:\t2"):
            assert line in status, f"not {line} in {status}"
        assert not re.search(r"^Uid:\t0", status, re.M), status
        assert machine("setpriv", "--reuid=65534", "--clear-groups", "laggard", "health").startswith("the main loop ticked")

        fetch = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:22907/metrics', timeout=10).read().decode())"
        scraped = done("nsenter", "--net", *machine.inside[2:], sys.executable, "-c", fetch)
        assert "laggard_build_info" in scraped, scraped
        written = machine("setpriv", "--reuid=65534", "--clear-groups", "cat", "/run/laggard/laggard.prom")
        assert "laggard_build_info" in written, written

        machine("systemd-run", "--unit=slow", "sh", "-c",
                "sleep 60 | exec slowpoke slow-reader --bite 1024 --every 50ms --rate 1000000 --lifetime 60")
        finding = eventually(lambda: [line for line in machine.journal() if line.get("laggard.finding.kind") == "slow-reader"
                                      and line.get("process.executable.name") == "slowpoke"], "the journal has the slow reader")[0]
        print(finding["message"])
        check_schema(machine.journal())
        machine("systemctl", "stop", "slow")

        # A main loop that stands still is killed and comes back.
        drop_in = root / "etc/systemd/system/laggard.service.d/quick.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(QUICK_WATCHDOG)
        machine("systemctl", "daemon-reload")
        machine("systemctl", "restart", "laggard")
        old = machine.shows("MainPID")["MainPID"]
        machine("systemctl", "kill", "--signal=STOP", "--kill-whom=main", "laggard")
        new = eventually(lambda: is_laggards(now := machine.shows("ActiveState", "MainPID", "NRestarts")) and
                         now["MainPID"] != old and now, "the watchdog restarted laggard")
        assert new["NRestarts"] == "1", new
        assert "Watchdog timeout" in machine("journalctl", "--unit=laggard", "--no-pager"), "restarted, but not by the watchdog"

        machine("systemctl", "stop", "laggard")
        end = machine.shows("ActiveState", "Result", "ExecMainStatus")
        assert end == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}, end
        assert [line for line in machine.journal() if line["event.name"] == "laggard.agent.stopped"][-1]["severity"] == "info"

        # With the drop-in for collectors that read files, its lines go to one.
        (drop_in.parent / "file.conf").write_text(FILE_DROP_IN.read_text())
        machine("install", "-d", "-m", "0750", "/var/log/laggard")
        machine("systemctl", "daemon-reload")
        machine("systemctl", "start", "laggard")
        machine("systemctl", "stop", "laggard")
        written = lines_of((root / "var/log/laggard/laggard.ndjson").read_text())
        check_schema(written)
        assert [line["event.name"] for line in written][::len(written) - 1] == ["laggard.agent.started", "laggard.agent.stopped"]

        # A mistake in the configuration ends it once and for all, and says so.
        (root / "etc/laggard/laggard.toml").write_text("hodl = 1\n")
        machine.says("systemctl", "start", "laggard")
        end = machine.shows("ActiveState", "ExecMainStatus", "NRestarts")
        assert (end["ActiveState"], end["ExecMainStatus"]) == ("failed", "2"), end
        assert "hodl" in machine("journalctl", "--unit=laggard", "--no-pager")


run(test)
