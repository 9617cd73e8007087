//! Tables for each condition and the order; properties that hold the index to a walk over all rules.

use super::glob::{Case, Glob};
use super::*;
use crate::http::fields::OwnedFields;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

/// A request that owns its text.
#[derive(Clone, Debug)]
struct Request {
    method: String,
    host: String,
    path: String,
    query: Option<String>,
    fields: Vec<(String, String)>,
    peer: IpAddr,
}

impl Request {
    /// `METHOD host/path?query`, and then field lines as `; name: value`.
    fn parse(text: &str) -> Request {
        let mut parts = text.split("; ");
        let (method, url) = parts.next().unwrap().split_once(' ').unwrap();
        let (url, query) = match url.split_once('?') {
            Some((url, query)) => (url, Some(query.to_owned())),
            None => (url, None),
        };
        let (host, path) = url.split_at(url.find('/').unwrap());
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        Request {
            method: method.to_owned(),
            host: host.to_owned(),
            path: path.to_owned(),
            query,
            fields: parts.map(field).collect(),
            peer: IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)),
        }
    }

    fn with<T>(&self, read: impl FnOnce(&RequestView<'_>) -> T) -> T {
        let fields: OwnedFields =
            self.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        read(&RequestView {
            method: self.method.as_bytes(),
            host: self.host.as_bytes(),
            path: self.path.as_bytes(),
            query: self.query.as_deref().map(str::as_bytes),
            fields: fields.view(),
            peer: self.peer,
        })
    }
}

const WEB: ListenerId = ListenerId(0);

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn pairs(name: &str, values: &[&str]) -> Vec<(String, Vec<String>)> {
    vec![(name.to_owned(), strings(values))]
}

fn rule(host: &[&str], path: &[&str]) -> RuleSpec {
    RuleSpec { host: strings(host), path: strings(path), ..RuleSpec::default() }
}

fn found(rules: &[RuleSpec], request: &Request) -> Option<u32> {
    let table = Table::compile(rules).unwrap();
    let found = request.with(|view| table.find(WEB, view));
    assert_eq!(found, naive(&table, WEB, request), "index and walk disagree for {request:?}");
    found.map(|id| id.0)
}

/// What `find` promises, without the index.
fn naive(table: &Table, listener: ListenerId, request: &Request) -> Option<RuleId> {
    let takes = |id: &RuleId| request.with(|view| table.check(*id, listener, view).is_ok());
    table.order().iter().copied().find(takes)
}

fn order(rules: &[RuleSpec]) -> Vec<u32> {
    Table::compile(rules).unwrap().order().iter().map(|id| id.0).collect()
}

fn hidden(rules: &[RuleSpec]) -> Vec<(u32, u32)> {
    let pairs = Table::compile(rules).unwrap().hidden();
    pairs.into_iter().map(|(hidden, by)| (hidden.0, by.0)).collect()
}

