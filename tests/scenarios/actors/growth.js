// SPDX-License-Identifier: MIT
// Memory that grows in steps, with messages, with visits, with connections, or beside all of them.
'use strict';
const dgram = require('dgram');
const net = require('net');

const host = '127.0.0.1';
const kept = [];
const ready = () => console.log('ready');
const touched = (size) => Buffer.alloc(size, 'x');

module.exports = {
  // ---- in steps, or beside a socket ----

  // Keeps all it reads, in blocks of `step` bytes; each is touched when it is made, as an arena's are.
  'step-hoarder'(port, step) {
    let block = touched(step), used = 0;
    const keep = (count, chunk) => {
      if (used + count > step) { kept.push(block); block = touched(step); used = 0; }
      used += chunk.copy(block, used, 0, count);
      return true;
    };
    net.connect({ port, host, onread: { buffer: Buffer.alloc(65_536), callback: keep } }, ready);
  },
  // Reads a socket and keeps nothing; a timer leaves `size` bytes behind every `pause` seconds.
  'leaks-beside'(port, size, pause) {
    net.connect(port, host, ready).on('data', () => {});
    setInterval(() => kept.push(touched(size)), pause * 1000);
  },

  // ---- with each message ----

  'leaves-per-push'(port, size) {
    net.connect(port, host, ready).on('data', () => kept.push(touched(size)));
  },
  'leaves-per-request'(port, size) {
    net.createServer((socket) => socket.on('data', () => { kept.push(touched(size)); socket.write('done'); }))
      .listen(port, host, ready);
  },
  'leaves-per-datagram'(port, size) {
    dgram.createSocket('udp4').on('message', () => kept.push(touched(size))).bind(port, host, ready);
  },

  // ---- with each request or visit ----

  // A store: keeps each request of `size` bytes, and answers it.
  'keeps-requests'(port, size) {
    net.createServer((socket) => {
      let come = 0;
      socket.on('data', (chunk) => {
        kept.push(chunk);
        come += chunk.length;
        if (come >= size) { come -= size; socket.write('stored'); }
      });
    }).listen(port, host, ready);
  },
  // Reads once what each client sends, when all of it has come; keeps it, and answers nothing. The youngest `atOnce`
  // connections stay open.
  'keeps-visits'(port, size, atOnce) {
    const ends = [];
    net.createServer({ pauseOnConnect: true }, (socket) => {
      ends.push(socket);
      socket.on('data', (chunk) => kept.push(chunk));
      setTimeout(() => socket.resume(), 20);
      socket.once('data', () => { if (ends.length > atOnce) ends.shift().end(); });
    }).listen(port, host, ready);
  },

  // ---- without a socket that lives ----

  // Connects to a port where nobody listens, over and over; each attempt leaves `size` bytes behind.
  'refused'(port, size, perSecond) {
    setInterval(() => { kept.push(touched(size)); net.connect(port, host).on('error', () => {}); }, 1000 / perSecond);
    ready();
  },

  // ---- with each connection ----

  // Has `size` bytes for each connection, as long as its client leaves it open.
  'keeps-clients'(port, size) {
    net.createServer((socket) => {
      socket.session = touched(size);
      socket.on('data', () => socket.write('hello'));
    }).listen(port, host, ready);
  },
  // A new connection for each request, `size` bytes for each connection, and none is ever closed.
  'keeps-connections'(port, size, perSecond) {
    setInterval(() => {
      const socket = net.connect(port, host);
      socket.on('data', () => {}).write('GET');
      kept.push([socket, touched(size)]);
    }, 1000 / perSecond);
    ready();
  },
};
