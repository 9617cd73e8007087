//! Wrong files, and the one problem that each of them is told: its line, its key and what is said.

use super::{BASE, Problem, problems};

/// Checks that `text` has one problem, with this line and key, whose message holds `part`.
pub fn check(text: &str, line: u32, key: &str, part: &str) {
    let found = problems(&format!("{text}\n{BASE}"));
    let shown = found.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(found.len(), 1, "{text}\n--- gives\n{shown}");
    let problem = &found[0];
    assert_eq!((problem.place.line, problem.key.as_str()), (line, key), "{text}\n{shown}");
    assert!(shown.contains(part), "{text}\n--- gives\n{shown}\n--- without\n{part}");
}

#[test]
fn in_the_tables_of_the_program() {
    for (text, line, key, part) in [
        ("[servr]", 1, "servr", "did you mean \"server\"?"),
        ("x = 1", 1, "x", "found the unknown key \"x\", expected one of include, server"),
        ("[server]\nworker = 2", 2, "server.worker", "did you mean \"workers\"?"),
        ("[server]\nworkers = 0", 2, "server.workers", "found 0, expected \"auto\" or a whole"),
        ("[server]\nworkers = 'all'", 2, "server.workers", "found \"all\""),
        ("[server]\nworkers = 1025", 2, "server.workers", "1 to 1024"),
        ("[server]\nworkers = -1", 2, "server.workers", "found -1"),
        ("[server]\nworkers = '${MISSING}'", 2, "server.workers", "${MISSING}, which is not set"),
        ("[server]\nworkers = '${N'", 2, "server.workers", "expected ${NAME} or ${NAME:-default}"),
        ("[server]\nworkers = '${HOST}'", 2, "server.workers", "found \"10.0.0.9\""),
        ("[server]\npin = 'yes'", 2, "server.pin", "true or false"),
        ("[server]\npin = '${N}'", 2, "server.pin", "found \"4\", expected true or false"),
        ("[server]\ndriver = 'uring'", 2, "server.driver", "one of auto, io_uring, epoll"),
        ("[server]\ndriver = 'io-uring'", 2, "server.driver", "did you mean \"io_uring\"?"),
        ("[server]\ndrain = 30", 2, "server.drain", "did you mean \"30s\"?"),
        ("[server]\ndrain = '25h'", 2, "server.drain", "a duration from 0ms to 24h"),
        ("[server]\ndrain = '30 s'", 2, "server.drain", "did you mean \"30s\"?"),
        ("[server]\nmax_connections = 0", 2, "server.max_connections", "from 1 to"),
        ("[server]\nmax_connections = 1.5", 2, "server.max_connections", "found 1.5"),
        ("[server]\ntrusted_proxies = '10.0.0.0/40'", 2, "server.trusted_proxies", "or range"),
        ("[server]\ntrusted_proxies = ['::1',\n'x']", 3, "server.trusted_proxies[1]", "\"x\""),
        ("[server]\nuser = 'a b'", 2, "server.user", "a name or number of this system's"),
        ("[server]\nuser = ''", 2, "server.user", "found \"\""),
        ("[server]\ngroup = 7", 2, "server.group", "found 7, expected a name or number"),
        ("[server]\ngroup = 'www'", 2, "server.group", "expected server.user beside it"),
        ("[server]\nsandbox = 'yes'", 2, "server.sandbox", "one of auto, on, off"),
        ("[server]\nvia = 'a b'", 2, "server.via", "a token"),
        ("[timeouts]\nheader = '0s'", 2, "timeouts.header", "from 1ms to 168h"),
        ("[timeouts]\nbody = '1m30s'", 2, "timeouts.body", "\"250ms\", \"10s\", \"5m\" or \"1h\""),
        ("[timeouts]\nread = '1s'", 2, "timeouts.read", "unknown key"),
        ("[limits]\nhead = 512", 2, "limits.head", "found 512, expected a size from 1KiB to 1MiB"),
        ("[limits]\nhead = '16KB'", 2, "limits.head", "did you mean \"16KiB\"?"),
        ("[limits]\nheaders = 1001", 2, "limits.headers", "from 1 to 1000"),
        ("[limits.http2]\ncontinuations = 81", 2, "limits.http2.continuations", "from 1 to 80"),
        ("[limits]\nline = '128KiB'", 2, "limits.line", "at most limits.head, which is 64KiB"),
        ("[limits]\nbody = 'no'", 2, "limits.body", "\"none\" or a size"),
        ("[limits]\nrequests = 'all'", 2, "limits.requests", "\"none\" or a whole number"),
        ("[admin]\nbind = 'localhost:9901'", 2, "admin.bind", "did you mean \"127.0.0.1:9901\"?"),
        ("[log]\naccess = 'stdot'", 2, "log.access", "did you mean \"stdout\"?"),
        ("[log]\naccess = 'access.log'", 2, "log.access", "\"./access.log\""),
        ("[log]\nformat = ''", 2, "log.format", "json, combined, alb or a template"),
        ("[[server]]\n", 1, "server", "found a list, expected a table of workers"),
        ("[rule]\n", 1, "rule", "each under [[rule]]"),
        ("include = ['a.toml']", 1, "include", "none where the text is not a file"),
    ] {
        check(text, line, key, part);
    }
}

