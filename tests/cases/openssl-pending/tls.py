# SPDX-License-Identifier: MIT
"""A TLS server of messages, and clients that read them well or badly.

    tls.py server PORT CERTIFICATE KEY COUNT    sends COUNT messages on each connection, after each waits for an answer
    tls.py client PORT once                     reads up to 1 KiB each time select says that the socket is readable
    tls.py client PORT drains                   the same, and goes on while pending() says that there is more
    tls.py client PORT exact                    reads a header of 5 bytes, and then the body
    tls.py client PORT chunks PAUSE             reads 1 KiB, waits PAUSE seconds, and so on until it has the message
    tls.py client PORT leaves                   reads 100 bytes of the first message and closes, twice a second
    tls.py client PORT crowd                    40 connections, each reads one message and has nothing to do any more

A message is a header, five digits that say how long the body is, and the body. It is one TLS record."""
from __future__ import annotations

import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable

SMALL, LARGE, LARGE_EVERY = 800, 16_000, 10
INTERVAL_SECONDS = 0.2
HEADER_BYTES = 5
CHUNK_BYTES = 1024
CROWD = 40


# ---- server ----


def serve(port: str, certificate: str, key: str, count: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=converse, args=(context, connection, int(count)), daemon=True).start()


def converse(context: ssl.SSLContext, connection: socket.socket, count: int) -> None:
    try:
        with context.wrap_socket(connection, server_side=True) as secure:
            for number in range(1, count + 1):
                length = LARGE if number % LARGE_EVERY == 0 else SMALL
                secure.sendall(b"%05d" % length + bytes(length))
                if not secure.recv(1):
                    return
                time.sleep(INTERVAL_SECONDS)
            secure.recv(1)
    except OSError:
        pass  # the client has gone


# ---- clients ----


def connect(port: int) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)))


def wait_readable(connection: ssl.SSLSocket) -> None:
    select.select([connection], [], [])


def receive(connection: ssl.SSLSocket, most: int) -> bytes:
    data = connection.recv(most)
    if not data:
        sys.exit("the server has closed the connection")
    return data


def is_complete(message: bytes) -> bool:
    return len(message) >= HEADER_BYTES and len(message) == HEADER_BYTES + int(message[:HEADER_BYTES])


def read_once(connection: ssl.SSLSocket) -> None:
    message = b""
    while not is_complete(message):
        wait_readable(connection)
        message += receive(connection, CHUNK_BYTES)


def read_draining(connection: ssl.SSLSocket) -> None:
    message = b""
    while not is_complete(message):
        wait_readable(connection)
        message += receive(connection, CHUNK_BYTES)
        while connection.pending() > 0:
            message += receive(connection, CHUNK_BYTES)


def read_exactly(connection: ssl.SSLSocket) -> None:
    wait_readable(connection)
    missing = int(receive(connection, HEADER_BYTES))
    while missing > 0:
        missing -= len(receive(connection, missing))


def read_in_chunks(connection: ssl.SSLSocket, pause: float) -> None:
    wait_readable(connection)
    message = receive(connection, CHUNK_BYTES)
    while not is_complete(message):
        time.sleep(pause)
        message += receive(connection, CHUNK_BYTES)


def converse_for_ever(port: int, read: Callable[[ssl.SSLSocket], None]) -> None:
    connection = connect(port)
    for number in range(sys.maxsize):
        read(connection)
        connection.sendall(b".")
        if number == 0:
            print("ready", flush=True)


def leave(port: int) -> None:
    for number in range(sys.maxsize):
        with connect(port) as connection:
            wait_readable(connection)
            receive(connection, 100)
        if number == 0:
            print("ready", flush=True)
        time.sleep(0.5)


def crowd(port: int) -> None:
    connections = [connect(port) for _ in range(CROWD)]
    for connection in connections:
        read_draining(connection)
    print("ready", flush=True)
    select.select(connections, [], [])
    sys.exit("the server has said something")


def main() -> None:
    role, port, *rest = sys.argv[1:]
    habit = rest.pop(0) if role == "client" else ""
    if role == "server":
        serve(port, *rest)
    elif habit == "leaves":
        leave(int(port))
    elif habit == "crowd":
        crowd(int(port))
    elif habit == "chunks":
        pause = float(rest[0])
        converse_for_ever(int(port), lambda connection: read_in_chunks(connection, pause))
    else:
        converse_for_ever(int(port), {"once": read_once, "drains": read_draining, "exact": read_exactly}[habit])


main()
