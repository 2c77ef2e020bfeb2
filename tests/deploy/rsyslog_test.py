#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A real rsyslogd with the shipped configuration takes laggard's live lines, and every field arrives typed."""
from __future__ import annotations

import json
from pathlib import Path

import collectors
import packages
import stage


def test(work: Path) -> None:
    stage.require_observer()
    collectors.require_root()
    rsyslog = packages.provide("rsyslog", "/usr/sbin/rsyslogd")
    logs = collectors.prepare(work)
    (work / "spool").mkdir()
    (work / "rsyslog.conf").write_text(f'global(workDirectory="{work}/spool")\n'
                                       f'include(file="{collectors.CONFIGURATIONS}/rsyslog.conf")\n')
    modules = next(rsyslog.path("/usr/lib").glob("*/rsyslog/mmjsonparse.so")).parent
    command = [rsyslog.path("/usr/sbin/rsyslogd"), "-n", "-M", modules, "-f", work / "rsyslog.conf",
               "-i", work / "pid"]
    with collectors.collector(logs, command, rsyslog.environment):
        lines = collectors.carry(work, logs)
        sent = [json.loads(line) for line in lines]
        received = collectors.arrived(logs / "laggard-collected.ndjson", 2 * len(lines) + 1)
        not_json = collectors.kept_text(logs)

    stage.check_schema(received)
    for one, other in zip(collectors.in_order([*sent, *sent, sent[-1]]), collectors.in_order(received), strict=True):
        assert not (lost := collectors.differences(one, other)), f"{lost} in {one}"
    critical = [record for record in sent if record["severity"] == "error"]
    collectors.arrived(logs / "laggard-critical.ndjson", 2 * len(critical))
    assert not_json.count("\n") == 1 and "diagnostics are text" in not_json, not_json


stage.run(test)
