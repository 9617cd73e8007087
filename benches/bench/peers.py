"""The configuration of each proxy, for the doors that are asked for.

Everybody adds X-Forwarded-For, X-Forwarded-Proto and a request id to HTTP, keeps connections to the origin and
checks nobody's health. TLS is 1.3 alone, with X25519 and one ECDSA P-256 certificate; session tickets are on,
server-side session caches are off.
"""
import os
import pathlib
import resource

from .site import GRPC_ORIGIN, ORIGIN, nginx_head


class Peer:
    """How a proxy is started, and which doors it has."""

    def __init__(self, command, doors, logs=True):
        self.command, self.doors, self.logs = command, doors, logs


def nginx(site, ports, doors, log, paths):
    at = site.at
    access = f"{at}/nginx.access combined buffer=64k flush=1s" if log else "off"
    tls = f"""ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; ssl_session_cache off;
    ssl_certificate {site.cert}; ssl_certificate_key {site.key};"""
    def fields(module):
        return " ".join(f"{module}_set_header {field};" for field in (
            "Host $http_host", "X-Forwarded-For $proxy_add_x_forwarded_for", "X-Forwarded-Proto $scheme", "X-Request-Id $request_id"))

    listens = {
        "http": f"listen 127.0.0.1:{ports['http']} backlog=4096;",
        "https": f"listen 127.0.0.1:{ports['https']} ssl http2 backlog=4096;\n    {tls}",
        "grpc": f"listen 127.0.0.1:{ports['grpc']} http2 backlog=4096;",
        "grpcs": f"listen 127.0.0.1:{ports['grpcs']} ssl http2 backlog=4096;\n    {tls}",
    }
    web = f"""proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; {fields("proxy")}"""
    grpc = f"grpc_pass grpc://grpc; {fields('grpc')}"
    servers = "".join(f"""
  server {{
    {listen}
    client_max_body_size 0;
    location / {{
      {grpc if door.startswith("grpc") else web}
    }}
  }}""" for door, listen in listens.items() if door in doors)
    stream = f"""
stream {{
  server {{ listen 127.0.0.1:{ports['tcp']} backlog=4096; proxy_pass 127.0.0.1:{ORIGIN}; }}
}}""" if "tcp" in doors else ""
    load = f"load_module {STREAM_MODULE};\n" if stream and os.path.exists(STREAM_MODULE) else ""
    conf = f"""{load}{nginx_head(site, "nginx")}
  access_log {access};
  upstream origin {{ server 127.0.0.1:{ORIGIN}; keepalive 1024; keepalive_requests 100000000; }}
  upstream grpc {{ server 127.0.0.1:{GRPC_ORIGIN}; keepalive 1024; keepalive_requests 100000000; }}{servers}
}}{stream}
"""
    return [paths("nginx"), "-p", str(at), "-c", site.write("nginx.conf", conf)]


# Debian keeps nginx's relay of connections in a package of its own.
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def haproxy(site, ports, doors, log, paths):
    log = "  log stdout format raw local0\n" if log else ""
    httplog = "  option httplog\n" if log else ""
    tls = f"ssl crt {site.pair} curves X25519 ssl-min-ver TLSv1.3"
    binds = {
        "http": f"bind 127.0.0.1:{ports['http']} backlog 4096",
        "https": f"bind 127.0.0.1:{ports['https']} {tls} alpn h2,http/1.1 backlog 4096",
        "grpc": f"bind 127.0.0.1:{ports['grpc']} proto h2 backlog 4096",
        "grpcs": f"bind 127.0.0.1:{ports['grpcs']} {tls} alpn h2 backlog 4096",
    }
    fronts = "".join(f"""frontend {door}
  {bind}
{httplog}  option forwardfor
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto {"https" if door.endswith("s") else "http"}
  default_backend {"grpc" if door.startswith("grpc") else "origin"}
""" for door, bind in binds.items() if door in doors)
    relay = f"""listen tcp
  mode tcp
  bind 127.0.0.1:{ports['tcp']} backlog 4096
  server a 127.0.0.1:{ORIGIN}
""" if "tcp" in doors else ""
    conf = f"""global
  nbthread 1
  maxconn {min(24000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 200)}
  tune.ssl.cachesize 0
defaults
  mode http
{log}  timeout client 60s
  timeout server 60s
  timeout connect 5s
  http-reuse always
{fronts}backend origin
  server a 127.0.0.1:{ORIGIN} pool-max-conn 1024
backend grpc
  server a 127.0.0.1:{GRPC_ORIGIN} proto h2 pool-max-conn 1024
{relay}"""
    return [paths("haproxy"), "-db", "-f", site.write("haproxy.cfg", conf)]


_ENVOY = "type.googleapis.com/envoy.extensions"


