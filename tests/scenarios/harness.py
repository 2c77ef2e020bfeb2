# SPDX-License-Identifier: MIT
"""The stage of one scenario: its programs, directory, cgroup and network namespace.

Every program of a scenario lives in the scenario's own cgroup (v2, no controllers), so that a pid that laggard names
can be attributed to it, whatever forked, daemonised or called setsid; and so that nothing is left behind.
"""
from __future__ import annotations

import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

HERE = Path(__file__).resolve().parent
DEADLINE_SECONDS = 60.0
NEAR, FAR = "10.78.0.1", "10.78.0.2"  # the two ends of a scene's cable
T = TypeVar("T")

# Below ip_local_port_range, so that no client's ephemeral port is in the way.
_ports = itertools.count(15_000 + os.getpid() % 700 * 20)


class Skip(Exception):
    """This machine cannot run the scenario."""


class Failed(Exception):
    """The scenario could not be set up."""


def eventually(condition: Callable[[], T], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Polls until the condition holds, and returns what it said."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise Failed(f"gave up waiting until {what}")
        time.sleep(0.05)
    return value


def free_port() -> int:
    for port in _ports:
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("", port))
            return port
        except OSError:
            continue
    raise Failed("no free port")


def listens(pid: int, port: int) -> bool:
    """Looks instead of connecting: a probe would be one more connection to accept."""
    wanted = re.compile(rf"^ *\d+: [0-9A-F]+:{port:04X} \S+ 0A ", re.M)
    try:
        return any(wanted.search(Path(f"/proc/{pid}/net/{table}").read_text()) for table in ("tcp", "tcp6"))
    except OSError:
        return False


