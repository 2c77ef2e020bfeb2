# SPDX-License-Identifier: MIT
"""Small programs of known behaviour, written as an application programmer would write them (and get them wrong).

  python3 actors ROLE ARGUMENT...     prints "ready" when what defines the role stands, and goes on until it is killed
"""
from __future__ import annotations

import sys

import connections  # noqa: F401  (each fills ROLES)
import crowds  # noqa: F401
import datagrams  # noqa: F401
import ends  # noqa: F401
import growth  # noqa: F401
import guests  # noqa: F401
import keepers  # noqa: F401
import late  # noqa: F401
import leftovers  # noqa: F401
import memory  # noqa: F401
import stores  # noqa: F401
import streams  # noqa: F401
from common import ROLES


def number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


ROLES[sys.argv[1]](*(number(word) for word in sys.argv[2:]))
