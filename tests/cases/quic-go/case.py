# SPDX-License-Identifier: MIT
"""A QUIC client in Go that closes its streams for writing and never reads them to their end."""
from __future__ import annotations

from pathlib import Path

from harness import Program, Scene, free_port
from observer import Finding
from scenario import Culprit, Outcome, negative, positive
from toolbox import PILE_SECONDS, expect, explain, go_built, piles_up, stacks

MESSAGE_BYTES = 20
INTERVAL = "1ms"
MORE_THAN_READ = 4  # times what was read: this much is no buffered data, whatever its overhead

# The goroutines that read the socket and open the peer's streams. What a thread has read says little in a Go program,
# whose goroutines move between threads; and which function touches a page first is chance, but not in which goroutine.
RECEIVING = ("quic-go.(*packetHandlerMap).listen+", "quic-go.(*connection).run+")


def options() -> list[str]:
    return ["--pairs", "quic-go"]


def build(stripped: bool = False) -> Path:
    return go_built("quic-go", Path(__file__).parent, stripped)


def client(scene: Scene, habit: str, program: Path | None = None) -> Program:
    address = f"127.0.0.1:{free_port()}"
    scene.start(build(), "server", address, MESSAGE_BYTES, INTERVAL).wait_says("ready\n")
    return scene.start(program or build(), "client", address, habit).wait_says("ready\n")


def is_more_than_read(found: Finding, outcome: Outcome) -> str:
    ratio = found.lines[0]["laggard.evidence.retained_ratio"]
    expect(ratio >= MORE_THAN_READ, f"the retained ratio is {ratio:.1f}: is it the messages that are kept?")
    return f"ratio {ratio:.0f}"


def is_streams(found: Finding, outcome: Outcome) -> str:
    ratio = is_more_than_read(found, outcome)
    explanation = explain(outcome, found.pid)
    sockets = [line for line in explanation if line["event.name"] == "laggard.explanation.socket"]
    expect(len(sockets) == 1 and sockets[0]["network.transport"] == "udp", f"{len(sockets)} sockets, not one of UDP")
    blamed = found.lines[0]["laggard.examples"]
    expect([f"*:{sockets[0]['network.local.port']}>*:0"] == blamed, f"the finding blames {', '.join(blamed)}")
    share = sockets[0]["laggard.evidence.attributed_ratio"]
    expect(share >= 0.5, f"explain attributes only {share:.0%} to the socket")
    shown = stacks(explanation)
    within = sum(line["laggard.evidence.attributed_ratio"] for line in shown
                 if any(name in frame for frame in line["laggard.stack.frames"] for name in RECEIVING))
    total = sum(line["laggard.evidence.attributed_ratio"] for line in shown)
    expect(within > total / 2, f"only {within:.0%} of the {total:.0%} that explain shows is touched by quic-go's receiving")
    return f"{ratio}, {share:.0%} with the UDP socket, stacks of quic-go {within:.0%} of {total:.0%}"


@positive("heap-growth", check=is_streams, beside=["unpaired-operations"], also=["heap-growth"],
          at_end=piles_up("quic-go-stream", "quic-go.(*streamsMap)"), seconds=PILE_SECONDS, recording="case-quic-go")
def leak(scene: Scene) -> Culprit:
    """Reads each message of 20 bytes, and not the end of its stream: Close is for the write side, the stream stays."""
    return client(scene, "leak")


@positive("heap-growth", check=is_more_than_read, beside=["unpaired-operations"], also=["heap-growth"],
          at_end=piles_up("quic-go-stream", "quic-go.(*streamsMap)"), seconds=PILE_SECONDS)
def stripped(scene: Scene) -> Culprit:
    """The same without symbols: Go's own table tells where the functions are, and has names for its stacks, too."""
    return client(scene, "leak", build(stripped=True))


@negative()
def drained(scene: Scene) -> None:
    """Reads its streams to the end."""
    client(scene, "drain")


@negative()
def cancelled(scene: Scene) -> None:
    """Calls CancelRead for what it does not read."""
    client(scene, "cancel")