class Program:
    """A running program; its output is in `log`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.pid = process.pid

    @property
    def comm(self) -> str:
        return Path(f"/proc/{self.pid}/comm").read_text().strip()

    def check_running(self, may_be_done: bool = False) -> None:
        status = self.process.poll()
        if status is not None and not (may_be_done and status == 0):
            last_words = " / ".join(self.log.read_text(errors="replace").strip().splitlines()[-3:])
            raise Failed(f"{self.log.stem} ended with {status}: {last_words}")

    def says(self, text: str) -> bool:
        self.check_running(may_be_done=True)
        return text in self.log.read_text(errors="replace")

    def wait_says(self, text: str) -> Program:
        eventually(lambda: self.says(text), f"{self.log.stem} says {text!r}")
        return self

    def number(self, name: str) -> int:
        """That it has said, as in `port 1234`."""
        found = re.search(rf"^{name} (\d+)$", self.log.read_text(errors="replace"), re.M)
        if found is None:
            raise Failed(f"{self.log.stem} does not say its {name}")
        return int(found[1])

    def wait_done(self) -> Program:
        eventually(lambda: self.process.poll() is not None, f"{self.log.stem} is done")
        self.check_running(may_be_done=True)
        return self

    def wait_listens(self, port: int) -> Program:
        def listening() -> bool:
            self.check_running()
            return listens(self.pid, port)

        eventually(listening, f"{self.log.stem} listens on {port}")
        return self


class Groups:
    """The parent cgroup of all scenarios of this run."""

    def __init__(self) -> None:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        roots = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
        if not roots:
            raise Failed("needs a cgroup2 mount: scenarios are told apart by their cgroup")
        self.path = roots[0] / f"laggard-scenarios-{os.getpid()}"
        self._known: dict[int, str] = {}
        try:
            self.path.mkdir()
        except OSError as error:
            raise Failed(f"cannot make {self.path}: {error.strerror}") from error

    def remember(self, name: str, pids: set[int]) -> None:
        self._known.update(dict.fromkeys(pids, name))

    def scenario_of(self, pid: int) -> str | None:
        """Asks the kernel, or remembers where the process has gone."""
        try:
            groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except OSError:
            return self._known.get(pid)
        own = [line for line in groups if f"/{self.path.name}/" in line]
        return own[0].rsplit("/", 1)[1] if own else None

    def close(self) -> None:
        self.path.rmdir()


class Scene:
    """What a scenario function gets: start programs, wait, and everything ends with the scene."""

    def __init__(self, name: str, groups: Groups, keep_logs: Path | None = None) -> None:
        self.name = name
        self.groups = groups
        self.keep_logs = keep_logs
        self.dir = Path(tempfile.mkdtemp(prefix=f"laggard-{name}-"))
        self.dir.chmod(0o777)  # servers that insist on an unprivileged user
        self.group = groups.path / name
        self.group.mkdir()
        self._programs: list[Program] = []
        self._memory_group: Path | None = None
        self._netns: str | None = None
        self._namespaces: list[str] = []

    # ---- programs ----

    def start(self, *command: str | int | Path, user: str | None = None) -> Program:
        words = [str(word) for word in command]
        if shutil.which(words[0]) is None:
            raise Skip(f"{words[0]} is not installed")
        log = self.dir / f"{len(self._programs)}-{Path(words[0]).name}-{self.name}.log"
        if user is not None:
            who = pwd.getpwnam(user)
            words = ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups", *words]
        if self._netns is not None:
            words = ["ip", "netns", "exec", self._netns, *words]
        # exec all the way: the pid that Popen knows is the program's own.
        enter = ["sh", "-c", 'echo 0 >"$0" && exec "$@"', str(self.group / "cgroup.procs")]
        if self._memory_group is not None:
            enter += ["sh", "-c", 'echo 0 >"$0" && exec "$@"', str(self._memory_group / "cgroup.procs")]
        with log.open("wb") as output:
            process = subprocess.Popen(enter + words, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        self._programs.append(Program(process, log))
        return self._programs[-1]

    def actor(self, role: str, *arguments: str | int) -> Program:
        """A role of actors/, once it says that its condition stands."""
        return self.start(sys.executable, "-B", HERE / "actors", role, *arguments).wait_says("ready\n")

    def node(self, role: str, *arguments: str | int) -> Program:
        return self.start("node", HERE / "actors/node.js", role, *arguments).wait_says("ready\n")

    def remote_peer(self, *arguments: str | int) -> Program:
        return self.start(sys.executable, "-B", HERE / "remote_peer.py", *arguments).wait_says("ready\n")

    def pids(self) -> set[int]:
        found = {int(pid) for pid in (self.group / "cgroup.procs").read_text().split()}
        self.groups.remember(self.name, found)
        return found

    def running(self) -> list[Program]:
        return [program for program in self._programs if program.process.poll() is None]

    def pids_named(self, comm: str) -> set[int]:
        def comm_of(pid: int) -> str:
            try:
                return Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                return ""

        return {pid for pid in self.pids() if comm_of(pid) == comm}

    def wait_named(self, comm: str) -> set[int]:
        return eventually(lambda: self.pids_named(comm), f"a {comm} runs")

    def freeze(self, pids: set[int]) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

    def limit_memory(self, limit: int) -> None:
        """Programs started from now on have this much memory together."""
        old = Path("/sys/fs/cgroup/memory")  # v1 has the controller, beside a v2 without
        if (old / "memory.limit_in_bytes").exists():
            self._memory_group = old / f"{self.groups.path.name}-{self.name}"
            self._memory_group.mkdir()
            (self._memory_group / "memory.limit_in_bytes").write_text(str(limit))
            return
        try:
            for parent in (self.groups.path.parent, self.groups.path):
                (parent / "cgroup.subtree_control").write_text("+memory")
            (self.group / "memory.max").write_text(str(limit))
        except OSError as error:
            raise Skip(f"cannot limit the memory of {self.group}: {error.strerror}") from error

    # ---- files and network ----

    def file(self, name: str, text: str = "", size: int = 0) -> Path:
        path = self.dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        if size:
            os.truncate(path, size)
        return path

    def directory(self, name: str) -> Path:
        path = self.dir / name
        path.mkdir()
        path.chmod(0o777)
        return path

    def use_own_network(self) -> None:
        """Programs started from now on live in a network namespace of their own."""
        self._netns = self._namespace("")

    def use_cable(self) -> None:
        """The same, with a cable (veth) to a second namespace, for programs started inside `with scene.far_away()`."""
        self.use_own_network()
        near, far = self._netns, self._namespace("-far")
        assert near is not None
        run("ip", "-n", near, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", far)
        for namespace, address in ((near, NEAR), (far, FAR)):
            run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "cable")
            run("ip", "-n", namespace, "link", "set", "cable", "up")

    @contextmanager
    def far_away(self) -> Iterator[None]:
        near, self._netns = self._netns, self._namespaces[-1]
        try:
            yield
        finally:
            self._netns = near

    def cut_cable(self) -> None:
        run("ip", "-n", self._namespaces[-1], "link", "set", "cable", "down")

    def keep_neighbour(self) -> None:
        """As if the far end were beyond a router: when it is gone, nobody misses its answers to ARP."""
        near, far = self._netns, self._namespaces[-1]
        assert near is not None
        address = output("ip", "netns", "exec", far, "cat", "/sys/class/net/cable/address").strip()
        run("ip", "-n", near, "neigh", "replace", FAR, "lladdr", address, "dev", "cable", "nud", "permanent")

    def lose_packets(self, one_of: int) -> None:
        """On their way to the far end, by chance. Not on this one: the sender would be told."""
        far = self._namespaces[-1]
        for words in (["table", "inet", "loss"],
                      ["chain", "inet", "loss", "arrives", "{ type filter hook input priority 0; }"],
                      ["rule", "inet", "loss", "arrives", f"numgen random mod {one_of} == 0 drop"]):
            run("ip", "netns", "exec", far, "nft", "add", *words)

    def sysctl(self, name: str, value: int) -> None:
        """Of the scene's own network."""
        assert self._netns is not None
        run("ip", "netns", "exec", self._netns, "sysctl", "-qw", f"{name}={value}")

    def _namespace(self, suffix: str) -> str:
        name = f"{self.groups.path.name}-{self.name}"[:200] + suffix
        run("ip", "netns", "add", name)
        self._namespaces.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        return name

    # ---- end ----

    def close(self) -> None:
        # Browsers take a while to end, and longer than cgroup.procs names them; a group that is not empty cannot go.
        (self.group / "cgroup.kill").write_text("1")
        eventually(lambda: "populated 0" in (self.group / "cgroup.events").read_text(), f"all of {self.name} has ended")
        for program in self._programs:
            program.process.wait()
        self.group.rmdir()
        if self._memory_group is not None:
            self._memory_group.rmdir()
        for namespace in self._namespaces:
            run("ip", "netns", "delete", namespace)
        if self.keep_logs is not None:
            shutil.copytree(self.dir, self.keep_logs / self.name, dirs_exist_ok=True,
                            ignore=lambda folder, names: [n for n in names if not n.endswith(".log")])
        shutil.rmtree(self.dir, ignore_errors=True)


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def run(*command: str) -> None:
    output(*command)
