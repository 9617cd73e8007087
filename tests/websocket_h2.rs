//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT of Node's becomes a handshake of HTTP/1.1, and its stream a tunnel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod support;

use base64::Engine;
use std::process::Command;
use support::ringgate::forwarding;
use support::{Origin, Ringgate, eventually, free_address, program};

/// A real WebSocket server's answer to a key.
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::prelude::BASE64_STANDARD.encode(hash)
}

/// Switches for whoever asks for `/ws` or `/hold` and sends back what it reads then; what follows an end of the latter has none.
/// `/NUMBER` is answered with that status.
fn origin() -> Origin {
    Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            let path = request.target().trim_start_matches('/').to_owned();
            if !["ws", "hold"].contains(&path.as_str()) {
                conn.send(format!("HTTP/1.1 {path} X\r\nContent-Length: 2\r\n\r\nno"))?;
                continue;
            }
            let key = request.header("sec-websocket-key").unwrap_or_default();
            conn.send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: chat\r\n\r\nearly",
                accept(key)
            ))?;
            let mut stream = conn.wire.stream.try_clone()?;
            std::io::copy(&mut conn.wire.stream, &mut stream)?;
            if path == "hold" {
                // It has no end of its own.
                loop {
                    conn.send(".")?;
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
            return Ok(());
        }
        Ok(())
    })
}

/// Runs `script` with a session `s` of Node's http2; what it prints.
#[track_caller]
fn node(listen: std::net::SocketAddr, script: &str) -> String {
    const BEFORE: &str = r#"
const http2 = require("http2");
const s = http2.connect("http://" + process.argv[1]);
s.on("error", e => { console.log("session", e.message); process.exit(1); });
setTimeout(() => { console.log("too slow"); process.exit(1); }, 15000).unref();
const open = (path, more) => s.request({ ":method": "CONNECT", ":protocol": "websocket", ":scheme": "http",
    ":path": path, ":authority": "a.test", "sec-websocket-version": "13", ...more });
const status = (path, more) => new Promise(done => {
    const r = open(path, more);
    r.on("response", h => { r.on("data", () => {}); done(h[":status"] + " " + (h["x-ringgate-reason"] || "-")); r.close(); });
    r.on("error", e => done("error " + e.message));
});
"#;
    let script = format!("{BEFORE}s.on(\"remoteSettings\", async settings => {{ {script} }});");
    let done = Command::new(program("node", "nodejs"))
        .args(["-e", &script, &listen.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    said
}

#[test]
fn a_stream_becomes_a_tunnel() {
    let origin = origin();
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let said = node(
        listen,
        r#"
        console.log("setting", settings.enableConnectProtocol);
        const r = open("/ws", { "sec-websocket-protocol": "chat" });
        const sent = Buffer.alloc(3000000, 7);
        let got = 0, early = "";
        r.on("response", h => {
            console.log(h[":status"], h["sec-websocket-protocol"], h["sec-websocket-accept"], h["upgrade"]);
            r.end(sent);
        });
        r.on("data", d => {
            if (early.length < 5) { early += d.subarray(0, 5 - early.length); d = d.subarray(5); }
            if (!d.every(o => o === 7)) console.log("wrong");
            got += d.length;
        });
        r.on("end", () => { console.log("end", early, got); s.close(); });
        "#,
    );
    assert_eq!(said, "setting true\n200 chat undefined undefined\nend early 3000000\n");
    let seen = origin.last();
    assert_eq!((seen.method(), seen.target()), ("GET", "/ws"));
    assert_eq!(seen.header("connection"), Some("upgrade"));
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert_eq!(seen.header("sec-websocket-version"), Some("13"));
    let key = seen.header("sec-websocket-key").unwrap();
    assert_eq!(base64::prelude::BASE64_STANDARD.decode(key).unwrap().len(), 16);
    eventually("it is counted", || {
        ringgate.sum("ringgate_tunnels_total", &["listener"]) == 1.0
            && ringgate.sum("ringgate_open_tunnels", &["listener"]) == 0.0
    });
}

// Hazard WS-06: to an extended CONNECT a 2xx says that the tunnel stands.
#[test]
fn nothing_else_is_a_success() {
    let origin = origin();
    let listen = free_address();
    let rules = "\n[[rule]]\nname = \"plain\"\nforward = \"all\"\nupgrade = []\nwhen = { path = \"/plain\" }\n\
                 [[rule]]\nname = \"page\"\nrespond = { status = 200, body = \"x\" }\nwhen = { path = \"/page\" }\n\
                 [[rule]]\nname = \"mine\"\nforward = \"all\"\norigins = [\"https://a.test\"]\nwhen = { path = \"/mine\" }\n";
    let ringgate = Ringgate::start(&(forwarding(listen, &[origin.address], "") + rules));
    let said = node(
        listen,
        r#"
        const all = [
            ["/ws", { ":protocol": "other" }],
            ["/ws", { ":protocol": "h2c" }],
            ["/ws", { "sec-websocket-version": "12" }],
            ["/ws", { "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==" }],
            ["/plain", {}], ["/page", {}], ["/200", {}], ["/204", {}], ["/403", {}],
            ["/mine", { "origin": "https://evil.test" }],
        ];
        for (const [path, more] of all) console.log(path, await status(path, more));
        s.close();
        "#,
    );
    let expected = "/ws 501 upgrade_refused\n/ws 501 upgrade_refused\n/ws 501 upgrade_refused\n\
                    /ws 501 upgrade_refused\n/plain 501 upgrade_refused\n/page 501 upgrade_refused\n\
                    /200 502 bad_upgrade\n/204 502 bad_upgrade\n/403 403 -\n/mine 403 origin_refused\n";
    assert_eq!(said, expected);
    assert!(origin.requests().iter().all(|r| r.target() != "/ws"));
    assert_eq!(ringgate.sum("ringgate_tunnels_total", &["listener"]), 0.0);
}

#[test]
fn where_nothing_may_be_upgraded_clients_are_not_told_that_they_may_ask() {
    let origin = origin();
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "")
        .replace("default = { forward = \"all\" }", "default = { respond = { status = 200 } }")
        + "[[rule]]\nname = \"plain\"\nforward = \"all\"\nupgrade = []\n";
    let _ringgate = Ringgate::start(&config);
    let said = node(listen, r#"console.log(!!settings.enableConnectProtocol); s.close();"#);
    assert_eq!(said, "false\n");
}

#[test]
fn a_stream_that_is_reset_ends_its_tunnel_and_no_other() {
    let origin = origin();
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let said = node(
        listen,
        r#"
        // Node ends a stream before it resets it.
        const one = open("/hold"), two = open("/ws");
        const first = r => new Promise(done => r.once("data", done));
        await Promise.all([first(one), first(two)]);
        one.close(http2.constants.NGHTTP2_CANCEL);
        await new Promise(done => one.on("close", done));
        two.write("still here");
        console.log(String(await first(two)));
        two.end();
        two.on("end", () => s.close());
        two.resume();
        "#,
    );
    assert_eq!(said, "still here\n");
    eventually("both have ended", || {
        ringgate.sum("ringgate_tunnels_total", &["listener"]) == 2.0
            && ringgate.sum("ringgate_open_tunnels", &["listener"]) == 0.0
    });
    let faults: Vec<_> = ringgate
        .metrics()
        .lines()
        .filter(|l| l.starts_with("ringgate_faults_total{") && !l.ends_with(" 0"))
        .map(str::to_owned)
        .collect();
    assert_eq!(faults, ["ringgate_faults_total{reason=\"tunnel_client_reset\"} 1"]);
}
