# SPDX-License-Identifier: MIT
"""Real servers on ports of their own, ready when the function returns."""
from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import DEADLINE_SECONDS, HERE, Failed, Program, Scene, Skip, free_port, output

_NGINX = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  default_type application/octet-stream;
  keepalive_timeout {keepalive};
  keepalive_requests 100000000;
  send_timeout 10m;
  client_max_body_size 0;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  server {{ listen {port}; root {www}; {server} }}
}}
"""

_HAPROXY = """\
global
  maxconn 1000
defaults
  mode {mode}
  timeout connect 10s
  timeout client 10m
  timeout server 10m
  {defaults}
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  {backend}
  server one 127.0.0.1:{target}
"""

_PHP_FPM = """\
[global]
error_log = {dir}/fpm.log
daemonize = no
[www]
listen = 127.0.0.1:{port}
pm = static
pm.max_children = {children}
"""

_PHP_LOCATION = r"location ~ \.php$ {{ include /etc/nginx/fastcgi_params; fastcgi_pass 127.0.0.1:{port}; " \
                r"fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; }}"

_RSYNCD = """\
port = {port}
address = 127.0.0.1
use chroot = no
[www]
path = {www}
"""


@dataclass(frozen=True)
class Server:
    program: Program
    port: int
    url: str = ""


def nginx(scene: Scene, keepalive: str = "1h", server: str = "") -> Server:
    """Serves /small (10 kB), /page (1 MB) and /big (4 GB, sparse)."""
    port, www = free_port(), scene.directory("www")
    for name, size in {"small": 10_000, "page": 1_000_000, "big": 4_000_000_000}.items():
        scene.file(f"www/{name}", size=size)
    config = scene.file("nginx.conf", _NGINX.format(dir=scene.dir, port=port, www=www, keepalive=keepalive, server=server))
    program = scene.start("nginx", "-e", "stderr", "-c", config, user="nobody").wait_listens(port)
    return Server(program, port, f"http://127.0.0.1:{port}")


def haproxy(scene: Scene, target: int, mode: str = "http", defaults: str = "", backend: str = "") -> Server:
    port = free_port()
    config = scene.file("haproxy.cfg", _HAPROXY.format(port=port, target=target, mode=mode, defaults=defaults,
                                                       backend=backend))
    program = scene.start("haproxy", "-db", "-f", config).wait_listens(port)
    return Server(program, port, f"http://127.0.0.1:{port}")


def redis(scene: Scene, *settings: str) -> Server:
    port = free_port()
    program = scene.start("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                          "--dir", scene.dir, *settings)
    return Server(program.wait_listens(port), port)


def php(scene: Scene, children: int) -> Server:
    """php-fpm behind nginx, with /sleep.php?seconds and /ask.php?port, which waits for what http says on that port."""
    found = sorted(Path("/usr/sbin").glob("php-fpm*"))
    if not found:
        raise Skip("php-fpm is not installed")
    port = free_port()
    config = scene.file("fpm.conf", _PHP_FPM.format(dir=scene.dir, port=port, children=children))
    program = scene.start(found[-1], "-n", "-F", "-y", config, user="nobody").wait_listens(port)
    front = nginx(scene, server=_PHP_LOCATION.format(port=port))
    scene.file("www/sleep.php", "<?php sleep((int)$_SERVER['QUERY_STRING']); echo 'done';")
    scene.file("www/ask.php", "<?php echo file_get_contents('http://127.0.0.1:' . $_SERVER['QUERY_STRING'] . '/');")
    return Server(program, front.port, front.url)


def rsyncd(scene: Scene) -> Server:
    """Serves /www/big, 1 GB."""
    port = free_port()
    scene.directory("files")
    scene.file("files/big", size=1_000_000_000)
    config = scene.file("rsyncd.conf", _RSYNCD.format(port=port, www=scene.dir / "files"))
    program = scene.start("rsync", "--daemon", "--no-detach", "--config", config).wait_listens(port)
    return Server(program, port, f"rsync://127.0.0.1:{port}/www")


def iperf3(scene: Scene) -> Server:
    port = free_port()
    return Server(scene.start("iperf3", "-s", "-p", port, "--forceflush").wait_listens(port), port)


# ---- postgres ----

_postgres_lock = threading.Lock()


def postgres_tool(name: str) -> Path:
    """Debian keeps a version's programs outside of PATH."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name)):
        if (folder / name).exists():
            return folder / name
    raise Skip(f"{name} of postgresql is not installed")


