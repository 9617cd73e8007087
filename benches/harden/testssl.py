"""What testssl.sh says of a listener with the default policy.

ringgate is started with a certificate of a CA made here, which names a responder and is stapled, and answers with
security headers: what is found then is the policy's. Findings graded LOW and worse are listed.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from bench.machine import Running, taken

# Longer than it takes on a busy machine: a minute and a half on an idle one.
_LONGEST = 840
# What is no finding about the listener.
_NOT_OURS = {
    "engine_problem": "about the openssl that testssl.sh uses",
    "DNS_CAArecord": "a record in the DNS, which localhost does not have",
    "scanTime": "about testssl.sh itself",
}
# A quick run: protocols, ciphers, preferences, server defaults.
_QUICK = ["-p", "-s", "-P", "-S"]
_OPENSSL = """
mkca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 90 \\
    -subj "/CN=Test CA" -addext keyUsage=critical,keyCertSign,cRLSign; }
mkleaf() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout leaf.key -out leaf.csr -subj /CN=localhost
    openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 0x4142434445464748 -days 90 -extfile leaf.ext -out leaf.pem
    cat leaf.pem ca.pem > chain.pem
}
staple() { openssl ocsp -index index -rsigner ca.pem -rkey ca.key -CA ca.pem -issuer ca.pem -cert leaf.pem -respout staple -ndays 7; }
set -e
mkca; mkleaf; staple
"""
_LEAF = """subjectAltName = DNS:localhost, IP:127.0.0.1
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
authorityInfoAccess = OCSP;URI:http://localhost/ocsp
"""


def config(at, port, admin):
    return f"""[admin]
bind = "127.0.0.1:{admin}"

[log]
access = "off"

[[listener]]
name = "web"
bind = ["127.0.0.1:{port}"]
protocol = "https"
tls = {{ certificates = [{{ cert = "{at}/chain.pem", key = "{at}/leaf.key", ocsp = "{at}/staple" }}] }}
hsts = {{ max_age = "365d" }}

[listener.default]
respond = {{ status = 200, body = "ok", headers = {{ x-content-type-options = "nosniff", x-frame-options = "DENY" }} }}
"""


def measure(args, ringgate):
    """The rows of this figure."""
    port, admin = [p for p in range(15000, 16000) if not taken(p)][:2]
    with tempfile.TemporaryDirectory(prefix="ringgate-harden-") as name:
        at = pathlib.Path(name)
        (at / "leaf.ext").write_text(_LEAF)
        (at / "index").write_text("V\t491231235959Z\t\t4142434445464748\tunknown\t/CN=localhost\n")
        made = subprocess.run(["bash", "-c", _OPENSSL], cwd=at, capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(f"no certificate could be made: {made.stderr}")
        (at / "ringgate.toml").write_text(config(at, port, admin))
        running = Running(at)
        try:
            running.start("ringgate", [ringgate, "run", "-c", str(at / "ringgate.toml")], 0, [port])
            return [verdict(findings(args, at, port))]
        finally:
            running.stop()


def findings(args, at, port):
    out = at / "findings.json"
    command = ["testssl", "--quiet", "--warnings", "off", "--color", "0", "--ip", "127.0.0.1", "--jsonfile", str(out),
               *(_QUICK if args.quick else []), f"localhost:{port}"]
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_LONGEST,
                          env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(at), "TERM": "dumb", "ADDITIONAL_CA_FILES": str(at / "ca.pem")})
    print(done.stdout, file=sys.stderr)
    return [f for f in json.loads(out.read_text()) if f["id"] not in _NOT_OURS]


def verdict(found):
    count = {}
    for finding in found:
        count[finding["severity"]] = count.get(finding["severity"], 0) + 1
    worse = [f"{f['severity']} {f['id']} ({f['finding']})" for f in found if f["severity"] not in ("OK", "INFO", "DEBUG")]
    said = f"{count.get('OK', 0)} ok, {count.get('INFO', 0)} information, {len(worse)} worse"
    whole = count.get("OK", 0) >= 10
    return {"figure": "testssl.sh of the default policy", "goal": "nothing below ok",
            "measured": said + (": " if worse else "") + "; ".join(worse), "met": whole and not worse}
