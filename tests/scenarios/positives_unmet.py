# SPDX-License-Identifier: MIT
"""More of what must be found: lateness and loss in bursts, leaks of other kinds, peers and listeners that are gone."""
from __future__ import annotations

import sys

from checks import clients_are_a_symptom, never_critical, one_each
from harness import FAR, HERE, NEAR, Program, Scene, free_port
from programs import (PATIENCE, compiled, forever, forgetful_network, mptcp, nginx, perl_mptcp, php, redis, source,
                      udp_echo)
from scenario import Culprit, positive


# ---- late in bursts ----


@positive("slow-reader")
def asyncio_loop_blocks_again_and_again(scene: Scene) -> Culprit:
    """An asyncio server whose loop is blocked for 4 s, drains its 3 connections in one turn, and is blocked again."""
    port = free_port()
    server = scene.actor("blocking-loop", port, 4, 0.5)
    scene.actor("steady-clients", port, 3, 10)
    return server


@positive("slow-reader")
def node_client_blocks_again_and_again(scene: Scene) -> Culprit:
    """A node client of 3 streams whose loop is blocked for 4 s, over and over."""
    return scene.node("blocking-client", source(scene, 2000), 3, 4, 0.5)


@positive("slow-reader")
def node_server_blocks_for_less_than_the_hold(scene: Scene) -> Culprit:
    """A node server whose loop is blocked for 2.8 s, over and over: its queues are empty once in each hold time."""
    port = free_port()
    server = scene.node("blocking-server", port, 2.8, 0.1)
    scene.actor("steady-clients", port, 3, 10)
    return server


# ---- loss in bursts: in 1 s of 7 come 200 datagrams for a buffer that holds about 100 ----


@positive("udp-receive-overflow")
def python_flushes_and_loses(scene: Scene) -> Culprit:
    """A python statsd receiver flushes for one second every 7 s and loses 7 % of all, for ever."""
    port = free_port()
    service = scene.actor("udp-flusher", port, 1, 6, 40_000)
    scene.actor("udp-source", port, 30, 200)
    return service


@positive("udp-receive-overflow")
def node_flushes_and_loses(scene: Scene) -> Culprit:
    """The same in node."""
    port = free_port()
    service = scene.node("udp-flusher", port, 1, 6, 40_000)
    scene.actor("udp-source", port, 30, 200)
    return service


# ---- connection-leak ----


@positive("connection-leak")
def python_resolver_leaks(scene: Scene) -> Culprit:
    """A python resolver opens a UDP socket for each of 3 queries per second, and closes none."""
    return scene.actor("leaks-udp", udp_echo(scene), 3)


@positive("connection-leak")
def node_resolver_leaks(scene: Scene) -> Culprit:
    """A node resolver opens a UDP socket, which it does not connect, for each of 3 queries per second."""
    return scene.node("leaks-udp", udp_echo(scene), 3)


@positive("connection-leak")
def python_connection_per_host(scene: Scene) -> Culprit:
    """A python agent asks one host after the other, and keeps one idle connection to each."""
    return scene.actor("one-per-host", nginx(scene).port, 3)


@positive("connection-leak")
def node_connection_per_host(scene: Scene) -> Culprit:
    """The same in node."""
    return scene.node("one-per-host", nginx(scene).port, 3)


@positive("connection-leak")
def python_server_of_vanished_clients(scene: Scene) -> Culprit:
    """A python server without keep-alive probes keeps the connections of clients that vanished without a FIN."""
    port = free_port()
    server = scene.actor("answers", port)
    scene.actor("vanishes", port, 4)
    return server


@positive("connection-leak")
def node_server_of_vanished_clients(scene: Scene) -> Culprit:
    """The same in node."""
    port = free_port()
    server = scene.node("answers", port)
    scene.actor("vanishes", port, 4)
    return server


# ---- dead-peer ----