#[test]
fn in_a_listener() {
    let bind = "name = 'a'\nbind = '0.0.0.0:1'";
    for (text, line, key, part) in [
        ("name = 'a b'\nbind = '0.0.0.0:1'", 2, "listener[0].name", "letters, digits"),
        ("bind = '0.0.0.0:1'", 1, "listener[0].name", "found nothing, expected a name"),
        ("name = 'a'", 1, "listener.a.bind", "found nothing, expected an address"),
        ("name = 'a'\nbind = []", 3, "listener.a.bind", "found an empty list"),
        ("name = 'a'\nbind = 8080", 3, "listener.a.bind", "found 8080"),
        ("name = 'a'\nbind = [':80']", 3, "listener.a.bind[0]", "did you mean \"0.0.0.0:80\"?"),
        ("name = 'a'\nbind = '10.0.0.1'", 3, "listener.a.bind", "the port is missing"),
        ("B\nprotocol = 'https'", 1, "listener.a.tls", "tls = { certificates = [...] } with"),
        ("B\nprotocol = 'htps'", 4, "listener.a.protocol", "did you mean \"https\"?"),
        ("B\nprotocol = 'htp'", 4, "listener.a.protocol", "did you mean \"http\"?"),
        ("B\nsteer = 'numa'", 4, "listener.a.steer", "one of off, cpu"),
        ("B\nbacklog = 0", 4, "listener.a.backlog", "1 to 65535"),
        ("B\ntls = {}", 4, "listener.a.tls", "tls only with protocol = \"https\""),
        ("B\ndefault = {}", 4, "listener.a.default", "none of forward, redirect, respond"),
        ("B\ndefault = { forward = 'bas' }", 4, "listener.a.default.forward", "mean \"base\"?"),
        (
            "B\ntimeouts = { connect = '1s' }",
            4,
            "listener.a.timeouts.connect",
            "belongs in a group's timeouts or [timeouts]",
        ),
        (
            "name = 'a'\nbind = ['0.0.0.0:1',\n'0.0.0.0:1']",
            4,
            "listener.a.bind[1]",
            "also bound at conf.toml:3:9",
        ),
    ] {
        check(
            &format!("[[listener]]\n{}", text.replace("B\n", &format!("{bind}\n"))),
            line,
            key,
            part,
        );
    }
    let twice = format!("[[listener]]\n{bind}\n[[listener]]\nname = 'a'\nbind = '0.0.0.0:2'");
    check(&twice, 5, "listener.a.name", "which is also at conf.toml:2:8");
    let admin = format!("[admin]\nbind = '0.0.0.0:1'\n[[listener]]\n{bind}");
    check(&admin, 2, "admin.bind", "an address of its own");
}

