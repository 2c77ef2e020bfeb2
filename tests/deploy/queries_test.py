#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is shipped for tools that are not here is well-formed, and names only fields and metrics that laggard has."""
from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stage
from packages import program

DEPLOY = stage.SOURCE / "scripts/deploy"
SCHEMA = json.loads(stage.SCHEMA.read_text())
FIRST = "client|container|event|host|k8s|laggard|network|os|process|server|service"
DOTTED = re.compile(rf"(?<![\w./$-])(?:{FIRST})(?:\.[a-z0-9_]+)+(?![\w/-])")
UNDERSCORED = re.compile(rf"\b(?:{FIRST})_[a-z0-9_]+\b")
METRIC = re.compile(r"\blaggard_[a-z_]+\b")


def parts(node: Any, name: str) -> Iterator[Any]:
    """Every value of the key `name` anywhere in the schema."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield value
            yield from parts(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from parts(value, name)


FIELDS = {field for properties in parts(SCHEMA, "properties") for field in properties}
VALUES = {value for values in parts(SCHEMA, "enum") for value in values}
PATTERNS = [pattern for patterns in parts(SCHEMA, "patternProperties") for pattern in patterns]


def is_field(name: str) -> bool:
    return name in FIELDS or any(re.search(pattern, name) for pattern in PATTERNS)


def blocks(file: Path, language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", file.read_text(), re.DOTALL)
    assert found, f"no {language} in {file}"
    return [block.strip() for block in found]


def check_configurations() -> None:
    import yaml
    for file in [*DEPLOY.glob("collectors/*.yaml")]:
        assert yaml.safe_load(file.read_text()), file
    tomllib.loads((DEPLOY / "collectors/vector.toml").read_text())


def check_dotted(file: Path) -> None:
    names = DOTTED.findall(file.read_text())
    assert names, f"{file} names no field"
    for name in names:
        assert is_field(name) or name in VALUES or name == "laggard.service" or name.startswith("laggard.conf"), \
            f"{file} names {name}, which is in no line of laggard"


def check_logql(query: str) -> None:
    known = {field.replace(".", "_") for field in FIELDS} | {"service_name"}
    without_text = re.sub(r'"[^"]*"', "", re.sub(r"\{\{\.(\w+)\}\}", "", query))
    for name in [*UNDERSCORED.findall(without_text), *re.findall(r"\{\{\.(\w+)\}\}", query)]:
        assert name in known, f"loki.md names {name}, which is no field of laggard's: {query}"
    for kind in re.findall(r'laggard_finding_kind[=!]~?"([^"]*)"', query):
        assert set(kind.split("|")) <= VALUES, f"loki.md names a kind of finding that does not exist: {kind}"


def metrics() -> set[str]:
    sources = (stage.SOURCE / "userspace/output").glob("metrics*.cpp")
    return {name for source in sources for name in re.findall(r'"(laggard_[a-z_]+)"', source.read_text())}


def check_promql(work: Path) -> None:
    queries = blocks(DEPLOY / "fleet/prometheus.md", "promql")
    known = metrics()
    for query in queries:
        for name in METRIC.findall(query):
            assert name in known, f"prometheus.md names {name}, which is not among laggard's metrics {sorted(known)}"
        for kind in re.findall(r'kind[=!]~?"([^"]*)"', query):
            assert set(kind.split("|")) <= VALUES, f"prometheus.md names a kind of finding that does not exist: {kind}"
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    (work / "rules.json").write_text(json.dumps({"groups": [{"name": "fleet", "rules": rules}]}))  # JSON is YAML
    checked = subprocess.run([program("prometheus", "promtool"), "check", "rules", work / "rules.json"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test(work: Path) -> None:
    check_configurations()
    for file in [*DEPLOY.glob("collectors/*"), *DEPLOY.glob("fleet/*.sql")]:
        if file.suffix in (".conf", ".toml", ".yaml", ".sql") and file.name not in ("logrotate.conf", "systemd-file.conf",
                                                                                    "postgresql-load.sql"):
            check_dotted(file)
    for query in blocks(DEPLOY / "fleet/loki.md", "logql"):
        check_logql(query)
    check_promql(work)


stage.run(test)
