//! Tests of what may be written of changes.

use super::*;
use crate::transform::json::Value;

const REST: &str = "[[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']\n[group.g]\ntargets = []\n";
const WHEN: &str = "when = { host = '*.a.test', path = '/x/*' }\n";

fn parse(rule: &str) -> Result<Config, Vec<String>> {
    let action =
        if rule.contains("redirect") || rule.contains("respond") { "" } else { "forward = 'g'\n" };
    let text = format!("[[rule]]\nname = 'r'\n{action}{WHEN}{rule}\n{REST}");
    let parsed = crate::config::parse(&text, "a.toml", &|_| None);
    parsed.map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn check(rule: &str, expected: &[&str]) {
    let found = parse(rule).err().unwrap_or_default();
    assert_eq!(found.len(), expected.len(), "{rule}: {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}\n--- without\n{expected}");
    }
}

#[test]
fn reads_what_a_rule_changes() {
    let config = parse(
        "request = { strip_prefix = '/api/', path_regex = { match = '^/(?<id>[0-9]+)', replace = '/$id-$1$$' }, \
         host = 'target', query = { keep = 'a' }, headers = { set = { X-A = '#{host.1}' } }, \
         json = { set = { 'a.b' = 1, c = true, d = 'x' }, remove = ['e.*.f'] }, limit = '2KiB' }\n\
         response = { status = { '404' = 200 }, cookies = { same_site = 'none', domain = { '*' = '' } } }\n\
         errors = [{ status = '502-504', from = 'all', body = 'x', content_type = 'text/plain' }]",
    );
    let config = config.unwrap_or_else(|problems| panic!("{problems:?}"));
    let request = config.rules[0].traffic.request.clone().unwrap();
    let PathChange::Parts { strip, regex, add: None } = request.path else { panic!() };
    assert_eq!(strip.as_deref(), Some("/api"));
    let expected = Template::parse("/#{capture.id}-#{capture.1}$", Scope::REQUEST).unwrap();
    assert_eq!(regex.unwrap().1, expected);
    assert_eq!((request.host, request.limit), (HostChange::Target, 2048));
    assert_eq!(request.headers.set[0].0, "x-a");
    let json = request.json.unwrap();
    assert_eq!(json.set[0], (vec!["a".to_owned(), "b".to_owned()], Value::Literal("1".to_owned())));
    assert_eq!(json.set[1].1, Value::Literal("true".to_owned()));
    let response = config.rules[0].traffic.response.clone().unwrap();
    assert_eq!(response.status, [(404..=404, 200)]);
    assert_eq!(response.errors[0].status, [502..=504]);
    assert_eq!((response.errors[0].from, response.limit), (From::All, LIMIT));
    assert_eq!(response.cookies.unwrap().same_site, Some(SameSite::None));
}

#[test]
fn what_cannot_be_done_to_a_request_is_said() {
    check("request = {}", &["nothing to change"]);
    check("request = { pth = '/x' }", &["did you mean \"path\"?"]);
    check("request = { path = 'x' }", &["begins with \"/\""]);
    check("request = { path = '/a/../b' }", &["begins with \"/\""]);
    check("request = { path = '/#{hos}' }", &["did you mean \"host\"?"]);
    check("request = { path = '/#{headr.x}' }", &["did you mean \"header.x\"?"]);
    check("request = { path = '/#{status}' }", &["without #{status}, which is not known here"]);
    check("request = { path = '/#{host' }", &["a } for each #{"]);
    check("request = { path = '/x', add_prefix = '/y' }", &["add_prefix beside path"]);
    check("request = { strip_prefix = '/' }", &["more than \"/\""]);
    check("request = { path_regex = { match = '(', replace = '/' } }", &["unclosed group"]);
    check("request = { path_regex = { match = '^/(.)', replace = '/$2' } }", &["it has no \"2\""]);
    check("request = { path = '/#{capture.2}' }", &["#{capture.2}, which no pattern"]);
    check("request = { path = '/#{host.2}' }", &["#{host.2}, which no pattern"]);
    check("request = { host = 'a b' }", &["a host, with a port perhaps"]);
    check(
        "request = { host = 'a', host_regex = { match = 'a', replace = 'b' } }",
        &["host_regex beside host"],
    );
    for name in
        ["Connection", "content-length", "Host", "Via", "X-Forwarded-For", "Transfer-Encoding"]
    {
        check(&format!("request = {{ headers = {{ set = {{ {name} = 'x' }} }} }}"), &[name]);
        check(&format!("request = {{ headers = {{ remove = ['{name}'] }} }}"), &[name]);
        check(&format!("request = {{ headers = {{ rename = {{ {name} = 'x-a' }} }} }}"), &[name]);
        check(&format!("request = {{ headers = {{ rename = {{ x-a = '{name}' }} }} }}"), &["x-a"]);
    }
    check("request = { headers = { set = { ':path' = 'x' } } }", &["the name of a field"]);
    check("request = { headers = { set = { x-a = \"a\\nb\" } } }", &["without control characters"]);
    check(
        "request = { headers = { set = { x-a = '1' }, remove = 'X-A' } }",
        &["x-a in remove and in set"],
    );
    check("request = { body = 'x', json = { remove = 'a' } }", &["json beside body"]);
    check("request = { path = '/x', limit = '1KiB' }", &["limit where no body is read"]);
    check("request = { path = '/x', content_type = 'a/b' }", &["content_type without body"]);
    for kind in ["text/css", "text/javascript", "application/javascript"] {
        check(
            &format!("request = {{ body = 'x = #{{host}}', content_type = '{kind}' }}"),
            &["values can be escaped"],
        );
        check(&format!("request = {{ body = 'x = 1', content_type = '{kind}' }}"), &[]);
    }
    check("request = { json = { set = { 'a.*' = 1 } } }", &["without *"]);
    check("request = { json = { remove = ['a..b'] } }", &["names are not empty"]);
    check(
        "request = { json = { set = { a = 1.5 } } }",
        &["a string, a whole number, true or false"],
    );
    check("respond = { status = 200 }\nrequest = { path = '/x' }", &["request without forward"]);
}

