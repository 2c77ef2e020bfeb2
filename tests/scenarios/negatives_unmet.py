# SPDX-License-Identifier: MIT
"""More of what is fine: the healthy neighbours of positives_unmet.py."""
from __future__ import annotations

from harness import NEAR, Scene, free_port
from programs import (PATIENCE, forever, forgetful_network, mptcp, nginx, perl_mptcp, php, postgres, redis, require,
                      rsyncd, source, udp_echo)
from scenario import negative

PAGE_SECONDS = 15  # longer than any hold time, and less than QUICK's --leftover
CROWD_SECONDS = 36.0


# ---- late now and then, or a little ----


@negative(seconds=CROWD_SECONDS)
def asyncio_loop_blocks_now_and_then(scene: Scene) -> None:
    """An asyncio server whose loop is blocked for 2 s in 10."""
    port = free_port()
    scene.actor("blocking-loop", port, 2, 8)
    scene.actor("steady-clients", port, 3, 10)


@negative(seconds=CROWD_SECONDS)
def node_loop_blocks_now_and_then(scene: Scene) -> None:
    """A node client of 3 streams whose loop is blocked for 2 s in 10."""
    scene.node("blocking-client", source(scene, 2000), 3, 2, 8)


@negative()
def python_batches_of_900_ms(scene: Scene) -> None:
    """A python reader wakes up every 0.9 s and takes all there is."""
    scene.actor("batch-reader", source(scene, 20_000), 0.9)


@negative()
def node_batches_of_900_ms(scene: Scene) -> None:
    """A node client whose loop is blocked for 0.88 s, over and over."""
    scene.node("blocking-client", source(scene, 2000), 3, 0.88, 0.02)


@negative(seconds=CROWD_SECONDS)
def python_loses_once(scene: Scene) -> None:
    """A python UDP receiver that pauses for 1 s once in its life, and loses 100 datagrams."""
    port = free_port()
    scene.actor("udp-flusher", port, 1, 6, 40_000, 1)
    scene.actor("udp-source", port, 30, 200)


@negative(seconds=CROWD_SECONDS)
def node_loses_once(scene: Scene) -> None:
    """The same in node."""
    port = free_port()
    scene.node("udp-flusher", port, 1, 6, 40_000, 1)
    scene.actor("udp-source", port, 30, 200)


# ---- connections that come, go, and are used again ----


@negative()
def python_resolver_closes(scene: Scene) -> None:
    """A python resolver with a UDP socket per query, 20 per second, each closed after its answer."""
    scene.actor("udp-resolver", udp_echo(scene), 20)


@negative()
def node_resolver_closes(scene: Scene) -> None:
    """The same in node."""
    scene.node("udp-resolver", udp_echo(scene), 20)


@negative(seconds=CROWD_SECONDS)
def python_resolver_with_a_pool(scene: Scene) -> None:
    """A python resolver with 20 UDP sockets, each used every 10 s."""
    scene.actor("udp-pool", udp_echo(scene), 2, 20)


@negative(seconds=CROWD_SECONDS)
def node_resolver_with_a_pool(scene: Scene) -> None:
    """The same in node."""
    scene.node("udp-pool", udp_echo(scene), 2, 20)


@negative(seconds=CROWD_SECONDS)
def python_crawler(scene: Scene) -> None:
    """A python crawler meets 3 (later 6) hosts per second, and closes each connection after 12 s of idleness."""
    scene.actor("come-and-go", nginx(scene).port, 3, 12, 60_000)


@negative(seconds=CROWD_SECONDS)
def node_crawler(scene: Scene) -> None:
    """The same in node."""
    scene.node("crawler", nginx(scene).port, 3, 12)


@negative(seconds=CROWD_SECONDS)
def node_server_of_browsers(scene: Scene) -> None:
    """Clients of a node server ask once, stay for 12 s, and close; more of them from then on."""
    port = free_port()
    scene.node("answers", port)
    scene.actor("come-and-go", port, 3, 12)


@negative(seconds=CROWD_SECONDS)
def python_server_of_browsers(scene: Scene) -> None:
    """The same with a python server and node clients."""
    port = free_port()
    scene.actor("answers", port)
    scene.node("crawler", port, 3, 12)


# ---- one subscription per user, each with news every 12 s ----


@negative(seconds=CROWD_SECONDS)
def python_redis_user_channels(scene: Scene) -> None:
    """A python gateway SUBSCRIBEs once for each of 100 users, who come one by one."""
    server = redis(scene)
    scene.actor("redis-notifier", server.port, 100, 12)
    scene.actor("redis-users", server.port, 100, 3)


@negative(seconds=CROWD_SECONDS)
def node_redis_user_channels(scene: Scene) -> None:
    """The same in node."""
    server = redis(scene)
    scene.actor("redis-notifier", server.port, 100, 12)
    scene.node("redis-users", server.port, 100, 3)


@negative(seconds=CROWD_SECONDS)
def python_postgres_listeners(scene: Scene) -> None:
    """A python gateway LISTENs with one postgres connection for each of 60 users."""
    server = postgres(scene)
    scene.actor("postgres-notifier", server.port, 60, 12)
    scene.actor("postgres-users", server.port, 60, 2)


# ---- peers that are hardly gone ----


@negative()
def node_two_phones_in_a_tunnel(scene: Scene) -> None:
    """2 of 20 clients of a node server are gone."""
    scene.use_cable()
    port = free_port()
    scene.node("ticker", port)
    scene.actor("audience", port, NEAR, 18)
    with scene.far_away():
        scene.actor("audience", port, NEAR, 2)
    scene.cut_cable()


