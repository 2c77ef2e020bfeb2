#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Metrics by both ways, read by those they are for: promtool, a real Prometheus, a real node_exporter. Every metric that
the alerts and the dashboard ask for exists."""
from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from packages import program
from stage import LAGGARD, QUICK, SOURCE, Failed, eventually, require, require_observer, run, slow_reader, started

PROMETHEUS = SOURCE / "scripts/deploy/prometheus"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def promtool(*arguments: str | Path, page: str = "") -> None:
    done = subprocess.run([program("prometheus", "promtool"), *map(str, arguments)], input=page, text=True, capture_output=True, timeout=60)
    if done.returncode != 0 or (arguments[1] == "metrics" and done.stdout + done.stderr):
        raise Failed(f"promtool {arguments[0]} {arguments[1]}: {done.stdout}{done.stderr}")


def names_in(page: str) -> set[str]:
    return set(re.findall(r"^([a-z_]+)[{ ]", page, re.M))


def check_files(known: set[str]) -> None:
    """What the alerts and the dashboard ask for is on the page."""
    promtool("check", "rules", PROMETHEUS / "alerts.yaml")
    promtool("check", "config", PROMETHEUS / "scrape.yaml")
    promtool("test", "rules", SOURCE / "tests/deploy/alerts_rules.yaml")
    # These are there while the kernel counts (sysctl kernel.bpf_stats_enabled); tests/unit/metrics_test.cpp has them.
    known = known | {"laggard_bpf_run_seconds_total", "laggard_bpf_runs_total"}
    asked: set[str] = set()
    for file in ("alerts.yaml", "dashboard.json"):
        asked |= set(re.findall(r"\b(?:laggard|process)_[a-z_]+", (PROMETHEUS / file).read_text()))
    assert len(asked) > 10, asked
    assert asked <= known, f"in no page of laggard: {sorted(asked - known)}"


def queries_of_dashboard() -> list[str]:
    panels: list[dict[str, Any]] = json.loads((PROMETHEUS / "dashboard.json").read_text())["panels"]
    return [target["expr"].replace("$instance", ".*") for panel in panels for target in panel["targets"]]


def check_with_prometheus(work: Path, url: str) -> None:
    (work / "prometheus.yml").write_text((PROMETHEUS / "scrape.yaml").read_text().replace("127.0.0.1:9464", url.split("/")[2])
                                         .replace("alerts.yaml", str(PROMETHEUS / "alerts.yaml"))
                                         + "\nglobal: {scrape_interval: 1s, evaluation_interval: 1s}\n")
    own = f"127.0.0.1:{free_port()}"

    def query(expression: str) -> list[dict[str, Any]]:
        answer = get(f"http://{own}/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        if not answer:
            return []
        parsed = json.loads(answer)
        assert parsed["status"] == "success", answer
        return list(parsed["data"]["result"])

    with (work / "prometheus.log").open("w") as log, \
            started([program("prometheus", "prometheus"), f"--config.file={work}/prometheus.yml", f"--storage.tsdb.path={work}/tsdb",
                     f"--web.listen-address={own}"], stdout=log, stderr=log):
        found = eventually(lambda: query('laggard_findings_open{kind="slow-reader"} > 0'), "Prometheus knows of the open finding")
        assert found[0]["metric"]["job"] == "laggard", found
        eventually(lambda: query('up{job="laggard"} == 1'), "the target is up")
        pending = eventually(lambda: query('ALERTS{alertname=~"Laggard.*Finding"}'), "an alert of alerts.yaml is pending")
        assert pending[0]["metric"]["kind"] in ("slow-reader", "remote-slow-reader"), pending
        wrong = query('ALERTS{alertname=~"LaggardAbsent|LaggardDown|LaggardStuck|LaggardLosesRecords",alertstate="firing"}'
                      ' unless on (instance, cause) laggard_lost_total > 0')  # a busy machine may lose some
        assert not wrong, wrong
        for expression in queries_of_dashboard():
            query(expression)  # it fails where Prometheus does not understand it
        eventually(lambda: query(queries_of_dashboard()[1]), "the dashboard shows the finding")


def check_with_node_exporter(directory: Path) -> None:
    own = f"127.0.0.1:{free_port()}"
    with started([program("prometheus-node-exporter", "prometheus-node-exporter"), "--collector.disable-defaults", "--collector.textfile",
                  f"--collector.textfile.directory={directory}", f"--web.listen-address={own}"],
                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        page = eventually(lambda: get(f"http://{own}/metrics"), "node_exporter answers")
    assert "node_textfile_scrape_error 0" in page, page
    assert re.search(r'^laggard_findings_open\{kind="slow-reader",severity="\w+"\} [1-9]\d*$', page, re.M), page
    assert "laggard_process_open_fds" in page and len(re.findall("^process_open_fds ", page, re.M)) == 1, page


def check_replaced(textfile: Path) -> None:
    """Who reads the file while a new one comes has the old one to its end."""
    with textfile.open() as old:
        before = old.read()
        eventually(lambda: textfile.stat().st_ino != os.fstat(old.fileno()).st_ino, "a new file takes the place of the old one")
        old.seek(0)
        assert old.read() == before, "the old file was written to"


def check_privileges(pid: int) -> None:
    """The thread that serves has no more of them than the one that looks."""
    threads = [entry.read_text() for entry in Path(f"/proc/{pid}/task").glob("*/status")]
    assert len(threads) > 1, "nobody serves"
    for status in threads:
        assert "\nUid:\t65534\t65534\t65534\t65534\n" in status and "\nCapPrm:\t0000000000000000\n" in status, status


def check_mistakes(work: Path) -> None:
    """Each is said, with the next step, and nothing runs on without metrics."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        (work / "closed").mkdir(mode=0o755)
        for arguments, code, words in [
                (["--metrics", port], 3, ["--metrics " + port, "Address already in use"]),
                (["--metrics", "localhost"], 2, ["'localhost'", "127.0.0.1:9464"]),
                (["--metrics-textfile", f"{work}/closed/laggard.prom"], 3, [f"{work}/closed/laggard.prom", "install -d -o"]),
        ]:
            done = subprocess.run([LAGGARD, "watch", "--duration", "1s", *arguments], capture_output=True, text=True, timeout=60)
            assert done.returncode == code and all(word in done.stderr for word in words), (arguments, done)