@functools.cache
def _empty_cluster() -> Path:
    path = Path(tempfile.mkdtemp(prefix="laggard-postgres-"))
    shutil.chown(path, "postgres")
    made = subprocess.run([postgres_tool("initdb"), "-D", path, "-N", "-A", "trust", "-U", "postgres", "--locale=C"],
                          capture_output=True, text=True, user="postgres", group="postgres", extra_groups=[], cwd="/",
                          timeout=DEADLINE_SECONDS)
    if made.returncode != 0:
        raise Failed(f"initdb: {made.stderr.strip()}")
    return path


def postgres(scene: Scene) -> Server:
    with _postgres_lock:
        data = scene.dir / "cluster"
        subprocess.run(["cp", "-a", _empty_cluster(), data], check=True, timeout=DEADLINE_SECONDS)
    port = free_port()
    program = scene.start(postgres_tool("postgres"), "-D", data, "-p", port, "-k", scene.dir, "-c", "fsync=off",
                          "-c", "listen_addresses=127.0.0.1", user="postgres")
    return Server(program.wait_says("ready to accept connections"), port)


def remove_empty_cluster() -> None:
    if _empty_cluster.cache_info().currsize:
        shutil.rmtree(_empty_cluster(), ignore_errors=True)


def psql_command(server: Server) -> list[str]:
    return [str(postgres_tool("psql")), "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-qAt"]


# ---- other runtimes ----


def compiled(scene: Scene, name: str) -> Path:
    """A C program of actors/."""
    require(["gcc"])
    program = scene.dir / name
    made = subprocess.run(["gcc", "-O1", "-Wall", "-o", program, HERE / "actors" / f"{name}.c"], capture_output=True,
                          text=True, timeout=DEADLINE_SECONDS)
    if made.returncode != 0:
        raise Failed(f"gcc: {made.stderr.strip()}")
    return program


def java_server(scene: Scene) -> list[str | Path | int]:
    """The command of a server of small pages, compiled; its last word is its port."""
    require(["javac", "java"])
    output("javac", "-d", str(scene.dir), str(HERE / "actors/Pages.java"))
    return ["java", "-Dsun.net.httpserver.nodelay=true", "-cp", scene.dir, "Pages", free_port()]


def go_server(scene: Scene) -> Server:
    """The same in Go, and running."""
    require(["go"])
    program, port = scene.dir / "pages", free_port()
    output("env", f"GOCACHE={scene.dir}/go", "go", "build", "-o", str(program), str(HERE / "actors/pages.go"))
    return Server(scene.start(program, port).wait_listens(port), port)


def mptcp() -> int:
    """The protocol's number, where this kernel has it."""
    switch = Path("/proc/sys/net/mptcp/enabled")
    if not switch.exists() or switch.read_text().strip() != "1":
        raise Skip("this kernel has no MPTCP, or net.mptcp.enabled is 0")
    return 262


def perl_mptcp(scene: Scene, role: str, port: int) -> Program:
    return scene.start("perl", HERE / "actors/mptcp.pl", role, port).wait_says("ready\n")


# ---- shell ----


def shell(scene: Scene, script: str, *arguments: str | int) -> Program:
    """`$1`, `$2` ... are the arguments."""
    return scene.start("sh", "-c", script, "sh", *arguments)


def forever(scene: Scene, *command: str | int | Path) -> Program:
    """The command again and again, its output discarded."""
    if shutil.which(str(command[0])) is None:
        raise Skip(f"{command[0]} is not installed")
    return shell(scene, 'while "$@" >/dev/null; do :; done', *(str(word) for word in command))


def require(names: Iterable[str]) -> None:
    for name in names:
        if shutil.which(name) is None:
            raise Skip(f"{name} is not installed")


def source(scene: Scene, rate: int, send_buffer: int = 0) -> int:
    port = free_port()
    scene.actor("source", port, rate, send_buffer)
    return port


def udp_echo(scene: Scene) -> int:
    port = free_port()
    scene.actor("udp-echo", port)
    return port


# ---- networks ----

PATIENCE = 6  # seconds until a server speaks to clients that have closed; less than QUICK's --close-wait


def forgetful_network(scene: Scene) -> int:
    """Of its own, where the end that closed first is forgotten after 3 s. Returns a port."""
    scene.use_own_network()
    scene.sysctl("net.ipv4.tcp_fin_timeout", PATIENCE // 2)
    return free_port()
