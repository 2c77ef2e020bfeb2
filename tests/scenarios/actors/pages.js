// SPDX-License-Identifier: MIT
// A server of small pages, each of which leaves 50 to 100 kB of garbage.
'use strict';
const http = require('http');

const page = (count) => {
  const lines = Array.from({ length: count }, (_, number) => ({ number, words: `line ${Math.random()}` }));
  return JSON.stringify(JSON.parse(JSON.stringify(lines)).slice(-5)) + '\nok\n';
};

module.exports = {
  'pages'(port) {
    http.createServer((request, response) => response.end(page(200 + Math.floor(Math.random() * 200))))
      .listen(port, '127.0.0.1', () => console.log('ready'));
  },
};
