"""What steering, protecting, coding and storing cost: one ringgate with and without, and beside nginx's cache."""
import random
import time
import urllib.request

from .machine import Running
from .policies import one_round, spread
from .site import ORIGIN, nginx_head, origin
from .works import wrk

# Rows: what is asked, by which generator, of which door, beside which, and the most that it may cost of that.
ROWS = {
    "guarded": ("sticky, outlier, breaker, retry; nothing fails", wrk(64, "/", "-s", "{at}/cookie.lua"), "guarded", "plain", 1.05),
    "hit-10k": ("a stored response of 10 KiB, beside nginx proxy_cache", wrk(64, "/10k"), "cache", "nginx", 0.5),
    "hit-128": ("a stored response of 128 octets, beside nginx proxy_cache", wrk(64, "/"), "cache", "nginx", 0.5),
}
_LISTENERS = ("plain", "guarded", "cache")
_COOKIE = """request = function() return wrk.format("GET", "/", {{["cookie"] = "{cookie}"}}) end
"""


def table(args, site):
    """Interleaved rounds; the ratio of the medians is what counts."""
    first = ORIGIN + 300
    ports = {name: first + n for n, name in enumerate((*_LISTENERS, "nginx"))}
    running, results = Running(site.at), {}
    print(f"\ntraffic: CPU microseconds per request, median [lowest, highest] of {args.rounds} rounds of {args.secs} s\n")
    print(f"{'work':8} {'beside':>8} {'':16} {'with':>8} {'':16} {'ratio':>6} {'goal':>5} {'failed':>6}")
    try:
        running.start("origin", origin(site), 1, [ORIGIN])
        command = [args.paths("ringgate"), "run", "-c", prepare(site, ports)]
        pid = running.start("traffic", command, 0, [ports[name] for name in _LISTENERS])
        pids = {name: pid for name in _LISTENERS}
        pids["nginx"] = running.start("nginx", caching(args, site, ports["nginx"]), 0, [ports["nginx"]])
        time.sleep(0.5)
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['guarded']}/") as answer:
            cookie = answer.headers["set-cookie"].split(";")[0]
        site.write("cookie.lua", _COOKIE.format(cookie=cookie))
        for name, (_says, load, door, beside, goal) in ROWS.items():
            rounds = {beside: [], door: []}
            for _ in range(args.rounds):
                for one in random.sample(list(rounds), 2):
                    rounds[one].append(one_round(pids[one], ports[one], load, args, site))
            results[name] = rounds
            (other, low0, high0), (used, low1, high1) = (spread(rounds[one]) for one in (beside, door))
            failed = sum(r["bad"] for rs in rounds.values() for r in rs)
            verdict = "met" if used / other <= goal else "missed"
            print(f"{name:8} {other:8.2f} [{low0:.2f}, {high0:.2f}]{'':3} {used:8.2f} [{low1:.2f}, {high1:.2f}]{'':3} "
                  f"{used / other:6.3f} {goal:5} {failed:6}  {verdict}", flush=True)
    finally:
        running.stop()
    return results


def prepare(site, ports):
    """ringgate's file."""
    listeners = "".join(f"""[[listener]]
name = "{name}"
bind = ["127.0.0.1:{ports[name]}"]
default = {{ forward = "o" }}
""" for name in _LISTENERS)
    return site.write("traffic.toml", f"""[server]
workers = 1
pin = false
[log]
access = "off"
[limits]
requests = "none"
{listeners}[group.o]
targets = ["127.0.0.1:{ORIGIN}"]
health = {{ type = "off" }}
[group.guarded]
targets = ["127.0.0.1:{ORIGIN}"]
health = {{ type = "off" }}
sticky = {{ duration = "1d" }}
outlier = true
breaker = true
retry = {{ per_try = "5s" }}
[[rule]]
name = "guarded"
listener = "guarded"
forward = "guarded"
[[rule]]
name = "cache"
listener = "cache"
forward = "o"
cache = {{ default_ttl = "10m" }}
""")


def caching(args, site, port):
    """nginx with a cache on disk, which it serves from the page cache."""
    head = nginx_head(site, "caching")
    return [args.paths("nginx"), "-p", str(site.at), "-c", site.write("caching.conf", f"""{head}
  access_log off;
  proxy_cache_path {site.at}/stored levels=1:2 keys_zone=stored:10m max_size=64m;
  open_file_cache max=1000;
  upstream origin {{ server 127.0.0.1:{ORIGIN}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache stored; proxy_cache_valid 200 10m; add_header Cache-Status $upstream_cache_status;
    }}
  }}
}}
""")]