#[test]
fn in_the_forward_of_a_rule() {
    for (text, line, key, part) in [
        ("", 1, "", "none of forward, redirect, respond"),
        ("forward = 'bse'", 3, ".forward", "found \"bse\", expected the name of a group"),
        ("forward = []", 3, ".forward", "0 groups"),
        ("forward = 3", 3, ".forward", "found 3, expected the name of a group, or a list"),
        ("forward = [{ group = 'base', weight = 1000 }]", 3, ".forward[0].weight", "0 to 999"),
        ("forward = [{ group = 'base', weight = 0 }]", 3, ".forward", "no weight above 0"),
        ("forward = [{ group = 'base' }, { group = 'base' }]", 3, ".forward[1].group", "twice"),
        ("forward = [{ weight = 1 }]", 3, ".forward[0].group", "found nothing"),
        ("forward = [{ group = 'base', wieght = 1 }]", 3, ".forward[0].wieght", "\"weight\""),
        (
            "F\nrespond = { status = 200 }",
            4,
            ".respond",
            "found forward and respond, expected exact",
        ),
        ("F\nlistener = 'bass'", 4, ".listener", "the name of a listener"),
        ("F\nlistener = []", 4, ".listener", "an empty list"),
        ("F\npriority = -1", 4, ".priority", "0 to 1000000"),
        ("F\npolicy = ['jwt']", 4, ".policy[0]", "the name of a policy"),
        ("F\ntimeouts = { header = '1s' }", 4, ".timeouts.header", "belongs in a listener's"),
        ("F\nlimits = { head = '1KiB' }", 4, ".limits.head", "expected one of body"),
        ("F\nlimits = { body = '1 GB' }", 4, ".limits.body", "did you mean \"1GiB\"?"),
    ] {
        let text = text.replace("F\n", "forward = 'base'\n");
        check(&format!("[[rule]]\nname = 'r'\n{text}"), line, &format!("rule.r{key}"), part);
    }
    let none = "[[rule]]\nname = 'none'\nforward = 'base'";
    check(none, 2, "rule.none.name", "another name");
    let twice = "[[rule]]\nname = 'a'\nforward = 'base'\n";
    check(&twice.repeat(2), 5, "rule.a.name", "conf.toml:2:8");
}

#[test]
fn in_an_answer_of_a_rule() {
    for (action, key, part) in [
        ("respond = {}", "respond.status", "found nothing, expected a status"),
        ("respond = { status = 101 }", "respond.status", "200 to 599"),
        ("respond = { status = 204, body = 'x' }", "respond.body", "none, as its status"),
        ("respond = { status = 200, content_type = 'text' }", "respond.content_type", "media type"),
        (
            "respond = { status = 200, headers = { Content-Length = '3' } }",
            "respond.headers.Content-Length",
            "no field of framing",
        ),
        (
            "respond = { status = 200, headers = { x = \"a\\r\\nb\" } }",
            "respond.headers.x",
            "without control characters",
        ),
        (
            "respond = { status = 200, headers = { 'x y' = 'a' } }",
            "respond.headers.x y",
            "RFC 9110 section 5.6.2",
        ),
        ("redirect = {}", "redirect", "a redirect to the same place"),
        ("redirect = { host = '#{host}', path = '/#{path}' }", "redirect", "same place"),
        ("redirect = { scheme = 'ftp' }", "redirect.scheme", "one of http, https, #{protocol}"),
        ("redirect = { host = 'a:80' }", "redirect.host", "without port"),
        ("redirect = { port = 0 }", "redirect.port", "1 to 65535"),
        ("redirect = { path = 'x' }", "redirect.path", "begins with a single \"/\""),
        ("redirect = { path = '//evil' }", "redirect.path", "begins with a single \"/\""),
        ("redirect = { path = '/#{file}' }", "redirect.path", "only #{...} of protocol, host"),
        ("redirect = { query = '?a' }", "redirect.query", "without its \"?\""),
        ("redirect = { host = 'a', status = 304 }", "redirect.status", "301, 302, 303, 307, 308"),
    ] {
        check(&format!("[[rule]]\nname = 'r'\n{action}"), 3, &format!("rule.r.{key}"), part);
    }
}

