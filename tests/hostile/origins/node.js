// Node's http server: answers every request with 200 and writes down what it saw.
// node node.js PORT LOG
const http = require('http');
const fs = require('fs');
const [port, path] = process.argv.slice(2);
const log = fs.openSync(path, 'a');
let connections = 0;
const server = http.createServer({ keepAliveTimeout: 60000 }, (request, response) => {
  let length = 0;
  const write = (end) => fs.writeSync(log, [request.headers['x-request-id'] || '-', request.socket.number,
    request.method, request.url, length, end].join('\t') + '\n');
  request.on('data', (data) => { length += data.length; });
  request.on('aborted', () => write('cut'));
  request.on('end', () => {
    write('200');
    response.setHeader('x-seen', request.headers['x-request-id'] || '-');
    response.end('seen');
  });
});
server.on('connection', (socket) => { socket.number = ++connections; socket.setNoDelay(true); });
server.on('clientError', (error, socket) => {
  // A request that is broken off is none that was refused; and what follows a refusal is refused with it.
  const cut = ['ECONNRESET', 'EPIPE', 'HPE_INVALID_EOF_STATE'].includes(error.code);
  if (!cut && !socket.refused) {
    fs.writeSync(log, ['-', socket.number, '', error.code || '', '-', '400'].join('\t') + '\n');
  }
  socket.refused = true;
  if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
});
server.listen(Number(port), '127.0.0.1', 4096);
