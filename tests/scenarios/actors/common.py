# SPDX-License-Identifier: MIT
"""What all roles share."""
from __future__ import annotations

import fcntl
import itertools
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator

ROLES: dict[str, Callable[..., None]] = {}
HOST = "127.0.0.1"


def role(function: Callable[..., None]) -> Callable[..., None]:
    ROLES[function.__name__.replace("_", "-")] = function
    return function


def ready() -> None:
    print("ready", flush=True)


def every(seconds: float) -> Iterator[int]:
    """A steady beat; one that was missed is skipped, not caught up."""
    due = time.monotonic()
    for beat in itertools.count():
        yield beat
        now = time.monotonic()
        due = max(due + seconds, now)
        time.sleep(due - now)


def connect(port: int, receive_buffer: int = 0, host: str = HOST, protocol: int = 0) -> socket.socket:
    end = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    if receive_buffer:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    end.connect((host, port))
    return end


def connect_soon(port: int) -> socket.socket:
    """Waits for a server that is being restarted."""
    while True:
        try:
            return connect(port)
        except ConnectionRefusedError:
            time.sleep(0.2)


def listen(port: int, backlog: int = 128, send_buffer: int = 0, protocol: int = 0) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if send_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    listener.bind(("", port))
    listener.listen(backlog)
    return listener


def unread(end: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(end, termios.FIONREAD, b"\0" * 4))[0])


def wait_unread(end: socket.socket, enough: int = 1) -> None:
    while unread(end) < enough:
        time.sleep(0.02)


def in_background(function: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def pour(end: socket.socket, rate: float) -> None:
    """`rate` bytes per second, lines of 100; 0: as fast as they are taken."""
    line = b"x" * 99 + b"\n"
    block = line * (max(1, int(rate * 0.05) // len(line)) if rate else 650)
    try:
        for _ in every(0.05) if rate else itertools.repeat(0):
            end.sendall(block)
    except OSError:
        end.close()


class Total:
    """What an actor has done so far; it says so every second."""

    def __init__(self) -> None:
        self.count = 0
        ready()
        in_background(self._tell)

    def _tell(self) -> None:
        for _ in every(1):
            print(int(self.count), flush=True)
