# SPDX-License-Identifier: MIT
"""Clients of redis and postgres, by hand."""
from __future__ import annotations

import itertools
import os
import signal
import socket
import struct

from common import connect, every, ready, role, wait_unread


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
