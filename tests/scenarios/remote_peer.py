#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A TCP peer that no socket of this host belongs to: a truly remote machine, as far as laggard can see.

Answers for 10.77.0.2 on a TUN device of the current network namespace; the kernel's side is 10.77.0.1. Just enough TCP
for one connection on a lossless link: no options, no reordering, no congestion control.

  remote_peer.py reader PORT RATE [WINDOW [PATH]]   connects to 10.77.0.1:PORT, takes RATE bytes/s of what comes, with
                                                    a buffer of WINDOW bytes (64000); first a GET if there is a PATH
  remote_peer.py mute PORT                          accepts one connection on 10.77.0.2:PORT, never sends or closes
"""
from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass

KERNEL, PEER = "10.77.0.1", "10.77.0.2"
FIN, SYN, RST, ACK = 1, 2, 4, 16
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h


def open_tun() -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"remote", IFF_TUN | IFF_NO_PI))
    for command in (f"ip addr add {KERNEL}/30 dev remote", "ip link set remote up"):
        subprocess.run(command.split(), check=True)
    return device


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    total += data[-1] << 8 if len(data) % 2 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass
class Segment:
    source: int
    target: int
    seq: int
    ack: int
    flags: int
    payload: bytes


def parse(packet: bytes) -> Segment | None:
    if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
        return None
    tcp = packet[(packet[0] & 15) * 4: struct.unpack("!H", packet[2:4])[0]]
    source, target, seq, ack, offset, flags = struct.unpack("!HHIIBB", tcp[:14])
    return Segment(source, target, seq, ack, flags, tcp[(offset >> 4) * 4:])


class Peer:
    def __init__(self, port: int, remote_port: int, window: int, rate: float) -> None:
        self.device = open_tun()
        self.port, self.remote_port = port, remote_port
        self.capacity, self.rate = window, rate
        self.unread = 0.0
        self.snd_nxt, self.rcv_nxt = 1_000_003, 0
        self.window = window  # as advertised: shrinks with what arrives, grows by whole segments, is never taken back
        self.established = False

    def open_window(self) -> bool:
        free = int(self.capacity - self.unread)
        opens = free >= self.window + min(1460, self.capacity)
        self.window = free if opens else self.window
        return opens

    def send(self, flags: int, payload: bytes = b"") -> None:
        tcp = struct.pack("!HHIIBBHHH", self.port, self.remote_port, self.snd_nxt, self.rcv_nxt, 5 << 4, flags,
                          self.window, 0, 0) + payload
        addresses = socket.inet_aton(PEER) + socket.inet_aton(KERNEL)
        check = checksum(addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp)) + tcp)
        tcp = tcp[:16] + struct.pack("!H", check) + tcp[18:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0) + addresses
        os.write(self.device, ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp)

    def receive(self, seconds: float) -> Segment | None:
        """The next segment of our connection."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.device], [], [], left)[0]:
                return None
            segment = parse(os.read(self.device, 65536))
            if segment and segment.target == self.port and self.remote_port in (0, segment.source):
                if segment.flags & RST and self.established:
                    sys.exit("reset by the other end")
                return segment
        return None

    def connect(self, request: bytes) -> None:
        while True:  # until somebody listens
            self.send(SYN)
            answer = self.receive(0.2)
            if answer and answer.flags & SYN:
                break
        self.snd_nxt += 1
        self.rcv_nxt = answer.seq + 1
        self.established = True
        self.send(ACK, request)
        self.snd_nxt += len(request)

    def accept(self) -> None:
        while not ((syn := self.receive(1.0)) and syn.flags & SYN):
            pass
        self.remote_port, self.rcv_nxt = syn.source, syn.seq + 1
        self.send(SYN | ACK)
        self.snd_nxt += 1
        self.established = True

    def take(self, segment: Segment) -> None:
        length = len(segment.payload)
        if segment.seq == self.rcv_nxt and length <= self.window:
            self.rcv_nxt = (self.rcv_nxt + length + (segment.flags & FIN)) % 2**32
            self.window -= length
            self.unread += length

    def consume(self) -> None:
        """For ever: takes `rate` bytes per second out of the buffer."""
        consumed_at = time.monotonic()
        while True:
            segment = self.receive(0.02)
            if segment:
                self.take(segment)
            now = time.monotonic()
            self.unread = max(0.0, self.unread - self.rate * (now - consumed_at))
            consumed_at = now
            # A segment out of order or without payload and FIN, beside what we expect, is a retransmission or a probe.
            asks = segment and (segment.payload or segment.flags & FIN or segment.seq != self.rcv_nxt)
            if self.open_window() or asks:
                self.send(ACK)


def main(role: str, port: str, rate: str = "1e9", window: str = "64000", path: str = "") -> None:
    if role == "reader":
        peer = Peer(40_001, int(port), int(window), float(rate))
        peer.connect(f"GET {path} HTTP/1.0\r\n\r\n".encode() if path else b"")
        print("ready", flush=True)
    else:
        peer = Peer(int(port), 0, int(window), float(rate))
        print("ready", flush=True)
        peer.accept()
    peer.consume()


if __name__ == "__main__":
    main(*sys.argv[1:])