#[test]
fn wildcards() {
    let cases: &[(&str, &str, bool)] = &[
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("**", "abc", true),
        ("?", "", false),
        ("?", "a", true),
        ("a*", "a", true),
        ("a*", "ba", false),
        ("*a", "bca", true),
        ("*a", "ab", false),
        ("a*b", "ab", true),
        ("a*b", "axxb", true),
        ("a*b", "axxbc", false),
        ("a*b*c", "abxbc", true),
        ("*ab*", "aab", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*?", "", false),
        ("?*?", "ab", true),
        ("?*?", "a", false),
        ("*aab", "aaaab", true),
        ("A*", "abc", false),
    ];
    for (pattern, text, expected) in cases {
        let got = Glob::new(pattern, Case::Exact).matches(text.as_bytes());
        assert_eq!(got, *expected, "{pattern} against {text}");
        let decoded = Glob::new(pattern, Case::Exact).matches_decoded(text.as_bytes());
        assert_eq!(decoded, *expected, "{pattern} against {text}, decoded");
    }
    assert!(Glob::new("A*Z", Case::Fold).matches(b"abcz"));
    assert!(Glob::new("Ab", Case::Fold).matches(b"aB"));
}

#[test]
fn many_stars_take_no_exponential_time() {
    let pattern = "a*".repeat(60) + "b";
    assert!(!Glob::new(&pattern, Case::Exact).matches("a".repeat(5_000).as_bytes()));
}

#[test]
fn percent_encoding_is_undone_while_matching() {
    let cases: &[(&str, &str, bool)] = &[
        ("a b", "a%20b", true),
        ("a b", "a+b", false),
        ("a+b", "a+b", true),
        ("a?b", "a%2Fb", true),
        ("*ü", "x%C3%BC", true),
        ("%zz", "%zz", true),
        ("a%", "a%", true),
        ("a%4", "a%4", true),
        ("%41", "%2541", true),
        ("A", "%41%41", false),
    ];
    for (pattern, text, expected) in cases {
        let got = Glob::new(pattern, Case::Exact).matches_decoded(text.as_bytes());
        assert_eq!(got, *expected, "{pattern} against {text}");
    }
}

#[test]
fn each_condition() {
    let any = RuleSpec::default;
    let cases: &[(RuleSpec, &str, bool)] = &[
        (any(), "GET h/", true),
        (rule(&["Example.COM"], &[]), "GET example.com/", true),
        (rule(&["*.example.com"], &[]), "GET example.com/", false),
        (rule(&["*.example.com"], &[]), "GET a.b.example.com/", true),
        (rule(&["api.*"], &[]), "GET api.x/", true),
        (rule(&["a?i.*.com"], &[]), "GET abi.x.com/", true),
        (rule(&["a.x", "b.x"], &[]), "GET b.x/", true),
        (rule(&["*"], &[]), "GET /", true),
        (rule(&[], &["/v1/*"]), "GET h/v1/a", true),
        (rule(&[], &["/v1/*"]), "GET h/v1/", true),
        (rule(&[], &["/v1/*"]), "GET h/v1", false),
        (rule(&[], &["/v1"]), "GET h/V1", false),
        (rule(&[], &["/v1"]), "GET h/v1?x=/", true),
        (rule(&[], &["/a/*/c", "/b"]), "GET h/a/b/c", true),
        (rule(&[], &["*.png"]), "GET h/x.png", true),
        (RuleSpec { path_regex: strings(&["^/v[0-9]+/"]), ..any() }, "GET h/v12/", true),
        (RuleSpec { path_regex: strings(&["^/v[0-9]+/"]), ..any() }, "GET h/vx/", false),
        (RuleSpec { path_regex: strings(&["^/ab?c"]), ..any() }, "GET h/ac", true),
        (RuleSpec { path_regex: strings(&["^/ab{0}c"]), ..any() }, "GET h/ac", true),
        (RuleSpec { path_regex: strings(&["^/a|b"]), ..any() }, "GET h/xb", true),
        (RuleSpec { path_regex: strings(&["z$"]), ..rule(&[], &["/a*"]) }, "GET h/az", true),
        (RuleSpec { path_regex: strings(&["z$"]), ..rule(&[], &["/a*"]) }, "GET h/bz", false),
        (RuleSpec { method: strings(&["GET", "PUT"]), ..any() }, "PUT h/", true),
        (RuleSpec { method: strings(&["GET"]), ..any() }, "get h/", false),
        (RuleSpec { header: pairs("X-Env", &["beta*"]), ..any() }, "GET h/; x-env: BETA2", true),
        (RuleSpec { header: pairs("x-env", &["b"]), ..any() }, "GET h/; x-env: a; x-env: b", true),
        (RuleSpec { header: pairs("x-env", &[]), ..any() }, "GET h/; x-env: a", true),
        (RuleSpec { header: pairs("x-env", &["*"]), ..any() }, "GET h/", false),
        (RuleSpec { query: pairs("V", &["tWo"]), ..any() }, "GET h/?a=1&v=Two", true),
        (RuleSpec { query: pairs("v", &["2"]), ..any() }, "GET h/?v=1&v=2", true),
        (RuleSpec { query: pairs("*", &["2"]), ..any() }, "GET h/?x=2", true),
        (RuleSpec { query: pairs("a b", &["c&d"]), ..any() }, "GET h/?a%20b=c%26d", true),
        (RuleSpec { query: pairs("v*", &["2"]), ..any() }, "GET h/?vx=2", false),
        (RuleSpec { query: pairs("v", &["2"]), ..any() }, "GET h/", false),
        (
            RuleSpec { cookie: pairs("g", &["b"]), ..any() },
            "GET h/; Cookie: a=1; cookie: g=b",
            true,
        ),
        (RuleSpec { cookie: pairs("g", &["B"]), ..any() }, "GET h/; cookie: g=b", false),
        (RuleSpec { cookie: pairs("G", &["b"]), ..any() }, "GET h/; cookie: g=b", false),
        (RuleSpec { listeners: vec![WEB], ..any() }, "GET h/", true),
        (RuleSpec { listeners: vec![ListenerId(7)], ..any() }, "GET h/", false),
    ];
    for (rule, request, expected) in cases {
        let got = found(std::slice::from_ref(rule), &Request::parse(request));
        assert_eq!(got.is_some(), *expected, "{rule:?} for {request}");
    }
}

#[test]
fn source_is_the_peer_with_mapped_addresses_as_ipv4() {
    let cases = [
        ("192.0.2.0/24", "192.0.2.9", true),
        ("192.0.2.0/24", "::ffff:192.0.2.9", true),
        ("::ffff:192.0.2.0/120", "192.0.2.9", true),
        ("192.0.2.0/24", "192.0.3.9", false),
        ("2001:db8::/32", "2001:db8::1", true),
        ("::/0", "192.0.2.9", false),
    ];
    for (net, peer, expected) in cases {
        let rule = RuleSpec { source: vec![net.parse().unwrap()], ..RuleSpec::default() };
        let request = Request { peer: peer.parse().unwrap(), ..Request::parse("GET h/") };
        assert_eq!(found(&[rule], &request).is_some(), expected, "{peer} in {net}");
    }
}

#[test]
fn priority_first_then_the_most_specific() {
    let priority = |priority| RuleSpec { priority: Some(priority), ..RuleSpec::default() };
    let regex = RuleSpec { path_regex: strings(&["x"]), ..RuleSpec::default() };
    let method = RuleSpec { method: strings(&["GET"]), ..RuleSpec::default() };
    let cases: &[(&[RuleSpec], &[u32])] = &[
        (&[rule(&["a"], &["/"]), priority(9), priority(2), priority(9)], &[2, 1, 3, 0]),
        (
            &[rule(&[], &[]), rule(&["*.b.c"], &[]), rule(&["*.a.b.c"], &[]), rule(&["x"], &[])],
            &[3, 2, 1, 0],
        ),
        (
            &[rule(&[], &["/a/*"]), regex.clone(), rule(&[], &[]), rule(&[], &["/a/b"])],
            &[3, 0, 1, 2],
        ),
        (&[rule(&[], &["/a*"]), rule(&[], &["/ab*"]), rule(&[], &["/a*z"])], &[1, 2, 0]),
        (&[rule(&[], &["/*"]), regex.clone(), rule(&["*"], &["*"])], &[1, 2, 0]),
        (&[rule(&["h"], &["/*"]), rule(&[], &["/a"])], &[0, 1]),
        (&[RuleSpec::default(), method.clone()], &[1, 0]),
        (&[rule(&[], &["/api", "/api/*"]), rule(&[], &["/api/special"])], &[1, 0]),
        (&[method.clone(), method.clone()], &[0, 1]),
    ];
    for (rules, expected) in cases {
        assert_eq!(order(rules), *expected, "{rules:?}");
    }
}

#[test]
fn an_expression_that_does_not_compile_is_named() {
    let bad = RuleSpec { path_regex: strings(&["a", "("]), ..RuleSpec::default() };
    let error = Table::compile(&[RuleSpec::default(), bad]).unwrap_err();
    let CompileError::Regex { rule, value, problem } = error else { panic!("{error:?}") };
    assert_eq!((rule, value.as_str()), (RuleId(1), "("));
    assert_eq!(problem, "unclosed group");
}

#[test]
fn a_star_hides_what_comes_later() {
    let at = |priority, path| RuleSpec { priority: Some(priority), ..rule(&[], &[path]) };
    let rules = [at(3, "/api/*"), at(2, "/*"), at(1, "/admin/*")];
    assert_eq!(hidden(&rules), [(0, 1)]);
}

#[test]
fn hidden_rules_and_rules_that_are_not() {
    let first = |spec: RuleSpec| RuleSpec { priority: Some(1), ..spec };
    let any = RuleSpec::default;
    let header = |values| RuleSpec { header: pairs("X", values), ..any() };
    let source = |net: &str| RuleSpec { source: vec![net.parse().unwrap()], ..any() };
    let regex = |value| RuleSpec { path_regex: strings(&[value]), ..any() };
    let query = |key, values| RuleSpec { query: pairs(key, values), ..any() };
    let on = |listeners: &[u32]| RuleSpec {
        listeners: listeners.iter().copied().map(ListenerId).collect(),
        ..any()
    };
    let cases = [
        (any(), rule(&["a"], &["/b"]), true),
        (rule(&["*.x"], &[]), rule(&["*.b.x"], &[]), true),
        (rule(&["*.x"], &[]), rule(&["x"], &[]), false),
        (rule(&["a*"], &[]), rule(&["A?"], &[]), true),
        (rule(&["a.x", "b.x"], &[]), rule(&["b.x"], &[]), true),
        (rule(&["a.x"], &[]), rule(&["a.x", "b.x"], &[]), false),
        (rule(&[], &["/*"]), any(), false),
        (rule(&[], &["/*"]), regex("^/api/"), true),
        (rule(&[], &["/?"]), rule(&[], &["/*"]), false),
        (rule(&[], &["/*b"]), rule(&[], &["/a*b"]), true),
        (rule(&[], &["/a*b"]), rule(&[], &["/a*bc*b"]), true),
        (header(&["A*"]), header(&["ab", "ac*"]), true),
        (header(&["ab"]), header(&["a*"]), false),
        (header(&["*"]), any(), false),
        (source("10.0.0.0/8"), source("10.1.0.0/16"), true),
        (source("10.1.0.0/16"), source("10.0.0.0/8"), false),
        (source("10.0.0.0/8"), source("::ffff:10.1.0.0/112"), true),
        (regex("a"), regex("a"), true),
        (regex("a"), regex("b"), false),
        (query("*", &["1"]), query("k", &["1"]), true),
        (query("k", &["1"]), query("*", &["1"]), false),
        (on(&[1, 2]), on(&[2]), true),
        (on(&[1]), on(&[1, 2]), false),
        (on(&[1]), any(), false),
        (any(), on(&[1]), true),
    ];
    for (wider, narrower, expected) in cases {
        let rules = [narrower, first(wider)];
        assert_eq!(!hidden(&rules).is_empty(), expected, "{rules:?}");
    }
}

fn host() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ab.]{0,5}").unwrap()
}

