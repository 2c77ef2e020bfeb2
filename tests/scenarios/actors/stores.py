# SPDX-License-Identifier: MIT
"""Clients of redis and postgres, by hand."""
from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import struct
import time
from typing import BinaryIO

from common import Total, connect, connect_soon, every, ready, role, wait_unread


@role
def redis_subscriber(port: int) -> None:
    """Subscribes and never reads a message."""
    end = connect(port)
    end.sendall(b"SUBSCRIBE news\r\n")
    end.recv(1000)
    ready()
    signal.pause()


@role
def redis_monitor(port: int) -> None:
    end = connect(port)
    end.sendall(b"MONITOR\r\n")
    end.recv(5)
    ready()
    signal.pause()


def bulk(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


@role
def redis_publisher(port: int, rate: float) -> None:
    end = connect(port)
    ready()
    for _ in every(0.1):
        end.sendall(bulk(b"PUBLISH", b"news", b"x" * int(rate * 0.1)))
        end.recv(1000)


@role
def redis_feeder(port: int, rate: float) -> None:
    """SETs new keys of 1 kB for ever."""
    end, keys = connect(port), itertools.count()
    per_beat = max(1, int(rate * 0.05 / 1000))
    ready()
    for _ in every(0.05):
        end.sendall(b"".join(bulk(b"SET", b"key:%d" % next(keys), os.urandom(500).hex().encode()) for _ in range(per_beat)))
        answers = 0
        while answers < per_beat:
            answers += end.recv(65_536).count(b"\n")


def memcached_set(key: bytes, value: bytes) -> bytes:
    return b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value)


def redis_set(key: bytes, value: bytes) -> bytes:
    return bulk(b"SET", key, value)


STORES = {"memcached": (memcached_set, b"STORED\r\n"), "redis": (redis_set, b"+OK\r\n")}


@role
def fills(port: int, store: str, rate: float) -> None:
    """Stores fresh keys of 1 to 4 kB, 10 at once, and comes again when the store is restarted."""
    setting, answer = STORES[store]
    total, keys, at_once = Total(), itertools.count(), 10
    while True:
        end = connect_soon(port)
        try:
            for _ in every(at_once * 2500 / rate):
                end.sendall(b"".join(setting(b"key:%d" % next(keys), os.urandom(random.randint(1000, 4000)))
                                     for _ in range(at_once)))
                read_exactly(end, answer * at_once)
                total.count += at_once
        except ConnectionError:
            end.close()


def read_exactly(end: socket.socket, wanted: bytes) -> None:
    seen = b""
    while len(seen) < len(wanted):
        if not (data := end.recv(65_536)):
            raise ConnectionResetError
        seen += data
    assert seen == wanted, seen


def postgres_send(end: socket.socket, query: str) -> None:
    end.sendall(b"Q" + struct.pack("!i", len(query) + 5) + query.encode() + b"\0")


def postgres_query(port: int, query: str) -> socket.socket:
    """Its answer is yet to be read."""
    end = connect(port)
    words = b"user\0postgres\0database\0postgres\0\0"
    end.sendall(struct.pack("!ii", len(words) + 8, 196_608) + words)
    seen = b""
    while not seen.endswith(b"Z\0\0\0\x05I"):  # ReadyForQuery, idle
        seen += end.recv(65_536)
    postgres_send(end, query)
    return end


@role
def postgres_stops_reading(port: int) -> None:
    """Asks for a large result, looks at its beginning, and is busy with something else."""
    end = postgres_query(port, "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)")
    end.recv(10_000)
    wait_unread(end)
    ready()
    signal.pause()


@role
def postgres_copies(port: int, size: int, rate: float, seconds: float) -> None:
    """COPYs `size` bytes into a fresh table at `rate`, over a connection of its own, every `seconds`. Counts the MB."""
    line = b"%d\t" + b"x" * 990 + b"\n"
    total, numbers = Total(), itertools.count()
    for _ in every(seconds):
        end = postgres_query(port, "DROP TABLE IF EXISTS copied; CREATE TABLE copied (number bigint, words text); "
                                   "COPY copied FROM STDIN")
        answers, sent = end.makefile("rb"), 0
        postgres_until(answers, b"G")  # CopyInResponse
        began = time.monotonic()
        for _ in every(0.1):
            while sent < min(size, (time.monotonic() - began) * rate):
                block = b"".join(line % next(numbers) for _ in range(100))
                end.sendall(b"d" + struct.pack("!i", len(block) + 4) + block)
                sent += len(block)
                total.count += len(block) / 1e6
            if sent >= size:
                break
        end.sendall(b"c" + struct.pack("!i", 4))
        postgres_until(answers, b"Z")
        answers.close()
        end.close()


def postgres_until(answers: BinaryIO, last: bytes) -> None:
    """Reads messages up to one of this kind."""
    kind = b""
    while kind != last:
        kind, size = struct.unpack("!ci", answers.read(5))
        text = answers.read(size - 4)
        assert kind != b"E", text
