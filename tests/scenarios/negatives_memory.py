# SPDX-License-Identifier: MIT
"""Memory that grows as it should, and what only looks like a leak: the healthy neighbours of positives_memory.py."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from checks import subsides_once
from harness import Program, Scene, free_port
from programs import java_server, redis, shell, source
from scenario import negative

CROWD_SECONDS = 36.0
TEETH_SECONDS = 75.0  # four chunks of 18 s
WARM_SECONDS = 60.0
RATE = 1_000_000      # bytes per second: three times what a shortened memory window needs

Start = Callable[..., Program]
RUNTIMES: dict[str, Start] = {"python": Scene.actor, "node": Scene.node}


def in_each_runtime(**more: Any) -> Callable[[Callable[[Scene, Start], None]], None]:
    """`python_NAME` and `node_NAME`, of a function that gets what starts an actor of this runtime."""
    def register(setup: Callable[[Scene, Start], None]) -> None:
        for runtime, start_actor in RUNTIMES.items():
            def play(scene: Scene, start: Start = start_actor) -> None:
                setup(scene, functools.partial(start, scene))

            play.__name__ = f"{runtime}_{setup.__name__}"
            play.__doc__ = f"{runtime}: {setup.__doc__}"
            negative(**more)(play)

    return register


# ---- stores: they keep what their clients send, and answer ----

SAVERS = {  # connections, smallest and largest value, rate, requests at once
    "store_that_answers": ("Values of 1 to 4 kB of 20 clients are kept and answered.", (20, 1000, 4000, RATE)),
    "store_of_large_values": ("Values of 256 kB, several reads each, are kept and answered.", (4, 256_000, 256_000, RATE)),
    "store_with_pipelines": ("32 values at once are kept and answered.", (4, 1000, 4000, RATE, 32)),
}


def store_with(savers: tuple[int, ...]) -> Callable[[Scene, Start], None]:
    def play(scene: Scene, start: Start) -> None:
        port = free_port()
        start("store", port)
        scene.actor("saves", port, *savers)

    return play


for _name, (_description, _savers) in SAVERS.items():
    _setup = store_with(_savers)
    _setup.__name__, _setup.__doc__ = _name, _description
    in_each_runtime()(_setup)


@negative(seconds=CROWD_SECONDS)
def memcached_fills(scene: Scene) -> None:
    """memcached with 64 MB is filled by 1.8 MB/s, all of the time."""
    port = free_port()
    scene.start("memcached", "-p", port, "-l", "127.0.0.1", "-m", "64", user="nobody").wait_listens(port)
    scene.actor("fills", port, "memcached", 1_800_000)


@negative(seconds=CROWD_SECONDS)
def redis_import(scene: Scene) -> None:
    """redis without a limit is fed new keys by a client that waits for the answers, 1.5 MB/s."""
    scene.actor("fills", redis(scene).port, "redis", 1_500_000)


_COMMANDS = """
BEGIN {
  value = sprintf("%1000s", ""); gsub(" ", "x", value);
  for (;; system("sleep 0.1")) { for (i = 0; i < 150; i++) printf "SET key:%d %s\\r\\n", number++, value; fflush() }
}
"""


@negative(seconds=CROWD_SECONDS)
def redis_import_by_pipe(scene: Scene) -> None:
    """The same by redis-cli --pipe, which sends on before it is answered."""
    shell(scene, 'awk "$1" | redis-cli -p "$2" --pipe', _COMMANDS, redis(scene).port)
    scene.wait_named("redis-cli")


# ---- batches: nothing is answered, and all of it is dropped ----


def ingester(scene: Scene, start: Start, seconds: float) -> None:
    port = free_port()
    start("ingester", port, seconds)
    scene.actor("talker", port, RATE)


@in_each_runtime(seconds=CROWD_SECONDS)
def ingester_with_short_chunks(scene: Scene, start: Start) -> None:
    """What a client sends in 6 s, half of a window, is kept, and then dropped."""
    ingester(scene, start, 6)


@in_each_runtime(seconds=TEETH_SECONDS, may=["user-space-buffering", "heap-growth"], at_end=subsides_once)
def ingester_with_long_chunks(scene: Scene, start: Start) -> None:
    """The same for 18 s, more than a window: this may be found once, until it subsides."""
    ingester(scene, start, 18)


# ---- growth that ends ----


@in_each_runtime(seconds=CROWD_SECONDS)
def cache_levels_off(scene: Scene, start: Start) -> None:
    """6 s of a stream, half of a window, are kept, and from then on the oldest goes for each that comes."""
    start("cache", source(scene, RATE), 6)


@in_each_runtime(seconds=CROWD_SECONDS)
def two_steps(scene: Scene, start: Start) -> None:
    """An allocator takes 5 MB at 4 s and at 8 s, and no more, while a stream is read and forgotten."""
    start("steps", source(scene, 100_000), 5_000_000, 2, 4)


@negative(seconds=WARM_SECONDS)
def java_warms_up(scene: Scene) -> None:
    """A Java server with 10 requests per second, each worth 50 to 100 kB of garbage."""
    command = java_server(scene)
    scene.start(*command).wait_listens(int(command[-1]))
    scene.actor("regulars", command[-1], 10, 2)


# ---- memory per connection: a client costs the server 30 kB ----


@in_each_runtime(seconds=CROWD_SECONDS)
def rooms_of_guests(scene: Scene, start: Start) -> None:
    """20 clients per second come, and go after 2 to 6 s."""
    port = free_port()
    start("rooms", port, 30_000)
    scene.actor("guests", port, "line", 20, 2, 6)


@in_each_runtime(seconds=CROWD_SECONDS)
def rooms_of_residents(scene: Scene, start: Start) -> None:
    """10 clients per second come and stay, and exchange a message every second."""
    port = free_port()
    start("rooms", port, 30_000)
    scene.actor("guests", port, "line", 10)