def envoy(site, ports, doors, log, paths):
    access = f"""
            access_log: [ {{ name: file, typed_config: {{ "@type": {_ENVOY}.access_loggers.file.v3.FileAccessLog, path: {site.at}/envoy.access }} }} ]""" if log else ""
    certificate = f"[ {{ certificate_chain: {{ filename: {site.cert} }}, private_key: {{ filename: {site.key} }} }} ]"

    def http(door):
        tls = f"""
        transport_socket:
          name: tls
          typed_config:
            "@type": {_ENVOY}.transport_sockets.tls.v3.DownstreamTlsContext
            common_tls_context:
              alpn_protocols: [{"h2" if door == "grpcs" else "h2, http/1.1"}]
              tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3, ecdh_curves: [X25519] }}
              tls_certificates: {certificate}""" if door.endswith("s") else ""
        return f"""
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {ports[door]} }} }}
    filter_chains:
      - filters:
        - name: http
          typed_config:
            "@type": {_ENVOY}.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: {door}
            use_remote_address: true{access}
            route_config:
              virtual_hosts: [ {{ name: all, domains: ["*"], routes: [ {{ match: {{ prefix: "/" }}, route: {{ cluster: {"grpc" if door.startswith("grpc") else "origin"}, timeout: 0s }} }} ] }} ]
            http_filters: [ {{ name: router, typed_config: {{ "@type": {_ENVOY}.filters.http.router.v3.Router }} }} ]{tls}"""

    relay = f"""
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {ports['tcp']} }} }}
    filter_chains:
      - filters:
        - name: tcp
          typed_config: {{ "@type": {_ENVOY}.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: tcp, cluster: origin }}""" if "tcp" in doors else ""

    def cluster(name, port, more=""):
        return f"""
  - name: {name}
    connect_timeout: 5s
    type: STATIC{more}
    circuit_breakers: {{ thresholds: [ {{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }} ] }}
    load_assignment:
      cluster_name: {name}
      endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }} ] }} ]"""

    http2 = f"""
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": {_ENVOY}.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}"""
    fronts = "".join(http(door) for door in ("http", "https", "grpc", "grpcs") if door in doors)
    conf = (f"static_resources:\n  listeners:{fronts}{relay}\n  clusters:{cluster('origin', ORIGIN)}"
            f"{cluster('grpc', GRPC_ORIGIN, http2)}\n")
    return [paths("envoy"), "-c", site.write("envoy.yaml", conf), "--concurrency", "1", "-l", "error", "--disable-hot-restart"]


def relay(_site, ports, _doors, _log, paths):
    return [paths("relay"), "--listen", f"127.0.0.1:{ports['http']}", "--origin", f"127.0.0.1:{ORIGIN}"]


def ringgate(site, ports, doors, log, paths):
    access = f'"{site.at}/ringgate.access"' if log else '"off"'
    tls = f'protocol = "https"\ntls = {{ certificates = [{{ cert = "{site.cert}", key = "{site.key}" }}] }}\n'
    more = {"https": tls, "grpcs": tls, "tcp": 'protocol = "tcp"\ndefault = { forward = "origin" }\n'}
    listeners = "".join(f"""
[[listener]]
name = "{door}"
bind = ["127.0.0.1:{ports[door]}"]
{more.get(door, "")}""" for door in ("http", "https", "grpc", "grpcs", "tcp") if door in doors)

    def rule(name, group, listeners):
        named = [door for door in listeners if door in doors]
        return f"""
[[rule]]
name = "{name}"
listener = {named}
forward = "{group}"
[rule.when]
path = ["/*"]
""".replace("'", '"') if named else ""

    grpc = f"""
[group.grpc]
targets = ["127.0.0.1:{GRPC_ORIGIN}"]
protocol = "h2c"
health = {{ type = "off" }}
""" if doors & {"grpc", "grpcs"} else ""
    conf = f"""[server]
workers = 1

[admin]
bind = "127.0.0.1:{ports['admin']}"

[log]
access = {access}
format = "combined"

[limits]
requests = "none"
http2 = {{ requests = "none" }}
{listeners}{rule("web", "origin", ["http", "https"])}{rule("grpc", "grpc", ["grpc", "grpcs"])}
[group.origin]
targets = ["127.0.0.1:{ORIGIN}"]
pool = {{ max_idle = 1024 }}
health = {{ type = "off" }}
{grpc}"""
    return [paths("ringgate"), "run", "-c", site.write("ringgate.toml", conf)]


_ALL = {"http", "https", "grpc", "grpcs", "tcp"}
PEERS = {
    "haproxy": Peer(haproxy, _ALL),
    "nginx": Peer(nginx, _ALL),
    "envoy": Peer(envoy, _ALL),
    "relay": Peer(relay, {"http"}, logs=False),
    "ringgate": Peer(ringgate, _ALL),
}


def show(site, commands):
    for name, command in commands.items():
        print(f"# ---- {name}: {' '.join(command)}")
        for path in map(pathlib.Path, command):
            if path.parent == site.at and path.is_file():
                print(path.read_text())
