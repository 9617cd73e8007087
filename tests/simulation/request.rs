//! The requests of a run. Each carries a token that no other has, in its query, and a body made of that token.

use crate::ledger::{Asked, Wanted};
use crate::wire;
use fastrand::Rng;

/// A request as octets, and what it must come to.
#[derive(Clone, Debug)]
pub struct Made {
    pub octets: Vec<u8>,
    /// Octets of its head.
    pub head: usize,
    pub asked: Asked,
}

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    Not,
    Length,
    Chunked,
}

/// What a request is made from.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    pub method: &'static str,
    pub path: &'a str,
    pub wanted: Wanted,
    pub framed: Framed,
    pub body: usize,
    pub version: &'static str,
    /// Further field lines, each with its CRLF.
    pub fields: &'a str,
}

impl Default for Recipe<'_> {
    fn default() -> Self {
        Recipe {
            method: "GET",
            path: "/a/x",
            wanted: Wanted::Forward,
            framed: Framed::Not,
            body: 0,
            version: "HTTP/1.1",
            fields: "",
        }
    }
}

/// What no target may see as a request, and no client as an answer.
pub const EVIL: &str = "EVIL";
/// A request that hides where no request is.
pub const HIDDEN: &str = "GET /a/hidden?t=EVIL& HTTP/1.1\r\nhost: sim.test\r\n\r\n";

/// The body that belongs to a token. A body that `hides` has a whole request in it.
pub fn body_of(token: &str, len: usize) -> Vec<u8> {
    let mut body = wire::pattern(token, len);
    // Every third client's bodies have a request in them, on a line of its own.
    let hides = token.bytes().map(usize::from).sum::<usize>().is_multiple_of(3);
    if hides && len > HIDDEN.len() + 8 {
        body[4..8].copy_from_slice(b"\r\n\r\n");
        body[8..8 + HIDDEN.len()].copy_from_slice(HIDDEN.as_bytes());
    }
    body
}

pub fn make(recipe: Recipe<'_>, client: usize, number: usize, rng: &mut Rng) -> Made {
    let token = format!("c{client}r{number}");
    let Recipe { method, path, version, fields, .. } = recipe;
    let mut octets = format!(
        "{method} {path}?t={token}& {version}\r\nhost: sim.test\r\nx-user: {}\r\n{fields}",
        rng.u8(..9)
    )
    .into_bytes();
    let body = body_of(&token, recipe.body);
    match recipe.framed {
        Framed::Not => octets.extend_from_slice(b"\r\n"),
        Framed::Length => {
            octets.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        }
        Framed::Chunked => octets.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n"),
    }
    let head = octets.len();
    match recipe.framed {
        Framed::Not => {}
        Framed::Length => octets.extend_from_slice(&body),
        Framed::Chunked => {
            let sizes: Vec<usize> = (0..3).map(|_| 1 + rng.usize(..recipe.body + 1)).collect();
            let extension = if rng.u8(..4) == 0 { ";a=b" } else { "" };
            let trailers = if rng.u8(..4) == 0 { "x-sum: 1\r\n" } else { "" };
            octets.extend_from_slice(&wire::chunked(&body, &sizes, extension, trailers));
        }
    }
    let asked =
        Asked { token, method, wanted: recipe.wanted, body: recipe.body, ..Asked::default() };
    Made { octets, head, asked }
}

const PATHS: [&str; 8] =
    ["/a/x", "/b/x", "/c/x", "/a/./x", "/b//x", "/c/y/../x", "/%61/x", "/a/x/y"];

/// A request as clients usually send it.
pub fn usual(client: usize, number: usize, rng: &mut Rng) -> Made {
    let mut recipe = Recipe { path: PATHS[rng.usize(..PATHS.len())], ..Recipe::default() };
    (recipe.path, recipe.wanted) = match rng.u8(..20) {
        0 => ("/fixed/x", Wanted::Fixed),
        1 => ("/moved/x", Wanted::Redirect),
        2 if rng.bool() => ("/void/x", Wanted::Fault(&["no_target", "shed"])),
        2 => ("/nothing", Wanted::Fault(&["no_route"])),
        _ => (recipe.path, recipe.wanted),
    };
    recipe.method =
        ["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PURGE"]
            [rng.usize(..10)];
    if matches!(recipe.method, "POST" | "PUT") {
        recipe.framed = if rng.u8(..3) == 0 { Framed::Chunked } else { Framed::Length };
        recipe.body = [0, 5, 300, 2500][rng.usize(..4)];
    }
    let more =
        ["accept: text/plain\r\n", "user-agent: sim\r\n", "te: trailers\r\nconnection: te\r\n"];
    if rng.u8(..4) == 0 {
        recipe.fields = more[rng.usize(..more.len())];
    }
    make(recipe, client, number, rng)
}
