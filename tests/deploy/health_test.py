# SPDX-License-Identifier: MIT
"""A probe sees whether laggard's main loop turns: running, stopped by SIGSTOP, running again, ended, killed."""
from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from stage import LAGGARD, eventually, require_observer, run, started


def health(*arguments: str | Path, as_nobody: bool = False) -> tuple[int, str]:
    """The exit code, and all that was said."""
    options = {"user": 65534, "group": 65534, "extra_groups": []} if as_nobody else {}
    done = subprocess.run([LAGGARD, "health", *arguments], capture_output=True, text=True, timeout=60, **options)
    return done.returncode, done.stdout + done.stderr


def expect(result: tuple[int, str], code: int, words: str) -> None:
    assert result[0] == code and words in result[1] and result[1].count("\n") == 1, result


def seconds(*arguments: str | Path) -> float:
    begun = time.monotonic()
    subprocess.run([LAGGARD, *arguments], capture_output=True, check=True, timeout=60)
    return time.monotonic() - begun


def test(work: Path) -> None:
    require_observer()
    file = work / "heartbeat"
    expect(health("--heartbeat", file), 1, "No such file")
    os.umask(0o077)
    with started([LAGGARD, "watch", "--heartbeat", file, "--interval", "200ms"], stdout=subprocess.DEVNULL) as laggard:
        eventually(file.exists, "the heartbeat is there")
        first = eventually(file.read_text, "it beats")
        eventually(lambda: file.read_text() != first, "it beats again")
        status = Path(f"/proc/{laggard.pid}/status")
        eventually(lambda: "CapEff:\t0000000000000000" in status.read_text(), "laggard gave up its privileges")
        unprivileged = file.read_text()
        eventually(lambda: file.read_text() != unprivileged, "it beats without privileges")
        expect(health("--heartbeat", file, as_nobody=True), 0, "the main loop ticked")

        quickest, version = (min(seconds(*arguments) for _ in range(10)) for arguments in (("health", "--heartbeat", file), ("--version",)))
        print(f"a probe takes {quickest * 1000:.1f} ms, --version {version * 1000:.1f} ms")
        assert quickest < 2 * version + 0.005, "a probe is to be cheap: it must load nothing"

        os.kill(laggard.pid, signal.SIGSTOP)
        limit = ("--heartbeat", file, "--max-age", "1s")
        expect(eventually(lambda: (seen := health(*limit))[0] == 1 and seen, "the stopped loop is noticed"), 1, "gone or stuck")
        expect(health("--heartbeat", file), 0, "the main loop ticked")  # 30 s by default: a busy machine is no reason
        os.kill(laggard.pid, signal.SIGCONT)
        eventually(lambda: health(*limit)[0] == 0, "the loop turns again")

        laggard.terminate()
        assert laggard.wait(timeout=20) == 0, laggard.returncode
        expect(health("--heartbeat", file), 1, "has ended")

    with started([LAGGARD, "watch", "--heartbeat", file], stdout=subprocess.DEVNULL) as laggard:
        eventually(lambda: health("--heartbeat", file)[0] == 0, "the same file beats again")
        laggard.kill()
        laggard.wait()
        eventually(lambda: health(*limit)[0] == 1, "the killed loop is noticed")

    file.write_text("root:x:0:0\n")
    expect(health("--heartbeat", file), 1, "is no heartbeat")
    link = work / "link"
    link.symlink_to(file)
    refused = subprocess.run([LAGGARD, "watch", "--heartbeat", link], capture_output=True, text=True, timeout=20)
    assert refused.returncode == 2 and "must be no link" in refused.stderr, refused
    assert file.read_text() == "root:x:0:0\n", "a link was followed"
    os.mkfifo(fifo := work / "fifo")
    refused = subprocess.run([LAGGARD, "watch", "--heartbeat", fifo], capture_output=True, text=True, timeout=20)
    assert refused.returncode == 2, refused


run(test)
