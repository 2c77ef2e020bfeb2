# SPDX-License-Identifier: MIT
"""Many connections of one process: leaked, pooled, subscribed, or to peers that are gone."""
from __future__ import annotations

import collections
import http.client
import itertools
import selectors
import socket
import time
from collections.abc import Callable

from common import HOST, connect, every, in_background, listen, ready, role
from stores import bulk, postgres_query, postgres_send


# ---- UDP ----


def ask_by_datagram(end: socket.socket) -> None:
    end.settimeout(10)
    end.send(b"who?")
    end.recv(1000)


def datagram_socket(port: int) -> socket.socket:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.connect((HOST, port))
    return end


@role
def leaks_udp(port: int, per_second: float) -> None:
    """A resolver: a socket for each query, and none is ever closed."""
    kept = []
    ready()
    for _ in every(1 / per_second):
        kept.append(datagram_socket(port))
        ask_by_datagram(kept[-1])


@role
def udp_resolver(port: int, per_second: float) -> None:
    """A socket for each query, closed after its answer."""
    ready()
    for _ in every(1 / per_second):
        with datagram_socket(port) as end:
            ask_by_datagram(end)


@role
def udp_pool(port: int, per_second: float, size: int) -> None:
    """Opens sockets until it has `size`, and asks with the one that has rested longest."""
    pool: collections.deque[socket.socket] = collections.deque()
    ready()
    for _ in every(1 / per_second):
        pool.append(datagram_socket(port) if len(pool) < size else pool.popleft())
        ask_by_datagram(pool[-1])


# ---- one use each ----


def host(number: int) -> str:
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


def visit(address: str, port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(address, port)
    connection.request("GET", "/small")
    connection.getresponse().read()
    return connection


@role
def one_per_host(port: int, per_second: float) -> None:
    """Meets one host after the other, asks it once, and keeps the connection."""
    kept = []
    ready()
    for number in every(1 / per_second):
        kept.append(visit(host(number), port))


@role
def come_and_go(port: int, per_second: float, idle: float, hosts: int = 1) -> None:
    """Connections that are used once and closed `idle` seconds later, each to the next of `hosts`; twice as many per
    second from the first goodbye on."""
    kept: collections.deque[tuple[float, http.client.HTTPConnection]] = collections.deque()
    gone, number = False, itertools.count()
    ready()
    for _ in every(1 / per_second):
        for _ in range(2 if gone else 1):
            connection = visit(HOST if hosts == 1 else host(next(number) % hosts), port)
            kept.append((time.monotonic() + idle, connection))
        while kept[0][0] <= time.monotonic():
            kept.popleft()[1].close()
            gone = True


@role
def vanishes(port: int, per_second: float) -> None:
    """Clients that are asleep or out of reach after their first answer: their end is gone, and no FIN is sent."""
    tcp_repair = 19  # linux/tcp.h
    ready()
    for _ in every(1 / per_second):
        end = connect(port)
        end.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        end.recv(1000)
        end.setsockopt(socket.IPPROTO_TCP, tcp_repair, 1)
        end.close()


@role
def answers(port: int) -> None:
    """An event loop that answers whatever comes, and closes when its clients do. No keep-alive probes, no timeout."""
    listener, loop = listen(port), selectors.DefaultSelector()
    loop.register(listener, selectors.EVENT_READ)
    ready()
    while True:
        for key, _ in loop.select():
            end = key.fileobj
            assert isinstance(end, socket.socket)
            if end is listener:
                loop.register(listener.accept()[0], selectors.EVENT_READ)
            elif end.recv(65_536):
                end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            else:
                loop.unregister(end)
                end.close()


# ---- one subscription per user ----


def subscribe(join: Callable[[int], socket.socket], count: int, per_second: float) -> None:
    """An event loop: `count` users come one by one, and whatever is sent to any of them is read."""
    loop, due, users = selectors.DefaultSelector(), time.monotonic(), 0
    ready()
    while True:
        left = due - time.monotonic()
        if users < count and left <= 0:
            loop.register(join(users), selectors.EVENT_READ)
            users, due = users + 1, due + 1 / per_second
        for key, _ in loop.select(max(0.0, left) if users < count else None):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.recv(65_536)


@role
def redis_users(port: int, count: int, per_second: float) -> None:
    def join(user: int) -> socket.socket:
        end = connect(port)
        end.sendall(bulk(b"SUBSCRIBE", b"user:%d" % user))
        return end

    subscribe(join, count, per_second)


@role
def redis_notifier(port: int, count: int, period: float) -> None:
    """A message for each of `count` users in `period` seconds."""
    end = connect(port)
    ready()
    for beat in every(period / count):
        end.sendall(bulk(b"PUBLISH", b"user:%d" % (beat % count), b"news"))
        end.recv(1000)


@role
def postgres_users(port: int, count: int, per_second: float) -> None:
    subscribe(lambda user: postgres_query(port, f"LISTEN user_{user}"), count, per_second)


@role
def postgres_notifier(port: int, count: int, period: float) -> None:
    end = postgres_query(port, "SELECT 1")
    end.recv(1000)
    ready()
    for beat in every(period / count):
        postgres_send(end, f"NOTIFY user_{beat % count}, 'news'")
        end.recv(1000)


# ---- peers that are gone ----


@role
def ticker(port: int) -> None:
    """Sends 100 bytes per second to each client."""
    def tick(end: socket.socket) -> None:
        for _ in every(1):
            end.sendall(bytes(100))

    listener = listen(port)
    ready()
    while True:
        in_background(tick, listener.accept()[0])


@role
def audience(port: int, address: str, count: int) -> None:
    """`count` clients that read what comes; ready when all have heard something."""
    loop = selectors.DefaultSelector()
    ends = [connect(port, host=address) for _ in range(count)]
    for end in ends:
        end.recv(1000)
        loop.register(end, selectors.EVENT_READ)
    ready()
    while True:
        for key, _ in loop.select():
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.recv(65_536)


@role
def asks_database(port: int, address: str) -> None:
    """A query to redis twice a second, each after the answer to the last one."""
    end = connect(port, host=address)
    for beat in every(0.5):
        end.sendall(bulk(b"PING"))
        end.recv(1000)
        if beat == 0:
            ready()
