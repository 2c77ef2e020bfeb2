# SPDX-License-Identifier: MIT
"""Everyday servers under bounded load, all at the same time, about which nothing may be found under default thresholds."""
from __future__ import annotations

import json
import os
import signal
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from harness import HERE, Failed, Program, Scene, free_port
from mix_base import Load, actor, said, total
from programs import nginx, postgres, postgres_tool, redis, shell


def fanout(scene: Scene, role: str, *arguments: int) -> Program:
    return scene.start("node", HERE / "actors/fanout.js", role, *arguments).wait_says("ready\n")


# ---- stores ----


def redis_benchmark(scene: Scene) -> Iterator[Load]:
    """Bursts as fast as redis can, then a pause."""
    bench = shell(scene, 'while redis-benchmark -p "$1" -c 20 -n 5000 -t set,get,lrange_100 --csv; do sleep 1.5; done',
                  redis(scene).port)
    yield Load("requests answered by redis", 400_000, lambda: 5000 * len(said(bench, r'^"[A-Z]')))


def memcached(scene: Scene) -> Iterator[Load]:
    port = free_port()
    scene.start("memcached", "-p", port, "-l", "127.0.0.1", "-m", "64", user="nobody").wait_listens(port)
    yield Load("requests answered by memcached", 60_000, total(actor(scene, "memcached", port, 10, 500)))


def pgbench(scene: Scene) -> Iterator[Load]:
    where = ("-h", "127.0.0.1", "-p", postgres(scene).port, "-U", "postgres", "postgres")
    scene.start(postgres_tool("pgbench"), "-i", "-q", "-s", "4", *where).wait_done()
    bench = scene.start(postgres_tool("pgbench"), "-c", "4", "-R", "60", "-T", "1000000", "-P", "5", *where)
    yield Load("transactions of pgbench", 3600, lambda: 5 * sum(map(float, said(bench, r"s, ([\d.]+) tps"))))


def subscribers(scene: Scene) -> Iterator[Load]:
    port = redis(scene).port
    users = actor(scene, "redis-users", port, 200)
    actor(scene, "redis-notes", port, 200, 5)
    yield Load("messages pushed to up to 200 subscribers of redis", 300, total(users))


# ---- the web ----

_PHP = """\
[global]
error_log = {dir}/php.log
daemonize = no
[mix]
listen = 127.0.0.1:{port}
pm = static
pm.max_children = 12
"""
_WEB = """
    location ~ \\.php$ {{ fastcgi_pass 127.0.0.1:{php}; fastcgi_param REQUEST_METHOD GET; fastcgi_read_timeout 1m;
                          fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; }}
    location ~ \\.html$ {{ default_type text/html; }}
"""
_PAGE = """\
<title>loading</title><script>
const get = (path) => fetch(path, { cache: 'no-store' }).then((answer) => answer.arrayBuffer());
Promise.all(['/page', ...Array(10).fill('/small')].map(get)).then(() => { document.title = 'loaded'; });
setInterval(() => get('/small'), 500);
</script>
"""


def php_fpm(scene: Scene) -> int:
    port = free_port()
    program = next(iter(sorted(Path("/usr/sbin").glob("php-fpm*"))), Path("php-fpm"))
    config = scene.file("php-fpm.conf", _PHP.format(dir=scene.dir, port=port))
    scene.start(program, "-F", "-y", config, user="nobody").wait_listens(port)
    return port


def web(scene: Scene) -> Iterator[Load]:
    """One nginx for wrk, for php and for browsers."""
    server = nginx(scene, keepalive="75s", server=_WEB.format(php=php_fpm(scene)))
    scene.file("www/page.html", _PAGE)
    scene.file("www/favicon.ico")
    scene.file("www/slow.php", '<?php sleep(20); echo "done\\n";')
    scene.file("www/quick.php", '<?php usleep(100000); echo "done\\n";')
    lua = scene.file("delay.lua", "function delay() return 100 end")  # milliseconds between two requests of a connection
    wrk = scene.start("wrk", "-t", "1", "-c", "40", "-d", "1000000", "-s", lua, f"{server.url}/small")
    yield Load("keep-alive requests of wrk", 40 * 600, lambda: wrk_requests(wrk))
    yield Load("pages of 20 s by php-fpm", 5 * 3, total(actor(scene, "pages", server.port, "/slow.php", 5)))
    yield Load("pages of 0.1 s by php-fpm", 2 * 600, total(actor(scene, "pages", server.port, "/quick.php", 2)))
    yield Load("pages loaded by Chromium", 18, total(actor(scene, "browsers", f"{server.url}/page.html", 20)))


