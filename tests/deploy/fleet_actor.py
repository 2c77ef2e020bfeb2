# SPDX-License-Identifier: MIT
"""The programs of fleet_test.py, one process each, until stdin closes.

  fleet_actor.py feed ADDRESS PORT              sends 1 MB/s to everybody who connects
  fleet_actor.py NAME ADDRESS PORT BEHAVIOUR    connects and is `slow` (two connections, slower and slower),
                                                `stalled`, or `reads`
"""
from __future__ import annotations

import contextlib
import select
import socket
import sys
from pathlib import Path

EVERY_SECONDS = 0.05
FIRST_BITE, LAST_BITE = 4096, 64
SLOWER = 0.85 ** EVERY_SECONDS  # a fifth after ten seconds


def feed(address: str, port: int) -> None:
    listener = socket.create_server((address, port), family=socket.AF_INET6)
    print("ready", flush=True)
    clients: list[socket.socket] = []
    while stdin_open(EVERY_SECONDS):
        if select.select([listener], [], [], 0)[0]:
            client, _ = listener.accept()
            client.setblocking(False)
            clients.append(client)
        for client in clients:
            with contextlib.suppress(BlockingIOError, ConnectionError):  # held back, or gone at the end of the test
                client.send(bytes(int(1_000_000 * EVERY_SECONDS)))


def stdin_open(wait: float) -> bool:
    return not select.select([sys.stdin], [], [], wait)[0]


def take(address: str, port: int, behaviour: str) -> None:
    connections = [socket.create_connection((address, port)) for _ in range(2 if behaviour == "slow" else 1)]
    bite = float(FIRST_BITE)
    while stdin_open(EVERY_SECONDS):
        bite = max(bite * SLOWER, LAST_BITE)
        for connection in connections:
            if behaviour == "slow":
                connection.recv(int(bite))
            elif behaviour == "reads":
                connection.recv(1_000_000)


def main() -> None:
    name, address, port, *behaviour = sys.argv[1:]
    Path("/proc/self/comm").write_text(name)
    if behaviour:
        take(address, int(port), behaviour[0])
    else:
        feed(address, int(port))


main()
