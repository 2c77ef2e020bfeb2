# SPDX-License-Identifier: MIT
"""Servers and clients that keep what they should: stores, caches, batches, memory per connection."""
from __future__ import annotations

import collections
import ctypes
import math
import os
import random
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from common import Total, connect, every, in_background, listen, ready, role

Serve = Callable[[socket.socket], bool]  # False: the client has gone


def event_loop(port: int, greet: Callable[[socket.socket], Serve]) -> None:
    """Serves all who connect, one read at a time."""
    listener, loop = listen(port), selectors.DefaultSelector()
    loop.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in loop.select():
            end = key.fileobj
            assert isinstance(end, socket.socket)
            if end is listener:
                client = listener.accept()[0]
                loop.register(client, selectors.EVENT_READ, greet(client))
            elif not key.data(end):
                loop.unregister(end)
                end.close()


def rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# ---- stores: each request is a length and a value, which is kept; the answer is "ok" and a line end ----


@role
def store(port: int) -> None:
    """Keeps every value for ever, and answers each read that completes values."""
    kept: list[bytes] = []

    def greet(_: socket.socket) -> Serve:
        rest = bytearray()

        def serve(end: socket.socket) -> bool:
            data = end.recv(65_536)
            rest.extend(data)
            answers = 0
            while len(rest) >= 4 and len(rest) >= (size := 4 + struct.unpack_from("!I", rest)[0]):
                kept.append(bytes(rest[4:size]))
                del rest[:size]
                answers += 1
            if answers:
                end.sendall(b"ok\n" * answers)
            return bool(data)

        return serve

    in_background(lambda: event_loop(port, greet))
    ready()
    signal.pause()


@role
def saves(port: int, count: int, smallest: int, largest: int, rate: float, depth: int = 1) -> None:
    """Clients of a store: over `count` connections in turn, `depth` requests at once, `rate` bytes per second in all."""
    ends, size = [connect(port) for _ in range(count)], (smallest + largest) // 2
    total, began = Total(), time.monotonic()
    for _ in every(0.05):
        while total.count * size < (time.monotonic() - began) * rate:
            end = ends[total.count // depth % count]
            values = [os.urandom(random.randint(smallest, largest)) for _ in range(depth)]
            end.sendall(b"".join(struct.pack("!I", len(value)) + value for value in values))
            read_lines(end, depth)
            total.count += depth


def read_lines(end: socket.socket, count: int) -> bytes:
    seen = b""
    while seen.count(b"\n") < count:
        if not (data := end.recv(65_536)):
            raise EOFError
        seen += data
    return seen


# ---- batches ----


@role
def ingester(port: int, seconds: float) -> None:
    """Keeps what all its clients send, answers nothing, and drops all of it every `seconds`. Says how many kB it has read,
    and ends if its memory does not fall."""
    kept: list[bytes] = []
    total, due = Total(), math.inf

    def greet(_: socket.socket) -> Serve:
        def serve(end: socket.socket) -> bool:
            nonlocal due
            data = end.recv(65_536)
            due = min(due, time.monotonic() + seconds)  # that of the first chunk begins with its first byte
            kept.append(data)
            total.count += len(data) / 1000
            if time.monotonic() >= due:
                due = math.inf
                drop(kept)
            return bool(data)

        return serve

    event_loop(port, greet)


def drop(kept: list[bytes]) -> None:
    size, before = sum(map(len, kept)), rss_bytes()
    kept.clear()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    after = rss_bytes()
    print(f"dropped {size >> 10} KiB: {before >> 10} KiB resident before, {after >> 10} KiB after", flush=True)
    if before - after < size / 2:
        raise SystemExit("memory does not fall")


# ---- caches ----


@role
def cache(port: int, seconds: float) -> None:
    """Keeps what a stream brings for `seconds`, and from then on the same amount: the oldest goes for each that comes."""
    end = connect(port)
    kept: collections.deque[bytes] = collections.deque()
    ready()
    full = time.monotonic() + seconds
    while data := end.recv(65_536):
        kept.append(data)
        if time.monotonic() >= full:
            kept.popleft()


# ---- memory per connection ----


@role
def rooms(port: int, size: int) -> None:
    """Each connection costs `size` bytes for as long as it lives, and each line is answered."""
    def greet(_: socket.socket) -> Serve:
        room = bytearray(b"x") * size

        def serve(end: socket.socket) -> bool:
            data = end.recv(4096)
            room[:len(data)] = data
            if data:
                end.sendall(b"ok\n")
            return bool(data)

        return serve

    in_background(lambda: event_loop(port, greet))
    ready()
    signal.pause()


# ---- steps ----


@role
def steps(port: int, size: int, count: int, seconds: float) -> None:
    """A stream is read and forgotten; memory grows by `size` at once, `count` times, `seconds` apart, and never again."""
    def read() -> None:
        end = connect(port)
        while end.recv(65_536):
            pass

    in_background(read)
    ready()
    kept = []
    for _ in range(count):
        time.sleep(seconds)
        kept.append(bytearray(b"x") * size)
    signal.pause()
