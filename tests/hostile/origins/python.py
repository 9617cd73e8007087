"""Python's http.server: answers every request with 200 and writes down what it saw.

python3 python.py PORT LOG. The head is read by the standard library; bodies by their framing, as any application does.
"""
import http.server
import itertools
import os
import sys

LOG = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
NUMBERS = itertools.count(1)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 60

    def setup(self):
        super().setup()
        self.number = next(NUMBERS)

    def note(self, length, end):
        # A head that was refused leaves the last request's fields behind.
        known = hasattr(self, "headers") and end in ("200", "cut")
        seen = (self.headers.get("x-request-id", "-") if known else "-", self.number, self.command or "",
                getattr(self, "path", ""), length, end)
        os.write(LOG, ("\t".join(map(str, seen)) + "\n").encode("utf-8", "surrogateescape"))

    def read_chunks(self):
        length = 0
        while True:
            line = self.rfile.readline(65537)
            if not line.endswith(b"\n"):
                return None
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            if len(self.rfile.read(size)) < size or len(self.rfile.read(2)) < 2:
                return None
            length += size
        while (line := self.rfile.readline(65537)) not in (b"\r\n", b"\n"):
            if not line:
                return None
        return length

    def read_length(self):
        length = int(self.headers.get("content-length", "0"))
        return length if len(self.rfile.read(length)) == length else None

    def answer(self):
        chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        length = self.read_chunks() if chunked else self.read_length()
        if length is None:
            self.note("-", "cut")
            self.close_connection = True
            return
        self.note(length, "200")
        self.send_response(200)
        self.send_header("x-seen", self.headers.get("x-request-id", "-"))
        self.send_header("content-length", "4")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"seen")

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def send_error(self, code, message=None, explain=None):
        self.note("-", code)
        super().send_error(code, message, explain)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 4096
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
