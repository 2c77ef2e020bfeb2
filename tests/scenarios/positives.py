# SPDX-License-Identifier: MIT
"""Something lags or leaks: exactly this kind must be found, on exactly this process."""
from __future__ import annotations

import sys

from checks import never_critical
from harness import HERE, Program, Scene, free_port
from programs import haproxy, iperf3, nginx, postgres, psql_command, redis, require, shell, source
from scenario import Culprit, positive

PYTHON_SLOW_FILTER = f"{sys.executable} -B {HERE / 'actors'} slow-filter"


# ---- stalled-reader ----


@positive("stalled-reader")
def curl_into_a_stopped_pipe(scene: Scene) -> Culprit:
    """curl downloads from nginx into a pipe that nobody reads."""
    require(["curl"])
    shell(scene, 'curl -sN "$1" | sleep infinity', nginx(scene).url + "/big")
    return scene.wait_named("curl")


@positive("stalled-reader")
def redis_subscriber_never_reads(scene: Scene) -> Culprit:
    """A redis client subscribes and never reads its messages (100 kB/s are published)."""
    server = redis(scene)
    subscriber = scene.actor("redis-subscriber", server.port)
    scene.actor("redis-publisher", server.port, 100_000)
    return subscriber


@positive("stalled-reader", also=["user-space-buffering", "heap-growth"])
def redis_monitor_never_reads(scene: Scene) -> Culprit:
    """A forgotten MONITOR on a busy redis, whose output buffer for it grows: the server is the victim."""
    server = redis(scene)
    monitor = scene.actor("redis-monitor", server.port)
    scene.actor("redis-publisher", server.port, 1_000_000)
    return monitor


@positive("stalled-reader")
def postgres_client_stops_reading(scene: Scene) -> Culprit:
    """A client asks postgres for 1 GB and stops after the first 10 kB."""
    return scene.actor("postgres-stops-reading", postgres(scene).port)


@positive("stalled-reader")
def node_paused_stream(scene: Scene) -> Culprit:
    """A node program pauses an HTTP response and never resumes it."""
    return scene.node("paused", nginx(scene).port)


@positive("stalled-reader", also=["stalled-reader"])
def haproxy_backend_stops_reading(scene: Scene) -> Culprit:
    """A client sends through haproxy to a server that stops reading; haproxy, between them, must stop too."""
    port = free_port()
    backend = scene.actor("stops-reading", port)
    scene.actor("talker", haproxy(scene, port, mode="tcp").port, 500_000)
    return backend


@positive("stalled-reader")
def node_blocked_event_loop(scene: Scene) -> Culprit:
    """A node server blocks its event loop: a client's data is not read, and new clients are not accepted."""
    port = free_port()
    server = scene.node("blocked-server", port)
    scene.node("blocks-server", port)
    return server


@positive("stalled-reader")
def iperf3_server_stopped(scene: Scene) -> Culprit:
    """An iperf3 server reads 8 Mbit/s well, until it is stopped (SIGSTOP): stalled, and not slow first."""
    server = iperf3(scene)
    client = scene.start("iperf3", "-c", "127.0.0.1", "-p", server.port, "-b", "8M", "-t", "300", "--forceflush")
    client.wait_says("4.00-5.00")
    scene.freeze({server.program.pid})
    return server.program


@positive("stalled-reader")
def udp_service_never_reads(scene: Scene) -> Culprit:
    """A bound UDP socket gets 31 datagrams; nobody reads them."""
    port = free_port()
    service = scene.actor("udp-never-reads", port)
    scene.actor("udp-source", port, 100, 50, 31)
    return service


# ---- slow-reader ----


@positive("slow-reader", at_end=never_critical)
def curl_limit_rate(scene: Scene) -> Culprit:
    """curl --limit-rate 3M from nginx: throttled on purpose, and seconds behind all the same. It takes 10 MB at once
    (100 reads of 100 kB) and pauses for 3.4 s; at rates below 2 MB/s the pauses are a stall here."""
    return scene.start("curl", "-s", "-o", "/dev/null", "--limit-rate", "3M", nginx(scene).url + "/big")


