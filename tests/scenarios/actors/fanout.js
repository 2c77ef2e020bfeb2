// SPDX-License-Identifier: MIT
// A server that tells its news to everybody, and its clients: half by server-sent events, half by websocket, as plain node
// can. node fanout.js ROLE ARGUMENT...
'use strict';
const crypto = require('crypto');
const http = require('http');

const host = '127.0.0.1';
const [text, ping, pong] = [1, 9, 10];
const acceptance = (key) => crypto.createHash('sha1').update(key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');

// A websocket frame of at most 125 bytes; clients mask theirs (with zeros).
const frame = (kind, words, masked = false) => Buffer.concat([
  Buffer.from([0x80 | kind, (masked ? 0x80 : 0) | words.length]), Buffer.alloc(masked ? 4 : 0), Buffer.from(words)]);

let total = 0;
const fail = (why) => { console.log(why); process.exit(1); };
const ready = () => { console.log('ready'); setInterval(() => console.log(total), 1000); };

const roles = {
  'server'(port, newsSeconds, pingSeconds) {
    const streams = new Set(), sockets = new Set();
    const server = http.createServer((request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders();
      streams.add(response.on('close', () => streams.delete(response)));
    });
    server.on('upgrade', (request, socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        `Sec-WebSocket-Accept: ${acceptance(request.headers['sec-websocket-key'])}\r\n\r\n`);
      socket.answered = true;
      sockets.add(socket.on('data', () => { socket.answered = true; }).on('close', () => sockets.delete(socket)));
    });
    const tell = (kind, stream, words) => {
      for (const response of streams) response.write(stream + words + '\n\n');
      for (const socket of sockets) socket.write(frame(kind, words));
      total += streams.size + sockets.size;
    };
    setInterval(() => tell(text, 'data: ', crypto.randomBytes(50).toString('hex')), newsSeconds * 1000);
    setInterval(() => {
      for (const socket of sockets) {
        if (!socket.answered) fail('a client does not answer pings');
        socket.answered = false;
      }
      tell(ping, ': ', 'ping');
    }, pingSeconds * 1000);
    server.listen(port, host, ready);
  },
  'clients'(port, count) {
    const follow = (stream) => stream.on('close', () => fail('the server has gone'));
    for (let i = 0; i < count; i += 2) {
      http.get({ host, port, agent: false }, (response) =>
        follow(response).on('data', (chunk) => { total += chunk.toString().split('\n\n').length - 1; }));
      const key = crypto.randomBytes(16).toString('base64');
      const headers = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': 13, 'Sec-WebSocket-Key': key };
      http.get({ host, port, headers, agent: false }).on('upgrade', (response, socket) => {
        if (response.headers['sec-websocket-accept'] !== acceptance(key)) fail('no websocket');
        let rest = Buffer.alloc(0);
        follow(socket).on('data', (chunk) => {
          for (rest = Buffer.concat([rest, chunk]); rest.length >= 2 && rest.length >= 2 + rest[1];
            rest = rest.subarray(2 + rest[1])) {
            if ((rest[0] & 15) === ping) socket.write(frame(pong, rest.subarray(2, 2 + rest[1]), true));
            total += 1;
          }
        });
      });
    }
    ready();
  },
};

const [role, ...words] = process.argv.slice(2);
roles[role](...words.map(Number));
