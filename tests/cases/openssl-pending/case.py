# SPDX-License-Identifier: MIT
"""A program reads less than a TLS record and then polls the socket, which is empty."""
from __future__ import annotations

import sys
from pathlib import Path

from harness import Program, Scene, free_port
from observer import Observer
from programs import Server, nginx, require, shell
from scenario import Culprit, LateCheck, Outcome, negative, positive
from toolbox import built, certificate, expect, unpaired

PAIR = "openssl-read"
HERE = Path(__file__).parent
FOR_EVER = 1_000_000
STALL_SECONDS = 5  # QUICK's --stall


def options() -> list[str]:
    return ["--pairs", "openssl"]


def python(scene: Scene, habit: str, *rest: float, messages: int = FOR_EVER) -> Program:
    """A client of a server that sends that many messages on each connection."""
    port = free_port()
    actor = [sys.executable, "-B", HERE / "tls.py"]
    scene.start(*actor, "server", port, *certificate(scene), messages).wait_says("ready\n")
    return scene.start(*actor, "client", port, habit, *(str(one) for one in rest)).wait_says("ready\n")


def https(scene: Scene) -> Server:
    """nginx, which speaks TLS on this port. Its url is another without TLS, where /far/ is fetched from this one. A response
    with /tiny fits into 1 KiB, one with /small does not."""
    made, key = certificate(scene)
    port = free_port()
    front = nginx(scene, server=f"listen {port} ssl; ssl_certificate {made}; ssl_certificate_key {key}; "
                                f"location /far/ {{ proxy_pass https://127.0.0.1:{port}/; proxy_max_temp_file_size 0; "
                                "proxy_buffer_size 5k; proxy_buffers 9 5k; }")
    scene.file("www/tiny", size=300)
    return Server(front.program, port, front.url)


def c(scene: Scene, habit: str) -> Program:
    program = built("tls", lambda out: ["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-fno-omit-frame-pointer", "-o",
                                        out, "tls.c", "-lssl", "-lcrypto"], HERE)
    return scene.start(program, https(scene).port, habit).wait_says("ready\n")


def stands_still(caller: str | None = None) -> LateCheck:
    """One read has left bytes behind, for longer than --stall, and it was `caller` who read."""
    def check(outcome: Outcome, observer: Observer) -> str:
        [pid] = outcome.culprits
        line = unpaired(outcome, observer, PAIR, pid).lines[-1]
        outstanding, oldest = line["laggard.evidence.outstanding"], line["laggard.evidence.oldest_seconds"]
        expect(outstanding == 1, f"{outstanding} outstanding, and there is one connection")
        expect(oldest >= STALL_SECONDS, f"the oldest is {oldest:.1f} s old")
        stack = line.get("laggard.evidence.stack", "")
        expect(caller is None or caller in stack, f"the stack does not name who reads: {stack}")
        return f"for {oldest:.0f} s, {stack}"

    return check


@positive("unpaired-operations", at_end=stands_still("read_chunk"))
def c_reads_once(scene: Scene) -> Culprit:
    """A C program reads 1 KiB per poll of a response of 10 kB from nginx; SSL_pending would say that there is more."""
    return c(scene, "once")


@positive("unpaired-operations", at_end=stands_still())
def python_reads_once(scene: Scene) -> Culprit:
    """A Python program receives 1 KiB per select of a message of 16 kB; pending() would say that there is more."""
    return python(scene, "once")


# ---- fixed ----


@negative()
def c_drains(scene: Scene) -> None:
    """The same C program goes on while SSL_pending says that there is more."""
    c(scene, "drains")


@negative()
def python_drains(scene: Scene) -> None:
    """The same Python program goes on while pending() says that there is more."""
    python(scene, "drains")


# ---- similar, and well ----


@negative()
def reads_exactly(scene: Scene) -> None:
    """Reads a header and then the body, 20 times, so that nothing is pending, and then waits for a message that never comes."""
    python(scene, "exact", messages=20)


@negative()
def reads_in_chunks(scene: Scene) -> None:
    """Takes a message of 16 kB as 16 chunks, one every 100 ms."""
    python(scene, "chunks", 0.1)


@negative()
def pauses(scene: Scene) -> None:
    """The same, one every 3 s: bytes are pending nearly always, and no read is longer ago than --stall."""
    python(scene, "chunks", 3)


@negative()
def leaves_early(scene: Scene) -> None:
    """Reads 100 bytes and closes the connection, twice a second: what was pending is gone with it."""
    python(scene, "leaves")


@negative()
def idle_connections(scene: Scene) -> None:
    """40 connections that have read one message, and nothing comes after it."""
    python(scene, "crowd", messages=1)


@positive("stalled-reader", also=["stalled-reader"])
def proxy_waits_for_client(scene: Scene) -> Culprit:
    """nginx fetches by TLS for a client that does not read. It must leave bytes pending, and is not to blame: it does not poll
    for more, and more is in the socket. Its client is."""
    require(["curl"])
    shell(scene, 'curl -sN "$1" | sleep infinity', https(scene).url + "/far/big")
    return scene.wait_named("curl")
