#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A real systemd-journald takes laggard's standard output as a service's, and gives it back byte for byte.

The daemon runs alone, in a mount namespace whose /run/systemd and /run/log are the test's.
"""
from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import collectors
import stage

JOURNALD = Path("/lib/systemd/systemd-journald")
PRIVATE_RUN = """
mount --make-rprivate / && mkdir -p /run/systemd /run/log
mount -t tmpfs laggard-test /run/systemd && mount -t tmpfs laggard-test /run/log
mkdir -p /run/systemd/journal /run/log/journal && exec "$@"
"""
DIAGNOSTIC = "laggard: diagnostics are text"


def commands() -> list[str]:
    """Those of journald.md, one per journalctl."""
    block, = re.findall(r"```sh\n(.*?)```", (collectors.CONFIGURATIONS / "journald.md").read_text(), re.DOTALL)
    return [f"journalctl{rest}" for rest in block.split("journalctl")[1:]]


def test(work: Path) -> None:
    if not JOURNALD.exists():
        raise stage.Skip("systemd-journald is not installed")
    stage.require("systemd-cat", "journalctl", "jq", "nsenter", "unshare")
    stage.require_observer()
    collectors.require_root()
    logs = collectors.prepare(work)
    lines = collectors.observe(work, logs)
    sent = [json.loads(line) for line in lines]
    collectors.check_variety(sent)
    with stage.started(["unshare", "--mount", "sh", "-c", PRIVATE_RUN, "sh", JOURNALD], stdin=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL) as daemon:
        inside = ["nsenter", f"--mount=/proc/{daemon.pid}/ns/mnt"]

        def ask(*words: str) -> str:
            return subprocess.run([*inside, "journalctl", "--no-pager", "-t", "laggard", *words], check=True, text=True,
                                  capture_output=True, timeout=stage.DEADLINE_SECONDS).stdout

        stage.eventually(lambda: subprocess.run([*inside, "test", "-S", "/run/systemd/journal/stdout"]).returncode == 0,
                         "journald listens")
        with (logs / "laggard/laggard.ndjson").open("a") as out:
            out.write(DIAGNOSTIC + "\n")
        with (logs / "laggard/laggard.ndjson").open("rb") as file:
            subprocess.run([*inside, "systemd-cat", "-t", "laggard", "cat"], stdin=file, check=True)
        stage.eventually(lambda: DIAGNOSTIC in ask("-o", "cat"), "the last line is in the journal")
        assert ask("-o", "cat").split("\n")[:-1] == [*lines, DIAGNOSTIC], "an entry is not the line that laggard printed"
        entries = [json.loads(entry) for entry in ask("-o", "json").splitlines()][:-1]
        _, critical, opened = (
            subprocess.run([*inside, "sh", "-c", command], check=True, text=True, capture_output=True,
                           timeout=stage.DEADLINE_SECONDS).stdout for command in commands())
    assert critical.splitlines() == [record["message"] for record in sent if record["severity"] == "error"], critical
    assert len(opened.splitlines()) == sum(record["event.name"] == "laggard.finding.opened" for record in sent), opened
    # An unprintable MESSAGE would be an array of bytes here, and "blob data" on a terminal.
    stage.check_schema([json.loads(entry["MESSAGE"]) for entry in entries])
    assert {entry["PRIORITY"] for entry in entries} == {"6"}, "journald.md says that every entry has priority 6"


stage.run(test)
