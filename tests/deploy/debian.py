# SPDX-License-Identifier: MIT
"""laggard's Debian package, as it is built here, and a small Debian to install it in.

The small Debian is a folder below the build folder, made once by mmdebstrap: systemd, and what the package depends on, so
that installing needs no network and a forgotten dependency is noticed.
"""
from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from stage import BUILD, Failed, Skip, require

PACKAGES = ["systemd", "init-system-helpers"]


def done(*command: str | Path, seconds: float = 240, **options: object) -> str:
    """What the command says; an error unless it ends with 0."""
    result = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds, **options)  # type: ignore[call-overload]
    if result.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} left with {result.returncode}:\n{result.stdout[-3000:]}")
    return str(result.stdout)


def package() -> Path:
    """Builds laggard_VERSION_ARCH.deb."""
    require("cpack", "dpkg-shlibdeps", "scdoc")
    folder = BUILD / "package"
    shutil.rmtree(folder, ignore_errors=True)
    done("ninja", "-C", BUILD, "laggard", "laggard_deploy")
    done("cpack", "-G", "DEB", cwd=BUILD)
    packages = list(folder.glob("*.deb"))
    if len(packages) != 1:
        raise Failed(f"cpack made {packages}, not one package")
    return packages[0]


def small_debian(deb: Path) -> Path:
    """The folder. Not to be changed: use a copy."""
    if os.geteuid() != 0:
        raise Skip("only root can make a small Debian")
    require("mmdebstrap")
    depends = done("dpkg-deb", "-f", deb, "Depends").strip()
    wanted = sorted({alternative.split("|")[0].split("(")[0].strip() for alternative in depends.split(",")} | set(PACKAGES))
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not suite:
        raise Skip("the package is of this system's libraries, and this is no Debian: mmdebstrap cannot make another")
    name = hashlib.sha256(f"{suite} {wanted}".encode()).hexdigest()[:12]
    root = BUILD / f"small-debian-{name}"
    if root.exists():
        return root
    # In a folder beside it, and renamed: a build that was cut leaves nothing that looks whole.
    with tempfile.TemporaryDirectory(prefix="small-debian-", dir=BUILD) as work:
        log = done("mmdebstrap", "--variant=essential", "--mode=root", "--format=directory", "--skip=check/empty",
                   f"--include={','.join(wanted)}", "--dpkgopt=force-unsafe-io", "--aptopt=Acquire::Languages \"none\"",
                   "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
                   "--dpkgopt=path-include=/usr/share/doc/laggard/*", suite, Path(work) / "root")
        if not (Path(work) / "root/usr/bin/systemctl").exists():
            raise Failed(log)
        (Path(work) / "root").rename(root)
    return root


def copy_of(root: Path, to: Path) -> Path:
    done("cp", "-a", "--reflink=auto", root, to)
    return to
