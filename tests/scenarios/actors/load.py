# SPDX-License-Identifier: MIT
"""Bounded, healthy load on real servers, for the mix; each says its total every second, and ends if anything goes wrong.

  python3 actors/load.py ROLE ARGUMENT...
"""
from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import guests  # noqa: F401  (each fills ROLES)
import keepers  # noqa: F401
import streams  # noqa: F401
from common import HOST, ROLES, Total, connect, every, in_background, role
from stores import bulk


def end_all(problem: threading.ExceptHookArgs) -> None:
    sys.excepthook(problem.exc_type, problem.exc_value or problem.exc_type(), problem.exc_traceback)
    os._exit(1)


def read_until(end: socket.socket, last: bytes) -> bytes:
    seen = b""
    while not seen.endswith(last):
        if not (data := end.recv(65_536)):
            raise EOFError
        seen += data
    return seen


@role
def memcached(port: int, count: int, per_second: int) -> None:
    """One set and one get `per_second`, over `count` connections in turn."""
    ends, value = [connect(port) for _ in range(count)], b"x" * 1000
    total = Total()
    for beat in every(1 / per_second):
        end, key = ends[beat % count], random.randrange(10_000)
        end.sendall(b"set key:%d 0 0 %d\r\n%s\r\n" % (key, len(value), value))
        read_until(end, b"STORED\r\n")
        end.sendall(b"get key:%d\r\n" % key)
        assert value in read_until(end, b"END\r\n")
        total.count += 2


@role
def pages(port: int, path: str, count: int) -> None:
    """`count` visitors at a time; each asks over a connection of its own, waits for the answer, and comes again."""
    def visit() -> None:
        while True:
            visitor = http.client.HTTPConnection(HOST, port)
            visitor.request("GET", path)
            answer = visitor.getresponse()
            assert answer.status == 200 and answer.read() == b"done\n"
            visitor.close()
            total.count += 1

    total = Total()
    for _ in range(count - 1):
        in_background(visit)
    visit()


@role
def syslog(tcp: int, udp: int, per_second: int) -> None:
    """Half of the lines over a connection, half as datagrams."""
    stream, datagrams = connect(tcp), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    total = Total()
    for _ in every(0.1):
        for _ in range(per_second // 20):
            line = b"<14>%s here mix[1]: %s" % (time.strftime("%b %e %H:%M:%S").encode(), os.urandom(40).hex().encode())
            stream.sendall(line + b"\n")
            datagrams.sendto(line, (HOST, udp))
            total.count += 2


@role
def dns(port: int, per_second: int) -> None:
    """A socket per query, as resolvers do."""
    total = Total()
    for beat in every(1 / per_second):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.settimeout(5)
            end.connect((HOST, port))
            name = b"".join(b"%c%s" % (len(label), label) for label in (b"host%d" % beat, b"mix", b"test"))
            end.send(struct.pack("!6H", beat % 65_536, 0x100, 1, 0, 0, 0) + name + b"\0\0\1\0\1")
            number, flags, _, answers = struct.unpack("!4H", end.recv(1000)[:8])
            assert number == beat % 65_536 and flags & 0x800F == 0x8000 and answers == 1
        total.count += 1


@role
def redis_users(port: int, count: int) -> None:
    """A user more every second, each with a connection and a subscription; one event loop reads what they are sent."""
    async def user(name: bytes) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(bulk(b"SUBSCRIBE", name))
        while data := await reader.read(65_536):
            total.count += data.count(b"\r\nmessage\r\n")
        os._exit(1)

    async def come() -> None:
        users = []
        for number in range(count):
            users.append(asyncio.create_task(user(b"user:%d" % number)))
            await asyncio.sleep(1)
        await asyncio.gather(*users)

    total = Total()
    asyncio.run(come())


@role
def redis_notes(port: int, count: int, per_second: int) -> None:
    """Sends something to one of the users that have come."""
    end, total = connect(port), Total()
    for beat in every(1 / per_second):
        name = b"user:%d" % random.randrange(min(count, 1 + beat // per_second))
        end.sendall(bulk(b"PUBLISH", name, b"x" * random.randrange(20, 2000)))
        total.count += int(read_until(end, b"\r\n")[1:])


# ---- browsers ----

CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0")


def devtools(port: int, method: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request(method, path)
        return connection.getresponse().read()
    finally:
        connection.close()


def eventually(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)


def titles(port: int) -> dict[str, str]:
    return {page["id"]: page["title"] for page in json.loads(devtools(port, "GET", "/json/list"))}


@role
def browsers(url: str, seconds: float) -> None:
    """A new browser every `seconds`: it opens a page, another one 2 s later, closes the first, and so on."""
    total = Total()
    for _ in every(seconds):
        with tempfile.TemporaryDirectory(dir=".", ignore_cleanup_errors=True) as folder:
            profile = str(Path(folder).resolve())
            browser = subprocess.Popen([*CHROMIUM, f"--user-data-dir={profile}", "about:blank"],
                                       env={**os.environ, "HOME": profile, "TMPDIR": profile})
            said = Path(profile, "DevToolsActivePort")
            eventually(lambda: said.exists() and "\n" in said.read_text(), "the browser runs")
            port, last = int(said.read_text().split()[0]), ""
            for _ in range(6):
                page = json.loads(devtools(port, "PUT", f"/json/new?{url}"))["id"]
                time.sleep(2)
                eventually(lambda: titles(port)[page] == "loaded", "the page is loaded")
                total.count += 1
                if last:
                    devtools(port, "GET", f"/json/close/{last}")
                last = page
            browser.terminate()
            browser.wait(30)


if __name__ == "__main__":
    threading.excepthook = end_all
    ROLES[sys.argv[1]](*(int(word) if word.isdecimal() else word for word in sys.argv[2:]))