def vanish(scene: Scene, server: Program, port: int) -> Program:
    """20 clients listen to the server, and then their machine is cut off."""
    with scene.far_away():
        scene.actor("audience", port, NEAR, 20)
    scene.cut_cable()
    return server


@positive("dead-peer")
def node_server_of_dead_clients(scene: Scene) -> Culprit:
    """A node server goes on writing to 20 clients that are gone."""
    scene.use_cable()
    port = free_port()
    return vanish(scene, scene.node("ticker", port), port)


@positive("dead-peer")
def python_server_of_dead_clients(scene: Scene) -> Culprit:
    """A python server goes on writing to 20 clients that are gone, beyond a router: no neighbour is missed."""
    scene.use_cable()
    scene.keep_neighbour()
    port = free_port()
    return vanish(scene, scene.actor("ticker", port), port)


def far_redis(scene: Scene) -> int:
    with scene.far_away():
        return redis(scene, "--bind", FAR, "--protected-mode", "no").port


@positive("dead-peer")
def python_client_of_a_dead_database(scene: Scene) -> Culprit:
    """A python client asks its database, which is gone: one connection is enough."""
    scene.use_cable()
    client = scene.actor("asks-database", far_redis(scene), FAR)
    scene.cut_cable()
    return client


@positive("dead-peer")
def node_client_of_a_dead_database(scene: Scene) -> Culprit:
    """The same in node, beyond a router."""
    scene.use_cable()
    scene.keep_neighbour()
    client = scene.node("asks-database", far_redis(scene), FAR)
    scene.cut_cable()
    return client


@positive("remote-slow-reader")
def node_to_a_shut_window(scene: Scene) -> Culprit:
    """A node server's client has shut its window and answers all probes: slow, and not dead."""
    scene.use_own_network()
    port = free_port()
    server = scene.node("ticker", port)
    scene.remote_peer("reader", port, 0, 1000)
    return server


@positive("remote-slow-reader")
def python_to_a_shut_window(scene: Scene) -> Culprit:
    """The same in python, with 20 kB per second."""
    scene.use_own_network()
    port = free_port()
    server = scene.actor("source", port, 20_000)
    scene.remote_peer("reader", port, 0, 8000)
    return server


# ---- leftovers ----


@positive("stalled-reader")
def python_edge_triggered_reader(scene: Scene) -> Culprit:
    """An edge-triggered python server reads once per event, leaves 8 bytes, and waits for the next event."""
    port = free_port()
    server = scene.actor("edge-reader", port)
    scene.actor("askers", port, 1)
    return server


@positive("stalled-reader")
def c_edge_triggered_reader(scene: Scene) -> Culprit:
    """The same in C."""
    port = free_port()
    server = scene.start(compiled(scene, "edge_reader"), port).wait_says("ready\n")
    scene.actor("askers", port, 1)
    return server


@positive("accept-backlog")
def python_worker_overrun(scene: Scene) -> Culprit:
    """One blocking worker with pages of 8 s and 4 clients: the backlog is to blame, not what it leaves of a request."""
    port = free_port()
    server = scene.actor("blocking-worker", port, 8)
    for _ in range(4):
        scene.actor("askers", port, 1)
    return server


@positive("accept-backlog")
def php_worker_overrun(scene: Scene) -> Culprit:
    """php-fpm with one child, pages of 8 s and 4 clients."""
    server = php(scene, 1)
    for _ in range(4):
        forever(scene, "curl", "-sf", f"{server.url}/sleep.php?8")
    return scene.pids_named(server.program.comm)


# ---- readers that pace a bulk source ----


@positive("slow-reader", at_end=never_critical)
def node_player(scene: Scene) -> Culprit:
    """A node player takes 64 KiB every 250 ms from a source without end: late by its buffers, and no worse."""
    return scene.node("player", source(scene, 0), 0.25)


