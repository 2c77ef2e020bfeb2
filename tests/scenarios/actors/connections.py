# SPDX-License-Identifier: MIT
"""Who closes and accepts too late or never, and who does it well."""
from __future__ import annotations

import http.client
import http.server
import signal
import socket
import time

from common import connect, every, HOST, listen, pour, ready, role


@role
def keeps_closed(port: int, count: int) -> None:
    """Asks over `count` connections, never looks at them again; the server closes them when they idle."""
    kept = [http.client.HTTPConnection(HOST, port) for _ in range(count)]
    for connection in kept:
        connection.request("GET", "/small")
        connection.getresponse().read()
    for connection in kept:
        wait_closed_by_peer(connection.sock)
    ready()
    signal.pause()


def wait_closed_by_peer(end: socket.socket) -> None:
    close_wait = 8  # net/tcp_states.h
    while end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != close_wait:
        time.sleep(0.02)


@role
def never_closes(port: int) -> None:
    """Reads what clients send, and ignores that they have gone."""
    kept = []
    listener = listen(port)
    ready()
    while True:
        end = listener.accept()[0]
        end.recv(1000)
        end.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
        kept.append(end)


@role
def one_shot(port: int) -> None:
    """Sends a word and closes."""
    with connect(port) as end:
        end.sendall(b"hello")
    ready()


@role
def half_closer(port: int, host: str = HOST) -> None:
    """Asks, says that this was all, and waits for an answer."""
    end = socket.create_connection((host, port))
    end.sendall(b"GET / HTTP/1.0\r\n\r\n")
    end.shutdown(socket.SHUT_WR)
    ready()
    while end.recv(65_536):
        pass
    signal.pause()


@role
def answers_long(port: int, rate: float) -> None:
    """Reads a request to its end, and answers for ever."""
    listener = listen(port)
    ready()
    end = listener.accept()[0]
    while end.recv(1000):
        pass
    pour(end, rate)


@role
def leaks_http(port: int, per_second: float) -> None:
    """A new connection for each request; the old one is never closed."""
    kept = []
    ready()
    for _ in every(1 / per_second):
        kept.append(http.client.HTTPConnection(HOST, port))
        kept[-1].request("GET", "/small")
        kept[-1].getresponse().read()


@role
def leaks_redis(port: int, per_second: float) -> None:
    kept = []
    ready()
    for _ in every(1 / per_second):
        kept.append(connect(port))
        kept[-1].sendall(b"PING\r\n")
        kept[-1].recv(100)


@role
def growing_pool(port: int, size: int) -> None:
    """Opens one connection more every 300 ms, and uses all it has."""
    pool: list[http.client.HTTPConnection] = []
    ready()
    for _ in every(0.3):
        if len(pool) < size:
            pool.append(http.client.HTTPConnection(HOST, port))
        for connection in pool:
            connection.request("GET", "/small")
            connection.getresponse().read()


@role
def idle_pool(port: int, count: int, greeting: str = "GET /small HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n") -> None:
    """`count` connections that were used once and are kept for later."""
    pool = [connect(port) for _ in range(count)]
    for end in pool:
        end.sendall(greeting.encode().decode("unicode_escape").encode())
        end.recv(65_536)
    ready()
    signal.pause()


@role
def churner(port: int, per_second: float) -> None:
    ready()
    for _ in every(1 / per_second):
        connection = http.client.HTTPConnection(HOST, port)
        connection.request("GET", "/small", headers={"Connection": "close"})
        connection.getresponse().read()
        connection.close()


# ---- who does not accept ----


@role
def never_accepts(port: int, protocol: int = 0) -> None:
    listener = listen(port, 16, protocol=protocol)
    ready()
    signal.pause()
    listener.close()


@role
def visitors(port: int, count: int) -> None:
    """Connects and waits to be served."""
    kept = [connect(port) for _ in range(count)]
    for end in kept:
        end.sendall(b"GET /small HTTP/1.0\r\n\r\n")
    ready()
    signal.pause()


@role
def rush(port: int, count: int, pause: float) -> None:
    """Now and then many visitors at once."""
    ready()
    for _ in every(pause):
        ends = [connect(port) for _ in range(count)]
        for end in ends:
            end.sendall(b"GET /small HTTP/1.0\r\n\r\n")
        for end in ends:
            while end.recv(65_536):
                pass
            end.close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    delay = 0.0
    block, pause = 65_536, 0.0

    def do_GET(self) -> None:
        time.sleep(self.delay)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def do_PUT(self) -> None:
        self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while self.connection.recv(self.block):
            time.sleep(self.pause)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@role
def http_server(port: int, threads: int, delay: float = 0, block: int = 65_536, pause: float = 0) -> None:
    """The standard library's server: a GET takes `delay` seconds, a PUT reads `block` bytes at a time."""
    Handler.delay, Handler.block, Handler.pause = delay, block, pause
    kind = http.server.ThreadingHTTPServer if threads else http.server.HTTPServer
    server = kind(("", port), Handler)
    ready()
    server.serve_forever()


@role
def poller(port: int) -> None:
    """Long poll: the answer comes when there is news."""
    ready()
    while True:
        connection = http.client.HTTPConnection(HOST, port)
        connection.request("GET", "/news")
        connection.getresponse().read()
        connection.close()
