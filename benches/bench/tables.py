"""Rounds and what is printed of them: cost per request, idle connections, latency at a fixed rate."""
import contextlib
import json
import os
import random
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import time

from .machine import Running, anonymous_bytes, cpu_seconds, machine_ticks
from .peers import PEERS
from .site import GRPC_ORIGIN, ORIGIN, Ports, grpc_origin, origin
from .works import GENERATOR, WORK, scheme

# In this order, where they take part.
_COMPARED = ("haproxy", "nginx", "envoy", "relay")
_BEST_OF = ("haproxy", "nginx", "envoy")


class Live:
    """A proxy that runs."""

    def __init__(self, name, ports, doors):
        self.name, self.ports, self.doors, self.pid = name, ports, doors, 0


@contextlib.contextmanager
def started(args, site, log, doors):
    """The proxies that have one of these doors, by name."""
    running, peers = Running(site.at), {}
    try:
        running.start("origin", origin(site), 1, [ORIGIN])
        if doors & {"grpc", "grpcs"}:
            running.start("grpc-origin", grpc_origin(site), 1, [GRPC_ORIGIN])
        for i, name in enumerate(args.peers):
            live = Live(name, Ports(i), doors & PEERS[name].doors)
            if live.doors and (PEERS[name].logs or not log):
                command = PEERS[name].command(site, live.ports, live.doors, log, args.paths)
                live.pid = running.start(name, command, 0, [live.ports[door] for door in live.doors])
                peers[name] = live
        time.sleep(0.5)
        yield peers
    finally:
        running.stop()


def one_round(live, work, args, site):
    port, how = live.ports[work.door], scheme(work.door)
    work.load(site, port, 1, args.paths, how)
    before, (all0, steal0) = cpu_seconds(live.pid), machine_ticks()
    done, rate, bad = work.load(site, port, args.secs, args.paths, how)
    if work.settles or bad:
        time.sleep(0.1)
    used, (all1, steal1) = cpu_seconds(live.pid) - before, machine_ticks()
    return {"us": used * 1e6 / max(done, 1), "rps": rate, "bad": bad, "cpu": used / args.secs,
            "steal": (steal1 - steal0) / max(all1 - all0, 1)}


def table(args, site, log, works):
    results = {}
    with started(args, site, log, {WORK[name].door for name in works}) as peers:
        print(f"\naccess log {'on, to a file' if log else 'off'}: CPU microseconds per request, median [lowest, highest]"
              f" of {args.rounds} rounds of {args.secs} s\n")
        print(f"{'work':10} {'peer':9} {'us/request':>10} {'':20} {''.join(format('to ' + c, '>11') for c in _COMPARED)}"
              f" {'req/s':>8} {'failed':>6}")
        for name in works:
            able = [live for live in peers.values() if WORK[name].door in live.doors]
            rounds = {live.name: [] for live in able}
            for _ in range(args.rounds):
                random.shuffle(able)
                for live in able:
                    rounds[live.name].append(one_round(live, WORK[name], args, site))
            results[name] = rounds
            print_rows(name, rounds)
            for live in able:
                for kind in ("access", "out"):
                    path = site.at / f"{live.name}.{kind}"
                    if log and path.exists() and path.stat().st_size > 1 << 29:
                        os.truncate(path, 0)
    return results


def print_rows(work, rounds):
    middle = {name: statistics.median(r["us"] for r in rs) for name, rs in rounds.items()}
    for name, rs in rounds.items():
        us = [r["us"] for r in rs]
        ratios = "".join(format(f"{middle[name] / middle[to]:.2f}" if middle.get(to) and to != name else "", ">11") for to in _COMPARED)
        stolen = max(r["steal"] for r in rs)
        note = f"  steal {stolen:.1%}" if stolen > 0.005 else ""
        spread = f"[{min(us):.2f}, {max(us):.2f}]"
        print(f"{work:10} {name:9} {middle[name]:10.2f} {spread:20} {ratios} {statistics.median(r['rps'] for r in rs):8.0f} "
              f"{sum(r['bad'] for r in rs):6}{verdict(work, middle) if name == 'ringgate' else ''}{note}", flush=True)


