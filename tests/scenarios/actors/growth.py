# SPDX-License-Identifier: MIT
"""Memory that grows in steps, with messages, with visits, with connections, or beside all of them; and who sends to it."""
from __future__ import annotations

import asyncio
import collections
import resource
import socket
import time

from common import HOST, connect, every, in_background, listen, ready, role
from memory import breathe_socket


def touched(size: int) -> bytearray:
    return bytearray(b"x") * size


# ---- in steps, or beside a socket ----


@role
def step_hoarder(port: int, step: int) -> None:
    """Keeps all it reads, in blocks of `step` bytes; each is touched when it is made, as an arena's are."""
    end, kept = connect(port), []
    ready()
    while True:
        kept.append(touched(step))
        room = memoryview(kept[-1])
        while room:
            room = room[end.recv_into(room, min(len(room), 65_536)):]


@role
def leaks_beside(port: int, size: int, pause: float) -> None:
    """One thread reads a socket and keeps nothing, another one leaves `size` bytes behind every `pause` seconds."""
    in_background(breathe_socket, port)
    kept = []
    ready()
    for _ in every(pause):
        kept.append(touched(size))


# ---- with each message ----


@role
def leaves_per_push(port: int, size: int) -> None:
    """A client: each message that its server pushes leaves `size` bytes behind, and is forgotten itself."""
    end, kept = connect(port), []
    ready()
    while end.recv(1000):
        kept.append(touched(size))


@role
def leaves_per_request(port: int, size: int) -> None:
    """A server that answers its one client; each request leaves `size` bytes behind."""
    listener, kept = listen(port), []
    ready()
    end = listener.accept()[0]
    while end.recv(1000):
        kept.append(touched(size))
        end.sendall(b"done")


@role
def leaves_per_datagram(port: int, size: int) -> None:
    end, kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), []
    end.bind((HOST, port))
    ready()
    while end.recv(1000):
        kept.append(touched(size))


# ---- with each request or visit ----


@role
def keeps_requests(port: int, size: int) -> None:
    """A store: keeps each request of `size` bytes, and answers it."""
    listener, kept = listen(port), []
    ready()
    end = listener.accept()[0]
    while data := end.recv(size, socket.MSG_WAITALL):
        kept.append(data)
        end.sendall(b"stored")


@role
def keeps_visits(port: int, size: int, at_once: int) -> None:
    """Reads once what each client sends, `size` bytes, keeps it, and answers nothing. The youngest `at_once` connections
    stay open."""
    listener, kept, ends = listen(port), [], collections.deque[socket.socket]()
    ready()
    while True:
        ends.append(listener.accept()[0])
        kept.append(ends[-1].recv(size, socket.MSG_WAITALL))
        if len(ends) > at_once:
            ends.popleft().close()


# ---- without a socket that lives ----


@role
def refused(port: int, size: int, per_second: float) -> None:
    """Connects to a port where nobody listens, over and over; each attempt leaves `size` bytes behind."""
    kept = []
    ready()
    for _ in every(1 / per_second):
        kept.append(touched(size))
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as end:
            if end.connect_ex((HOST, port)) == 0:
                raise SystemExit(f"somebody listens on {port}")


# ---- with each connection ----


def allow_many_descriptors() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@role
def keeps_clients(port: int, size: int) -> None:
    """An asyncio server that has `size` bytes for each connection, as long as its client leaves it open."""
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = touched(size)
        while await reader.read(1000):
            session[0] += 1
            writer.write(b"hello")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, HOST, port)
        ready()
        await server.serve_forever()

    allow_many_descriptors()
    asyncio.run(main())


@role
def keeps_connections(port: int, size: int, per_second: float) -> None:
    """An asyncio client: a new connection for each request, `size` bytes for each connection, and none is ever closed."""
    async def main() -> None:
        kept = []
        ready()
        while True:
            reader, writer = await asyncio.open_connection(HOST, port)
            kept.append((writer, reader, touched(size)))
            writer.write(b"GET")
            await reader.read(1000)
            await asyncio.sleep(1 / per_second)

    allow_many_descriptors()
    asyncio.run(main())


# ---- who sends ----


@role
def pushes(port: int, size: int, per_second: float) -> None:
    """A server that sends messages of `size` bytes to its one client."""
    listener = listen(port)
    ready()
    end = listener.accept()[0]
    for _ in every(1 / per_second):
        end.sendall(bytes(size))


@role
def requests(port: int, size: int, per_second: float) -> None:
    """A client that sends `size` bytes and waits for the answer, over and over."""
    end = connect(port)
    ready()
    for _ in every(1 / per_second):
        end.sendall(bytes(size))
        if not end.recv(1000):
            return


@role
def datagrams(port: int, size: int, per_second: float) -> None:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ready()
    for _ in every(1 / per_second):
        end.sendto(bytes(size), (HOST, port))


@role
def visits(port: int, size: int, per_second: float, at_once: int, ledger: str) -> None:
    """A new connection for each message of `size` bytes; when there are more than `at_once`, the server closes the oldest.
    The ledger says after each message how many bytes have been sent by when."""
    ends: collections.deque[socket.socket] = collections.deque()
    with open(ledger, "w", buffering=1) as lines:
        ready()
        for count in every(1 / per_second):
            ends.append(connect(port))
            ends[-1].sendall(bytes(size))
            lines.write(f"{time.monotonic():.3f} {(count + 1) * size}\n")
            if len(ends) > at_once:
                with ends.popleft() as end:
                    end.recv(1000)
