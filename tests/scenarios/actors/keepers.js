// SPDX-License-Identifier: MIT
// Servers and clients that keep what they should, as in keepers.py.
'use strict';
const net = require('net');

const host = '127.0.0.1';
const kept = [];
const ready = () => console.log('ready');
const resident = () => process.memoryUsage.rss();

// A chunk that the socket has given may be a small part of what is allocated for it.
const copy = (chunk) => {
  const own = Buffer.allocUnsafeSlow(chunk.length);
  chunk.copy(own);
  return own;
};

const collector = () => {
  require('v8').setFlagsFromString('--expose-gc');
  return require('vm').runInNewContext('gc');
};

// Blocks of 33 MB, which malloc always maps and unmaps, so that what is dropped goes back to the system.
class Batch {
  constructor() { this.blocks = []; this.size = 0; this.room = 0; }
  add(chunk) {
    for (let from = 0; from < chunk.length;) {
      if (this.room === 0) {
        this.blocks.push(Buffer.alloc(33 << 20));
        this.room = 33 << 20;
      }
      const block = this.blocks.at(-1);
      const copied = chunk.copy(block, block.length - this.room, from);
      this.room -= copied;
      this.size += copied;
      from += copied;
    }
  }
}

module.exports = {
  'store'(port) {
    net.createServer((socket) => {
      let head = null;
      socket.on('readable', () => {
        let answers = 0;
        for (let value; (head ??= socket.read(4)) && (value = socket.read(head.readUInt32BE())); head = null) {
          kept.push(copy(value));
          answers++;
        }
        if (answers) socket.write('ok\n'.repeat(answers));
      }).on('end', () => socket.end());
    }).listen(port, host, ready);
  },
  'ingester'(port, seconds) {
    const collect = collector();
    let batch = new Batch(), total = 0;
    const drop = () => {
      const { size } = batch, before = resident();
      batch = new Batch();
      collect();
      setTimeout(() => {
        const after = resident();
        console.log(`dropped ${size >> 10} KiB: ${before >> 10} KiB resident before, ${after >> 10} KiB after`);
        if (before - after < size / 2) { console.log('memory does not fall'); process.exit(1); }
      }, 300);
    };
    net.createServer((socket) => socket.on('data', (chunk) => {
      if (batch.size === 0) setTimeout(drop, seconds * 1000);
      batch.add(chunk);
      total += chunk.length;
    })).listen(port, host, ready);
    setInterval(() => console.log(Math.floor(total / 1000)), 1000);
  },
  'cache'(port, seconds) {
    let oldest = 0, full = false;
    setTimeout(() => { full = true; }, seconds * 1000);
    net.connect(port, host, ready).on('data', (chunk) => {
      for (let from = 0; from < chunk.length; from += 4096) {
        const piece = chunk.subarray(from, from + 4096);
        if (full) piece.copy(kept[oldest++ % kept.length]); else kept.push(copy(piece));
      }
    });
  },
  'rooms'(port, size) {
    const rooms = new Map();
    net.createServer((socket) => {
      rooms.set(socket, Buffer.alloc(size, 1));
      socket.on('data', (data) => { data.copy(rooms.get(socket)); socket.write('ok\n'); });
      socket.on('close', () => rooms.delete(socket)).on('error', () => {});
    }).listen(port, host, ready);
  },
  'steps'(port, size, count, seconds) {
    net.connect(port, host, ready).resume();
    const timer = setInterval(() => { if (kept.push(Buffer.alloc(size, 1)) === count) clearInterval(timer); }, seconds * 1000);
  },
};
