# SPDX-License-Identifier: MIT
"""Who reads in bursts: too late, or just rarely."""
from __future__ import annotations

import asyncio
import itertools
import socket
import time

from common import HOST, connect, every, ready, role


@role
def blocking_loop(port: int, blocked: float, free: float) -> None:
    """An asyncio server: from its first message on, something blocks its loop for `blocked` seconds, over and over,
    `free` seconds apart. What has come in the meantime it reads in one turn."""
    async def main() -> None:
        busy = asyncio.Event()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(65_536):
                busy.set()
            writer.close()

        await asyncio.start_server(take, HOST, port)
        ready()
        await busy.wait()
        while True:
            await asyncio.sleep(free)
            time.sleep(blocked)

    asyncio.run(main())


@role
def steady_clients(port: int, count: int, per_second: float) -> None:
    """`count` connections, each with `per_second` messages of 100 bytes."""
    ends = [connect(port) for _ in range(count)]
    ready()
    for _ in every(1 / per_second):
        for end in ends:
            end.sendall(b"x" * 99 + b"\n")


@role
def udp_flusher(port: int, pause: float, period: float, receive_buffer: int, times: int = 0) -> None:
    """Reads well for `period` seconds, then does not read for `pause`; `times` in all, 0: for ever."""
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    end.bind((HOST, port))
    ready()
    for number in itertools.count(1):
        until = time.monotonic() + period
        while (left := until - time.monotonic()) > 0:
            end.settimeout(left)
            try:
                end.recv(65_536)
            except TimeoutError:
                pass
        if not times or number <= times:
            time.sleep(pause)