@positive("slow-reader", at_end=never_critical)
def wget_limit_rate(scene: Scene) -> Culprit:
    """wget --limit-rate=50k from nginx."""
    return scene.start("wget", "-q", "-O", "/dev/null", "--limit-rate=50k", nginx(scene).url + "/big")


@positive("slow-reader")
def socat_slow_consumer(scene: Scene) -> Culprit:
    """socat copies a 400 kB/s stream into a program that takes 60 kB/s."""
    port = source(scene, 400_000)
    scene.start("socat", "-u", f"TCP:127.0.0.1:{port}", f"SYSTEM:{PYTHON_SLOW_FILTER} 60000")
    return scene.wait_named("socat")


@positive("slow-reader")
def small_bites(scene: Scene) -> Culprit:
    """12 bytes per read from a small, always full buffer: too slow for the sender, though never 1 s behind."""
    port = source(scene, 0, send_buffer=65_536)
    return scene.actor("reader", port, 12, 0.001, 65_536, 40)


@positive("slow-reader")
def python_upload_handler(scene: Scene) -> Culprit:
    """curl uploads to an http.server whose handler takes 4 kB at a time, 20 times a second."""
    port = free_port()
    server = scene.actor("http-server", port, 1, 0, 4096, 0.05)
    scene.start("curl", "-s", "-T", scene.file("upload", size=1_000_000_000), f"http://127.0.0.1:{port}/")
    return server


# ---- user-space-buffering ----


@positive("user-space-buffering")
def node_keeps_all_chunks(scene: Scene) -> Culprit:
    """node collects the chunks of a 2 MB/s stream for an 'end' that never comes."""
    return scene.node("hoarder", source(scene, 2_000_000))


@positive("user-space-buffering")
def python_keeps_all_it_receives(scene: Scene) -> Culprit:
    """python appends what recv() returns, 2 MB/s."""
    return scene.actor("hoarder", source(scene, 2_000_000))


@positive("user-space-buffering")
def psql_buffers_the_result(scene: Scene) -> Culprit:
    """psql without FETCH_COUNT: libpq keeps the whole result, 1 MB/s, before the first row is shown."""
    query = "SELECT repeat('x', 10000), pg_sleep(0.01) FROM (SELECT generate_series(1, 1000000)) AS many"
    return scene.start(*psql_command(postgres(scene)), "-c", query)


# ---- heap-growth ----


@positive("heap-growth")
def python_thread_leaks(scene: Scene) -> Culprit:
    """A python thread leaks 1 MB/s; another thread reads 300 kB/s from a socket and keeps nothing."""
    return scene.actor("thread-leaks", source(scene, 300_000), 1_000_000)


@positive("heap-growth")
def node_timer_leaks(scene: Scene) -> Culprit:
    """A node server with 10 idle clients leaks 3 MB/s in a timer; its heap grows in steps of some seconds."""
    port = free_port()
    server = scene.node("timer-leaks", port, 3_000_000)
    scene.actor("idle-pool", port, 10)
    return server


# ---- close-wait ----


@positive("close-wait")
def python_pool_outlives_nginx_keepalive(scene: Scene) -> Culprit:
    """20 pooled connections are closed by nginx after its keepalive_timeout; the client keeps its ends."""
    return scene.actor("keeps-closed", nginx(scene, keepalive="1s").port, 20)


@positive("close-wait")
def node_half_open_server(scene: Scene) -> Culprit:
    """A node server with allowHalfOpen forgets to end sockets that its clients have closed."""
    port = free_port()
    server = scene.node("half-open", port)
    for _ in range(3):
        scene.actor("one-shot", port).wait_done()
    return server


@positive("close-wait")
def python_server_never_closes(scene: Scene) -> Culprit:
    """A python server answers curl and never closes; curl does."""
    require(["curl"])
    port = free_port()
    server = scene.actor("never-closes", port)
    shell(scene, 'for i in 1 2 3 4 5; do curl -s "$1" || exit 1; done', f"http://127.0.0.1:{port}/").wait_done()
    return server


# ---- fin-wait-2 ----


@positive("fin-wait-2", also=["close-wait"])
def client_of_a_server_that_never_closes(scene: Scene) -> Culprit:
    """A client shuts down sending and waits; the server, which has read the request, neither answers nor closes."""
    port = free_port()
    scene.actor("stops-reading", port)
    return scene.actor("half-closer", port)


