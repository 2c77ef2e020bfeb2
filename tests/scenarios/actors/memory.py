# SPDX-License-Identifier: MIT
"""Memory that grows."""
from __future__ import annotations

import gc
import importlib
import json
import signal

from common import connect, every, in_background, ready, role


def breathe_socket(port: int) -> None:
    end = connect(port)
    while end.recv(65_536):
        pass


@role
def thread_leaks(port: int, rate: int) -> None:
    """One thread reads a socket and keeps nothing, another one leaks."""
    in_background(breathe_socket, port)
    kept = []
    ready()
    for _ in every(0.1):
        kept.append(bytearray(b"x") * (rate // 10))


@role
def sawtooth(port: int) -> None:
    """Reference cycles pile up until the collector comes, while a socket is read."""
    in_background(breathe_socket, port)
    gc.disable()
    ready()
    for beat in every(0.1):
        cycle: list[object] = [bytearray(b"x") * 400_000]
        cycle.append(cycle)
        if beat % 50 == 49:
            gc.collect()


@role
def warms_up(port: int, path: str) -> None:
    """Loads much of the standard library and a large file, then serves as it is."""
    in_background(breathe_socket, port)
    for name in ("asyncio", "email.mime.text", "xml.dom.minidom", "sqlite3", "unittest", "multiprocessing", "decimal",
                 "ctypes", "logging.config", "concurrent.futures", "tarfile", "zipfile", "urllib.request", "pydoc"):
        importlib.import_module(name)
    kept = []
    ready()
    with open(path) as lines:
        for line, _ in zip(lines, every(0.02)):
            kept.append(json.loads(line))
    signal.pause()
