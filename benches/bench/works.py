"""What is asked of the proxies, by which generator, and the goals."""
import json
import os
import re
import subprocess

# Generators and origins have the second CPU, proxies the first.
GENERATOR = ["taskset", "-c", "1"]


class Work:
    """One row: the door that it takes, the generator, and the most that ringgate may cost of what a peer costs.

    `best` is the cheapest of HAProxy, nginx and Envoy, as far as they take part.
    """

    def __init__(self, says, door, load, settles=False, **goals):
        self.says, self.door, self.load, self.settles, self.goals = says, door, load, settles, goals


def wrk(connections, path, *more):
    """Closed loop over HTTP/1.1; TLS as openssl.cnf says."""
    def load(site, port, secs, _paths, scheme):
        command = [*GENERATOR, "wrk", "-t1", f"-c{connections}", f"-d{secs}s", *[m.format(at=site.at) for m in more],
                   f"{scheme}://{'localhost' if scheme == 'https' else '127.0.0.1'}:{port}{path}"]
        out = run(command, site)
        done, rate = found(r"(\d+) requests in", out), found(r"Requests/sec:\s+([\d.]+)", out)
        bad = sum(map(int, re.findall(r"(?:Non-2xx or 3xx responses:|connect|read|write|timeout) (\d+)", out)))
        return int(done), rate, bad
    return load


def h2load(path, *more):
    """Eight connections with 32 streams each."""
    def load(site, port, secs, _paths, scheme):
        command = [*GENERATOR, "h2load", "-t1", "-c8", "-m32", "-D", str(secs), "--npn-list=h2",
                   "--tls13-ciphers=TLS_AES_128_GCM_SHA256", "--groups=X25519",
                   *[m.format(at=site.at) for m in more], f"{scheme}://localhost:{port}{path}"]
        out = run(command, site)
        done, rate = found(r"(\d+) succeeded", out), found(r"([\d.]+) req/s", out)
        # Those that were under way when the time was up count as nothing.
        return int(done), rate, int(found(r"(\d+) failed", out)) + int(found(r"status codes: .*, (\d+) 5xx", out))
    return load


def handshakes(*more):
    """benches/handshake.rs: 64 loops of connection, handshake, request, answer, end."""
    def load(site, port, secs, paths, _scheme):
        out = run([*GENERATOR, paths("handshake"), "--to", f"127.0.0.1:{port}", "--connections", "64", "--secs", str(secs), *more], site)
        got = json.loads(out)
        # A handshake of the other kind is a failure of the measurement; the first of each loop has nothing to resume.
        other = max(got["full"] - 64, 0) if "--resume" in more else got["resumed"]
        return got["done"], got["done"] / secs, got["failed"] + other
    return load


def run(command, site):
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, OPENSSL_CONF=str(site.at / "openssl.cnf")))
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def found(pattern, text):
    try:
        return float(re.search(pattern, text)[1])
    except TypeError:
        raise RuntimeError(f"the generator said: {text}") from None


_GRPC = ("/bench/echo.grpc", "-d", "{at}/message", "-H", "content-type: application/grpc", "-H", "te: trailers")

WORK = {
    "keepalive": Work("keep-alive, 64 connections, 128 B", "http", wrk(64, "/"), haproxy=0.88, nginx=0.60, relay=1.15),
    "c1000": Work("1,000 connections", "http", wrk(1000, "/"), haproxy=0.72, nginx=0.60, relay=1.15),
    "body10k": Work("10 KiB body", "http", wrk(64, "/10k"), haproxy=0.92, nginx=0.65, relay=1.15),
    "down1m": Work("1 MiB body down", "http", wrk(16, "/1m"), haproxy=0.90, nginx=0.60, relay=1.15),
    "up1m": Work("1 MiB body up", "http", wrk(16, "/up", "-s", "{at}/up.lua"), haproxy=0.90, nginx=0.60, relay=1.15),
    "close": Work("new connection per request", "http", wrk(64, "/", "-H", "Connection: close"), settles=True,
                  haproxy=0.90, nginx=0.85, relay=1.15),
    "tls": Work("TLS 1.3 keep-alive, 64 connections, 128 B", "https", wrk(64, "/"), best=0.80),
    "handshake": Work("full TLS handshake per request", "https", handshakes(), settles=True, best=0.95),
    "resumed": Work("resumed TLS handshake per request", "https", handshakes("--resume"), settles=True, best=0.90),
    "h2": Work("HTTP/2 over TLS, 8 connections x 32 streams", "https", h2load("/"), haproxy=0.95, nginx=0.45),
    "grpc": Work("gRPC unary, cleartext HTTP/2 on both sides", "grpc", h2load(*_GRPC), envoy=0.80),
    "grpcs": Work("gRPC unary, HTTP/2 over TLS to cleartext HTTP/2", "grpcs", h2load(*_GRPC), envoy=0.80),
    "tls1m": Work("1 MiB body over TLS", "https", wrk(16, "/1m"), best=1.0),
    "tcp1m": Work("connections relayed, 1 MiB body", "tcp", wrk(16, "/1m"), haproxy=0.60),
}

# What the table with the access log on has, unless rows are named.
LOGGED = [name for name, work in WORK.items() if work.door == "http"]


def scheme(door):
    return "https" if door.endswith("s") else "http"
