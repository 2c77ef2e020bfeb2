# SPDX-License-Identifier: MIT
"""Everything is fine, however it may look: nothing may be found on any process."""
from __future__ import annotations

from harness import Scene, free_port
from programs import forever, haproxy, iperf3, nginx, postgres, postgres_tool, psql_command, redis, require, shell, source
from scenario import negative

HEAVY_SECONDS = 18.0  # longer than a memory window and an attribution


# ---- full speed ----


@negative(heavy=True, seconds=HEAVY_SECONDS)
def iperf3_full_speed(scene: Scene) -> None:
    """iperf3 over TCP as fast as it goes."""
    scene.start("iperf3", "-c", "127.0.0.1", "-p", iperf3(scene).port, "-t", "300", "-P", "2")


@negative(heavy=True, seconds=HEAVY_SECONDS)
def curl_full_speed(scene: Scene) -> None:
    """curl downloads 4 GB files from nginx, one after the other."""
    forever(scene, "curl", "-sf", nginx(scene).url + "/big")


@negative(heavy=True, seconds=HEAVY_SECONDS)
def redis_benchmark(scene: Scene) -> None:
    """redis-benchmark with 50 clients and pipelines."""
    scene.start("redis-benchmark", "-p", redis(scene).port, "-t", "set,get,lrange_100", "-P", "4", "-q", "-l")


@negative(heavy=True, seconds=HEAVY_SECONDS)
def wrk_on_nginx(scene: Scene) -> None:
    """wrk with 100 keep-alive connections."""
    scene.start("wrk", "-t", "1", "-c", "100", "-d", "300", nginx(scene).url + "/small")


@negative(heavy=True, seconds=HEAVY_SECONDS)
def wrk_without_keepalive(scene: Scene) -> None:
    """wrk with Connection: close, thousands of connections per second."""
    scene.start("wrk", "-t", "1", "-c", "20", "-d", "300", "-H", "Connection: close", nginx(scene).url + "/small")


@negative(heavy=True, seconds=HEAVY_SECONDS)
def haproxy_full_speed(scene: Scene) -> None:
    """wrk through haproxy to nginx, 1 MB pages."""
    scene.start("wrk", "-t", "1", "-c", "30", "-d", "300", haproxy(scene, nginx(scene).port).url + "/page")


@negative(heavy=True, seconds=HEAVY_SECONDS)
def pgbench_select(scene: Scene) -> None:
    """pgbench fills its tables by COPY and selects with 4 clients; shared buffers fill."""
    server = postgres(scene)
    connect = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres"]
    scene.start(postgres_tool("pgbench"), *connect, "-i", "-q", "-s", "5", "postgres").wait_done()
    scene.start(postgres_tool("pgbench"), *connect, "-S", "-c", "4", "-T", "300", "postgres")


# ---- idle ----


@negative()
def redis_idle_pool(scene: Scene) -> None:
    """50 redis connections, used once and kept."""
    scene.actor("idle-pool", redis(scene).port, 50, r"PING\r\n")


@negative()
def redis_idle_subscriber(scene: Scene) -> None:
    """redis-cli SUBSCRIBE on a silent channel."""
    scene.start("redis-cli", "-p", redis(scene).port, "SUBSCRIBE", "silence").wait_says("subscribe")


@negative()
def postgres_idle_sessions(scene: Scene) -> None:
    """10 psql sessions wait for input that does not come."""
    server = postgres(scene)
    for _ in range(10):
        shell(scene, 'sleep infinity | "$@"', *psql_command(server))


@negative()
def haproxy_keepalive_pool(scene: Scene) -> None:
    """30 idle clients of haproxy, which reuses its connections to nginx."""
    front = haproxy(scene, nginx(scene).port, defaults="option http-keep-alive", backend="http-reuse always")
    scene.actor("idle-pool", front.port, 30)


@negative()
def node_agent_pool(scene: Scene) -> None:
    """A node agent with 20 connections to nginx, of which one is used now and then."""
    scene.node("agent-pool", nginx(scene).port, 20)


@negative()
def growing_pool_in_use(scene: Scene) -> None:
    """A pool that opens connections one by one, and uses all that it has."""
    scene.actor("growing-pool", nginx(scene).port, 60)


@negative()
def long_poll(scene: Scene) -> None:
    """HTTP requests that are answered after 20 s."""
    port = free_port()
    scene.actor("http-server", port, 1, 20)
    for _ in range(5):
        scene.actor("poller", port)


# ---- readers with habits ----


@negative()
def batch_reader(scene: Scene) -> None:
    """Wakes up every 500 ms and takes all there is of 1 MB/s."""
    scene.actor("batch-reader", source(scene, 1_000_000), 0.5)


@negative()
def bursts(scene: Scene) -> None:
    """8 MB at once every 3 s, read as they come."""
    port = free_port()
    scene.actor("bursts", port, 8_000_000, 3)
    scene.actor("discarder", port)


@negative()
def slow_sender(scene: Scene) -> None:
    """wget from an nginx with limit_rate: the reader waits for the sender."""
    server = nginx(scene, server="limit_rate 50k;")
    scene.start("wget", "-q", "-O", "/dev/null", server.url + "/big")


@negative()
def peek_loop(scene: Scene) -> None:
    """Looks with MSG_PEEK until a record is complete, then takes it."""
    scene.actor("peeker", source(scene, 60_000))


@negative()
def python_splice(scene: Scene) -> None:
    """A python relay that splices 5 MB/s from socket to socket."""
    port, target = free_port(), free_port()
    scene.actor("sink", target)
    scene.actor("splicer", port, target)
    scene.actor("talker", port, 5_000_000)


