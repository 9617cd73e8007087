//! Lists of addresses, as written, as files, and as they decide.

use super::*;
use crate::http::fields::OwnedFields;
use crate::policy::sample;
use std::sync::Arc;

fn list(networks: &[&str], files: &[&str]) -> List {
    let networks = networks.iter().map(|n| network(n).unwrap()).collect();
    List { networks, files: files.iter().map(PathBuf::from).collect() }
}

fn build(settings: &Settings, file: &'static [u8]) -> Result<Policy, Wrong> {
    Policy::build(settings, &|_| Some(Arc::from(file)), None)
}

fn check(allow: List, deny: List, file: &'static [u8], admitted: &[&str], refused: &[&str]) {
    let settings = Settings { allow, deny, of: Of::Client };
    let policy = build(&settings, file).unwrap();
    for (addresses, expected) in [(admitted, true), (refused, false)] {
        for address in addresses {
            assert_eq!(policy.admits(address.parse().unwrap()), expected, "{address}");
        }
    }
}

#[test]
fn deny_goes_before_allow_and_allow_shuts_out_the_rest() {
    let none = || List::default();
    check(none(), list(&["10.0.0.0/8"], &[]), b"", &["11.0.0.1", "::1"], &["10.0.0.1"]);
    check(list(&["10.0.0.0/8"], &[]), none(), b"", &["10.0.0.1"], &["11.0.0.1", "::1"]);
    check(
        list(&["10.0.0.0/8"], &[]),
        list(&["10.1.0.0/16"], &[]),
        b"",
        &["10.0.0.1"],
        &["10.1.0.1", "11.0.0.1"],
    );
    // An allow list that holds nobody lets nobody in.
    check(list(&[], &["allow.txt"]), none(), b"# nobody\n", &[], &["10.0.0.1", "::1"]);
    check(none(), list(&[], &["deny.txt"]), b"", &["10.0.0.1", "::1"], &[]);
}

#[test]
fn files_are_read_line_by_line() {
    let text = b"\xef\xbb\xbf# a list\r\n10.0.0.0/8\r\n\n  192.0.2.1 # one\n198.51.100.0/24 ; SBL1\n2001:db8::/32\n::ffff:203.0.113.0/120";
    check(
        List::default(),
        list(&["127.0.0.1"], &["deny.txt"]),
        text,
        &["192.0.2.2", "203.0.114.0"],
        &["127.0.0.1", "10.1.1.1", "192.0.2.1", "198.51.100.9", "2001:db8::5", "203.0.113.255"],
    );
}

#[test]
fn wrong_lines_are_named() {
    let settings = Settings { deny: list(&[], &["lists/deny.txt"]), ..Settings::default() };
    for (text, place, found) in [
        (b"10.0.0.0/33".as_slice(), ":1", "\"10.0.0.0/33\", which is no address"),
        (b"\n\n# x\n010.0.0.1\n", ":4", "\"010.0.0.1\""),
        (
            b"1.2.3.4\nexample.com\n\xff\n\x00",
            ":2",
            "\"example.com\", which is no address or range such as 10.0.0.0/8; likewise in line 3, 4",
        ),
        (b"x\nx\nx\nx\nx\nx\nx\nx\n", ":1", "in line 2, 3, 4, 5, 6, ..."),
        (b"1.2.3.4 5.6.7.8", ":1", "1.2.3.4 5.6.7.8"),
    ] {
        let wrong = build(&settings, text).unwrap_err();
        let file = PathBuf::from(format!("lists/deny.txt{place}"));
        assert_eq!(wrong.file, Some(file));
        assert!(wrong.found.contains(found), "{}", wrong.found);
    }
    let unread = Policy::build(&settings, &|_| None, None).unwrap_err();
    assert_eq!(unread.file, Some(PathBuf::from("lists/deny.txt")));
}

#[test]
fn too_many_are_refused() {
    let one: IpNet = "10.0.0.0/8".parse().unwrap();
    let deny = List { networks: vec![one; MOST + 1], files: Vec::new() };
    let wrong = build(&Settings { deny, ..Settings::default() }, b"").unwrap_err();
    assert!(wrong.found.contains("1000001 networks"), "{}", wrong.found);
}

// Hazard HDR-01: what a client claims in fields decides nothing here.
#[test]
fn it_judges_the_client_or_the_peer() {
    let fields: OwnedFields = [("x-forwarded-for", "10.0.0.1")].into_iter().collect();
    for (of, client, peer, refused) in [
        (Of::Client, "10.0.0.1", "192.0.2.1", true),
        (Of::Client, "192.0.2.1", "10.0.0.1", false),
        (Of::Peer, "192.0.2.1", "10.0.0.1", true),
        (Of::Peer, "192.0.2.1", "::ffff:10.0.0.1", true),
        (Of::Peer, "10.0.0.1", "192.0.2.1", false),
    ] {
        let settings = Settings { deny: list(&["10.0.0.0/8"], &[]), of, ..Settings::default() };
        let policy = build(&settings, b"").unwrap();
        let mut subject = sample::subject("/", &fields);
        subject.client = client.parse().unwrap();
        subject.view.peer = peer.parse().unwrap();
        let core = Core::bind(&policy, None);
        let verdict = policy.check(&core, &subject, &mut Findings::default(), None);
        let is = matches!(verdict, Verdict::Refuse(Fault::AddressDenied));
        assert_eq!(is, refused, "{of:?} {client} {peer}");
    }
}

proptest::proptest! {
    #[test]
    fn any_octets_are_a_list_or_not(text in proptest::collection::vec(0..=255u8, 0..200)) {
        let settings = Settings { deny: list(&[], &["x"]), ..Settings::default() };
        let policy = Policy::build(&settings, &|_| Some(Arc::from(text.as_slice())), None);
        proptest::prop_assert!(policy.is_ok() || policy.is_err_and(|wrong| wrong.file.is_some()));
    }
}
