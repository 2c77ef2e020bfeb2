# SPDX-License-Identifier: MIT
"""Servers that answer a request before they have read its last bytes, as FastCGI workers do; or that forget them."""
from __future__ import annotations

import http.client
import itertools
import select
import signal
import socket
import time

from common import HOST, connect, listen, ready, role

REQUEST, LEFT = 1008, 8


def take_most(end: socket.socket) -> None:
    end.recv(REQUEST - LEFT, socket.MSG_WAITALL)


def answer(end: socket.socket) -> None:
    end.recv(LEFT)
    end.sendall(b"done")
    end.close()


@role
def blocking_worker(port: int, *seconds: float) -> None:
    """One request after the other, which take `seconds` in turn; their last bytes are read when they are done."""
    listener = listen(port)
    ready()
    for work in itertools.cycle(seconds):
        end = listener.accept()[0]
        take_most(end)
        time.sleep(work)
        answer(end)


@role
def asking_worker(port: int, slow_service: int) -> None:
    """The same, and the work is to wait for somebody else's answer."""
    listener = listen(port)
    ready()
    while True:
        end = listener.accept()[0]
        take_most(end)
        other = http.client.HTTPConnection(HOST, slow_service)
        other.request("GET", "/")
        other.getresponse().read()
        other.close()
        answer(end)


@role
def askers(port: int, count: int, size: int = REQUEST) -> None:
    """`count` requests at the same time, and again when all have been answered."""
    ready()
    while True:
        ends = [connect(port) for _ in range(count)]
        for end in ends:
            end.sendall(bytes(size))
        for end in ends:
            while end.recv(1000):
                pass
            end.close()


@role
def edge_reader(port: int) -> None:
    """Edge-triggered epoll with one read per event, of less than a request."""
    listener, poll = listen(port), select.epoll()
    ready()
    end = listener.accept()[0]
    poll.register(end, select.EPOLLIN | select.EPOLLET)
    while end.fileno() in dict(poll.poll()):
        take_most(end)
    signal.pause()