fn host_pattern() -> impl Strategy<Value = String> {
    let random = proptest::string::string_regex("[abB.*?]{0,5}").unwrap();
    prop_oneof![random, host().prop_map(|h| format!("*.{h}")), host(), Just("*".to_owned())]
}

fn path() -> impl Strategy<Value = String> {
    proptest::string::string_regex("/[ab/]{0,5}").unwrap()
}

fn path_pattern() -> impl Strategy<Value = String> {
    let random = proptest::string::string_regex("[ab/*?]{0,5}").unwrap();
    prop_oneof![path(), path().prop_map(|p| p + "*"), random, Just("/*".to_owned())]
}

fn few<T: std::fmt::Debug>(
    item: impl Strategy<Value = T>,
    most: usize,
) -> impl Strategy<Value = Vec<T>> {
    let some = proptest::collection::vec(item, 1..=most);
    prop_oneof![3 => Just(()).prop_map(|()| Vec::new()), 2 => some]
}

fn rarely<T: std::fmt::Debug>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    let some = proptest::collection::vec(item, 1..=2);
    prop_oneof![8 => Just(()).prop_map(|()| Vec::new()), 1 => some]
}

fn named(names: &'static [&'static str]) -> impl Strategy<Value = (String, Vec<String>)> {
    let values =
        proptest::collection::vec(proptest::string::string_regex("[ab*?]{0,2}").unwrap(), 0..3);
    (proptest::sample::select(names).prop_map(str::to_owned), values)
}