@positive("slow-reader", at_end=never_critical)
def python_player(scene: Scene) -> Culprit:
    """The same in python."""
    return scene.actor("reader", source(scene, 0), 65_536, 0.25)


# ---- MPTCP ----


@positive("accept-backlog")
def python_mptcp_listener(scene: Scene) -> Culprit:
    """A python program listens with an MPTCP socket and never accepts; its visitors speak plain TCP."""
    port = free_port()
    server = scene.actor("never-accepts", port, mptcp())
    scene.actor("visitors", port, 6)
    return server


@positive("accept-backlog")
def perl_mptcp_listener(scene: Scene) -> Culprit:
    """The same in perl."""
    mptcp()
    port = free_port()
    server = perl_mptcp(scene, "never-accepts", port)
    scene.actor("visitors", port, 6)
    return server


@positive("stalled-reader")
def python_mptcp_reader_stops(scene: Scene) -> Culprit:
    """Both ends speak MPTCP, and the python server stops reading."""
    port = free_port()
    server = scene.actor("stops-reading", port, mptcp())
    scene.actor("talker", port, 20_000, mptcp())
    return server


@positive("stalled-reader")
def perl_mptcp_reader_stops(scene: Scene) -> Culprit:
    """The same in perl."""
    port, protocol = free_port(), mptcp()
    server = perl_mptcp(scene, "stops-reading", port)
    scene.actor("talker", port, 20_000, protocol)
    return server


# ---- ends ----


# A socket that was not bound to a port of the program's choice loses its port when it is reset.


@positive("stalled-reader", beside=["close-wait"], at_end=one_each, seconds=26)
def python_reader_is_reset(scene: Scene) -> Culprit:
    """A python server on a port of the kernel's choice leaves data unread on 3 connections, until they are reset: one
    finding, with its port."""
    server = scene.actor("reads-once")
    scene.actor("aborts", server.number("port"), 3, 9)
    return server


@positive("stalled-reader", beside=["close-wait"], at_end=one_each, seconds=26)
def node_reader_is_reset(scene: Scene) -> Culprit:
    """A node client leaves data unread on 3 connections, until its server resets them."""
    port = free_port()
    server = scene.start(sys.executable, "-B", HERE / "actors", "aborting-server", port, 3, 9).wait_says("listens")
    client = scene.node("reads-once", port, 3)
    server.wait_says("ready")
    return client


def orphan(scene: Scene, daemon: Program, port: int) -> Culprit:
    """Its pool of clients keep what it has closed, and others wait for a descriptor that only `sleep` has."""
    scene.actor("pool-of-the-past", port, 5)
    daemon.wait_done()
    scene.actor("visitors", port, 4)
    return scene.wait_named("sleep")


@positive("accept-backlog", at_end=clients_are_a_symptom)
def python_listener_inherited(scene: Scene) -> Culprit:
    """A python daemon ends; a `sleep` that it started has inherited its listening descriptor."""
    port = free_port()
    return orphan(scene, scene.actor("leaves-its-listener", port, 5), port)


@positive("accept-backlog", at_end=clients_are_a_symptom)
def node_listener_inherited(scene: Scene) -> Culprit:
    """The same in node."""
    port = free_port()
    return orphan(scene, scene.node("leaves-its-listener", port, 5), port)


@positive("close-wait")
def python_keeps_what_was_reset(scene: Scene) -> Culprit:
    """A python server keeps closed connections; it writes to each after 6 s and is told that nobody is there."""
    port = forgetful_network(scene)
    server = scene.actor("speaks-late", port, PATIENCE, 0)
    scene.actor("passers-by", port, 3)
    return server


@positive("close-wait")
def node_keeps_what_was_reset(scene: Scene) -> Culprit:
    """The same in node, half-open on purpose."""
    port = forgetful_network(scene)
    server = scene.node("speaks-late", port, PATIENCE, 1)
    scene.actor("passers-by", port, 3)
    return server
