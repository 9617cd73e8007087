//! Fields of every response, over real sockets: set, given, removed; and where a listener and a rule both speak.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use support::ringgate::forwarding;
use support::{Client, Message, Origin, Ringgate, free_address, get};

fn with(listen: SocketAddr, target: SocketAddr, rest: &str) -> String {
    let name = "name = \"web\"\n";
    let lines = "policy = 'web'\n";
    forwarding(listen, &[target], "").replace(name, &format!("{name}{lines}")) + rest
}

const POLICY: &str = "
[policy.web.headers]
preset = 'web'
set = { X-Frame-Options = 'DENY', X-Set = 'gateway' }
default = { Referrer-Policy = 'no-referrer', X-Default = 'gateway' }
remove = ['X-Secret', 'Permissions-Policy']
";

#[track_caller]
fn check(answer: &Message, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        assert_eq!(answer.header(name), *value, "{name} of {:?}", answer.headers);
    }
}

#[test]
fn a_targets_fields_are_replaced_kept_or_removed() {
    let talkative = "HTTP/1.1 200 OK\r\nServer: nginx/1.0\r\nX-Powered-By: PHP\r\nx-secret: 1\r\n\
                     x-frame-options: ALLOWALL\r\nX-FRAME-OPTIONS: SAMEORIGIN\r\nX-Default: target\r\n\
                     Content-Security-Policy: default-src 'self'\r\nPermissions-Policy: camera=*\r\n\
                     Content-Length: 2\r\n\r\nok";
    let (origin, listen) = (Origin::answering(talkative), free_address());
    let _ringgate = Ringgate::start(&with(listen, origin.address, POLICY));
    let mut client = Client::connect(listen);
    for _ in 0..3 {
        check(
            &client.get("/"),
            &[
                ("server", None),
                ("x-powered-by", None),
                ("x-secret", None),
                ("permissions-policy", None),
                ("x-frame-options", Some("DENY")),
                ("x-set", Some("gateway")),
                ("x-default", Some("target")),
                ("content-security-policy", Some("default-src 'self'")),
                ("referrer-policy", Some("no-referrer")),
                ("x-content-type-options", Some("nosniff")),
                ("cross-origin-resource-policy", Some("same-site")),
                ("cross-origin-opener-policy", Some("same-origin-allow-popups")),
                ("content-length", Some("2")),
            ],
        );
    }
}

#[test]
fn answers_of_ringgate_have_them_too() {
    let listen = free_address();
    // Nobody listens there.
    let rest = format!(
        "{POLICY}\n[policy.nobody]\nip = {{ deny = '127.0.0.0/8' }}\n\
         [[rule]]\nname = 'shut'\nwhen = {{ path = '/shut' }}\nforward = 'all'\npolicy = 'nobody'\n\
         [[rule]]\nname = 'own'\nwhen = {{ path = '/own' }}\nrespond = {{ status = 200, headers = {{ X-Default = 'own', X-Set = 'own', X-Secret = '1' }} }}\n"
    );
    let _ringgate = Ringgate::start(&with(listen, free_address(), &rest));
    for (path, status, default) in
        [("/x", 502, "gateway"), ("/shut", 403, "gateway"), ("/own", 200, "own")]
    {
        let answer = get(listen, path);
        assert_eq!(answer.status(), status, "{path}");
        check(
            &answer,
            &[
                ("x-frame-options", Some("DENY")),
                ("x-default", Some(default)),
                ("x-set", Some("gateway")),
                ("x-secret", None),
                ("x-content-type-options", Some("nosniff")),
            ],
        );
    }
}

#[test]
fn a_rule_knows_better_than_its_listener() {
    let (origin, listen) = (Origin::saying("ok"), free_address());
    let rest = format!(
        "{POLICY}\n[policy.framed.headers]\nset = {{ X-Frame-Options = 'SAMEORIGIN' }}\n\
         default = {{ Referrer-Policy = 'origin' }}\n[policy.nobody]\nip = {{ deny = '127.0.0.0/8' }}\n\
         [[rule]]\nname = 'framed'\nwhen = {{ path = '/framed' }}\nforward = 'all'\npolicy = 'framed'\n\
         [[rule]]\nname = 'shut'\nwhen = {{ path = '/shut' }}\nforward = 'all'\npolicy = ['nobody', 'framed']\n"
    );
    let _ringgate = Ringgate::start(&with(listen, origin.address, &rest));
    for (path, status, frame, referrer) in [
        ("/", 200, "DENY", "no-referrer"),
        ("/framed", 200, "SAMEORIGIN", "origin"),
        // Refused before the second policy has spoken: it speaks for the answer all the same.
        ("/shut", 403, "SAMEORIGIN", "origin"),
    ] {
        let answer = get(listen, path);
        assert_eq!(answer.status(), status, "{path}");
        check(
            &answer,
            &[
                ("x-frame-options", Some(frame)),
                ("referrer-policy", Some(referrer)),
                ("x-set", Some("gateway")),
            ],
        );
    }
}

#[test]
fn the_preset_for_programs_lets_nothing_be_shown() {
    let (origin, listen) = (Origin::saying("{}"), free_address());
    let _ringgate = Ringgate::start(&with(
        listen,
        origin.address,
        "\n[policy.web]\nheaders = { preset = 'api' }\n",
    ));
    check(
        &get(listen, "/"),
        &[
            ("content-security-policy", Some("default-src 'none'; frame-ancestors 'none'")),
            ("x-frame-options", Some("DENY")),
            ("referrer-policy", Some("no-referrer")),
            ("cross-origin-resource-policy", Some("same-origin")),
            ("x-content-type-options", Some("nosniff")),
        ],
    );
}
