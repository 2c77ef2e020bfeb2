# SPDX-License-Identifier: MIT
"""Clients that exchange messages with a server, which ends its answers with ok."""
from __future__ import annotations

import math
import random
import socket
import time
from dataclasses import dataclass

from common import Total, connect, connect_soon, every, role

QUESTIONS = {"line": b"hello\n", "http": b"GET / HTTP/1.1\r\nHost: mix\r\n\r\n"}
ANSWER = b"ok\n"  # or the end of it


@dataclass(frozen=True)
class Guest:
    end: socket.socket
    leaves: float  # time.monotonic()

    def ask(self, question: bytes) -> None:
        self.end.sendall(question)
        seen = b""
        while not seen.endswith(ANSWER):
            if not (data := self.end.recv(65_536)):
                raise ConnectionResetError
            seen += data


@role
def guests(port: int, words: str, per_second: int, shortest: float = math.inf, longest: float = math.inf,
           limit: int = 20_000) -> None:
    """`per_second` come while fewer than `limit` are there; each stays for some seconds, or for ever."""
    there: dict[int, Guest] = {}
    total = Total()
    for beat in every(1 / per_second):
        for number in [number for number in there if (beat - number) % per_second == 0]:
            if there[number].leaves <= time.monotonic():
                there.pop(number).end.close()
            else:
                there[number].ask(QUESTIONS[words])
                total.count += 1
        if len(there) < limit:
            stays = shortest if shortest == math.inf else random.uniform(shortest, longest)
            there[beat] = Guest(connect(port), time.monotonic() + stays)


@role
def regulars(port: int, per_second: float, count: int) -> None:
    """`count` clients ask in turn over HTTP, and come again when the server is restarted."""
    total = Total()
    while True:
        there = [Guest(connect_soon(port), math.inf) for _ in range(count)]
        try:
            for beat in every(1 / per_second):
                there[beat % count].ask(QUESTIONS["http"])
                total.count += 1
        except ConnectionError:
            for guest in there:
                guest.end.close()
