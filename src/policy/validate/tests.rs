//! What validate takes and refuses, as tables.

use super::*;
use crate::http::fields::OwnedFields;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

// A request: its target, its fields, and its body.
struct Request<'a>(&'a str, &'a str, &'a [(&'a str, &'a str)], Option<&'a [u8]>);

const JSON: (&str, &str) = ("Content-Type", "application/json");

impl Request<'_> {
    fn with<R>(&self, judge: impl FnOnce(&Subject<'_>) -> R) -> R {
        let Request(method, target, fields, body) = self;
        let mut fields: OwnedFields = fields.iter().copied().collect();
        if let Some(body) = body {
            fields.push("Content-Length", &body.len().to_string());
        }
        let (path, query) = target.split_once('?').map_or((*target, None), |(p, q)| (p, Some(q)));
        judge(&Subject {
            view: RequestView {
                method: method.as_bytes(),
                host: b"api.example.com",
                path: path.as_bytes(),
                query: query.map(str::as_bytes),
                fields: fields.view(),
                peer: IpAddr::from([127, 0, 0, 1]),
            },
            client: IpAddr::from([127, 0, 0, 1]),
            scheme: "http",
            port: 80,
            listener: "web",
            rule: "api",
            tls: None,
            body: *body,
            decoded: false,
            preflight: false,
            now: Tick::from_nanos(0),
            unix: 0,
        })
    }
}

fn policy(settings: Settings) -> Policy {
    Policy::build(&settings, &|_| None, None).unwrap()
}

fn api(file: &str, settings: OpenApi) -> Result<Policy, Wrong> {
    let octets: Arc<[u8]> = Arc::from(file.as_bytes());
    let settings = Settings { openapi: Some(settings), ..Settings::default() };
    assert_eq!(settings.files(), [Path::new("api.yaml")]);
    Policy::build(&settings, &move |_| Some(Arc::clone(&octets)), None)
}

fn of_file() -> OpenApi {
    OpenApi { file: "api.yaml".into(), operation: None, base: None, pass_unknown: false }
}

// The fault with a part of what is said of it; `None` passes.
fn check(policy: &Policy, request: Request<'_>, expected: Option<(Fault, &str)>) {
    let mut findings = Findings::default();
    let said = format!("{} {} {:?}", request.0, request.1, request.3.map(String::from_utf8_lossy));
    let verdict = request.with(|s| policy.check(&Core {}, s, &mut findings, None));
    match (verdict, expected) {
        (Verdict::Pass, None) => assert_eq!(findings.detail, "", "{said}"),
        (Verdict::Refuse(fault), Some((wanted, part))) => {
            assert_eq!(fault, wanted, "{said}: {}", findings.detail);
            assert!(findings.detail.contains(part), "{said}: {}", findings.detail);
        }
        (verdict, expected) => {
            panic!("{verdict:?} ({}), not {expected:?}, for {said}", findings.detail)
        }
    }
}

const INVALID: Fault = Fault::Invalid;

#[test]
fn fields_and_queries_are_judged() {
    let number = Field { kind: Kind::Integer, required: false, ..Field::required("n".to_owned()) };
    let policy = policy(Settings {
        headers: vec![Field::required("x-tenant".to_owned())],
        query: vec![Field::required("a b".to_owned()), number],
        ..Settings::default()
    });
    let given: &[_] = &[("X-Tenant", "t1")];
    check(&policy, Request("GET", "/?a+b=1", given, None), None);
    check(&policy, Request("GET", "/?a%20b=%31&n=5", given, None), None);
    let check = |target, fields: &[(&str, &str)], part| {
        check(&policy, Request("GET", target, fields, None), Some((INVALID, part)));
    };
    check("/?a+b=1", &[], "field \"x-tenant\" is missing");
    check("/?a+b=1", &[("X-Tenant", "t1"), ("x-tenant", " ")], "field \"x-tenant\" is blank");
    check("/", given, "query parameter \"a b\" is missing");
    check("/?a+b=%20", given, "query parameter \"a b\" is blank");
    check("/?a+b=1&%6e=x", given, "query parameter \"n\" is no whole number");
}

