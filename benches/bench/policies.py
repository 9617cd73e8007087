"""What policies cost: the same request to two listeners of one ringgate, without a policy and with one."""
import base64
import hashlib
import json
import random
import secrets
import statistics
import time

from .machine import Running, cpu_seconds, machine_ticks
from .site import ORIGIN, origin
from .works import wrk

# Rows: what is asked, by which generator, by which listener it is judged, and the most that it may cost beside the same
# requests without a policy.
ROWS = {
    "rate-1": ("rate limit, one key", wrk(64, "/"), "rate", 1.03),
    "rate-100k": ("rate limit, 100,000 keys", wrk(64, "/", "-s", "{at}/keys.lua"), "keys", 1.03),
    "jwt-1": ("JWT ES256, one token, remembered", wrk(64, "/", "-s", "{at}/token.lua"), "jwt", 1.05),
    "jwt-10k": ("JWT ES256, 10,000 tokens", wrk(64, "/", "-s", "{at}/tokens.lua"), "jwt", 1.12),
}
_LISTENERS = ("plain", "rate", "keys", "jwt")

_KEYS = """math.randomseed(os.time())
request = function() return wrk.format("GET", "/", {{["x-key"] = string.format("k%06d", math.random({most}))}}) end
"""
_TOKENS = """local tokens = {{}}
for line in io.lines("{path}") do tokens[#tokens + 1] = "Bearer " .. line end
math.randomseed(os.time())
request = function() return wrk.format("GET", "/", {{["authorization"] = tokens[math.random(#tokens)]}}) end
"""


def table(args, site):
    """Interleaved rounds; the ratio of the medians is what counts."""
    first = ORIGIN + 300
    ports = {name: first + n for n, name in enumerate(_LISTENERS)}
    prepare(site, ports)
    running, results = Running(site.at), {}
    print(f"\npolicies: CPU microseconds per request without and with, median [lowest, highest] of {args.rounds} rounds of {args.secs} s\n")
    print(f"{'work':10} {'without':>8} {'':16} {'with':>8} {'':16} {'ratio':>6} {'goal':>5} {'failed':>6}")
    try:
        running.start("origin", origin(site), 1, [ORIGIN])
        command = [args.paths("ringgate"), "run", "-c", str(site.at / "policies.toml")]
        pid = running.start("policies", command, 0, list(ports.values()))
        time.sleep(0.5)
        for name, (_says, load, listener, goal) in ROWS.items():
            rounds = {"plain": [], listener: []}
            for _ in range(args.rounds):
                for door in random.sample(list(rounds), 2):
                    rounds[door].append(one_round(pid, ports[door], load, args, site))
            results[name] = rounds
            (without, low0, high0), (used, low1, high1) = (spread(rounds[door]) for door in ("plain", listener))
            failed = sum(r["bad"] for rs in rounds.values() for r in rs)
            verdict = "met" if used / without <= goal else "missed"
            print(f"{name:10} {without:8.2f} [{low0:.2f}, {high0:.2f}]{'':3} {used:8.2f} [{low1:.2f}, {high1:.2f}]{'':3} "
                  f"{used / without:6.3f} {goal:5} {failed:6}  {verdict}", flush=True)
    finally:
        running.stop()
    return results


def spread(rounds):
    us = [r["us"] for r in rounds]
    return statistics.median(us), min(us), max(us)


def one_round(pid, port, load, args, site):
    load(site, port, 1, args.paths, "http")
    before, (all0, steal0) = cpu_seconds(pid), machine_ticks()
    done, rate, bad = load(site, port, args.secs, args.paths, "http")
    used, (all1, steal1) = cpu_seconds(pid) - before, machine_ticks()
    return {"us": used * 1e6 / max(done, 1), "rps": rate, "bad": bad, "steal": (steal1 - steal0) / max(all1 - all0, 1)}


def prepare(site, ports):
    """The configuration, the key, the tokens, and the scripts of the generator."""
    key = Key()
    site.write("jwks.json", json.dumps({"keys": [key.public()]}))
    now = int(time.time())
    claims = ({"iss": "https://bench.example/", "aud": "api", "sub": f"user-{n}", "scope": "read write",
               "iat": now, "exp": now + 86400} for n in range(10_000))
    tokens = [key.sign(each) for each in claims]
    for script, count in (("token", 1), ("tokens", len(tokens))):
        path = site.write(f"{script}.txt", "\n".join(tokens[:count]) + "\n")
        site.write(f"{script}.lua", _TOKENS.format(path=path))
    site.write("keys.lua", _KEYS.format(most=100_000))
    policy = {"rate": '"limit"', "keys": '"limit-keys"', "jwt": '"token"'}
    listeners = "".join(f"""[[listener]]
name = "{name}"
bind = ["127.0.0.1:{port}"]
default = {{ forward = "o" }}
policy = [{policy.get(name, "")}]
""".replace("policy = []\n", "") for name, port in ports.items())
    # The limits are never reached: what is measured is to find that out.
    site.write("policies.toml", f"""[server]
workers = 1
pin = false
[log]
access = "off"
[limits]
requests = "none"
{listeners}[group.o]
targets = ["127.0.0.1:{ORIGIN}"]
health = {{ type = "off" }}
[policy.limit]
rate = {{ limit = "1000000/s", burst = 100000, key = "client_ip" }}
[policy.limit-keys]
rate = {{ limit = "100000/s", burst = 10000, key = "header:x-key", keys = 200000 }}
[policy.token]
jwt = {{ issuer = "https://bench.example/", audience = ["api"], jwks_file = "jwks.json" }}
""")


class Key:
    """An ECDSA P-256 key that signs tokens: a table of multiples of the base point makes ten thousand a matter of seconds."""

    P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
    N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    G = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
         0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)

    def __init__(self):
        self.table, base = [], self.G
        for _ in range(32):
            row, point = [None], None
            for _ in range(255):
                point = self.add(point, base)
                row.append(point)
            self.table.append(row)
            base = self.add(point, base)
        self.d = secrets.randbelow(self.N - 1) + 1
        self.q = self.times(self.d)

    def add(self, a, b):
        if a is None or b is None:
            return b if a is None else a
        (x1, y1), (x2, y2), p = a, b, self.P
        if x1 == x2 and (y1 + y2) % p == 0:
            return None
        slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, p) if a == b else (y2 - y1) * pow(x2 - x1, -1, p)
        x = (slope * slope - x1 - x2) % p
        return x, (slope * (x1 - x) - y1) % p

    def times(self, k):
        point = None
        for n, row in enumerate(self.table):
            point = self.add(point, row[k >> 8 * n & 255])
        return point

    def public(self):
        x, y = (base64url(v.to_bytes(32, "big")) for v in self.q)
        return {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench", "x": x, "y": y}

    def sign(self, claims):
        head = base64url(json.dumps({"alg": "ES256", "kid": "bench", "typ": "JWT"}).encode())
        text = f"{head}.{base64url(json.dumps(claims).encode())}"
        digest = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
        k = secrets.randbelow(self.N - 1) + 1
        r = self.times(k)[0] % self.N
        s = pow(k, -1, self.N) * (digest + r * self.d) % self.N
        return f"{text}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def base64url(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
