// SPDX-License-Identifier: MIT
// The roles that node plays: node node.js ROLE ARGUMENT...
'use strict';
const http = require('http');
const net = require('net');

const host = '127.0.0.1';
const kept = [];
const ready = () => console.log('ready');
const agent = () => new http.Agent({ keepAlive: true });
const discard = (port) => net.connect(port, host).on('data', () => {});

// One GET whose body is read to the end.
const get = (port, withAgent, then = () => {}) =>
  http.get({ host, port, path: '/small', agent: withAgent }, (response) => response.resume().on('end', then));

const roles = {
  // A stream that nobody resumes.
  'paused'(port) {
    http.get({ host, port, path: '/big' }, (response) => { response.pause(); kept.push(response); ready(); });
    setInterval(() => {}, 1e6);  // something else to do: a paused socket alone does not keep node alive
  },
  // The classic: concatenate chunks until 'end', which never comes.
  'hoarder'(port) {
    net.connect(port, host, ready).on('data', (chunk) => kept.push(chunk));
  },
  'discarder'(port) {
    net.connect(port, host, ready).on('data', () => {});
  },
  // A server without visitors, whose timer remembers too much.
  'timer-leaks'(port, rate) {
    setInterval(() => kept.push(new Array(rate / 10 / 8).fill(kept.length + 0.5)), 100);
    http.createServer({ keepAliveTimeout: 0 }, (request, response) => response.end('ok')).listen(port, host, ready);
  },
  // One agent per request, so no connection is ever used again.
  'agent-leaks'(port, perSecond) {
    setInterval(() => { kept.push(agent()); get(port, kept.at(-1)); }, 1000 / perSecond);
    ready();
  },
  // Half-open sockets on purpose, and then forgotten.
  'half-open'(port) {
    net.createServer({ allowHalfOpen: true }, (socket) => { kept.push(socket); socket.resume(); }).listen(port, host, ready);
  },
  // Greets everybody; the word "think" keeps the event loop busy for ever.
  'blocked-server'(port) {
    net.createServer((socket) => socket.on('data', (data) => {
      socket.write('ok');
      if (data.toString() === 'think') setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
    })).listen(port, host, ready);
  },
  // One client is served, a second one blocks the server, the first one goes on talking, others come.
  'blocks-server'(port) {
    const first = net.connect(port, host);
    first.write('hello');
    first.once('data', () => {
      const second = net.connect(port, host);
      second.write('think');
      second.once('data', () => {
        first.write('x'.repeat(5000));
        for (let i = 0; i < 5; i++) kept.push(net.connect(port, host));
        ready();
      });
    });
  },
  // 20 MB of garbage that lives for 5 s, over and over. Left alone, V8 collects it for the first time after 36 s and 128 MB,
  // which within a shortened memory window is a leak.
  'sawtooth'(port) {
    discard(port);
    require('v8').setFlagsFromString('--expose-gc');
    const collect = require('vm').runInNewContext('gc');
    let old = [];
    setInterval(() => {
      old.push(Buffer.alloc(400_000, 1).toString('latin1') + old.length);
      if (old.length >= 50) { old = []; collect(); }
    }, 100);
    ready();
  },
  // Young garbage only: what is parsed is forgotten.
  'json-lines'(port) {
    let rest = '';
    net.connect(port, host, ready).on('data', (chunk) => {
      const lines = (rest + chunk.toString('latin1')).split('\n');
      rest = lines.pop();
      for (const line of lines) JSON.parse(JSON.stringify({ line, at: Date.now() }));
    });
  },
  // Compiles and keeps for some seconds, then stays as it is.
  'warms-up'(port) {
    discard(port);
    for (const name of require('module').builtinModules) if (!name.startsWith('_')) require(name);
    let step = 0;
    const timer = setInterval(() => {
      kept.push(JSON.parse(JSON.stringify(Array.from({ length: 10_000 }, (_, i) => ({ i, name: 'n' + i, step })))));
      if (++step === 50) clearInterval(timer);
    }, 100);
    ready();
  },
  // An agent's pool: filled at once, then used again and again.
  'agent-pool'(port, count) {
    const pool = agent();
    let open = count;
    for (let i = 0; i < count; i++) get(port, pool, () => { if (--open === 0) ready(); });
    setInterval(() => get(port, pool), 1000);
  },
};

for (const name of ['late', 'crowds', 'ends', 'growth', 'keepers', 'pages']) Object.assign(roles, require(`./${name}.js`));
const [role, ...words] = process.argv.slice(2);
roles[role](...words.map((word) => isNaN(word) ? word : Number(word)));
