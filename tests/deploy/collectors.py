# SPDX-License-Identifier: MIT
"""What the tests of the log collectors share: live lines of laggard, with everything that is hard to carry.

Each collector runs in a mount namespace where /var/log is a folder of the test: the configuration that is tested is the
shipped file, byte for byte.
"""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import stage
from stage import Json

CONFIGURATIONS = stage.SOURCE / "scripts/deploy/collectors"
# 15 bytes, the longest name that a process can have: newline, quote, ESC, invalid UTF-8, backslash, DEL, cut UTF-8.
HOSTILE = b'a\n"\x1b[2J\xff\\\x7f{}\xc3,'
ARRIVED_AS = 'a\n"\x1b[2J\ufffd\\\x7f{}\ufffd,'
PRIVATE_LOGS = 'mount --bind "$1" /var/log && shift && exec "$@"'


def require_root() -> None:
    if os.geteuid() != 0:
        raise stage.Skip("needs root")
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, timeout=stage.DEADLINE_SECONDS)
    if probe.returncode != 0:
        raise stage.Skip("no mount namespaces here: " + probe.stderr.strip())


@contextlib.contextmanager
def collector(logs: Path, command: Sequence[str | Path], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The daemon in the foreground, its /var/log being `logs`."""
    with (logs.parent / "collector.log").open("w+") as log, \
            stage.started(["unshare", "--mount", "sh", "-c", PRIVATE_LOGS, "sh", logs, *command], env=environment,
                          stdin=subprocess.DEVNULL, stdout=log, stderr=log) as daemon:
        try:
            yield daemon
        finally:
            log.seek(0)
            print(log.read(), end="")


def observe(work: Path, logs: Path) -> list[str]:
    """Live lines, appended to laggard.ndjson as systemd's `append:` does, and the same to a pod's log as containerd does."""
    hostile = os.fsencode(work) + b"/" + HOSTILE
    shutil.copy(stage.WORKLOAD, hostile)
    file = logs / "laggard/laggard.ndjson"
    with contextlib.ExitStack() as programs:
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        programs.enter_context(stage.started([os.fsdecode(hostile), "slow-reader", "--bite", "1024"], **quiet))
        # An array of numbers: the processes that hold a socket from which nobody reads.
        listener = programs.enter_context(socket.create_server(("127.0.0.1", 0)))
        sender = programs.enter_context(socket.create_connection(listener.getsockname()))
        held, _ = listener.accept()
        programs.enter_context(held)
        sender.sendall(bytes(50_021))
        programs.enter_context(stage.started(["sleep", "60"], pass_fds=[held.fileno()], **quiet))
        with file.open("ab") as out:
            # --lag: critical, which is ten times over it, within the duration too.
            laggard = subprocess.run([stage.LAGGARD, *stage.QUICK, "--lag", "250ms", "--stall", "3s", "--duration", "12s"],
                                     stdout=out, stderr=subprocess.PIPE, timeout=stage.DEADLINE_SECONDS)
            if laggard.returncode != 0:
                raise stage.Failed(f"laggard left with {laggard.returncode}: {laggard.stderr.decode()}")
            subprocess.run([stage.LAGGARD, "snapshot", "--output", "json"], stdout=out, stderr=subprocess.DEVNULL, check=True,
                           timeout=stage.DEADLINE_SECONDS)
    lines = file.read_text().splitlines()
    pod = logs / "pods/observability_laggard-x7k2p_1ac3d1f2-0d9b-4a6e-9d1c-2b1f6f1a9c11/laggard"
    pod.mkdir(parents=True)
    stamp = "2026-11-21T23:42:46.715731858Z"
    (pod / "0.log").write_text("".join(f"{stamp} stdout F {line}\n" for line in lines)
                               + f"{stamp} stderr F laggard: diagnostics are text\n")
    return lines


def prepare(work: Path) -> Path:
    logs = work / "log"
    (logs / "laggard").mkdir(parents=True)
    (logs / "pods").mkdir()
    (logs / "laggard/laggard.ndjson").touch()
    return logs


def check_variety(records: Sequence[Json]) -> None:
    """The lines have what is hard to carry, or the comparison would prove little."""
    stage.check_schema(records)
    assert {record["event.name"] for record in records} >= {
        "laggard.agent.started", "laggard.finding.opened", "laggard.finding.updated", "laggard.finding.resolved",
        "laggard.agent.stopped", "laggard.socket"}, "an event is missing"
    assert "error" in {record["severity"] for record in records}, "nothing critical"
    names = {record.get("process.executable.name") for record in records}
    assert ARRIVED_AS in names, f"the hostile name is not among {names}"
    assert any(len(record.get("laggard.process.holders", [])) > 1 for record in records), "no array of numbers"
    assert {value for record in records for value in record.values() if isinstance(value, bool)} == {True, False}, "no bools"
    assert any(isinstance(value, float) and value != round(value, 6) for record in records for value in record.values()), \
        "no number with many digits"


def carry(work: Path, logs: Path) -> list[str]:
    """Live lines reach the running collector twice, from the file and from the pod; after a rotation the last one again."""
    lines = observe(work, logs)
    check_variety([json.loads(line) for line in lines])
    arrived(logs / "laggard-collected.ndjson", 2 * len(lines))

    # By copytruncate, as logrotate.conf does it.
    (logs / "laggard/laggard.ndjson").write_text("")
    with (logs / "laggard/laggard.ndjson").open("a") as out:
        out.write(lines[-1] + "\n")
    return lines


def arrived(file: Path, count: int) -> list[Json]:
    """`count` whole lines, no more and no fewer."""
    def there() -> bool:
        return file.exists() and file.read_bytes().count(b"\n") >= count
    stage.eventually(there, f"{count} lines are in {file}")
    records = [json.loads(line) for line in file.read_bytes().decode().split("\n") if line]
    assert len(records) == count, f"{len(records)} records instead of {count} in {file}"
    return records


def kept_text(logs: Path) -> str:
    """What was no JSON."""
    file = logs / "laggard-not-json.log"
    return stage.eventually(lambda: file.exists() and file.read_text(), "the text line is kept")


def in_order(records: Iterable[Json]) -> list[Json]:
    """Two sources of a collector come in any order."""
    return sorted(records, key=lambda record: json.dumps(record, sort_keys=True))


def differences(sent: Json, received: Json) -> dict[str, tuple[object, object]]:
    """By key, what was sent and what arrived; "1" and 1, 1 and 1.0, 1 and True differ. None is in no line of laggard."""
    pairs = {key: (sent.get(key), received.get(key)) for key in sent.keys() | received.keys()}
    return {key: pair for key, pair in pairs.items() if json.dumps(pair[0]) != json.dumps(pair[1])}