def verdict(work, middle):
    """Which goals ringgate's median meets, of those whose peer took part."""
    others = {name: us for name, us in middle.items() if name in _BEST_OF and us}
    against = {**middle, **({"best": min(others.values())} if others else {})}
    judged = [(to, middle["ringgate"] / against[to], most) for to, most in WORK[work].goals.items() if against.get(to)]
    missed = ", ".join(f"{to} {ratio:.2f} > {most}" for to, ratio, most in judged if ratio > most)
    met = ", ".join(f"{to} {ratio:.2f} <= {most}" for to, ratio, most in judged if ratio <= most)
    return (f"  met: {met}" if met else "") + (f"  missed: {missed}" if missed else "")


def idle(args, site):
    """Opens connections, sends one request on each, and looks at what they hold when nothing moves."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < args.idle + 500:
        sys.exit(f"{args.idle} connections need a limit of open files of {args.idle + 500}; here it is {files}")
    door, warm = ("https", "tls") if args.tls else ("http", "keepalive")
    results = {}
    with started(args, site, False, {door}) as peers:
        print(f"\nidle {'TLS' if args.tls else 'keep-alive'} connections after one request each: anonymous memory of the process tree\n")
        for live in peers.values():
            # HAProxy sets aside two descriptors for each connection.
            count = min(args.idle, files // 2 - 300) if live.name == "haproxy" else args.idle
            WORK[warm].load(site, live.ports[door], 1, args.paths, scheme(door))
            time.sleep(0.5)
            before = anonymous_bytes(live.pid)
            held = [hold(live, door, i) for i in range(count)]
            time.sleep(args.settle)
            after = anonymous_bytes(live.pid)
            results[live.name] = (after - before) / count
            goal = ""
            if args.tls and live.name == "ringgate":
                goal = "  goal met: <= 12 KiB" if after - before <= count * 12288 else "  goal missed: <= 12 KiB"
            print(f"{live.name:10} {(after - before) / count:8.0f} bytes a connection, of {count}  "
                  f"({before >> 10} -> {after >> 10} KiB){goal}", flush=True)
            for client in held:
                client.close()
            time.sleep(0.5)
    return results


# It trusts everybody: all of this is on loopback.
_TRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TRUSTING.check_hostname, _TRUSTING.verify_mode = False, ssl.CERT_NONE


def hold(live, door, i):
    client = socket.socket()
    client.bind((f"127.0.0.{2 + i // 5000}", 0))
    client.settimeout(10)
    client.connect(("127.0.0.1", live.ports[door]))
    if door == "https":
        client = _TRUSTING.wrap_socket(client, server_hostname="localhost")
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
    if not client.recv(4096).startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"{live.name}: connection {i} was not answered with 200")
    return client


def latency(args, site):
    """Latency at a fixed offered rate, the same for all: half of the lowest saturation rate."""
    results = {}
    with started(args, site, False, {"http"}) as peers:
        saturate = WORK["keepalive"].load
        top = {name: max(saturate(site, live.ports["http"], args.secs, args.paths, "http")[1] for _ in range(2)) for name, live in peers.items()}
        rate = int(min(top.values()) / 2)
        print(f"\nlatency in microseconds at {rate} requests/s (half of the lowest saturation rate), 64 connections,"
              f" open loop, median of {args.rounds} rounds of {args.secs} s\n")
        rounds = {name: [] for name in peers}
        for _ in range(args.rounds):
            order = list(peers.values())
            random.shuffle(order)
            for live in order:
                before = cpu_seconds(live.pid)
                out = subprocess.run([*GENERATOR, args.paths("load"), "--to", f"127.0.0.1:{live.ports['http']}",
                                      "--rate", str(rate), "--connections", "64", "--secs", str(args.secs)],
                                     capture_output=True, text=True, check=True).stdout
                got = json.loads(out)
                got["us"] = (cpu_seconds(live.pid) - before) * 1e6 / max(got["done"], 1)
                rounds[live.name].append(got)
        for name, rs in rounds.items():
            m = {k: statistics.median(r[k] for r in rs) for k in rs[0]}
            print(f"{name:10} p50 {m['p50']:7.0f}  p90 {m['p90']:7.0f}  p99 {m['p99']:7.0f} [{min(r['p99'] for r in rs):.0f},"
                  f" {max(r['p99'] for r in rs):.0f}]  p99.9 {m['p999']:7.0f}  us/request {m['us']:6.2f}  achieved "
                  f"{m['achieved']:.0f}/s  failed {sum(r['failed'] for r in rs)}  saturates at {top[name]:.0f}/s", flush=True)
            results[name] = rs
    return results