#[test]
fn in_a_condition() {
    for (text, key, part) in [
        ("host = 'a.example:80'", "host", "did you mean \"a.example\"?"),
        ("host = ['a', 'b c']", "host[1]", "without scheme, port and path"),
        ("host = []", "host", "an empty list"),
        ("path = 'v1'", "path", "did you mean \"/v1\"?"),
        ("path = '/a b'", "path", "percent-encoded"),
        ("path_regex = ['^/(']", "path_regex[0]", "unclosed group"),
        ("path_regex = '(?=a)'", "path_regex", "look-around"),
        ("method = ['get']", "method[0]", "did you mean \"GET\"?"),
        ("method = 'A B'", "method", "a token"),
        ("header = { 'a:b' = 'x' }", "header.a:b", "a field name"),
        ("header = {}", "header", "at least one name"),
        ("header = 'x'", "header", "a table of names"),
        ("header = { a = [1] }", "header.a[0]", "found 1"),
        ("query = { v = [] }", "query.v", "an empty list"),
        ("cookie = { 'a=b' = 'x' }", "cookie.a=b", "a cookie name"),
        ("source = '300.0.0.1'", "source", "an address or range"),
        ("hosts = 'a'", "hosts", "did you mean \"host\"?"),
    ] {
        let text = format!("[[rule]]\nname = 'r'\nforward = 'base'\n[rule.when]\n{text}");
        check(&text, 5, &format!("rule.r.when.{key}"), part);
    }
}

#[test]
fn in_the_targets_of_a_group() {
    for (text, line, key, part) in [
        ("", 1, ".targets", "found nothing, expected a list of targets"),
        ("targets = '10.0.0.1:80'", 2, ".targets", "a list of targets"),
        ("targets = ['10.0.0.1']", 2, ".targets[0]", "as in \"10.0.0.1:80\""),
        ("targets = ['10.0.0.1:0']", 2, ".targets[0]", "a port from 1 to 65535"),
        ("targets = ['fe80::1']", 2, ".targets[0]", "the port is missing, as in \"[fe80::1]:80\""),
        ("targets = ['http://a:80']", 2, ".targets[0]", "a target has no scheme"),
        ("targets = ['unix:app.sock']", 2, ".targets[0]", "an absolute path"),
        ("targets = ['a:1',\n'a:1']", 3, ".targets[1]", "for more requests give it a weight"),
        ("targets = [{ address = 'a:1', weight = 1000 }]", 2, ".targets[0].weight", "0 to 999"),
        ("targets = [{ address = 'a:1', weight = 0 }]", 2, ".targets", "targets = [] answers 503"),
        ("targets = [{ adress = 'a:1', address = 'b:1' }]", 2, ".targets[0].adress", "\"address\""),
        ("targets = [{ weight = 2 }]", 2, ".targets[0].address", "found nothing"),
    ] {
        check(&format!("[group.g]\n{text}"), line, &format!("group.g{key}"), part);
    }
    check("[group.'a b']\ntargets = []", 1, "group.a b", "letters, digits");
    let found = problems("group = 1\n[[listener]]\nname = 'a'\nbind = '0.0.0.0:1'");
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("1:9: group: found 1, expected tables [group.NAME]"));
}

#[test]
fn in_the_settings_of_a_group() {
    for (text, line, key, part) in [
        ("algorithm = 'round-robin'", 3, "algorithm", "did you mean \"round_robin\"?"),
        (
            "algorithm = 'fastest'",
            3,
            "algorithm",
            "round_robin, least_requests, least_time, random, p2c",
        ),
        ("algorithm = 'hash'", 3, "algorithm", "hash = { header = NAME }"),
        ("hash = { header = 'x' }", 3, "hash", "only with algorithm = \"hash\""),
        ("algorithm = 'hash'\nhash = {}", 4, "hash", "exactly one of header, cookie, query"),
        ("algorithm = 'hash'\nhash = { cookie = 'a b' }", 4, "hash.cookie", "a token"),
        ("drain = '1d'", 3, "drain", "a duration such as"),
        ("retries = 11", 3, "retries", "0 to 10"),
        ("pool = { max_idle = 'x' }", 3, "pool.max_idle", "a whole number"),
        ("pool = { idle = '1s' }", 3, "pool.idle", "max_idle, idle_timeout"),
        ("fail_open = 1", 3, "fail_open", "found 1, expected true or false"),
        ("timeouts = { idle = '1s' }", 3, "timeouts.idle", "a rule's timeouts or [timeouts]"),
        ("health = { type = 'icmp' }", 3, "health.type", "one of http, tcp, grpc, off"),
        ("health = { type = 'tcp', path = '/' }", 3, "health.path", "with type = \"http\""),
        ("health = { type = 'grpc', path = '/' }", 3, "health.path", "in a gRPC probe"),
        ("health = { path = '/', service = 's' }", 3, "health.path", "in a gRPC probe"),
        ("health = { path = 'x' }", 3, "health.path", "begins with \"/\""),
        ("health = { interval = '2s', timeout = '3s' }", 3, "health.timeout", "which is 2s"),
        ("health = { healthy = 0 }", 3, "health.healthy", "1 to 100"),
        ("health = { expect = '2xx' }", 3, "health.expect", "\"200-299\""),
        ("health = { expect = ['200', 404, 99] }", 3, "health.expect[2]", "found 99"),
        ("health = { host = 'a b' }", 3, "health.host", "a value of Host"),
        ("health = { port = 70000 }", 3, "health.port", "1 to 65535"),
        ("health = 'tcp'", 3, "health", "found \"tcp\", expected a table of type"),
    ] {
        let text = format!("[group.g]\ntargets = ['10.0.0.1:80']\n{text}");
        check(&text, line, &format!("group.g.{key}"), part);
    }
}

