// SPDX-License-Identifier: MIT
// Many connections of one process: leaked, pooled, subscribed, or to peers that are gone.
'use strict';
const dgram = require('dgram');
const http = require('http');
const net = require('net');

const local = '127.0.0.1';
const kept = [];
const ready = () => console.log('ready');
const nextHost = (number) => `127.0.${1 + Math.floor(number / 250)}.${1 + number % 250}`;

const ask = (socket, port, then = () => {}) => { socket.once('message', then); socket.send('who?', port, local); };

// One GET over a connection of its own, which stays open.
const visit = (host, port) => {
  const agent = new http.Agent({ keepAlive: true });
  http.get({ host, port, path: '/small', agent }, (response) => response.resume());
  return agent;
};

const everySecond = (times, action) => { setInterval(action, 1000 / times); ready(); };

module.exports = {
  // A socket for each query, and none is ever closed.
  'leaks-udp'(port, perSecond) {
    everySecond(perSecond, () => { kept.push(dgram.createSocket('udp4')); ask(kept.at(-1), port); });
  },
  'udp-resolver'(port, perSecond) {
    everySecond(perSecond, () => { const socket = dgram.createSocket('udp4'); ask(socket, port, () => socket.close()); });
  },
  'udp-pool'(port, perSecond, size) {
    everySecond(perSecond, () => {
      kept.push(kept.length < size ? dgram.createSocket('udp4') : kept.shift());
      ask(kept.at(-1), port);
    });
  },
  'one-per-host'(port, perSecond) {
    let number = 0;
    everySecond(perSecond, () => kept.push(visit(nextHost(number++), port)));
  },
  // The next host, whose connection is closed when it has been idle; twice as many from the first goodbye on.
  'crawler'(port, perSecond, idle) {
    let number = 0, each = 1;
    everySecond(perSecond, () => {
      for (let i = 0; i < each; i++) {
        const agent = visit(nextHost(number++), port);
        setTimeout(() => { agent.destroy(); each = 2; }, idle * 1000);
      }
    });
  },
  // Answers, and ends when its clients do. No keep-alive probes, no timeout.
  'answers'(port) {
    net.createServer((socket) => socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')))
      .listen(port, ready);
  },
  'redis-users'(port, count, perSecond) {
    let user = 0;
    const timer = setInterval(() => {
      net.connect(port, local).on('data', () => {}).write(`SUBSCRIBE user:${user}\r\n`);
      if (++user === count) clearInterval(timer);
    }, 1000 / perSecond);
    ready();
  },
  'ticker'(port) {
    net.createServer((socket) => {
      const timer = setInterval(() => socket.write(Buffer.alloc(100)), 1000);
      socket.resume().on('close', () => clearInterval(timer)).on('error', () => {});
    }).listen(port, ready);
  },
  // A query to redis twice a second, each after the answer to the last one.
  'asks-database'(port, host) {
    const socket = net.connect(port, host, () => socket.write('PING\r\n'));
    socket.once('data', ready).on('data', () => setTimeout(() => socket.write('PING\r\n'), 500));
  },
};
