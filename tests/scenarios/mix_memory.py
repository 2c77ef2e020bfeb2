# SPDX-License-Identifier: MIT
"""Programs whose memory grows as it should, all at the same time, under default thresholds: stores that fill, servers that
warm up, a batch that is dropped, a compiler. Nothing may be found, but a first batch that subsides."""
from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import mix
from harness import Scene, free_port
from mix_base import Load, Part, actor, said, total
from programs import go_server, java_server, postgres, shell

MEMCACHED_SECONDS, COPY_SECONDS, BATCH_SECONDS = 240, 180, 45
VALUE_BYTES = 2500  # on average
REQUESTS = 200      # per second

# A stop is orderly and the next start is immediate, as when a unit is restarted.
_AGAIN = 'seconds=$1; shift; while :; do timeout "$seconds" "$@"; done'


def restarted(scene: Scene, seconds: float, port: int, *command: str | int | Path) -> None:
    shell(scene, _AGAIN, f"{seconds:g}", *(str(word) for word in command)).wait_listens(port)


# ---- stores ----


def memcached(scene: Scene) -> Iterator[Load]:
    """Full after 45 s, and from then on it evicts."""
    port, rate = free_port(), 1_500_000
    restarted(scene, MEMCACHED_SECONDS, port, "memcached", "-p", port, "-l", "127.0.0.1", "-m", "64", "-u", "nobody")
    yield Load("values stored by memcached", rate * 60 / VALUE_BYTES, total(actor(scene, "fills", port, "memcached", rate)))


def redis(scene: Scene, seconds: float) -> Iterator[Load]:
    port, rate = free_port(), 2_000_000
    restarted(scene, seconds, port, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", scene.dir,
              "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    yield Load("values stored by redis", rate * 60 / VALUE_BYTES, total(actor(scene, "fills", port, "redis", rate)))


def postgres_copy(scene: Scene) -> Iterator[Load]:
    client = actor(scene, "postgres-copies", postgres(scene).port, 200_000_000, 10_000_000, COPY_SECONDS)
    yield Load("MB copied into postgres", 200 * 60 / COPY_SECONDS, total(client))


def ingester(scene: Scene) -> Iterator[Load]:
    """It ends, and the mix with it, if its memory does not fall."""
    port, rate = free_port(), 600_000
    program = actor(scene, "ingester", port, BATCH_SECONDS)
    actor(scene, "talker", port, rate)
    yield Load("kB taken by an ingester", rate * 60 / 1000, total(program), subsides=program.pid)


# ---- the web ----


def java(scene: Scene, seconds: float) -> Iterator[Load]:
    command = java_server(scene)
    restarted(scene, seconds, int(command[-1]), *command)
    yield Load("pages of Java", REQUESTS * 60, total(actor(scene, "regulars", command[-1], REQUESTS, 20)))


def node(scene: Scene) -> Iterator[Load]:
    port = free_port()
    scene.node("pages", port)
    yield Load("pages of node", REQUESTS * 60, total(actor(scene, "regulars", port, REQUESTS, 20)))


def go(scene: Scene) -> Iterator[Load]:
    """Up to 100 clients who stay for 15 s on average."""
    clients = actor(scene, "guests", go_server(scene).port, "http", 7, 1, 30, 100)
    yield Load("pages of Go, to clients that come and go", 90 * 60, total(clients))


# ---- a compiler ----

_MAKE = """\
objects := $(patsubst %.cpp,%.o,$(wildcard source*.cpp))
all: $(objects)
%.o: %.cpp
\tg++ -O1 -c -o $@ $<
"""
_SOURCE = """\
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <vector>

std::map<std::string, std::vector<int>> table{number}(const std::string& text) {{
  std::map<std::string, std::vector<int>> found;
  const std::regex word("[a-z]+{number}");
  for (std::sregex_iterator next(text.begin(), text.end(), word), last; next != last; ++next)
    found[next->str()].push_back(static_cast<int>(next->position()));
  for (auto& [name, places] : found) std::sort(places.begin(), places.end(), std::greater<>());
  return found;
}}
"""
def compiler(scene: Scene) -> Iterator[Load]:
    scene.file("Makefile", _MAKE)
    for number in range(200):
        scene.file(f"source{number}.cpp", _SOURCE.format(number=number))
    make = shell(scene, "while nice -n 10 make -j2; do rm -f source*.o; done; exit 1")
    yield Load("files compiled beside all that", 6, lambda: len(said(make, r"^g\+\+ ")))


def parts(minutes: float) -> Iterable[Part]:
    half = minutes * 30 + 5  # with what it takes to begin
    return (go, memcached, functools.partial(redis, seconds=half), postgres_copy, ingester,
            functools.partial(java, seconds=half), node, functools.partial(mix.prometheus, seconds=1), compiler)
