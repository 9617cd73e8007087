// A back end that may be killed at any time: it writes down every request before it answers it.
// node ledger.js PORT LOG
const http = require('http');
const fs = require('fs');
const [port, path] = process.argv.slice(2);
const log = fs.openSync(path, 'a');
const server = http.createServer({ keepAliveTimeout: 60000 }, (request, response) => {
  fs.writeSync(log, `${request.method} ${request.url}\n`);
  request.on('data', () => {});
  request.on('end', () => response.end(request.url));
});
server.on('connection', (socket) => socket.setNoDelay(true));
server.listen(Number(port), '127.0.0.1', 4096);
