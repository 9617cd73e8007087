//! What Chromium lets a page read of another origin's, through ringgate: with credentials, after preflights, of errors; and what
//! it does not. Hazard AUTH-19.

use super::{LONGEST, chromium, open};
use crate::support::{Origin, Ringgate, free_address};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Asks the API in every way and reports what came of it: a text, or `refused`.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script type="module">
const api = 'http://api.test:PORT', report = {};
const ask = async (name, path, options) => {
  try {
    const answer = await fetch(api + path, options);
    report[name] = answer.type === 'opaque' ? 'opaque' : answer.status + ' ' + (await answer.text()).slice(0, 5)
      + ' ' + answer.headers.get('x-total') + ' ' + answer.headers.get('x-hidden');
  } catch (error) { report[name] = 'refused'; }
};
await ask('simple', '/');
await ask('credentials', '/', { credentials: 'include' });
await ask('put', '/', { method: 'PUT', headers: { 'x-a': '1' }, body: 'x', credentials: 'include' });
await ask('delete', '/', { method: 'DELETE' });
await ask('field', '/', { headers: { 'x-b': '1' } });
await ask('shut', '/shut');
await ask('broken', '/broken');
await ask('blind', '/', { mode: 'no-cors' });
await fetch('/report', { method: 'POST', body: JSON.stringify(report) });
</script>"#;

fn page(api: SocketAddr) -> Origin {
    let page = PAGE.replace("PORT", &api.port().to_string());
    Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            let body = if request.method() == "GET" { page.as_str() } else { "" };
            let length = body.len();
            let kind = "Content-Type: text/html; charset=utf-8";
            conn.send(
                format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}")
                    .as_bytes(),
            )?;
        }
        Ok(())
    })
}

/// Opens the page under a name and returns what it reported.
fn report(chromium: &Path, pages: &Origin, name: &str, ringgate: &Ringgate) -> serde_json::Value {
    let profile = tempfile::tempdir().unwrap();
    let before = pages.requests().len();
    let url = format!("http://{name}:{}/", pages.address.port());
    let (_process, began) = (open(chromium, profile.path(), &url), Instant::now());
    while began.elapsed() < LONGEST {
        let requests = pages.requests();
        let reported = requests.iter().skip(before).find(|r| r.method() == "POST");
        if let Some(request) = reported {
            return serde_json::from_slice(&request.body).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the page reported nothing: {}", ringgate.output());
}

#[test]
fn chromium_lets_pages_read_what_cors_says() {
    let Some(chromium) = chromium() else { return };
    let api = free_address();
    let pages = page(api);
    let target = Origin::answering(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nX-Total: 7\r\nX-Hidden: 1\r\nContent-Length: 5\r\n\r\nhello",
    );
    let (port, broken) = (pages.address.port(), free_address());
    let ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = 'web'\nbind = ['{api}']\npolicy = 'cors'\ndefault = {{ forward = 'all' }}\n\
         [group.all]\ntargets = ['{}']\nhealth = {{ type = 'off' }}\n\
         [group.broken]\ntargets = ['{broken}']\nhealth = {{ type = 'off' }}\n\
         [[rule]]\nname = 'shut'\nwhen = {{ path = '/shut' }}\nforward = 'all'\npolicy = 'nobody'\n\
         [[rule]]\nname = 'broken'\nwhen = {{ path = '/broken' }}\nforward = 'broken'\n\
         [policy.nobody]\nip = {{ deny = '127.0.0.0/8' }}\n\
         [policy.cors.cors]\norigins = ['http://page.test:{port}', 'http://*.pages.test:{port}']\n\
         methods = ['GET', 'PUT']\nheaders = ['x-a']\nexpose = ['x-total']\ncredentials = true\n",
        target.address
    ));
    for name in ["page.test", "one.pages.test"] {
        let expected = serde_json::json!({
            "simple": "200 hello 7 null",
            "credentials": "200 hello 7 null",
            "put": "200 hello 7 null",
            "delete": "refused",
            "field": "refused",
            "shut": "403 {\"typ null null",
            "broken": "502 {\"typ null null",
            "blind": "opaque",
        });
        assert_eq!(report(&chromium, &pages, name, &ringgate), expected, "{name}");
    }
    let sent = target.requests().len();
    for name in ["evil-page.test", "a.b.pages.test"] {
        let expected = serde_json::json!({
            "simple": "refused", "credentials": "refused", "put": "refused", "delete": "refused",
            "field": "refused", "shut": "refused", "broken": "refused", "blind": "opaque",
        });
        assert_eq!(report(&chromium, &pages, name, &ringgate), expected, "{name}");
    }
    let methods = target.requests().into_iter().skip(sent);
    assert!(
        methods.into_iter().all(|request| request.method() == "GET"),
        "a refused preflight is all that is sent"
    );
}
