# SPDX-License-Identifier: MIT
"""Connections and listeners that end in odd ways."""
from __future__ import annotations

import collections
import contextlib
import select
import signal
import socket
import struct
import subprocess
import time

from common import connect, every, listen, ready, role
from connections import wait_closed_by_peer


@role
def reads_once(port: int = 0) -> None:
    """Reads the beginning of what each client sends, and forgets it. 0: on any port, which it says."""
    listener, kept = listen(port), []
    print(f"port {listener.getsockname()[1]}")
    ready()
    while True:
        kept.append(listener.accept()[0])
        kept[-1].recv(1000)


def send_and_abort(ends: list[socket.socket], patience: float) -> None:
    for end in ends:
        end.sendall(b"hello")
        end.sendall(bytes(300_000))
    ready()
    for end in ends:
        time.sleep(patience / len(ends))
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
    signal.pause()


@role
def aborts(port: int, count: int, patience: float) -> None:
    """Sends on `count` connections, loses patience, and resets one after the other, the last after `patience` seconds."""
    send_and_abort([connect(port) for _ in range(count)], patience)


@role
def aborting_server(port: int, count: int, patience: float) -> None:
    """The same to its clients; first it says that it listens."""
    listener = listen(port)
    print("listens", flush=True)
    send_and_abort([listener.accept()[0] for _ in range(count)], patience)


@role
def leaves_its_listener(port: int, count: int) -> None:
    """Serves `count` clients, starts a child that inherits the listening descriptor, and ends."""
    listener = listen(port)
    listener.set_inheritable(True)
    ready()
    served = []
    for _ in range(count):
        served.append(listener.accept()[0])
        served[-1].recv(1000)
        served[-1].sendall(b"ok")
    subprocess.Popen(["sleep", "infinity"], close_fds=False)


@role
def pool_of_the_past(port: int, count: int) -> None:
    """A pool that asks once over each of its connections; ready when the server has closed them all."""
    pool = [connect(port) for _ in range(count)]
    for end in pool:
        end.sendall(b"hello")
    for end in pool:
        end.recv(1000)
    for end in pool:
        wait_closed_by_peer(end)
    ready()
    signal.pause()


@role
def passers_by(port: int, per_second: float) -> None:
    """Clients that say a word and close."""
    ready()
    for _ in every(1 / per_second):
        with connect(port) as end:
            end.sendall(b"hello")


def is_reset(end: socket.socket) -> bool:
    closed = 7  # net/tcp_states.h
    return end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == closed


@role
def speaks_late(port: int, patience: float, closes: int) -> None:
    """Does not look whether clients close, and says something to each after `patience` seconds, when the kernel has
    forgotten the other end: a reset. `closes`: those are closed, otherwise they are kept."""
    listener = listen(port)
    waiting: collections.deque[tuple[float, socket.socket]] = collections.deque()
    told: list[socket.socket] = []
    ready()
    while True:
        if select.select([listener], [], [], 0.1)[0]:
            end = listener.accept()[0]
            end.recv(1000)
            waiting.append((time.monotonic() + patience, end))
        while waiting and waiting[0][0] <= time.monotonic():
            told.append(waiting.popleft()[1])
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # somebody was here before
                told[-1].send(b"are you there?")
        if closes:
            for end in filter(is_reset, told):
                end.close()
            told = [end for end in told if end.fileno() >= 0]
