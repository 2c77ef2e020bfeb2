// SPDX-License-Identifier: MIT
// Who reads in bursts: too late, or just rarely.
'use strict';
const dgram = require('dgram');
const net = require('net');

const host = '127.0.0.1';
const ready = () => console.log('ready');
const block = (seconds) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000);

// Something blocks the loop for `blocked` seconds, over and over, `free` seconds apart.
const blockAgainAndAgain = (blocked, free) => {
  setTimeout(() => { block(blocked); blockAgainAndAgain(blocked, free); }, free * 1000);
};

module.exports = {
  'blocking-server'(port, blocked, free) {
    const server = net.createServer((socket) => socket.once('data', () => server.emit('busy')).resume());
    server.listen(port, host, ready).once('busy', () => blockAgainAndAgain(blocked, free));
  },
  'blocking-client'(port, count, blocked, free) {
    for (let i = 0; i < count; i++) net.connect(port, host).resume();
    ready();
    blockAgainAndAgain(blocked, free);
  },
  // Reads well, but for `pause` seconds in `period`; `times` in all, 0: for ever.
  'udp-flusher'(port, pause, period, recvBufferSize, times = 0) {
    dgram.createSocket({ type: 'udp4', recvBufferSize }).on('message', () => {}).bind(port, host, ready);
    let number = 0;
    const timer = setInterval(() => {
      block(pause);
      if (++number === times) clearInterval(timer);
    }, (pause + period) * 1000);
  },
  // One chunk (of 64 KiB) every `pause` seconds, as a video player takes them.
  'player'(port, pause) {
    const socket = net.connect(port, host, ready).on('data', () => socket.pause());
    setInterval(() => socket.resume(), pause * 1000);
  },
};