#[test]
fn in_an_expectation() {
    for (text, line, key, part) in [
        ("rule = 'none'", 1, "request", "found nothing"),
        ("rule = 'none'\nrequest = 'GET /x'", 3, "request", "an absolute URL"),
        ("rule = 'none'\nrequest = 'get http://a/'", 3, "request", "did you mean \"GET\"?"),
        ("request = 'GET http://a/'", 1, "rule", "found nothing"),
        ("request = 'GET http://a/'\nrule = 'x'", 3, "rule", "there is no rule"),
        ("request = 'GET http://a/'\nrule = 'none'\nlistener = 'x'", 4, "listener", "a listener"),
        ("request = 'GET http://a/'\nrule = 'none'\nsource = '10.0.0.0/8'", 4, "source", "address"),
    ] {
        check(&format!("[[expect]]\n{text}"), line, &format!("expect[0].{key}"), part);
    }
}

#[test]
fn where_it_is_not_toml() {
    for (text, line, column, part) in [
        ("a = 1\nb = auto\n", 2, 5, "string values must be quoted"),
        ("[server]\n[server]\n", 2, 2, "duplicate key"),
        ("[server\n", 1, 8, "expected `]`"),
        ("\n\nö = ä\n", 3, 1, "TOML error"),
    ] {
        let found = problems(text);
        let place = (found[0].place.line, found[0].place.column);
        assert_eq!(place, (line, column), "{text} {found:?}");
        assert!(found[0].to_string().contains(part), "{text} {}", found[0]);
    }
    let found = problems("a = yes\nb = no\n[c\n");
    assert_eq!(found.iter().map(|problem| problem.place.line).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn in_many_places_is_told_at_once_in_the_order_of_the_lines() {
    let text = "\
[server]
workers = 0
colour = 'red'
[[rule]]
name = 'a'
forward = 'nope'
when = { host = 'x:1', path = 'y', method = ['get'] }
[group.g]
targets = ['10.0.0.1', 'b:1']
algorithm = 'round-robin'
";
    let found = problems(text);
    let keys: Vec<(u32, &str)> =
        found.iter().map(|problem| (problem.place.line, problem.key.as_str())).collect();
    let expected = [
        (0, "listener"),
        (2, "server.workers"),
        (3, "server.colour"),
        (6, "rule.a.forward"),
        (7, "rule.a.when.host"),
        (7, "rule.a.when.path"),
        (7, "rule.a.when.method[0]"),
        (9, "group.g.targets[0]"),
        (10, "group.g.algorithm"),
    ];
    assert_eq!(keys, expected);
    let shown = "conf.toml:10:13: group.g.algorithm: found \"round-robin\", expected one of \
                 round_robin, least_requests, least_time, random, p2c, ip_hash, hash, maglev\n  help: did you mean \
                 \"round_robin\"?";
    assert_eq!(found.last().unwrap().to_string(), shown);
}