@negative()
def haproxy_splice(scene: Scene) -> None:
    """haproxy in TCP mode with splicing, 5 MB/s."""
    port = free_port()
    scene.actor("sink", port)
    front = haproxy(scene, port, mode="tcp", defaults="option splice-auto")
    scene.actor("talker", front.port, 5_000_000)


@negative()
def socat_relay(scene: Scene) -> None:
    """socat forwards 5 MB/s to a reader that keeps up."""
    target, port = source(scene, 5_000_000), free_port()
    scene.start("socat", f"TCP-LISTEN:{port},bind=127.0.0.1", f"TCP:127.0.0.1:{target}").wait_listens(port)
    scene.actor("discarder", port)


@negative()
def curl_upload(scene: Scene) -> None:
    """curl uploads at 5 MB/s to an http.server that reads as it should."""
    require(["curl"])
    port = free_port()
    scene.actor("http-server", port, 1)
    upload = scene.file("upload", size=2_000_000_000)
    scene.start("curl", "-s", "-T", upload, "--limit-rate", "5M", f"http://127.0.0.1:{port}/")


@negative()
def remote_reader_keeps_up(scene: Scene) -> None:
    """Another machine takes all of 200 kB/s, with a window so small that it limits the sender."""
    scene.use_own_network()
    port = free_port()
    scene.actor("source", port, 200_000)
    scene.remote_peer("reader", port, 1_000_000_000, 3000)


# ---- connections come and go ----


@negative()
def proper_half_close(scene: Scene) -> None:
    """A request, shutdown(WR), and an answer that takes longer than any threshold."""
    port = free_port()
    scene.actor("answers-long", port, 20_000)
    scene.actor("half-closer", port)


@negative()
def connection_churn(scene: Scene) -> None:
    """100 connections per second to nginx, each closed after its answer."""
    scene.actor("churner", nginx(scene).port, 100)


@negative()
def redis_cli_churn(scene: Scene) -> None:
    """redis-cli in a shell loop: a process and a connection per command."""
    forever(scene, "sh", "-c", 'redis-cli -p "$1" PING && sleep 0.05', "sh", redis(scene).port)


@negative()
def rush_hours(scene: Scene) -> None:
    """60 visitors at once every 2 s; nginx accepts them promptly."""
    scene.actor("rush", nginx(scene).port, 60, 2)


# ---- memory that does not leak ----


@negative()
def redis_cache_fills_and_stops(scene: Scene) -> None:
    """redis with maxmemory 24mb and allkeys-lru is fed 6 MB/s: it grows, evicts, and stays."""
    server = redis(scene, "--maxmemory", "24mb", "--maxmemory-policy", "allkeys-lru")
    scene.actor("redis-feeder", server.port, 6_000_000)


@negative()
def node_sawtooth(scene: Scene) -> None:
    """20 MB that live for 5 s and are dropped, over and over, beside a stream of 200 kB/s."""
    scene.node("sawtooth", source(scene, 200_000))


@negative()
def python_sawtooth(scene: Scene) -> None:
    """Cycles of 4 MB/s that the collector removes every 5 s, beside a stream of 200 kB/s."""
    scene.actor("sawtooth", source(scene, 200_000))


@negative()
def node_json_lines(scene: Scene) -> None:
    """node parses a stream of 1 MB/s and forgets it: young garbage only."""
    scene.node("json-lines", source(scene, 1_000_000))


@negative()
def node_warms_up(scene: Scene) -> None:
    """node loads all its modules and builds tables for 5 s, then stays as it is."""
    scene.node("warms-up", source(scene, 100_000))


@negative()
def python_warms_up(scene: Scene) -> None:
    """python imports much, and loads a large file for 5 s, while a socket is read."""
    table = scene.file("table.json", ("[" + "1.5, " * 20_000 + "0]\n") * 250)
    scene.actor("warms-up", source(scene, 100_000), str(table))


# ---- postgres at work ----


@negative()
def postgres_copy(scene: Scene) -> None:
    """COPY ... TO STDOUT into a file, again and again."""
    query = "COPY (SELECT generate_series(1, 100000), repeat('x', 100)) TO STDOUT"
    forever(scene, "sh", "-c", '"$@" && sleep 0.3', "sh", *psql_command(postgres(scene)), "-c", query)


@negative()
def postgres_cursor(scene: Scene) -> None:
    """psql with FETCH_COUNT: a cursor, 100 rows at a time, as fast as they are wanted."""
    query = "SELECT repeat('x', 1000), pg_sleep(0.002) FROM (SELECT generate_series(1, 1000000)) AS many"
    scene.start(*psql_command(postgres(scene)), "-v", "FETCH_COUNT=100", "-c", query)


# ---- datagrams ----


@negative()
def iperf3_udp(scene: Scene) -> None:
    """iperf3 over UDP with 10 Mbit/s."""
    scene.start("iperf3", "-c", "127.0.0.1", "-p", iperf3(scene).port, "-u", "-b", "10M", "-t", "300")


@negative()
def udp_reader_keeps_up(scene: Scene) -> None:
    """2000 datagrams per second, read as they come."""
    port = free_port()
    scene.actor("udp-reader", port)
    scene.actor("udp-source", port, 200, 2000)


@negative()
def udp_questions(scene: Scene) -> None:
    """A UDP service that is asked twice a second, as a resolver is."""
    port = free_port()
    scene.actor("udp-echo", port)
    scene.actor("udp-asker", port)
