// What the page of tests/browsers.rs talks to, through ringgate: node origin.js PORT REPORT
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const path = require('path');
const [port, report] = process.argv.slice(2);
const page = fs.readFileSync(path.join(__dirname, 'page.html'));
const big = Buffer.alloc(3_000_000, 'ringgate');
let next = () => {};

const server = http.createServer((request, response) => {
  const { pathname, search } = new URL(request.url, 'http://a.test');
  const body = [];
  request.on('data', piece => body.push(piece));
  request.on('end', () => {
    const received = Buffer.concat(body);
    switch (pathname) {
      case '/': return response.setHeader('content-type', 'text/html'), response.end(page);
      case '/small': return response.end('small ' + search.slice(1));
      case '/big': return response.end(big);
      case '/echo': return response.end(received);
      case '/next': return next(), response.end();
      case '/events': return events(response);
      case '/report':
        fs.writeFileSync(report + '.part', received);
        fs.renameSync(report + '.part', report);
        return response.end();
      default: return response.writeHead(404).end();
    }
  });
});

// Each event but the first is sent when the page has asked for it, having seen the one before: whoever holds an
// event back waits for ever.
function events(response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  let n = 0;
  next = () => response.write(`data: ${++n}\n\n`);
  next();
}

// RFC 6455: echoes messages as they come, and what a close says.
server.on('upgrade', (request, socket, head) => {
  const accept = crypto.createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let buffer = head;
  socket.on('error', () => {});
  socket.on('data', piece => {
    buffer = Buffer.concat([buffer, piece]);
    for (let frame; (frame = take()); ) {
      socket.write(frame.bytes);
      if (frame.closes) socket.end();
    }
  });
  function take() {
    if (buffer.length < 2) return null;
    let length = buffer[1] & 127, at = 2;
    if (length === 126) { if (buffer.length < 4) return null; length = buffer.readUInt16BE(2); at = 4; }
    if (length === 127) { if (buffer.length < 10) return null; length = Number(buffer.readBigUInt64BE(2)); at = 10; }
    if (buffer.length < at + 4 + length) return null;
    const mask = buffer.subarray(at, at + 4), payload = Buffer.from(buffer.subarray(at + 4, at + 4 + length));
    for (let i = 0; i < length; i++) payload[i] ^= mask[i % 4];
    const start = Buffer.from(buffer.subarray(0, at));
    start[1] &= 127;
    buffer = buffer.subarray(at + 4 + length);
    return { bytes: Buffer.concat([start, payload]), closes: (start[0] & 15) === 8 };
  }
});
server.listen(Number(port), '127.0.0.1');
