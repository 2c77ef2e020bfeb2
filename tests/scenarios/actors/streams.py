# SPDX-License-Identifier: MIT
"""Who sends and who reads a stream."""
from __future__ import annotations

import os
import signal
import socket

from common import connect, every, in_background, listen, pour, ready, role


@role
def source(port: int, rate: float = 0, send_buffer: int = 0) -> None:
    """Pours to everybody who connects."""
    listener = listen(port, send_buffer=send_buffer)
    ready()
    while True:
        in_background(pour, listener.accept()[0], rate)


@role
def bursts(port: int, size: int, pause: float) -> None:
    """`size` bytes as fast as they are taken, then nothing for a while."""
    listener = listen(port)
    ready()
    end = listener.accept()[0]
    for _ in every(pause):
        end.sendall(bytes(size))


@role
def sink(port: int, protocol: int = 0) -> None:
    """Takes everything from everybody; closes when they do."""
    def take(end: socket.socket) -> None:
        while end.recv(1 << 18):
            pass
        end.close()

    listener = listen(port, protocol=protocol)
    ready()
    while True:
        in_background(take, listener.accept()[0])


@role
def talker(port: int, rate: float, protocol: int = 0) -> None:
    """A client that sends for ever."""
    end = connect(port, protocol=protocol)
    ready()
    pour(end, rate)



# ---- who reads ----


@role
def reader(port: int, size: int, pause: float, receive_buffer: int = 0, reads: int = 1) -> None:
    """`reads` reads of at most `size` bytes, then a pause."""
    end = connect(port, receive_buffer)
    ready()
    for _ in every(pause):
        for _ in range(reads):
            end.recv(size)


@role
def batch_reader(port: int, pause: float) -> None:
    """Wakes up now and then and takes all there is."""
    end = connect(port, receive_buffer=4 << 20)
    end.setblocking(False)
    ready()
    for _ in every(pause):
        try:
            while end.recv(1 << 18):
                pass
        except BlockingIOError:
            pass


@role
def stops_reading(port: int, protocol: int = 0) -> None:
    """Serves the first client for a moment, then forgets it."""
    listener = listen(port, protocol=protocol)
    ready()
    end = listener.accept()[0]
    end.recv(1000)
    signal.pause()


@role
def hoarder(port: int) -> None:
    """Keeps all it reads."""
    end, kept = connect(port), []
    ready()
    while data := end.recv(65_536):
        kept.append(data)


@role
def discarder(port: int) -> None:
    end = connect(port)
    ready()
    while end.recv(1 << 18):
        pass


@role
def peeker(port: int) -> None:
    """Waits for a whole record of 40 kB by looking at the queue 50 times a second."""
    end = connect(port)
    ready()
    for _ in every(0.02):
        if len(end.recv(40_000, socket.MSG_PEEK)) == 40_000:
            end.recv(1 << 18)


@role
def splicer(port: int, target: int) -> None:
    """Forwards in the kernel: no read ever happens."""
    listener = listen(port)
    ready()
    client, server = listener.accept()[0], connect(target)
    out, into = os.pipe()
    while count := os.splice(client.fileno(), into, 1 << 16):
        while count:
            count -= os.splice(out, server.fileno(), count)


@role
def slow_filter(rate: int) -> None:
    """Reads its standard input at this many bytes per second."""
    ready()
    for _ in every(0.1):
        if not os.read(0, rate // 10):
            return