#[test]
fn a_preflight_is_not_judged() {
    let policy =
        policy(Settings { headers: vec![Field::required("x".to_owned())], ..Settings::default() });
    let mut findings = Findings::default();
    Request("OPTIONS", "/", &[], None).with(|subject| {
        let subject = Subject { preflight: true, ..*subject };
        let verdict = policy.check(&Core {}, &subject, &mut findings, None);
        assert!(matches!(verdict, Verdict::Pass));
    });
    check(&policy, Request("OPTIONS", "/", &[], None), Some((INVALID, "missing")));
}

#[test]
fn bodies_are_judged_by_type_and_schema() {
    let schema = r#"{"type": "object", "required": ["name"]}"#.to_owned();
    let body = |types: &[&str], pass_unknown| Body {
        required: true,
        types: types.iter().map(|text| Range::parse(text).unwrap()).collect(),
        pass_unknown,
        schema: Some(Source::Text(schema.clone())),
        max: None,
    };
    let with = |body| policy(Settings { body: Some(body), ..Settings::default() });
    let strict = with(body(&[], false));
    let lax = with(body(&[], true));
    let listed = with(body(&["application/json", "text/*"], false));
    let right: Option<&[u8]> = Some(br#"{"name": "x"}"#);
    let wrong: Option<&[u8]> = Some(b"{}");
    let text = ("Content-Type", "text/plain");
    let no_type = (Fault::MediaTypeRefused, "Content of this Content-Type");
    let not_described = (INVALID, "\"name\" is a required property");
    for policy in [&strict, &lax, &listed] {
        check(policy, Request("POST", "/", &[JSON], right), None);
        check(policy, Request("POST", "/", &[JSON], wrong), Some(not_described));
        check(policy, Request("POST", "/", &[], None), Some((INVALID, "needs a body")));
        check(policy, Request("POST", "/", &[JSON], Some(b"")), Some((INVALID, "needs a body")));
        let twice = &[JSON, ("content-type", "text/plain")];
        check(policy, Request("POST", "/", twice, right), Some((INVALID, "several Content-Type")));
        for hidden in [("Content-Encoding", "gzip"), ("Content-Encoding", "identity, br")] {
            let expected = (Fault::MediaTypeRefused, "content coding");
            check(policy, Request("POST", "/", &[JSON, hidden], right), Some(expected));
        }
        let utf16 = &[("Content-Type", "application/json;charset=utf-16")];
        let expected = (Fault::MediaTypeRefused, "UTF-8");
        check(policy, Request("POST", "/", utf16, right), Some(expected));
        let utf8 = &[("Content-Type", "Application/JSON; charset=\"UTF-8\"")];
        check(policy, Request("POST", "/", utf8, right), None);
        check(policy, Request("POST", "/", &[JSON], Some(b"{")), Some((INVALID, "usable JSON")));
    }
    let problem = ("Content-Type", "application/problem+json");
    check(&strict, Request("POST", "/", &[problem], wrong), Some(not_described));
    check(&listed, Request("POST", "/", &[problem], wrong), Some(no_type));
    check(&strict, Request("POST", "/", &[text], right), Some(no_type));
    check(&listed, Request("POST", "/", &[text], wrong), None);
    check(&lax, Request("POST", "/", &[text], wrong), None);
    let untyped = (Fault::MediaTypeRefused, "no Content-Type");
    check(&strict, Request("POST", "/", &[], right), Some(untyped));
}

#[test]
fn a_body_is_asked_for_only_where_it_is_judged() {
    let limits = |body: Body, limit, fields: &[(&str, &str)], octets: Option<&[u8]>| {
        let policy = policy(Settings { body: Some(body), limit, ..Settings::default() });
        Request("POST", "/", fields, octets).with(|subject| policy.body_limit(subject))
    };
    let schema = Body { schema: Some(Source::Text("{}".to_owned())), ..Body::default() };
    let text = ("Content-Type", "text/plain");
    let chunked = ("Transfer-Encoding", "chunked");
    let some: Option<&[u8]> = Some(b"{}");
    assert_eq!(limits(schema.clone(), 10, &[JSON], some), Some(10));
    assert_eq!(limits(schema.clone(), 10, &[JSON, chunked], None), Some(10));
    assert_eq!(limits(schema.clone(), 10, &[JSON], None), None, "there is none");
    assert_eq!(limits(schema.clone(), 10, &[text], some), None, "no schema judges it");
    let both = Body { max: Some(5), ..schema };
    assert_eq!(limits(both.clone(), 10, &[JSON], some), Some(5));
    assert_eq!(limits(both.clone(), 3, &[JSON], some), Some(3));
    assert_eq!(limits(both.clone(), 3, &[text], some), None, "its size is announced");
    assert_eq!(limits(both, 3, &[text, chunked], None), Some(5), "nothing tells its size");
}

#[test]
fn the_size_of_any_body_is_bounded() {
    let body = Body { max: Some(4), ..Body::default() };
    let policy = policy(Settings { body: Some(body), ..Settings::default() });
    let large = Some((Fault::BodyTooLarge, "larger than 4 octets"));
    check(&policy, Request("POST", "/", &[], Some(b"1234")), None);
    check(&policy, Request("POST", "/", &[], Some(b"12345")), large);
    check(&policy, Request("GET", "/", &[], None), None);
    check(&policy, Request("POST", "/", &[("Content-Length", "5")], None), large);
    check(&policy, Request("POST", "/", &[("Transfer-Encoding", "chunked")], None), large);
}

#[test]
fn what_should_be_here_and_is_not_lets_nobody_pass() {
    let body = Body { schema: Some(Source::Text("{}".to_owned())), ..Body::default() };
    let policy = policy(Settings { body: Some(body), ..Settings::default() });
    let request = Request("POST", "/", &[JSON, ("Content-Length", "5")], None);
    check(&policy, request, Some((Fault::PolicyUnavailable, "")));
}

#[test]
fn what_is_said_is_short_and_printable() {
    let body = Body {
        schema: Some(Source::Text(r#"{"additionalProperties": false}"#.to_owned())),
        ..Body::default()
    };
    let policy = policy(Settings { body: Some(body), ..Settings::default() });
    let text = format!("{{\"a\\n\\u0001{}\": 1}}", "b".repeat(5000));
    let mut findings = Findings::default();
    Request("POST", "/", &[JSON], Some(text.as_bytes()))
        .with(|subject| policy.check(&Core {}, subject, &mut findings, None));
    assert!(findings.detail.chars().count() <= 403, "{}", findings.detail.len());
    assert!(!findings.detail.chars().any(char::is_control), "{:?}", findings.detail);
}

const API: &str = r##"
openapi: 3.1.0
info: { title: users, version: "1" }
servers: [{ url: "https://api.example.com/v1/" }]
paths:
  /users:
    get:
      operationId: listUsers
      parameters:
        - { name: page, in: query, schema: { type: integer, minimum: 1 } }
        - { name: tag, in: query, schema: { type: array, items: { type: string, maxLength: 3 }, maxItems: 2 } }
        - { name: ids, in: query, explode: false, schema: { type: array, items: { type: integer } } }
        - { name: bars, in: query, style: pipeDelimited, explode: false, schema: { type: array, items: { type: boolean } } }
        - { name: filter, in: query, style: deepObject, schema: { $ref: "#/components/schemas/Filter" } }
        - { name: q, in: query, required: true, schema: { type: string } }
        - { name: X-Trace, in: header, required: true, schema: { type: string, pattern: "^[0-9a-f]+$" } }
        - { name: X-List, in: header, schema: { type: array, items: { type: integer } } }
        - { name: session, in: cookie, schema: { type: string, minLength: 3 } }
        - { name: where, in: query, content: { application/json: { schema: { type: object, required: [a] } } } }
        - { name: Authorization, in: header, required: true, schema: { type: string } }
    post:
      operationId: createUser
      requestBody: { $ref: "#/components/requestBodies/User" }
  /users/me:
    get: { operationId: me }
  /users/{id}:
    parameters:
      - { $ref: "#/components/parameters/Id" }
    get: { operationId: getUser }
    delete:
      operationId: deleteUser
      parameters: [{ name: id, in: path, required: true, schema: { type: integer, maximum: 10 } }]
  /files/report-{name}.csv:
    put:
      parameters: [{ name: name, in: path, required: true, schema: { enum: [a, 2] } }]
      requestBody:
        content:
          text/csv: {}
          text/*: { schema: { type: string } }
components:
  parameters:
    Id: { name: id, in: path, required: true, schema: { type: integer } }
  requestBodies:
    User:
      required: true
      content:
        application/json: { schema: { $ref: "#/components/schemas/User" } }
        image/*: {}
  schemas:
    User:
      type: object
      required: [name]
      additionalProperties: false
      properties:
        name: { type: string, minLength: 1 }
        friends: { type: array, items: { $ref: "#/components/schemas/User" } }
    Filter:
      type: object
      additionalProperties: false
      properties: { age: { type: [integer, "null"] }, name: { type: string } }
"##;

#[test]
fn requests_are_held_against_an_openapi_file() {
    let policy = api(API, of_file()).unwrap();
    let trace = [("X-Trace", "0af")];
    let get = |target: &str, part: Option<&str>| {
        check(&policy, Request("GET", target, &trace, None), part.map(|part| (INVALID, part)));
    };
    get("/v1/users?q=a", None);
    get("/v1/users?q=5", None);
    get("/v1/users?page=2&q=a", None);
    get("/v1/users", Some("query parameter \"q\" is missing"));
    get("/v1/users?q=", Some("query parameter \"q\" is blank"));
    get("/v1/users?q=a&page=0", Some("\"page\" is not as described"));
    get("/v1/users?q=a&page=x", Some("\"page\" is not as described"));
    get("/v1/users?q=a&page=", Some("\"page\" is not as described"));
    get("/v1/users?q=a&page=1&page=2", Some("\"page\" comes several times"));
    get("/v1/users?q=a&tag=a&tag=12", None);
    get("/v1/users?q=a&tag=abcd", Some("/0: the value is longer"));
    get("/v1/users?q=a&tag=a&tag=b&tag=c", Some("\"tag\""));
    get("/v1/users?q=a&ids=1,2", None);
    get("/v1/users?q=a&ids=1,b", Some("/1: the value is not of type"));
    get("/v1/users?q=a&bars=true%7Cfalse", None);
    get("/v1/users?q=a&bars=true%7C1", Some("\"bars\""));
    get("/v1/users?q=a&filter[age]=5&filter%5Bname%5D=7", None);
    get("/v1/users?q=a&filter[age]=x", Some("/age"));
    get("/v1/users?q=a&filter[other]=x", Some("\"filter\""));
    get("/v1/users?q=a&filter[age]=1&filter[age]=2", Some("a member twice"));
    get("/v1/users?q=a&where={%22a%22:1}", None);
    get("/v1/users?q=a&where={%22a%22:1,%22a%22:2}", Some("is no JSON"));
    get("/v1/users?q=a&where={}", Some("required property"));
    get("/v1/users?q=%FF", Some("no UTF-8"));
    get("/users?q=a", Some("no such method and path"));
    get("/v1/other", Some("no such method and path"));
    get("/v1/users/", Some("no such method and path"));
    get("/v1/users/me", None);
    get("/v1/users/7", None);
    get("/v1/users/seven", Some("path parameter \"id\" is not as described"));
    get("/v1/users/7/x", Some("no such method and path"));
    let delete = |target| Request("DELETE", target, &[], None);
    check(&policy, delete("/v1/users/10"), None);
    check(&policy, delete("/v1/users/11"), Some((INVALID, "maximum of 10")));
    check(&policy, delete("/v1/users/me"), Some((INVALID, "no such method")));
    let list = |fields: &[(&str, &str)], part: Option<&str>| {
        let request = Request("GET", "/v1/users?q=a", fields, None);
        check(&policy, request, part.map(|part| (INVALID, part)));
    };
    list(&[], Some("header parameter \"X-Trace\" is missing"));
    list(&[("x-trace", "xyz")], Some("\"X-Trace\" is not as described"));
    list(&[trace[0], ("Cookie", "session=abc")], None);
    list(&[trace[0], ("Cookie", "session=a")], Some("cookie parameter \"session\""));
    list(&[trace[0], ("X-List", "1, 2"), ("X-List", "3")], None);
    list(&[trace[0], ("X-List", "1, b")], Some("/1"));
    let body = Request("GET", "/v1/users/7", &[JSON], Some(b"{}"));
    check(&policy, body, Some((INVALID, "no body here")));
}

#[test]
fn bodies_are_held_against_an_openapi_file() {
    let policy = api(API, of_file()).unwrap();
    let post = |fields: &[(&str, &str)], body: Option<&[u8]>, expected| {
        check(&policy, Request("POST", "/v1/users", fields, body), expected);
    };
    post(&[JSON], Some(br#"{"name": "a", "friends": [{"name": "b"}]}"#), None);
    let deep = Some((INVALID, "/friends/0/name"));
    post(&[JSON], Some(br#"{"name": "a", "friends": [{"name": ""}]}"#), deep);
    post(&[JSON], None, Some((INVALID, "needs a body")));
    let refused = Some((Fault::MediaTypeRefused, ""));
    post(&[("Content-Type", "text/plain")], Some(b"x"), refused);
    post(&[], Some(b"{}"), refused);
    post(&[("Content-Type", "image/png")], Some(b"x"), None);
    let put = |fields: &[(&str, &str)], target, expected| {
        check(&policy, Request("PUT", target, fields, Some(b"x")), expected);
    };
    let csv = [("Content-Type", "text/csv")];
    put(&csv, "/v1/files/report-a.csv", None);
    put(&csv, "/v1/files/report-2.csv", None);
    put(&csv, "/v1/files/report-3.csv", Some((INVALID, "\"name\"")));
    put(&csv, "/v1/files/report-.csv", Some((INVALID, "no such method")));
    put(&[("Content-Type", "text/html")], "/v1/files/report-a.csv", None);
    let limit = |fields: &[(&str, &str)], target| {
        Request("POST", target, fields, Some(b"x")).with(|subject| policy.body_limit(subject))
    };
    assert_eq!(limit(&[JSON], "/v1/users"), Some(1 << 20));
    assert_eq!(limit(&[("Content-Type", "image/png")], "/v1/users"), None);
    assert_eq!(limit(&[JSON], "/v1/other"), None);
}

#[test]
fn one_operation_may_be_named_and_the_rest_may_pass() {
    let one = OpenApi { operation: Some("getUser".to_owned()), ..of_file() };
    let one = api(API, OpenApi { base: Some(String::new()), ..one }).unwrap();
    check(&one, Request("GET", "/users/7", &[], None), None);
    check(&one, Request("GET", "/users/me", &[], None), Some((INVALID, "path parameter")));
    check(&one, Request("DELETE", "/users/7", &[], None), Some((INVALID, "no such method")));
    let lax = api(API, OpenApi { pass_unknown: true, ..of_file() }).unwrap();
    check(&lax, Request("GET", "/other", &[], None), None);
    check(&lax, Request("GET", "/v1/users/x", &[], None), Some((INVALID, "path parameter")));
    let none = OpenApi { operation: Some("other".to_owned()), ..of_file() };
    assert!(api(API, none).unwrap_err().found.contains("operationId \"other\""));
}

#[test]
fn a_file_that_cannot_be_judged_by_is_an_error() {
    let check = |from: &str, to: &str, part: &str| {
        assert!(API.contains(from), "{from}");
        let wrong = api(&API.replacen(from, to, 1), of_file()).unwrap_err();
        assert!(wrong.found.contains(part), "{}", wrong.found);
        assert_eq!(wrong.file.as_deref(), Some(Path::new("api.yaml")));
    };
    check("openapi: 3.1.0", "openapi: 3.0.3", "3.1");
    check("info: {", "info: [", "neither JSON nor YAML");
    check("info:", "jsonSchemaDialect: https://example.com/x\ninfo:", "jsonSchemaDialect");
    check("https://api.example.com/v1/", "https://{host}/", "variables");
    check("\"#/components/parameters/Id\"", "\"other.yaml#/Id\"", "leads out of the file");
    check("\"#/components/parameters/Id\"", "\"#/components/parameters/Ib\"", "there is nothing");
    check("\"#/components/schemas/User\"", "\"https://example.com/u.json\"", "example.com");
    check("type: integer, minimum: 1", "type: integer, minimum: x", "\"x\" is not of type");
    check("\"^[0-9a-f]+$\"", "\"(?=x)\"", "regex");
    check("pipeDelimited", "matrix", "matrix");
    check("/users/{id}:", "/users/{id}{x}:", "more than one");
    check("/users/{id}:", "/users/{ib}:", "\"ib\"");
    check("  /users:\n", "  users:\n", "slash");
    let circle = API.replace(
        "{ name: id, in: path, required: true, schema: { type: integer } }",
        "{ $ref: \"#/components/parameters/Id\" }",
    );
    assert!(api(&circle, of_file()).unwrap_err().found.contains("circle"));
    let json = r#"{"openapi": "3.1.0", "paths": {}, "paths": {}}"#;
    assert!(api(json, of_file()).unwrap_err().found.contains("twice"));
    assert!(api(r#"{"openapi": "3.1.1", "paths": {}}"#, of_file()).is_ok());
}
