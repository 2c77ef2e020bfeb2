#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""1000 slow clients on the metrics endpoint: findings come as soon and looks as often as without them, laggard does not
grow, and a scrape is answered within seconds."""
from __future__ import annotations

import contextlib
import json
import re
import resource
import select
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from stage import LAGGARD, QUICK, Failed, eventually, require_observer, run, slow_reader, started

CLIENTS = 1000
PROCESSES = 4
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: laggard\r\n" + b"X-Slow: yes\r\n" * 100
# Promised: a scrape in a few seconds (Prometheus waits 10 by default), a finding at most two looks later than without.
SCRAPE_SECONDS = 5.0
LATER_SECONDS = 2.0


class SlowClient:
    """Sends a byte of a request a second, or takes a byte of the answer a second."""

    def __init__(self, port: int, reads: bool) -> None:
        self.port, self.reads = port, reads
        self.connect()

    def connect(self) -> None:
        self.sent = 0
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", self.port))

    def second(self) -> None:
        with contextlib.suppress(OSError):  # not connected yet, or not any more
            if not self.reads:
                self.sent += self.socket.send(REQUEST[self.sent:self.sent + 1])
            elif self.sent == 0:
                self.sent = self.socket.send(b"GET /metrics HTTP/1.1\r\n\r\n")
            else:
                self.socket.recv(1)


def crowd(port: int, count: int) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        gone = select.poll()
        clients: dict[int, SlowClient] = {}

        def join(client: SlowClient) -> None:
            clients[client.socket.fileno()] = client
            gone.register(client.socket, select.POLLRDHUP)

        for index in range(count):
            join(SlowClient(port, reads=index % 2 == 0))
        due = time.monotonic()
        while True:
            # Who is thrown out comes back at once.
            for fd, _ in gone.poll(max(0.0, due - time.monotonic()) * 1000):
                gone.unregister(fd)
                client = clients.pop(fd)
                client.socket.close()
                client.connect()
                join(client)
            if time.monotonic() >= due:
                due += 1
                for client in clients.values():
                    client.second()


def connections_to(port: int) -> int:
    """Established, seen from the clients; taken by laggard or not."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


class Observer:
    def __init__(self, laggard: subprocess.Popen[str], url: str, output: Path) -> None:
        self.pid, self.url, self.output = laggard.pid, url, output

    def scrape(self) -> tuple[float, str]:
        begun = time.monotonic()
        with urllib.request.urlopen(self.url, timeout=30) as answer:
            page = answer.read().decode()
        return time.monotonic() - begun, page

    def usage(self) -> dict[str, int]:
        fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if ":\t" in line)
        # Not the pages of files: the machine may take those away at any time, and give them back.
        return {"kib": int(fields["RssAnon"].split()[0]) + int(fields["VmSwap"].split()[0]), "threads": int(fields["Threads"]),
                "fds": len(list(Path(f"/proc/{self.pid}/fd").iterdir()))}

    def opened(self) -> int:
        return sum('"laggard.finding.opened"' in line and '"slow-reader"' in line for line in self.output.read_text().splitlines())

    def seconds_until_finding(self) -> float:
        """From the start of a slow reader to the line about it."""
        before = self.opened()
        begun = time.monotonic()
        with slow_reader():
            eventually(lambda: self.opened() > before, "the slow reader is found", 30)
            return time.monotonic() - begun


def number(page: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", page, re.M)
    if found is None:
        raise Failed(f"{name} is not on the page")
    return float(found[1])


def test(work: Path) -> None:
    require_observer()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    output, errors = work / "lines", work / "errors"
    with output.open("w") as lines, errors.open("w") as log, contextlib.ExitStack() as stack:
        laggard = stack.enter_context(started([LAGGARD, "watch", "--output", "json", *QUICK, "--comm", "workload", "--metrics", "0"],
                                              stdout=lines, stderr=log))
        found = eventually(lambda: re.search(r"http://127\.0\.0\.1:(\d+)/metrics", errors.read_text()), "laggard says where its metrics are")
        port = int(found[1])
        observer = Observer(laggard, found[0], output)
        eventually(lambda: number(observer.scrape()[1], "laggard_ticks_total") > 0, "laggard looks")
        alone = min(observer.seconds_until_finding() for _ in range(2))
        before = observer.usage()

        for _ in range(PROCESSES):
            stack.enter_context(started([sys.executable, __file__, "crowd", str(port), str(CLIENTS // PROCESSES)], stderr=subprocess.DEVNULL))
        eventually(lambda: connections_to(port) >= CLIENTS * 0.9, f"{CLIENTS} slow clients are connected")
        _, first = observer.scrape()
        crowded = min(observer.seconds_until_finding() for _ in range(2))
        scrapes, usages = [], []
        end = time.monotonic() + 12
        while time.monotonic() < end:
            took, last = observer.scrape()
            scrapes.append(took)
            usages.append(observer.usage())
        there = connections_to(port)
        looks = number(last, "laggard_ticks_total") - number(first, "laggard_ticks_total")
        seconds = number(last, "laggard_last_tick_timestamp_seconds") - number(first, "laggard_last_tick_timestamp_seconds")
        cpu = number(last, "process_cpu_seconds_total") - number(first, "process_cpu_seconds_total")
    half = len(usages) // 2
    early, late = ({name: max(usage[name] for usage in part) for name in before} for part in (usages[:half], usages[half:]))
    print(json.dumps({"finding_alone_seconds": round(alone, 1), "finding_crowded_seconds": round(crowded, 1),
                      "scrapes": len(scrapes), "slowest_scrape_seconds": round(max(scrapes), 2), "looks_per_second": round(looks / seconds, 3),
                      "cpu_share": round(cpu / seconds, 3), "connected": there, "before": before, "early": early, "late": late}))
    assert there >= CLIENTS * 0.8, "the crowd has left"
    assert crowded <= alone + LATER_SECONDS, "findings come later"
    assert 0.7 < looks / seconds < 1.1, "looks are not a second apart"
    assert max(scrapes) < SCRAPE_SECONDS, "a scrape waits too long"
    assert late["threads"] == before["threads"], "threads have grown"
    assert late["fds"] <= before["fds"] + 256 + 8, "descriptors have grown"
    # 1000 connections are also 1000 sockets that laggard watches; over 80 s it was 18.5 MiB from the second 20 on.
    assert late["kib"] <= before["kib"] + 16 * 1024, "memory has grown"
    assert late["kib"] <= early["kib"] + 2 * 1024, "memory grows on"


if __name__ == "__main__":
    if sys.argv[1:2] == ["crowd"]:
        crowd(int(sys.argv[2]), int(sys.argv[3]))
    else:
        run(test)