def wrk_requests(wrk: Program) -> float:
    """It tells when it ends."""
    if wrk.process.poll() is None:
        os.kill(wrk.pid, signal.SIGINT)
    if problems := said(wrk.wait_done(), "(?:Socket errors|Non-2xx).*"):
        raise Failed(f"wrk: {problems}")
    return float(said(wrk, r"(\d+) requests in")[0])


def fan_out(scene: Scene) -> Iterator[Load]:
    port = free_port()
    fanout(scene, "server", port, 1, 5)
    clients = fanout(scene, "clients", port, 50)
    yield Load("events and pings to 50 clients of node", 50 * 72, total(clients))


# ---- logs, metrics, names ----

_RELAY = """
module(load="imtcp")
module(load="imudp")
input(type="imtcp" address="127.0.0.1" port="{tcp}")
input(type="imudp" address="127.0.0.1" port="{udp}")
action(type="omfwd" target="127.0.0.1" port="{target}" protocol="tcp" queue.type="LinkedList" queue.dequeueBatchSize="1000"
       queue.minDequeueBatchSize="500" queue.minDequeueBatchSize.timeout="2000")
"""
_STORE = """
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="{tcp}")
action(type="omfile" file="{file}")
"""
_SCRAPE = """
global: {{scrape_interval: {seconds}s}}
scrape_configs: [{{job_name: mix, static_configs: [{{targets: ["127.0.0.1:{own}", "127.0.0.1:{other}"]}}]}}]
"""


def rsyslogd(scene: Scene, port: int, config: str) -> None:
    files = scene.dir / f"rsyslogd-{port}.pid", scene.file(f"rsyslogd-{port}.conf", config)
    scene.start("rsyslogd", "-n", "-i", files[0], "-f", files[1]).wait_listens(port)


def rsyslog(scene: Scene) -> Iterator[Load]:
    tcp, udp, target, file = free_port(), free_port(), free_port(), scene.file("relayed")
    rsyslogd(scene, target, _STORE.format(tcp=target, file=file))
    rsyslogd(scene, tcp, _RELAY.format(tcp=tcp, udp=udp, target=target))
    actor(scene, "syslog", tcp, udp, 400)
    yield Load("lines relayed by rsyslog", 400 * 60, lambda: len(file.read_bytes().splitlines()))


def prometheus(scene: Scene, seconds: int = 5) -> Iterator[Load]:
    own, other = free_port(), free_port()
    scene.start("prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{other}").wait_listens(other)
    config = scene.file("prometheus.yml", _SCRAPE.format(own=own, other=other, seconds=seconds))
    scene.start("prometheus", f"--config.file={config}", f"--storage.tsdb.path={scene.dir / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{own}").wait_listens(own)

    def scrapes() -> float:
        query = urllib.parse.quote("sum(sum_over_time(up[1d]))")
        with urllib.request.urlopen(f"http://127.0.0.1:{own}/api/v1/query?query={query}", timeout=10) as answer:
            return float(json.load(answer)["data"]["result"][0]["value"][1])

    yield Load("targets scraped by Prometheus", 2 * 60 / seconds, scrapes)


def dns(scene: Scene) -> Iterator[Load]:
    port = free_port()
    scene.start("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--no-resolv", "--no-hosts",
                "--bind-interfaces", "--listen-address=127.0.0.1", f"--port={port}", "--address=/mix.test/10.0.0.1",
                user="nobody").wait_listens(port)
    yield Load("DNS queries over a socket each", 200 * 60, total(actor(scene, "dns", port, 200)))


PARTS = (redis_benchmark, memcached, pgbench, subscribers, web, fan_out, rsyslog, prometheus, dns)
