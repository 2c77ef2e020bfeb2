# SPDX-License-Identifier: MIT
"""What is written from or about laggard's options: the man page renders and has each, shells complete them, and the shipped
configuration has defaults."""
from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

from debian import done
from stage import BUILD, LAGGARD, SOURCE, Failed, require, run

# What is typed before the tabulator -> what is there after it.
UNIQUE = {
    "laggard wat": "laggard watch",
    "laggard --outp": "laggard --output",
    "laggard watch --output js": "laggard watch --output json",
    "laggard --only slow": "laggard --only slow-reader",
    "laggard watch --only slow-reader,conn": "laggard watch --only slow-reader,connection-leak",
    "laggard --fail-on cr": "laggard --fail-on critical",
    "laggard --pairs msq": "laggard --pairs msquic",
    "laggard --config exam": "laggard --config example.toml",
    "laggard replay inci": "laggard replay incident.laggard",
    "laggard health --max-a": "laggard health --max-age",
    "laggard doctor --verb": "laggard doctor --verbose",
}


def typed_in(shell: list[str], setup: str, folder: Path, what: str) -> str:
    """What a shell at a terminal makes of `what`, a tabulator and Enter: laggard is a function there that says its arguments."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(TERM="dumb", PS1="", HOME=str(folder), HISTFILE="")
        os.execvp(shell[0], shell)
    seen = b""

    def wait_for(pattern: bytes) -> re.Match[bytes]:
        nonlocal seen
        end = time.monotonic() + 20
        while not (match := re.search(pattern, seen)):
            if not select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0]:
                raise Failed(f"{shell[0]}: '{what}' and a tabulator gave only {seen.decode(errors='replace')!r}")
            seen += os.read(terminal, 4096)
        return match

    try:
        # The words differ from what is typed, which a terminal shows, too.
        os.write(terminal, f"{setup}; laggard() {{ printf 'G%s<%s>\\n' OT \"laggard $*\"; }}; printf 'set%s\\n' -up\n".encode())
        wait_for(rb"set-up\r?\n")
        os.write(terminal, f"{what}\t\n".encode())
        return wait_for(rb"GOT<([^>]*)>")[1].decode().strip()
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def check_shells(folder: Path) -> list[str]:
    generated = BUILD / "deploy"
    at_terminal = {"bash": (["bash", "--norc", "--noprofile", "-i"], f". {generated}/bash/laggard"),
                   "zsh": (["zsh", "-f", "-i"], f"autoload -U compinit; compinit -D -u; . {generated}/zsh/_laggard")}
    for name in ("example.toml", "incident.laggard"):
        (folder / name).touch()
    tried = []
    for shell, (command, setup) in at_terminal.items():
        if shutil.which(shell) is None:
            continue
        for before, after in UNIQUE.items():
            got = typed_in(command, setup, folder, before)
            assert got == after, f"{shell}: '{before}' became '{got}', not '{after}'"
        tried.append(shell)
    if shutil.which("fish"):
        for before, after in UNIQUE.items():
            script = f"source {generated}/fish/laggard.fish; complete -C '{before}'"
            offered = done("fish", "--no-config", "-c", script, cwd=folder, env={**os.environ, "HOME": str(folder)})
            words = [line.split("\t")[0] for line in offered.splitlines()]
            assert after.split()[-1] in words, f"fish: '{before}' offers {words}, not '{after.split()[-1]}'"
        tried.append("fish")
    return tried


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def check_page() -> None:
    page = BUILD / "deploy/laggard.1"
    warnings = done("groff", "-ww", "-man", "-Tutf8", "-z", page)
    assert not warnings, warnings
    rendered = done("groff", "-man", "-Tascii", "-P-cbou", "-rLL=200n", "-rHY=0", page)
    explained = set(re.findall(r"^ +(?:-\w, )?(--[a-z][a-z-]*)", rendered, re.M))
    helps = {command: done(LAGGARD, *command, "--help") for command in [(), *[(name,) for name in commands()]]}
    known = set().union(*(re.findall(r"^ +(?:-\w,)?(--[a-z][a-z-]*)", text, re.M) for text in helps.values()))
    assert len(known) > 30, f"--help lists only {sorted(known)}"
    assert explained == known, f"not in the man page: {sorted(known - explained)}; not in --help: {sorted(explained - known)}"
    assert options_in(rendered) <= known | {"--now"}, f"the text has {sorted(options_in(rendered) - known - {'--now'})}, which is no option"
    for command in commands():
        assert re.search(rf"^ +{command}\b", rendered, re.M), f"the man page has no command {command}"
    for shell in ("bash/laggard", "zsh/_laggard"):
        script = (BUILD / "deploy" / shell).read_text()
        assert known <= options_in(script), f"{shell} lacks {sorted(known - options_in(script))}"
    fish = {f"--{name}" for name in re.findall(r" -l ([a-z-]+)", (BUILD / "deploy/fish/laggard.fish").read_text())}
    assert known == fish, known ^ fish


def check_configuration(folder: Path) -> None:
    """Each commented line of the shipped configuration is an option, with the default that --help shows."""
    lines = re.findall(r'^# ([a-z-]+ = [^#\n]*)', (SOURCE / "scripts/deploy/systemd/laggard.toml").read_text(), re.M)
    assert len(lines) > 10, lines
    (folder / "all.toml").write_text("\n".join(lines))
    # 1: not healthy, without a heartbeat. 2 would be a mistake in the file.
    tried = subprocess.run([LAGGARD, "--config", folder / "all.toml", "--heartbeat", folder / "none", "health"], capture_output=True)
    assert tried.returncode == 1, tried
    defaults = dict(re.findall(r"^ +--([a-z-]+) \[([^]]*)\](?= |$)", done(LAGGARD, "--help"), re.M))
    for key, value in re.findall(r'^([a-z-]+) = "([^"]*)"', "\n".join(lines), re.M):
        assert defaults.get(key, value) == value, f"{key} is {defaults[key]}, not {value}"


def commands() -> list[str]:
    text = done(LAGGARD, "--help").split("\nSubcommands:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in text.splitlines()]


def test(work: Path) -> None:
    require("groff", "scdoc", "bash")
    done("ninja", "-C", BUILD, "laggard", "laggard_deploy")
    check_page()
    check_configuration(work)
    print("completed in " + ", ".join(check_shells(work)))


run(test)
