//! Tests of the template language.

use super::*;
use crate::http::fields::OwnedFields;
use crate::transform::json;

const ALL: Scope = Scope { rule: true, response: true, fault: true, body: true };

fn filled(text: &str, place: Place) -> String {
    let fields: OwnedFields =
        [("X-A", "v<1>"), ("cookie", "sid=c 1; b=2"), ("x-user", "forged")].into_iter().collect();
    let response: OwnedFields = [("etag", "\"e\"")].into_iter().collect();
    let body = json::parse(br#"{"a":{"b":[1,{"c":"t\"x"}]},"n":1.50,"o":null}"#).unwrap();
    let captures = Captures::new(&["*.test".to_owned()], &["/v1/*/*".to_owned()], &[]);
    let view = RequestView {
        method: b"PUT",
        host: b"a.test",
        path: b"/v1/x%20y/z",
        query: Some(b"q=1%0A+2&%71r=3&q=4"),
        fields: fields.view(),
        peer: [127, 0, 0, 1].into(),
    };
    let facts = Facts {
        scheme: "https",
        port: 8443,
        client: "2001:db8::1".parse().unwrap(),
        request_id: b"id",
        rule: "r",
        group: "g",
        target: "10.0.0.1:80",
        status: 502,
        reason: "code",
        detail: "A sentence.",
        response: Some(response.view()),
        consumer: "ann",
        claim: &|name| (name == "realm.roles").then(|| "x y".to_owned()),
        own_field: &|name| (name == "x-user").then(|| Some(b"proven".to_vec())),
        captures: Some(&captures),
        body: Some(&body),
        ..Facts::of(view)
    };
    let template = Template::parse(text, ALL).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
    String::from_utf8(template.text(&facts, place)).unwrap()
}

#[test]
fn every_name_stands_for_something() {
    for (text, expected) in [
        ("", ""),
        ("plain #{method}!", "plain PUT!"),
        (
            "#{protocol}://#{host}:#{port}/#{path}?#{query}",
            "https://a.test:8443/v1/x%20y/z?q=1%0A+2&%71r=3&q=4",
        ),
        ("#{client_ip} #{request_id}", "2001:db8::1 id"),
        ("#{rule} #{group} #{target} #{status}", "r g 10.0.0.1:80 502"),
        ("#{reason}: #{detail}", "code: A sentence."),
        ("#{header.x-a} #{header.X-A}", "v<1> v<1>"),
        ("#{query.q} #{query.qr}", "1%0A 2 3"),
        ("#{cookie.sid}", "c 1"),
        ("#{response.header.etag}", "\"e\""),
        ("#{capture.1}-#{capture.2}-#{host.1}", "x%20y-z-a"),
        ("#{consumer} #{claim.realm.roles}", "ann x y"),
        ("#{body.a.b.1.c} #{body.n}", "t\"x 1.50"),
        ("#{header.none:-no}#{body.o:-null}#{claim.x:-}#{body.a:-object}", "nonullobject"),
        ("[#{header.none}]", "[]"),
        ("##{host} #{host} # {x} #x", "#{host} a.test # {x} #x"),
    ] {
        assert_eq!(filled(text, Place::Field), expected, "{text}");
    }
}

/// What policies say of a sender goes before what a client says of itself (hazard HDR-04).
#[test]
fn what_is_proven_goes_before_what_is_said() {
    assert_eq!(filled("#{header.x-user}", Place::Field), "proven");
}

#[test]
fn values_are_escaped_by_where_they_stand() {
    for (place, expected) in [
        (Place::Field, "<b>v<1></b>"),
        (Place::Html, "<b>v&lt;1&gt;</b>"),
        (Place::Json, "<b>v\\u003c1\\u003e</b>"),
        (Place::Path, "<b>v%3C1%3E</b>"),
        (Place::Query, "<b>v%3C1%3E</b>"),
    ] {
        assert_eq!(filled("<b>#{header.x-a}</b>", place), expected);
    }
    assert_eq!(filled("#{header.none:-<}", Place::Html), "&lt;");
}

#[test]
fn what_is_no_template_is_said() {
    let wrong = |text: &str, scope| Template::parse(text, scope).unwrap_err();
    for text in
        ["#{nope}", "#{}", "#{ host}", "#{header.}", "#{header}", "#{Host}", "#{capture.a b}"]
    {
        assert!(matches!(wrong(text, ALL), Wrong::Unknown(_)), "{text}");
    }
    for text in ["#{", "#{host", "a #{host} #{"] {
        assert_eq!(wrong(text, ALL), Wrong::Unclosed, "{text}");
    }
    for text in ["#{rule}", "#{capture.1}", "#{status}", "#{reason}", "#{body.a}", "#{target}"] {
        assert!(matches!(wrong(text, Scope::ANY), Wrong::NotHere(_)), "{text}");
    }
    assert_eq!(wrong(&"x".repeat(LONGEST + 1), ALL), Wrong::TooLong);
}

#[test]
fn what_a_template_reads_is_known() {
    let of = |text: &str| Template::parse(text, ALL).unwrap();
    assert!(of("#{body.a}").reads_body() && !of("#{host}").reads_body());
    assert!(of("#{capture.1}").reads_captures() && of("#{host.1}").reads_captures());
    assert!(of("x #{status} #{response.header.etag}").is_shareable());
    assert!(!of("#{client_ip}").is_shareable() && !of("#{body.a}").is_shareable());
    assert!(of("#{body.a} #{status}").is_of_response());
    assert!(!of("#{body.a} #{header.x-user}").is_of_response(), "one of them is enough");
    assert_eq!(of("#{body.a.b}").body_alone(), Some("a.b"));
    assert_eq!(of("#{body.a:-x}").body_alone(), None);
    assert_eq!(of("x").constant(), Some("x"));
    assert_eq!(of("").constant(), Some(""));
    assert_eq!(of("a#{host}b").around(), "axb");
}

/// Hazard URI-08: a client cannot choose the host that it is sent to.
#[test]
fn a_host_ends_as_the_file_says() {
    for (text, free) in [
        ("#{host}", false),
        ("www.#{host}", false),
        ("#{header.x}", true),
        ("www.#{query.h}", true),
        ("#{header.x}.example.com", false),
        ("#{header.x}-app.example.com", false),
        ("#{capture.1}", true),
        ("#{header.x}#{query.y}.example.com", false),
        ("a.example.com#{header.x}", true),
    ] {
        assert_eq!(Template::parse(text, ALL).unwrap().ends_as_clients_choose(), free, "{text}");
    }
}

#[test]
fn a_value_in_a_script_is_noticed() {
    for (text, inside) in [
        ("<p>#{host}</p>", false),
        ("<script>x = '#{host}'</script>", true),
        ("<SCRIPT src=x></SCRIPT>#{host}", false),
        ("<style>a{}</style><p>#{host}<style>#{host}", true),
    ] {
        assert_eq!(Template::parse(text, ALL).unwrap().stands_in_script(), inside, "{text}");
    }
}
