# SPDX-License-Identifier: MIT
"""Programs of Debian packages that are not installed, without installing them.

rsyslog and syslog-ng conflict as packages (each is *the* system logger), and installing a daemon starts it. So those that
this machine has are used as they are, and the others are fetched with what they need and unpacked below build/packages,
once. Nothing outside that folder changes.
"""
from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import stage

CACHE = stage.BUILD / "packages"


@dataclass
class Unpacked:
    root: Path  # "/" where the package is installed
    environment: dict[str, str]

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")


def provide(package: str, program: str) -> Unpacked:
    """The package that holds `program` (absolute), and an environment in which its libraries are found."""
    if Path(program).exists():
        return Unpacked(Path("/"), dict(os.environ))
    root = CACHE / package
    if not (root / program.lstrip("/")).exists():
        unpack(package, root)
    libraries = sorted({str(library.parent) for library in root.rglob("*.so*")})
    return Unpacked(root, {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)})


def program(package: str, name: str) -> Path:
    """For one that needs nothing of its package but itself."""
    return provide(package, f"/usr/bin/{name}").path(f"/usr/bin/{name}")


def unpack(package: str, root: Path) -> None:
    stage.require("apt-get", "dpkg-deb")
    partial = root.with_suffix(".partial")
    reason = fetch(package, partial / "archives")
    if reason:  # the lists may be absent or old
        subprocess.run(["apt-get", "update", "-q"], capture_output=True, timeout=180)
        reason = fetch(package, partial / "archives")
    if reason:
        raise stage.Skip(f"{package} cannot be fetched: {reason}")
    for archive in (partial / "archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", archive, partial], check=True)
    shutil.rmtree(partial / "archives")
    shutil.rmtree(root, ignore_errors=True)
    partial.rename(root)


def fetch(package: str, folder: Path) -> str:
    """The archives of what apt-get would install here for the package; or why not."""
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o777)  # apt-get downloads as the user _apt
    # A conflicting package that is installed would be "Remv": nothing is carried out, so it does not matter.
    plan = subprocess.run(["apt-get", "install", "--simulate", "--no-install-recommends", package],
                          capture_output=True, text=True, timeout=stage.DEADLINE_SECONDS)
    wanted = re.findall(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+)", plan.stdout, re.MULTILINE)
    if not wanted:
        return last_line(plan.stderr)
    got = subprocess.run(["apt-get", "download", "-q", *[f"{name}={version}" for name, version in wanted]],
                         cwd=folder, capture_output=True, text=True, timeout=180)
    return "" if got.returncode == 0 else last_line(got.stderr)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
