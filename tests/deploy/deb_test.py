# SPDX-License-Identifier: MIT
"""The Debian package installs in a fresh small Debian, works there, and leaves nothing when it is purged."""
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from debian import copy_of, done, package, small_debian
from stage import QUICK, check_schema, eventually, lines_of, require_observer, run, slow_reader, started

# In a mount namespace of its own, so that nothing stays mounted. BPF sees the machine's /proc and /sys, or nothing.
INSIDE = 'mount --rbind /proc "$0/proc" && mount --rbind /sys "$0/sys" && exec chroot "$0" "$@"'


def files_of(root: Path) -> set[str]:
    """All but what dpkg itself writes."""
    own = ("var/lib/dpkg/", "var/log/", "var/cache/", "etc/ld.so.cache", "tmp/")
    return {str(path.relative_to(root)) for path in root.rglob("*")
            if not str(path.relative_to(root)).startswith(own)}


def test(work: Path) -> None:
    deb = package()
    print(f"{deb.name}: {deb.stat().st_size / 1024:.0f} KiB; {done('dpkg-deb', '-f', deb, 'Depends').strip()}")
    if shutil.which("lintian"):
        said = subprocess.run(["lintian", "--allow-root", deb], capture_output=True, text=True, timeout=120).stdout.splitlines()
        # There is no address to write to; LAGGARD_PACKAGE_CONTACT sets one.
        said = [line for line in said if line[:2] in ("E:", "W:") and "bogus-mail-host" not in line]
        assert not said, "\n".join(said)
    root = copy_of(small_debian(deb), work / "root")
    before = files_of(root)

    def inside(*command: str) -> str:
        return done("chroot", root, *command)

    (root / "tmp/laggard.deb").write_bytes(deb.read_bytes())
    inside("dpkg", "-i", "/tmp/laggard.deb")
    assert inside("dpkg", "--verify", "laggard") == "", "an installed file is not as it was packaged"
    for file in ("usr/bin/laggard", "usr/share/man/man1/laggard.1.gz", "usr/lib/systemd/system/laggard.service",
                 "usr/share/bash-completion/completions/laggard", "usr/share/zsh/vendor-completions/_laggard",
                 "usr/share/fish/vendor_completions.d/laggard.fish", "usr/share/laggard/laggard.schema.json",
                 "usr/share/doc/laggard/copyright", "etc/laggard/laggard.toml"):
        assert (root / file).exists(), f"/{file} is not installed"
    wanted = root / "etc/systemd/system/multi-user.target.wants/laggard.service"
    assert not wanted.is_symlink(), "the service was enabled without being asked for"
    version = inside("laggard", "--version")
    assert version == f"laggard {done('dpkg-deb', '-f', deb, 'Version').strip()}\n", version
    inside("systemctl", "enable", "laggard")
    assert wanted.is_symlink()

    require_observer()
    enter = ["unshare", "--mount", "sh", "-c", INSIDE, root]
    assert "Can observe this host." in done(*enter, "laggard", "doctor")
    output = work / "output"
    with slow_reader() as slow, output.open("w", encoding="utf-8") as out:
        watch = ["laggard", "watch", "--output", "json", "--pid", str(slow.pid), *QUICK]
        with started([*enter, *watch], stdout=out) as laggard:
            eventually(lambda: '"slow-reader"' in output.read_text(), "the packaged laggard finds the slow reader")
            laggard.terminate()
            assert laggard.wait(timeout=20) == 0, laggard.returncode
    check_schema(lines_of(output.read_text()))

    (root / "etc/laggard/laggard.toml").write_text('hold = "3s"\n')
    inside("dpkg", "--force-confold", "-i", "/tmp/laggard.deb")
    assert (root / "etc/laggard/laggard.toml").read_text() == 'hold = "3s"\n', "an upgrade changed the configuration"
    inside("dpkg", "--remove", "laggard")
    assert not (root / "usr/bin/laggard").exists()
    assert (root / "etc/laggard/laggard.toml").exists(), "removing took the configuration along"
    inside("dpkg", "--purge", "laggard")
    left = files_of(root) - before
    assert not left, f"purged, and yet there are {sorted(left)}"


run(test)
