# SPDX-License-Identifier: MIT
"""Throughput and tail latency of real programs, without and with laggard watching, in turn."""
from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from process import Watch, free_port
from rows import Context, Failed, Measure, Skip, row

BUDGET = "throughput ≥ 0.99, p99 ≤ 1/0.99 of without"
METHOD = "rounds without and with laggard alternate, and which is first; median of the ratios of each round"


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise Skip(f"{', '.join(missing)} not installed")


@contextmanager
def server(command: list[str | Path], port: int, work: Path) -> Iterator[None]:
    with (work / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > end:
                    raise Failed(f"{command[0]} does not listen: {Path(log.name).read_text(errors='replace').strip()}") from error
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(15)


def output_of(command: list[str | Path]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise Failed(f"{command[0]}: {done.stdout.strip()} {done.stderr.strip()}")
    return done.stdout


def uncertainty(ratios: list[float]) -> float:
    """Twice the standard error of the median."""
    return 2 * 1.2533 * statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else math.inf


def compare(context: Context, what: str, run: Callable[[], dict[str, float]]) -> list[Measure]:
    """`run` measures once: `throughput` and, where there is one, `p99`."""
    run()  # warms up
    ratios: dict[str, list[float]] = {}
    for number in range(int(context.seconds(15, 3))):
        results: dict[bool, dict[str, float]] = {}
        for watched in (False, True) if number % 2 == 0 else (True, False):
            if watched:
                with Watch(context):
                    results[True] = run()
            else:
                results[False] = run()
        for key, value in results[True].items():
            if results[False][key] > 0:
                ratios.setdefault(key, []).append(value / results[False][key])
    measures = []
    for key, values in ratios.items():
        limit = {"at_least": 0.99} if key == "throughput" else {"at_most": 1 / 0.99}
        noise = uncertainty(values)
        measures.append(Measure(f"{key} of {what} with laggard, of without", "x", values, noise=noise, note=f"± {noise:.3f}", **limit))
    return measures


@row("redis", BUDGET, f"redis-benchmark -t get, 50 clients; {METHOD}")
def redis(context: Context) -> list[Measure]:
    need("redis-server", "redis-benchmark")
    port = free_port()
    requests = "40000" if context.quick else "150000"

    def run() -> dict[str, float]:
        text = output_of(["redis-benchmark", "-p", str(port), "-t", "get", "-c", "50", "-n", requests, "--csv"])
        line = next(csv.DictReader(io.StringIO(text)))
        return {"throughput": float(line["rps"]), "p99": float(line["p99_latency_ms"])}

    with server(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", context.work], port, context.work):
        return compare(context, "redis-benchmark", run)


NGINX = """daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx.err;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s; keepalive_requests 1000000000;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok"; }} }}
}}
"""


@row("nginx", BUDGET, f"wrk -t1 -c50 against nginx with one worker; {METHOD}")
def nginx(context: Context) -> list[Measure]:
    need("nginx", "wrk")
    port = free_port()
    settings = context.work / "nginx.conf"
    settings.write_text(NGINX.format(work=context.work, port=port))

    def run() -> dict[str, float]:
        duration = "1s" if context.quick else "3s"
        text = output_of(["wrk", "-t1", "-c50", f"-d{duration}", "--latency", f"http://127.0.0.1:{port}/"])
        rate, tail = re.search(r"Requests/sec:\s+([\d.]+)", text), re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
        if rate is None or tail is None:
            raise Failed(f"wrk says: {text.strip()}")
        return {"throughput": float(rate[1]), "p99": float(tail[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[tail[2]]}

    with server(["nginx", "-e", context.work / "nginx.err", "-p", context.work, "-c", settings], port, context.work):
        return compare(context, "nginx and wrk", run)


@row("iperf3", "throughput ≥ 0.99 of without", f"iperf3, one stream over loopback; {METHOD}")
def iperf3(context: Context) -> list[Measure]:
    need("iperf3")
    port = free_port()

    def run() -> dict[str, float]:
        duration = "1" if context.quick else "3"
        result = json.loads(output_of(["iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", duration, "--json"]))
        return {"throughput": float(result["end"]["sum_received"]["bits_per_second"])}

    with server(["iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)], port, context.work):
        return compare(context, "iperf3", run)
