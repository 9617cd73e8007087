//! Views of a message that decisions read: names and values as byte slices into one buffer.
//!
//! A head lives across awaits as spans, not as borrows; a view is made for the moment it is read.
//! Query and cookie access is lazy: nothing is split before someone asks. Called by route, balance, observe, proxy.

use std::net::IpAddr;

/// A range of octets in a message's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first octet.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

impl Span {
    /// The octets of this span; empty if it does not lie inside `buf`.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Its length in octets.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether it holds no octet.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// One field line of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as received.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
    /// What the name means to an intermediary.
    pub known: crate::http::known::Known,
}

/// The fields of one head.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    buf: &'a [u8],
    list: &'a [Field],
    // Of a request's head: the path in it, as it was sent.
    path: Span,
}

impl<'a> Fields<'a> {
    /// Fields whose spans point into `buf`.
    pub fn new(buf: &'a [u8], list: &'a [Field]) -> Fields<'a> {
        Fields { buf, list, path: Span::default() }
    }

    /// Fields of a request whose head in `buf` has this path.
    pub fn of_request(buf: &'a [u8], list: &'a [Field], path: Span) -> Fields<'a> {
        Fields { buf, list, path }
    }

    /// Names and values in the order of the head.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        self.list.iter().map(move |f| (f.name.of(self.buf), f.value.of(self.buf)))
    }

    /// The values of every field line called `name` (case-insensitive), in order.
    pub fn all<'n>(self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a, 'n> {
        let name = name.as_bytes();
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// The first value of `name` (case-insensitive).
    pub fn first(self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The cookies, in order, of every `Cookie` field line (RFC 6265 section 4.2.1); names and values as sent, without
    /// surrounding white space.
    pub fn cookies(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let lines = self.list.iter().filter(|f| f.known == crate::http::Known::Cookie);
        let lines = lines.map(move |f| f.value.of(self.buf));
        lines.flat_map(|line| line.split(|b| *b == b';')).filter_map(|pair| {
            let at = memchr::memchr(b'=', pair)?;
            let (name, value) = pair.split_at(at);
            Some((name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii()))
        })
    }
}

/// What decisions see of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method as sent.
    pub method: &'a [u8],
    /// Lower-case, without port and trailing dot; empty when an HTTP/1.0 request names none.
    pub host: &'a [u8],
    /// The canonical path: what is routed is what is sent.
    pub path: &'a [u8],
    /// Without the `?`; `None` when there is no `?`.
    pub query: Option<&'a [u8]>,
    /// The head's fields.
    pub fields: Fields<'a>,
    /// The address of the TCP peer; never from a field.
    pub peer: IpAddr,
}

impl<'a> RequestView<'a> {
    /// The path as it was sent, which signatures speak of; the canonical one where it has been sent none.
    pub fn path_as_sent(&self) -> &'a [u8] {
        let sent = self.fields.path.of(self.fields.buf);
        if sent.is_empty() { self.path } else { sent }
    }

    /// The query's keys and values as sent (still percent-encoded), split at `&` and the first `=`.
    pub fn query_pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.query.unwrap_or_default().split(|b| *b == b'&').filter(|pair| !pair.is_empty()).map(
            |pair| match memchr::memchr(b'=', pair) {
                Some(at) => {
                    let (key, value) = pair.split_at(at);
                    (key, value.get(1..).unwrap_or_default())
                }
                None => (pair, &[] as &[u8]),
            },
        )
    }
}

/// Fields that own their text, for tests, expectations and anything that is not a received head.
#[derive(Clone, Debug, Default)]
pub struct OwnedFields {
    buf: Vec<u8>,
    list: Vec<Field>,
}

impl OwnedFields {
    /// Adds a field.
    pub fn push(&mut self, name: &str, value: &str) {
        let mut span = |text: &str| {
            let start = u32::try_from(self.buf.len()).unwrap_or(u32::MAX);
            self.buf.extend_from_slice(text.as_bytes());
            Span { start, end: u32::try_from(self.buf.len()).unwrap_or(u32::MAX) }
        };
        let (name_span, value_span) = (span(name), span(value));
        let known = crate::http::known::Known::of(name.as_bytes());
        self.list.push(Field { name: name_span, value: value_span, known });
    }

    /// The view of these fields.
    pub fn view(&self) -> Fields<'_> {
        Fields::new(&self.buf, &self.list)
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for OwnedFields {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(pairs: T) -> OwnedFields {
        let mut fields = OwnedFields::default();
        for (name, value) in pairs {
            fields.push(name, value);
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_cookies_and_queries() {
        let fields: OwnedFields =
            [("Cookie", "a=1; b=2=3 ;c"), ("cookie", "d=4")].into_iter().collect();
        let got: Vec<_> = fields.view().cookies().collect();
        let want: Vec<(&[u8], &[u8])> = vec![(b"a", b"1"), (b"b", b"2=3"), (b"d", b"4")];
        assert_eq!(got, want);
        let view = RequestView {
            method: b"GET",
            host: b"",
            path: b"/",
            query: Some(b"a=1&&b&c=d=e"),
            fields: fields.view(),
            peer: IpAddr::from([127, 0, 0, 1]),
        };
        let got: Vec<_> = view.query_pairs().collect();
        let want: Vec<(&[u8], &[u8])> = vec![(b"a", b"1"), (b"b", b""), (b"c", b"d=e")];
        assert_eq!(got, want);
    }
}
