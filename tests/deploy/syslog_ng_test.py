#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A real syslog-ng with the shipped configuration takes laggard's live lines: as lines they arrive unchanged, as fields
they arrive typed but for what the configuration says is lost.
"""
from __future__ import annotations

import json
from pathlib import Path

import collectors
import packages
import stage
from stage import Json

DESCRIBED = "3.38"


def as_syslog_ng_prints(value: object) -> object:
    """What 3.38 makes of a value; syslog-ng.conf says the same in words."""
    if isinstance(value, float):
        return float(f"{value:.6f}")
    if isinstance(value, list):
        return [item for element in map(str, value)  # quoted, and so kept whole, where it has a space or a quote
                for item in (element.split(",") if not set(element) & set(" '\"") else [element])]
    return value


def expected(record: Json) -> Json:
    return {key: as_syslog_ng_prints(value) for key, value in record.items()}


def test(work: Path) -> None:
    stage.require_observer()
    collectors.require_root()
    syslog_ng = packages.provide("syslog-ng-core", "/usr/sbin/syslog-ng")
    modules = next(syslog_ng.path("/usr/lib/syslog-ng").glob("*/libjson-plugin.so")).parent
    if modules.name != DESCRIBED:
        raise stage.Skip(f"syslog-ng.conf says what {DESCRIBED} loses, this is {modules.name}")
    logs = collectors.prepare(work)
    (work / "syslog-ng.conf").write_text(f"@version: {DESCRIBED}\n"
                                         f'@include "{collectors.CONFIGURATIONS}/syslog-ng.conf"\n')
    command = [syslog_ng.path("/usr/sbin/syslog-ng"), "--foreground", "--no-caps", "--module-path", modules,
               "--cfgfile", work / "syslog-ng.conf", "--persist-file", work / "persist", "--control", work / "control",
               "--pidfile", work / "pid"]
    with collectors.collector(logs, command, syslog_ng.environment):
        lines = collectors.carry(work, logs)
        sent = [json.loads(line) for line in lines]
        whole = collectors.arrived(logs / "laggard-collected.ndjson", 2 * len(lines) + 1)
        fields = collectors.arrived(logs / "laggard-fields.ndjson", 2 * len(lines) + 1)
        not_json = collectors.kept_text(logs)

    stage.check_schema(whole)
    unchanged = (logs / "laggard-collected.ndjson").read_text().split("\n")[:-1]
    assert sorted(unchanged) == sorted([*lines, *lines, lines[-1]]), "a line was changed"

    carried = collectors.in_order(expected(record) for record in [*sent, *sent, sent[-1]])
    for one, other in zip(carried, collectors.in_order(fields), strict=True):
        assert not (lost := collectors.differences(one, other)), f"{lost} in {one}"
    critical = [record for record in sent if record["severity"] == "error"]
    collectors.arrived(logs / "laggard-critical.ndjson", 2 * len(critical))
    assert not_json.count("\n") == 1 and "diagnostics are text" in not_json, not_json


stage.run(test)
