# SPDX-License-Identifier: MIT
"""A PostgreSQL client keeps results of queries that it has done with."""
from __future__ import annotations

from pathlib import Path

from harness import Program, Scene, Skip
from programs import postgres
from scenario import Culprit, negative, positive
from toolbox import PILE_SECONDS, built, pkg_config, piles_up

PAIR = "libpq-result"
HERE = Path(__file__).parent
DEBIANS_PYTHON = "/usr/bin/python3"  # psycopg2 is a package of Debian: other Pythons do not have it


def options() -> list[str]:
    return ["--pairs", "libpq"]


def psycopg2(scene: Scene, habit: str) -> Program:
    if not list(Path("/usr/lib/python3/dist-packages").glob("psycopg2")):
        raise Skip("python3-psycopg2 is not installed")
    return scene.start(DEBIANS_PYTHON, "-B", HERE / "results.py", postgres(scene).port, habit).wait_says("ready\n")


def c(scene: Scene, habit: str) -> Program:
    program = built("results", lambda out: ["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-fno-omit-frame-pointer",
                                            "-o", out, "results.c", *pkg_config("libpq")], HERE)
    return scene.start(program, postgres(scene).port, habit).wait_says("ready\n")


@positive("unpaired-operations", at_end=piles_up(PAIR, "libpq"), seconds=PILE_SECONDS)
def forgets(scene: Scene) -> Culprit:
    """A C program at 30 queries a second returns without PQclear from the tenth that fails."""
    return c(scene, "forgets")


@positive("unpaired-operations", at_end=piles_up(PAIR, "libpq"), seconds=PILE_SECONDS)
def keeps_cursors(scene: Scene) -> Culprit:
    """A psycopg2 program at 30 queries a second keeps every tenth cursor in a list."""
    return psycopg2(scene, "keeps")


@negative()
def clears(scene: Scene) -> None:
    """The same C program clears the results of those that fail, too."""
    c(scene, "clears")


@negative()
def closes_cursors(scene: Scene) -> None:
    """The same psycopg2 program closes all cursors."""
    psycopg2(scene, "closes")


@negative()
def closes_late(scene: Scene) -> None:
    """It closes every tenth cursor 6 s later: 18 are open at any time, the oldest for longer than --unpaired."""
    psycopg2(scene, "late")