@positive("fin-wait-2")
def client_of_a_mute_remote(scene: Scene) -> Culprit:
    """The same, and the server is on another machine."""
    scene.use_own_network()
    scene.remote_peer("mute", 8080)
    return scene.actor("half-closer", 8080, "10.77.0.2")


# ---- connection-leak ----


@positive("connection-leak")
def python_connection_per_request(scene: Scene) -> Culprit:
    """A python client makes a new connection to nginx for each of 3 requests per second, and closes none."""
    return scene.actor("leaks-http", nginx(scene).port, 3)


@positive("connection-leak")
def node_agent_per_request(scene: Scene) -> Culprit:
    """A node client makes a new keep-alive agent for each of 3 requests per second."""
    return scene.node("agent-leaks", nginx(scene).port, 3)


@positive("connection-leak")
def redis_connection_per_command(scene: Scene) -> Culprit:
    """A python client opens a redis connection for each of 3 commands per second, and closes none."""
    return scene.actor("leaks-redis", redis(scene).port, 3)


# ---- remote-slow-reader ----


@positive("remote-slow-reader")
def nginx_to_a_stopped_remote(scene: Scene) -> Culprit:
    """nginx sends a large file to another machine, which takes 64 kB and then closes its window."""
    scene.use_own_network()
    server = nginx(scene)
    scene.remote_peer("reader", server.port, 0, 64_000, "/big")
    return scene.pids_named("nginx")


@positive("remote-slow-reader")
def python_to_a_slow_remote(scene: Scene) -> Culprit:
    """A python server sends 400 kB/s to another machine, which takes 20 kB/s."""
    scene.use_own_network()
    port = free_port()
    server = scene.actor("source", port, 400_000)
    scene.remote_peer("reader", port, 20_000)
    return server


# ---- udp-receive-overflow ----


@positive("udp-receive-overflow")
def python_udp_too_slow(scene: Scene) -> Culprit:
    """A python service with a small buffer reads 100 datagrams per second of 500."""
    port = free_port()
    service = scene.actor("udp-reader", port, 0.01, 8192)
    scene.actor("udp-source", port, 500, 500)
    return service


@positive("udp-receive-overflow")
def socat_udp_slow_consumer(scene: Scene) -> Culprit:
    """socat receives 250 kB/s of datagrams for a program that takes 60 kB/s."""
    port = free_port()
    scene.start("socat", "-u", f"UDP-RECV:{port},rcvbuf=16384", f"SYSTEM:{PYTHON_SLOW_FILTER} 60000")
    pids = scene.wait_named("socat")
    scene.actor("udp-source", port, 1000, 250)
    return pids


@positive("stalled-reader")
def iperf3_udp_server_stopped(scene: Scene) -> Culprit:
    """An iperf3 UDP server is stopped in the middle of a test: nobody reads, and datagrams are dropped."""
    server = iperf3(scene)
    client = scene.start("iperf3", "-c", "127.0.0.1", "-p", server.port, "-u", "-b", "2M", "-t", "300", "--forceflush")
    client.wait_says("0.00-1.00")
    scene.freeze({server.program.pid})
    return server.program


# ---- accept-backlog ----


@positive("accept-backlog")
def nginx_stopped(scene: Scene) -> Culprit:
    """A stopped nginx (SIGSTOP) with 5 new clients in front of its door."""
    server = nginx(scene)
    scene.freeze(scene.pids())
    scene.actor("visitors", server.port, 5)
    return scene.pids_named("nginx")


@positive("accept-backlog")
def python_never_accepts(scene: Scene) -> Culprit:
    """A python program listens and never accepts."""
    port = free_port()
    server = scene.actor("never-accepts", port)
    scene.actor("visitors", port, 3)
    return server


@positive("accept-backlog")
def http_server_stuck_in_a_handler(scene: Scene) -> Culprit:
    """The single-threaded http.server is stuck in its first request; five more clients wait."""
    port = free_port()
    server = scene.actor("http-server", port, 0, 600)
    scene.actor("visitors", port, 6)
    return server