def test(work: Path) -> None:
    require_observer()
    directory = work / "textfile"
    directory.mkdir()
    shutil.chown(directory, 65534)  # whom laggard becomes
    textfile = directory / "laggard.prom"
    errors = work / "errors"
    with errors.open("w") as log, \
            started([LAGGARD, "watch", "--output", "json", *QUICK, "--comm", "workload", "--metrics", "0", "--metrics-textfile",
                     textfile], stdout=subprocess.DEVNULL, stderr=log) as laggard:
        found = eventually(lambda: re.search(r"http://127\.0\.0\.1:\d+/metrics", errors.read_text()), "laggard says where its metrics are")
        url = found[0]
        promtool("check", "metrics", page=textfile.read_text())  # there from the first moment
        with slow_reader():
            is_open = re.compile(r'^laggard_findings_open\{kind="slow-reader",severity="\w+"\} [1-9]\d*$', re.M)
            eventually(lambda: is_open.search(get(url)), "the slow reader is on the page")
            promtool("check", "metrics", page=get(url))
            check_files(names_in(get(url)))
            check_with_prometheus(work, url)

            def whole_and_found() -> bool:
                page = textfile.read_text()
                assert page.startswith("# HELP laggard_build_info") and "\nlaggard_process_start_time_seconds " in page, page
                assert page.endswith("\n") and textfile.stat().st_mode & 0o777 == 0o644
                return is_open.search(page) is not None
            eventually(whole_and_found, "the slow reader is in the file, which is whole at each look")
            promtool("check", "metrics", page=textfile.read_text())
            check_with_node_exporter(directory)
            check_replaced(textfile)
            check_privileges(laggard.pid)
    assert laggard.returncode == 0, "a signal ends it as ever"
    # The last file has what happened until the end.
    last = textfile.read_text()
    assert re.search(r'^laggard_findings_open\{kind="slow-reader",severity="\w+"\} [1-9]\d*$', last, re.M) is None, last
    assert re.search(r'^laggard_findings_resolved_total\{kind="slow-reader",resolution="\w+"\} [1-9]\d*$', last, re.M), last
    assert [entry.name for entry in directory.iterdir()] == ["laggard.prom"]
    check_mistakes(work)


if __name__ == "__main__":
    run(test)
