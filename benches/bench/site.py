"""Where everybody listens, what certificate all of them show, and the origins behind them."""
import pathlib
import subprocess

from .machine import taken

# Ways into a proxy, and what follows its first port: HTTP/1.1; HTTP/1.1 and HTTP/2 over TLS; to the gRPC origin in
# cleartext HTTP/2 and by HTTP/2 over TLS; connections relayed as they are. The admin port is ringgate's.
DOORS = {"http": 0, "admin": 1, "https": 2, "grpc": 3, "grpcs": 4, "tcp": 5}
_STRIDE = 8

# The first range of ports in which nobody listens.
ORIGIN = next(p for p in range(9000, 31000, 1000) if not any(taken(p + n) for n in (0, 1, *range(100, 156))))
GRPC_ORIGIN = ORIGIN + 1


class Site:
    """The folder of a run: configurations, certificate, files that are served."""

    def __init__(self, at):
        self.at = pathlib.Path(at)
        self.cert, self.key, self.pair = (self.at / name for name in ("cert.pem", "key.pem", "pair.pem"))

    def write(self, name, text):
        (self.at / name).write_text(text)
        return str(self.at / name)

    def prepare(self):
        """Everything but the configurations."""
        (self.at / "www/bench").mkdir(parents=True, exist_ok=True)
        (self.at / "www/1m").write_bytes(b"x" * (1 << 20))
        (self.at / "www/10k").write_bytes(b"x" * 10240)
        # A gRPC message of 128 octets: not compressed, length, then what a protobuf string field looks like.
        message = bytes([0, 0, 0, 0, 128, 0x0A, 126]) + b"x" * 126
        (self.at / "www/bench/echo.grpc").write_bytes(message)
        (self.at / "message").write_bytes(message)
        self.write("mime.types", "application/grpc grpc\n")
        self.write("up.lua", 'wrk.method = "POST"\nwrk.body = string.rep("x", 1048576)\n')
        # One cipher and one group for all: what a generator offers is what a server takes.
        self.write("openssl.cnf", "openssl_conf = all\n[all]\nssl_conf = modules\n[modules]\nsystem_default = tls\n[tls]\n"
                                  "MinProtocol = TLSv1.3\nCiphersuites = TLS_AES_128_GCM_SHA256\nGroups = X25519\n")
        if not self.pair.exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                            "-keyout", str(self.key), "-out", str(self.cert), "-days", "30", "-subj", "/CN=localhost",
                            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
            self.pair.write_text(self.cert.read_text() + self.key.read_text())


class Ports:
    """The ports of one peer."""

    def __init__(self, n):
        self.first = ORIGIN + 100 + _STRIDE * n

    def __getitem__(self, door):
        return self.first + DOORS[door]


def nginx_head(site, name):
    at = site.at
    temp = " ".join(f"{k}_temp_path {at}/{name}-{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""worker_processes 1;
daemon off;
master_process off;
pid {at}/{name}.pid;
error_log {at}/{name}.err;
events {{ worker_connections 16384; }}
http {{
  {temp}
  keepalive_requests 100000000;"""


def origin(site):
    """nginx from memory; /up reads a whole body into memory before it answers, through itself without the body."""
    at = site.at
    conf = f"""{nginx_head(site, "origin")}
  access_log off;
  upstream sink {{ server unix:{at}/sink.sock; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{ORIGIN} backlog=4096;
    root {at}/www;
    location = / {{ default_type text/plain; return 200 "{"x" * 128}"; }}
    location = /up {{
      client_max_body_size 64m; client_body_buffer_size 2m;
      proxy_pass http://sink; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass_request_body off; proxy_set_header Content-Length "";
    }}
  }}
  server {{ listen unix:{at}/sink.sock; access_log off; location / {{ return 200 "ok"; }} }}
}}
"""
    return ["nginx", "-p", str(at), "-c", site.write("origin.conf", conf)]


def grpc_origin(site):
    """nghttpd: cleartext HTTP/2; it answers any method with a file, here one message, and the trailer of a success."""
    return ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", str(site.at / "www"), "--no-content-length",
            f"--mime-types-file={site.at}/mime.types", "--trailer=grpc-status: 0", str(GRPC_ORIGIN)]
