#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A real systemd-journald takes laggard's standard output as a service's, and gives it back byte for byte.

The daemon runs alone, in a mount namespace whose /run/systemd and /run/log are the test's.
"""
from __future__ import annotations

import json
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


def test(work: Path) -> None:
    if not JOURNALD.exists():
        raise stage.Skip("systemd-journald is not installed")
    stage.require("systemd-cat", "journalctl", "nsenter", "unshare")
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
        with (logs / "laggard/laggard.ndjson").open("rb") as file:
            subprocess.run([*inside, "systemd-cat", "-t", "laggard", "cat"], stdin=file, check=True)
        stage.eventually(lambda: ask("-o", "cat").count("\n") >= len(lines), f"{len(lines)} entries are in the journal")
        assert ask("-o", "cat").split("\n")[:-1] == lines, "an entry is not the line that laggard printed"
        entries = [json.loads(entry) for entry in ask("-o", "json").splitlines()]
    # An unprintable MESSAGE would be an array of bytes here, and "blob data" on a terminal.
    stage.check_schema([json.loads(entry["MESSAGE"]) for entry in entries])
    assert {entry["PRIORITY"] for entry in entries} == {"6"}, "journald.md says that every entry has priority 6"


stage.run(test)