#[test]
fn what_cannot_be_done_to_a_response_is_said() {
    check("response = {}", &["nothing to change"]);
    check("response = { status = { '404' = 204 } }", &["whose response is whole"]);
    check("response = { status = { '100' = 200 } }", &["a status such as"]);
    check("response = { body_status = '200' }", &["body_status without body"]);
    check("response = { strict = true, headers = { remove = 'x' } }", &["strict without json"]);
    check("response = { headers = { set = { vary = 'x' } } }", &["vary only in add"]);
    check(
        "response = { headers = { set = { Access-Control-Allow-Origin = '*' } } }",
        &["kind cors"],
    );
    check("response = { headers = { set = { x = '#{body.a}' } } }", &["which is not known here"]);
    check("response = { cookies = {} }", &["nothing to change"]);
    check("response = { cookies = { same_site = 'Lax' } }", &["did you mean \"lax\"?"]);
    check("response = { cookies = { path = { x = '/' } } }", &["begins with \"/\""]);
    check("response = { cookies = { domain = { '*' = 'a b' } } }", &["the host alone"]);
    check(
        "response = { body = '<script>#{host}</script>', content_type = 'text/html' }",
        &["inside script"],
    );
    check("errors = [{ body = 'x' }]", &["errors[0].status"]);
    check("errors = [{ status = '200', body = 'x' }]", &["a status below 400"]);
    check("errors = [{ status = '500' }]", &["neither body nor file"]);
    check("errors = [{ status = '500', body = 'x', file = 'y' }]", &["file beside body"]);
    check("errors = [{ status = '500', status_to = 204, body = 'x' }]", &["a status of a page"]);
}

#[test]
fn of_a_name_that_there_is_not_those_that_are_known_there_are_listed() {
    let of = |known: &str| format!("only #{{...}} of {known} are replaced here");
    let request = "protocol, host, port, path, query, method, client_ip, request_id, rule, consumer, header.NAME, query.NAME, \
                   cookie.NAME, capture.1, host.1, claim.NAME, body.NAME";
    check("request = { path = '/#{nonsense}' }", &[&of(request)]);
    check("request = { path = '/#{status}' }", &["#{status}, which is not known here"]);
    let response = "rule, group, target, status, consumer, response.header.NAME, header.NAME";
    check("response = { headers = { set = { x = '#{nope}' } } }", &[response]);
}

#[test]
fn what_an_answer_cannot_be_is_said() {
    check("respond = { file = 'a.html' }", &[]);
    check("respond = { file = 'a.html', body = 'x', status = 200 }", &["file beside body"]);
    check("respond = { file = 'a.html', status = 204 }", &["a file, expected none"]);
    check(
        "respond = { status = 200, body = '#{client_ip} #{claim.sub}', headers = { x = '#{capture.1}' } }",
        &[],
    );
    check("respond = { status = 200, body = '#{nope}' }", &["only #{...} of protocol"]);
    check("respond = { status = 200, headers = { x = '#{nope}' } }", &["only #{...} of protocol"]);
    check("redirect = { host = '#{header.x}' }", &["a host that any client can choose"]);
    check("redirect = { host = '#{header.x}.a.test', path = '/#{capture.1}' }", &[]);
    let listener = "\n[[listener]]\nname = 'l'\nbind = ['127.0.0.1:0']\n";
    check(
        &format!("{listener}errors = [{{ status = '500', body = '#{{reason}} #{{host}}' }}]"),
        &[],
    );
    check(
        &format!("{listener}errors = [{{ status = '500', body = '#{{rule}}' }}]"),
        &["not known here"],
    );
}
