"""How many requests a rate limit lets through, of how many it should: ringgate, nginx and HAProxy with the same limit.

Requests are due at a fixed rate, ten times the limit, whatever the answers are: on one connection, and on many, which the kernel
spreads over the workers. Allowed is limit x t + burst, for the time from the first request to the last answer; a proxy that lets
through more than that has no limit of that height. nginx's burst counts what comes beyond the first request, so it is given one
less. HAProxy has no burst: its stick table counts what came in the last second, either all requests (http_req_rate), those that
were refused too, or those that were let through (a general counter that the rule increments).
"""
import selectors
import socket
import time

from .machine import Running
from .site import ORIGIN, Ports, nginx_head, origin

LIMIT, BURST = 100, 20
_OVERLOAD = 10
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _ringgate(site, ports, workers, paths):
    conf = f"""[server]
workers = {workers}
pin = false
[admin]
bind = "127.0.0.1:{ports['admin']}"
[log]
access = "off"
[limits]
requests = "none"
[[listener]]
name = "http"
bind = ["127.0.0.1:{ports['http']}"]
[[rule]]
name = "web"
policy = ["limit"]
forward = "origin"
[policy.limit]
rate = {{ limit = "{LIMIT}/s", burst = {BURST} }}
[group.origin]
targets = ["127.0.0.1:{ORIGIN}"]
health = {{ type = "off" }}
"""
    return [paths("ringgate"), "run", "-c", site.write("accuracy.toml", conf)]


def _nginx(site, ports, workers, paths):
    head = nginx_head(site, "accuracy").replace("worker_processes 1;", f"worker_processes {workers};")
    conf = f"""{head.replace("master_process off;", "master_process on;")}
  access_log off;
  limit_req_zone $binary_remote_addr zone=limit:10m rate={LIMIT}r/s;
  limit_req_status 429;
  upstream origin {{ server 127.0.0.1:{ORIGIN}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{ports['http']} reuseport;
    location / {{
      limit_req zone=limit burst={BURST - 1} nodelay;
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
}}
"""
    return [paths("nginx"), "-p", str(site.at), "-c", site.write("accuracy.conf", conf)]


def _haproxy(store, refuse, count):
    def command(site, ports, workers, paths):
        conf = f"""global
  nbthread {workers}
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend web
  bind 127.0.0.1:{ports['http']}
  stick-table type ip size 100k expire 60s store {store}
  http-request track-sc0 src
  http-request return status 429 if {{ {refuse} }}
{count}  default_backend origin
backend origin
  server a 127.0.0.1:{ORIGIN}
"""
        return [paths("haproxy"), "-db", "-f", site.write(f"accuracy-{ports['http']}.cfg", conf)]
    return command


# Name, how it is started, and its burst.
_LIMITERS = [
    ("ringgate", "rate", _ringgate, BURST),
    ("nginx", "limit_req", _nginx, BURST),
    ("haproxy", "http_req_rate", _haproxy("http_req_rate(1s)", f"sc_http_req_rate(0) gt {LIMIT}", ""), 0),
    ("haproxy", "gpc0_rate", _haproxy("gpc0,gpc0_rate(1s)", f"sc_gpc0_rate(0) ge {LIMIT}", "  http-request sc-inc-gpc0(0)\n"), 0),
]
PEERS = {name for name, *_ in _LIMITERS}


def accuracy(args, site, workers, secs):
    """Prints the table; returns its rows."""
    print(f"\n{LIMIT}/s with a burst of {BURST} (HAProxy: {LIMIT} in a second), {LIMIT * _OVERLOAD}/s come for {secs} s from one address\n")
    print(f"{'limiter':24} {'workers':>7} {'connections':>11} {'sent':>6} {'admitted':>8} {'allowed':>8} {'ratio':>6} {'most in 1 s':>11}")
    rows, running = [], Running(site.at)
    try:
        running.start("origin", origin(site), 1, [ORIGIN])
        for n, (name, how, command, burst) in enumerate(one for one in _LIMITERS if one[0] in args.peers):
            for count in workers:
                for connections in (1, 64):
                    ports = Ports(n * 2)
                    proxy = Running(site.at)
                    try:
                        proxy.start(f"{name}-{how}", command(site, ports, count, args.paths), "0,1", [ports["http"]])
                        time.sleep(1)
                        row = {"limiter": f"{name} {how}", "workers": count, "connections": connections,
                               **flood(ports["http"], connections, secs, burst)}
                    finally:
                        proxy.stop()
                    rows.append(row)
                    print(f"{row['limiter']:24} {count:7} {connections:11} {row['sent']:6} {row['admitted']:8} {row['allowed']:8.0f} "
                          f"{row['ratio']:6.3f} {row['most']:11}{verdict(name, row)}", flush=True)
    finally:
        running.stop()
    return rows


def verdict(name, row):
    if name != "ringgate":
        return ""
    if row["ratio"] < 0.99 and row["gap"] > BURST / LIMIT:
        return f"  not judged: nothing was sent for {row['gap']:.2f} s"
    return "  goal met: 0.99 to 1.00" if 0.99 <= row["ratio"] <= 1 else "  goal missed: 0.99 to 1.00"


def flood(port, connections, secs, burst):
    """Sends what is due as soon as a connection is free, and counts what was let through."""
    chosen = selectors.DefaultSelector()
    free = []
    for _ in range(connections):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        chosen.register(client, selectors.EVENT_READ, bytearray())
        free.append(client)
    began, sent, passed, gap, last = time.monotonic(), 0, [], 0, None
    total, every = LIMIT * _OVERLOAD * secs, 1 / (LIMIT * _OVERLOAD)
    answered = 0
    while answered < total:
        now = time.monotonic()
        if now > began + secs + 10:
            raise RuntimeError(f"{total - answered} requests have no answer")
        while free and sent < total and began + sent * every <= now:
            # The one that has waited longest, so that all are used.
            free.pop(0).send(_REQUEST)
            gap, last, sent = max(gap, now - last if last else 0), now, sent + 1
        due = began + sent * every - time.monotonic() if free and sent < total else 0.5
        for key, _ in chosen.select(max(due, 0)):
            octets = key.fileobj.recv(65536)
            if not octets:
                raise RuntimeError("a connection was closed")
            key.data.extend(octets)
            status = whole(key.data)
            if status is None:
                continue
            key.data.clear()
            answered += 1
            if status == 200:
                passed.append(time.monotonic())
            elif status != 429:
                raise RuntimeError(f"status {status}")
            free.append(key.fileobj)
    took = time.monotonic() - began
    for key in list(chosen.get_map().values()):
        key.fileobj.close()
    allowed = LIMIT * took + burst
    most = first = 0
    for last, at in enumerate(passed):
        while passed[first] <= at - 1:
            first += 1
        most = max(most, last - first + 1)
    return {"sent": sent, "admitted": len(passed), "allowed": allowed, "ratio": len(passed) / allowed, "most": most,
            "gap": gap}


def whole(octets):
    """The status of an answer, when all of it is there."""
    head, end, body = bytes(octets).partition(b"\r\n\r\n")
    if not end:
        return None
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    return int(head.split()[1]) if len(body) >= int(fields.get(b"content-length", 0)) else None
