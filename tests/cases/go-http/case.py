# SPDX-License-Identifier: MIT
"""A Go program that does not close the bodies of its HTTP responses."""
from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness import Program, Scene, eventually, free_port
from observer import Finding, Json, Observer
from scenario import Culprit, Outcome, negative, positive
from toolbox import PILE_SECONDS, expect, go_built, piles_up

ESTABLISHED, CLOSE_WAIT = "01", "08"  # include/net/tcp_states.h
PER_SECOND = 2
begins_requests = piles_up("go-http-request", "main.request")
piling: dict[str, Any] = {"beside": ["unpaired-operations"], "at_end": begins_requests, "seconds": PILE_SECONDS}


def options() -> list[str]:
    return ["--pairs", "go-http"]


def build(stripped: bool = False) -> Path:
    return go_built("go-http", Path(__file__).parent, stripped)


def client(scene: Scene, habit: str, page: str = "small", per_second: float = PER_SECOND,
           idle_timeout: str = "0s", program: Path | None = None) -> Program:
    """Its server closes connections that are idle for `idle_timeout` (0s: never)."""
    address = f"127.0.0.1:{free_port()}"
    scene.start(build(), "server", address, idle_timeout).wait_says("ready\n")
    interval = f"{1000 / per_second:.0f}ms"
    return scene.start(program or build(), "client", f"http://{address}/{page}", interval, habit).wait_says("ready\n")


def server_port(pid: int) -> int:
    """That the client of this pid was told to ask."""
    url = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[2]
    port = urlsplit(url).port
    assert port is not None
    return port


def connections(pid: int, state: str) -> int:
    """That the kernel has to the client's server."""
    wanted = re.compile(rf"^ *\d+: [0-9A-F]+:[0-9A-F]+ [0-9A-F]+:{server_port(pid):04X} {state} ", re.M)
    return len(wanted.findall(Path(f"/proc/{pid}/net/tcp").read_text()))


def check_group(found: Finding, state: str) -> Json:
    """One finding about all connections to the server, whose number grows. Returns its last line."""
    def count() -> int:
        return int(found.lines[-1].get("laggard.finding.count", 1))

    first = count()
    eventually(lambda: count() > first, f"the {first} connections of the finding become more", seconds=30)
    line = found.lines[-1]
    expect(line["server.address"] == "127.0.0.1" and line["server.port"] == server_port(found.pid),
           f"blames {line['server.address']}:{line['server.port']}")
    told, real = count(), connections(found.pid, state)
    expect(told <= real, f"tells of {told} connections, and there are {real}")
    return line


# ---- leaks ----


def is_steady_leak(found: Finding, outcome: Outcome) -> str:
    line = check_group(found, ESTABLISHED)
    rate = line["laggard.evidence.opened_per_second"]
    expect(0.8 * PER_SECOND <= rate <= 1.2 * PER_SECOND, f"{rate:.1f} connections per second, and not {PER_SECOND}")
    return f"{line['laggard.finding.count']} connections, {rate:.1f} more per second"


@positive("connection-leak", check=is_steady_leak, **piling, recording="case-go-http-leak")
def leak_small_body(scene: Scene) -> Culprit:
    """Forgets 2 small bodies per second: the transport has read them, waits for somebody to ask, and dials anew."""
    return client(scene, "unread")


@positive("connection-leak", check=is_steady_leak, **(piling | {"at_end": piles_up("go-http-request", "main.request")}))
def stripped(scene: Scene) -> Culprit:
    """The same without symbols: Go's own table tells where the functions are, and has names for its stacks, too."""
    return client(scene, "unread", program=build(stripped=True))


def both_are_found(outcome: Outcome, observer: Observer) -> str:
    expect(len(outcome.culprits) == 2, "there are not two")
    return begins_requests(outcome, observer) or ""


@positive("unpaired-operations", beside=["unpaired-operations", "connection-leak"], at_end=both_are_found,
          seconds=PILE_SECONDS)
def replaced(scene: Scene) -> Culprit:
    """A new file takes the program's name while it runs, and is started, too: both leak."""
    program = shutil.copy2(build(), scene.dir / "replaced")
    old = client(scene, "unread", program=program)
    shutil.copy2(build(), scene.dir / "new")
    (scene.dir / "new").rename(program)
    return {old.pid, client(scene, "unread", program=program).pid}


def is_unread(found: Finding, outcome: Outcome) -> str:
    line = check_group(found, ESTABLISHED)
    unread = line["laggard.evidence.recv_queue_bytes"]
    expect(unread > 0, "nothing is unread")
    return f"{line['laggard.finding.count']} connections, {unread} B unread"


@positive("stalled-reader", check=is_unread, **piling)
def unread_2mib(scene: Scene) -> Culprit:
    """Forgets two bodies of 2 MiB per second: what does not fit into the transport's buffer stays in the kernel."""
    return client(scene, "unread", "large", per_second=2)


def is_closed_by_server(found: Finding, outcome: Outcome) -> str:
    line = check_group(found, CLOSE_WAIT)
    expect(line["laggard.evidence.eof_seen"] is False, "the transport is said to have seen the end")
    return f"{line['laggard.finding.count']} connections, end not seen"


@positive("close-wait", check=is_closed_by_server, **piling)
def server_closes_first(scene: Scene) -> Culprit:
    """Forgets 2 small bodies per second; the server closes idle connections after 1 s, and the transport never looks."""
    return client(scene, "unread", idle_timeout="1s")


# ---- fixed ----


@negative()
def readall_without_close(scene: Scene) -> None:
    """Reads all and does not close: at the end of the body the transport takes its connection back. Not a leak."""
    client(scene, "read")


@negative()
def readall_and_close(scene: Scene) -> None:
    """Reads 2 MiB, and closes."""
    client(scene, "read-close", "large")


@negative()
def close_without_reading(scene: Scene) -> None:
    """Closes at once: the transport closes the connection too, and dials twice per second."""
    client(scene, "close")


@negative()
def server_closes_pooled(scene: Scene) -> None:
    """The server closes connections after 1 s, and the client reads, closes and asks every 2 s: the transport looks."""
    client(scene, "read-close", per_second=0.5, idle_timeout="1s")
