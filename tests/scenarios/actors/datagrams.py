# SPDX-License-Identifier: MIT
"""UDP."""
from __future__ import annotations

import signal
import socket
import time

from common import every, HOST, ready, role


@role
def udp_source(port: int, size: int, per_second: float, count: int = 0) -> None:
    """Datagrams in beats of 20 ms; `count` in all, 0: for ever."""
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sent = 0
    ready()
    for _ in every(0.02):
        for _ in range(max(1, int(per_second * 0.02))):
            if count and sent == count:
                signal.pause()
            end.sendto(bytes(size), (HOST, port))
            sent += 1


@role
def udp_reader(port: int, pause: float = 0, receive_buffer: int = 0) -> None:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if receive_buffer:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    end.bind((HOST, port))
    ready()
    while True:
        end.recv(65_536)
        if pause:
            time.sleep(pause)


@role
def udp_never_reads(port: int) -> None:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind((HOST, port))
    ready()
    signal.pause()


@role
def udp_echo(port: int) -> None:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind((HOST, port))
    ready()
    while True:
        data, sender = end.recvfrom(65_536)
        end.sendto(data, sender)


@role
def udp_asker(port: int) -> None:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.settimeout(1)
    ready()
    for _ in every(0.5):
        end.sendto(b"who?", (HOST, port))
        end.recv(1000)