@negative()
def python_two_phones_in_a_tunnel(scene: Scene) -> None:
    """2 of 20 clients of a python server are gone, beyond a router."""
    scene.use_cable()
    scene.keep_neighbour()
    port = free_port()
    scene.actor("ticker", port)
    scene.actor("audience", port, NEAR, 18)
    with scene.far_away():
        scene.actor("audience", port, NEAR, 2)
    scene.cut_cable()


@negative()
def python_over_a_lossy_path(scene: Scene) -> None:
    """A python server sends 20 kB/s to 3 clients; 5 % of the segments are lost, and sent again."""
    require(["nft"])
    scene.use_cable()
    scene.lose_packets(20)
    port = free_port()
    scene.actor("source", port, 20_000)
    with scene.far_away():
        scene.actor("audience", port, NEAR, 3)


@negative()
def nginx_over_a_lossy_path(scene: Scene) -> None:
    """curl downloads from an nginx with limit_rate; 5 % of the segments are lost, and sent again."""
    require(["nft"])
    scene.use_cable()
    scene.lose_packets(20)
    server = nginx(scene, server="limit_rate 50k;")
    with scene.far_away():
        scene.start("curl", "-s", "-o", "/dev/null", f"http://{NEAR}:{server.port}/big")


# ---- leftovers: the client waits for an answer, not for a reader ----


@negative(seconds=CROWD_SECONDS)
def php_slow_pages(scene: Scene) -> None:
    """php-fpm behind nginx with pages of 15 s: it leaves 8 bytes of each request until it is done."""
    server = php(scene, 4)
    for _ in range(3):
        forever(scene, "curl", "-sf", f"{server.url}/sleep.php?{PAGE_SECONDS}")


@negative(seconds=CROWD_SECONDS)
def php_pages_wait_for_others(scene: Scene) -> None:
    """The same, and the pages sleep in poll(), for a service that takes 15 s."""
    server, slow = php(scene, 4), free_port()
    scene.actor("http-server", slow, 1, PAGE_SECONDS)
    for _ in range(3):
        forever(scene, "curl", "-sf", f"{server.url}/ask.php?{slow}")


@negative(seconds=CROWD_SECONDS)
def python_worker_leaves_some(scene: Scene) -> None:
    """A blocking python worker reads a request but for 8 bytes, and works for 15 s."""
    port = free_port()
    scene.actor("blocking-worker", port, PAGE_SECONDS)
    scene.actor("askers", port, 1)


@negative(seconds=CROWD_SECONDS)
def python_worker_waits_for_others(scene: Scene) -> None:
    """The same, and the work is to wait for a service that takes 15 s."""
    port, slow = free_port(), free_port()
    scene.actor("http-server", slow, 1, PAGE_SECONDS)
    scene.actor("asking-worker", port, slow)
    scene.actor("askers", port, 1)


@negative(seconds=CROWD_SECONDS)
def python_worker_after_the_backlog(scene: Scene) -> None:
    """Every second request waits 2 s in the backlog, before it is read but for 8 bytes and worked on for 15 s."""
    port = free_port()
    scene.actor("blocking-worker", port, 2, PAGE_SECONDS)
    scene.actor("askers", port, 2)


@negative(seconds=CROWD_SECONDS)
def node_worker_leaves_some(scene: Scene) -> None:
    """A node server reads 64 KiB of a longer upload, and works for 15 s before it reads on."""
    port = free_port()
    scene.node("blocking-worker", port, PAGE_SECONDS)
    scene.actor("askers", port, 1, 70_000)


@negative(seconds=CROWD_SECONDS)
def node_worker_with_a_child(scene: Scene) -> None:
    """The same, and the work is done by a child process (execFileSync)."""
    port = free_port()
    scene.node("worker-with-a-child", port, PAGE_SECONDS)
    scene.actor("askers", port, 1, 70_000)


# ---- a pace that harms nobody ----


@negative()
def rsync_bwlimit(scene: Scene) -> None:
    """rsync --bwlimit from a daemon: the sender keeps the pace, nobody waits for a reader."""
    require(["rsync"])
    scene.start("rsync", "--bwlimit=200", "--whole-file", "--inplace", rsyncd(scene).url + "/big", scene.dir / "copy")


# ---- MPTCP ----


@negative()
def python_mptcp_pair(scene: Scene) -> None:
    """Both ends speak MPTCP, and the python server reads as it should."""
    port = free_port()
    scene.actor("sink", port, mptcp())
    scene.actor("talker", port, 500_000, mptcp())


@negative()
def perl_mptcp_server(scene: Scene) -> None:
    """A perl server with an MPTCP socket, and a client with a TCP one."""
    mptcp()
    port = free_port()
    perl_mptcp(scene, "sink", port)
    scene.actor("talker", port, 500_000)


# ---- closed after a reset ----


@negative()
def python_closes_what_was_reset(scene: Scene) -> None:
    """A python server that writes to forgotten connections, and closes those that are reset."""
    port = forgetful_network(scene)
    scene.actor("speaks-late", port, PATIENCE, 1)
    scene.actor("passers-by", port, 3)


@negative()
def node_closes_what_was_reset(scene: Scene) -> None:
    """The same in node, which sees it when it writes again."""
    port = forgetful_network(scene)
    scene.node("speaks-late", port, PATIENCE, 2)
    scene.actor("passers-by", port, 3)