fn spec() -> impl Strategy<Value = RuleSpec> {
    let priority = proptest::option::weighted(0.4, 0u32..4);
    let regex = proptest::sample::select(&["^/a", "b$", "^/ab?", "^/a|b", "//"][..]);
    let method = proptest::sample::select(&["GET", "PUT"][..]);
    let source = proptest::sample::select(&["10.0.0.0/8", "10.1.0.0/16", "::/0"][..]);
    let first = (
        priority,
        rarely((0u32..3).prop_map(ListenerId)),
        few(host_pattern(), 3),
        few(path_pattern(), 3),
        rarely(regex.prop_map(str::to_owned)),
        rarely(method.prop_map(str::to_owned)),
    );
    let second = (
        rarely(named(&["x", "Y"])),
        rarely(named(&["k", "*", "K"])),
        rarely(named(&["c", "C"])),
        rarely(source.prop_map(|net| net.parse().unwrap())),
    );
    (first, second).prop_map(|(first, second)| {
        let (priority, listeners, host, path, path_regex, method) = first;
        let (header, query, cookie, source) = second;
        RuleSpec {
            priority,
            listeners,
            host,
            path,
            path_regex,
            method,
            header,
            query,
            cookie,
            source,
        }
    })
}

fn request() -> impl Strategy<Value = Request> {
    let field = proptest::sample::select(
        &[("x", "a"), ("X", "ab"), ("y", "b"), ("cookie", "c=a; C=b"), ("cookie", "c=")][..],
    );
    let field = field.prop_map(|(n, v)| (n.to_owned(), v.to_owned()));
    let query = proptest::sample::select(&["k=a", "K=%61b&k", "z=b&&k=B", "", "%6b=a+"][..]);
    let peer = proptest::sample::select(&["10.1.2.3", "::ffff:10.2.3.4", "2001:db8::1"][..]);
    let path = prop_oneof![9 => path(), 1 => Just("*".to_owned())];
    (
        proptest::sample::select(&["GET", "PUT", "get"][..]),
        host(),
        path,
        proptest::option::of(query),
        proptest::collection::vec(field, 0..3),
        peer,
    )
        .prop_map(|(method, host, path, query, fields, peer)| Request {
            method: method.to_owned(),
            host,
            path,
            query: query.map(str::to_owned),
            fields,
            peer: peer.parse().unwrap(),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_500))]

    #[test]
    fn the_index_agrees_with_a_walk_and_hides_nothing_that_matches(
        rules in proptest::collection::vec(spec(), 0..24),
        requests in proptest::collection::vec((request(), 0u32..4), 1..16),
    ) {
        let table = Table::compile(&rules).unwrap();
        let hidden: Vec<RuleId> = table.hidden().into_iter().map(|(hidden, _)| hidden).collect();
        for (request, listener) in &requests {
            let listener = ListenerId(*listener);
            let found = request.with(|view| table.find(listener, view));
            prop_assert_eq!(found, naive(&table, listener, request), "{:?}", request);
            prop_assert!(found.is_none_or(|id| !hidden.contains(&id)), "{:?} is not hidden", found);
        }
    }

    #[test]
    fn a_pattern_that_covers_another_matches_all_that_it_matches(
        wide in "[ab*?]{0,6}", narrow in "[ab*?]{0,6}", text in "[ab*?]{0,8}",
    ) {
        let (wide, narrow) = (Glob::new(&wide, Case::Exact), Glob::new(&narrow, Case::Exact));
        if wide.covers(&narrow) && narrow.matches(text.as_bytes()) {
            prop_assert!(wide.matches(text.as_bytes()));
        }
    }
}
