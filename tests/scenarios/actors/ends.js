// SPDX-License-Identifier: MIT
// Connections and listeners that end in odd ways, and requests that are not read to their end.
'use strict';
const child = require('child_process');
const net = require('net');

const kept = [];
const ready = () => console.log('ready');
const block = (seconds) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000);

// One read of 64 KiB of a longer request, then work that blocks, then the rest and the answer.
const leavesSome = (port, work) => net.createServer({ pauseOnConnect: true }, (socket) => {
  socket.once('data', () => { socket.pause(); work(); socket.resume(); socket.end('done'); });
  setTimeout(() => socket.resume(), 200);  // all of it has come
}).listen(port, ready);

module.exports = {
  'blocking-worker'(port, seconds) { leavesSome(port, () => block(seconds)); },
  'worker-with-a-child'(port, seconds) { leavesSome(port, () => child.execFileSync('sleep', [String(seconds)])); },
  // Reads the beginning of what comes on each connection, and forgets it.
  'reads-once'(port, count) {
    for (let i = 0; i < count; i++) {
      const socket = net.connect(port, '127.0.0.1');
      socket.once('data', () => { socket.pause(); kept.push(socket); if (kept.length === count) ready(); });
    }
    setInterval(() => {}, 1e6);
  },
  // Serves some clients, starts a child that inherits the listening descriptor, and ends.
  'leaves-its-listener'(port, count) {
    const server = net.createServer((socket) => socket.once('data', () => socket.write('ok', () => {
      if (--count > 0) return;
      const stdio = ['ignore', 'ignore', 'ignore', server._handle.fd];
      child.spawn('sleep', ['infinity'], { detached: true, stdio }).unref();
      process.exit(0);
    }))).listen(port, ready);
  },
  // Half-open on purpose; says something to each client when the kernel has forgotten the other end: a reset. Once, and
  // the descriptor stays; twice, and node sees the error and closes.
  'speaks-late'(port, patience, times) {
    net.createServer({ allowHalfOpen: true }, (socket) => {
      kept.push(socket);
      const forget = () => kept.splice(kept.indexOf(socket), 1);
      socket.resume().on('error', forget);
      for (let i = 0; i < times; i++) setTimeout(() => socket.write('are you there?'), (patience + i * 0.5) * 1000);
    }).listen(port, ready);
  },
};
