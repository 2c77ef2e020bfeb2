# SPDX-License-Identifier: MIT
"""A program opens HTTP/2 streams through libcurl, forgets some of them, and the connection keeps them."""
from __future__ import annotations

from pathlib import Path

from harness import Program, Scene, free_port
from programs import nginx
from scenario import Culprit, negative, positive
from toolbox import PILE_SECONDS, built, certificate, pkg_config, piles_up

PAIR = "nghttp2-stream"
FEED_BYTES_PER_SECOND = 200  # in a run it stays below the 16 KiB that libcurl takes of a paused stream


def options() -> list[str]:
    return ["--pairs", "nghttp2"]


def nginx_port(scene: Scene) -> int:
    """Serves /small at once, and /feed for hours."""
    made, key = certificate(scene)
    port = free_port()
    nginx(scene, server=f"listen {port} ssl http2; ssl_certificate {made}; ssl_certificate_key {key}; "
                        f"location /feed {{ limit_rate {FEED_BYTES_PER_SECOND}; }}")
    scene.file("www/feed", size=1_000_000)
    return port


def nghttpd_port(scene: Scene) -> int:
    """Serves /small, and answers a POST once it has the body."""
    made, key = certificate(scene)
    port = free_port()
    scene.file("small", size=10_000)
    scene.start("nghttpd", "-a", "127.0.0.1", "-d", scene.dir, port, key, made).wait_listens(port)
    return port


def client(scene: Scene, port: int, habit: str) -> Program:
    program = built("streams", lambda out: ["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-fno-omit-frame-pointer",
                                            "-o", out, "streams.c", *pkg_config("libcurl")], Path(__file__).parent)
    return scene.start(program, f"https://127.0.0.1:{port}", habit).wait_says("ready\n")


@positive("unpaired-operations", at_end=piles_up(PAIR, "libcurl"), seconds=PILE_SECONDS)
def feed_forgets(scene: Scene) -> Culprit:
    """Pauses every third stream at its first bytes (CURL_WRITEFUNC_PAUSE), and never takes it up again."""
    return client(scene, nginx_port(scene), "feed-forgets")


@positive("unpaired-operations", at_end=piles_up(PAIR, "libcurl"), seconds=PILE_SECONDS)
def upload_forgets(scene: Scene) -> Culprit:
    """Every third stream is an upload whose second half never comes (CURL_READFUNC_PAUSE)."""
    return client(scene, nghttpd_port(scene), "upload-forgets")


@negative()
def feed_cancels(scene: Scene) -> None:
    """Removes the paused streams from the multi handle: libcurl resets them."""
    client(scene, nginx_port(scene), "feed-cancels")


@negative()
def upload_completes(scene: Scene) -> None:
    """The second half comes after one second."""
    client(scene, nghttpd_port(scene), "upload-completes")
