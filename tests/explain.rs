//! `ringgate explain` from the command line: of a file, and of the process that runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use support::ringgate::{command, forwarding};
use support::{Origin, Ringgate, free_address, get};

fn explain(ringgate: &Ringgate, args: &[&str]) -> (i32, String) {
    let path = ringgate.path();
    command(&[&["explain", "-c", path.to_str().unwrap()], args].concat())
}

#[test]
fn the_process_that_runs_is_asked_over_its_admin_listener() {
    let origin = Origin::saying("here");
    let listen = free_address();
    let rule = "\n[[rule]]\nname = \"few\"\nwhen = { path = [\"/few\"] }\npolicy = \"few\"\nforward = \"all\"\n\
                [policy.few]\nrate = { limit = \"2/m\" }\n";
    let ringgate = Ringgate::start(&(forwarding(listen, &[origin.address], "") + rule));
    let url = format!("http://{listen}/few");
    let (code, text) = explain(&ringgate, &["--running", &url, "--source", "127.0.0.1"]);
    assert_eq!(code, 0, "{text}");
    for part in [
        "configuration 1, as it runs",
        "rule       -> few (",
        "policy        few (rate): lets it pass; 1 of 1 left",
        &format!("sent to       {}", origin.address),
        "< HTTP/1.1 200 OK",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!((get(listen, "/few").status(), get(listen, "/few").status()), (200, 429));
    let json = ["--running", "--json", &url, "--source", "127.0.0.1"];
    let (code, text) = explain(&ringgate, &json);
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &said["policies"][0]["says"]), (0, &"ends".into()), "{text}");
    assert!(said["answer"][0].as_str().unwrap().contains(" 429 "), "{text}");
    assert_eq!(origin.requests().len(), 1, "explaining sends nothing");
    let (code, text) = explain(&ringgate, &["--running", "GET ftp://a.test/"]);
    assert!(code == 2 && text.contains("http or https"), "{code}: {text}");
    let (code, text) = explain(&ringgate, &["--running", &url, "--listener", "nowhere"]);
    assert!(code == 2 && text.contains("there is no listener \"nowhere\""), "{code}: {text}");
}

#[test]
fn a_process_that_does_not_run_does_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    let admin = free_address();
    let file = forwarding(free_address(), &[free_address()], "");
    std::fs::write(&path, format!("[admin]\nbind = \"{admin}\"\n{file}")).unwrap();
    let args = ["explain", "-c", path.to_str().unwrap(), "http://a.test/"];
    let (code, text) = command(&[&args[..], &["--running"]].concat());
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&format!("the process at {admin} does not answer")), "{text}");
    let (code, text) = command(&args);
    assert!(code == 0 && text.contains("< HTTP/1.1 200 OK"), "{text}");
}
