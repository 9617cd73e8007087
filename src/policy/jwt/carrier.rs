//! Finds the token of a request: in a field, a cookie or the query. What comes twice in one place is no token that anybody can
//! rely on (RFC 6750 section 2 forbids it). Called by the policy.

use crate::http::RequestView;
use crate::policy::jwt::settings::Carrier;

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// No token.
    None,
    /// One.
    One(&'a [u8]),
    /// More than one in the same place.
    Several,
}

/// The token of a request: of the first carrier that has one.
pub fn find<'a>(carriers: &[Carrier], view: &RequestView<'a>) -> Found<'a> {
    for carrier in carriers {
        let found = match carrier {
            Carrier::Header { name, scheme } => in_field(view, name, scheme),
            Carrier::Cookie(name) => {
                only(view.fields.cookies().filter(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v))
            }
            Carrier::Query(name) => {
                only(view.query_pairs().filter(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v))
            }
        };
        if found != Found::None {
            return found;
        }
    }
    Found::None
}

fn in_field<'a>(view: &RequestView<'a>, name: &str, scheme: &str) -> Found<'a> {
    match only(view.fields.all(name)) {
        Found::One(value) if !scheme.is_empty() => {
            let Some((first, rest)) = value.split_at_checked(scheme.len()) else {
                return Found::None;
            };
            if !first.eq_ignore_ascii_case(scheme.as_bytes()) {
                return Found::None;
            }
            match rest {
                // A scheme alone says that a token should be there: an empty one is not none.
                [] => Found::One(b""),
                [b' ', ..] => Found::One(rest.trim_ascii_start()),
                _ => Found::None,
            }
        }
        found => found,
    }
}

fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Found<'a> {
    match (values.next(), values.next()) {
        (None, _) => Found::None,
        (Some(value), None) => Found::One(value),
        (Some(_), Some(_)) => Found::Several,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;
    use std::net::{IpAddr, Ipv4Addr};

    fn check(carriers: &[Carrier], fields: &[(&str, &str)], query: &str, expected: Found<'_>) {
        let owned: OwnedFields = fields.iter().copied().collect();
        let view = RequestView {
            method: b"GET",
            host: b"h",
            path: b"/",
            query: Some(query.as_bytes()),
            fields: owned.view(),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        assert_eq!(find(carriers, &view), expected, "{fields:?} {query}");
    }

    #[test]
    fn finds_one_token_or_says_that_there_are_several() {
        use Found::{None, One, Several};
        let bearer = [Carrier::Header { name: "authorization".into(), scheme: "Bearer".into() }];
        for (value, expected) in [
            ("Bearer a.b.c", One(b"a.b.c")),
            ("bEARER   a.b.c", One(b"a.b.c")),
            ("Bearer", One(b"")),
            ("Bearer ", One(b"")),
            ("Bearera.b.c", None),
            ("Bearer\ta.b.c", None),
            ("Basic a.b.c", None),
            ("Bear", None),
            ("a.b.c", None),
            ("", None),
        ] {
            check(&bearer, &[("Authorization", value)], "", expected);
        }
        check(&bearer, &[], "access_token=t", None);
        let twice = [("authorization", "Bearer a"), ("Authorization", "Basic b")];
        check(&bearer, &twice, "", Several);
        let all = [
            Carrier::Header { name: "x-token".into(), scheme: "".into() },
            Carrier::Cookie("session".into()),
            Carrier::Query("token".into()),
        ];
        check(&all, &[("X-Token", "a"), ("Cookie", "session=b")], "token=c", One(b"a"));
        check(&all, &[("Cookie", "x=1; session=b")], "token=c", One(b"b"));
        check(&all, &[("Cookie", "Session=b")], "x=1&token=c", One(b"c"));
        check(&all, &[("Cookie", "session=a; session=b")], "token=c", Several);
        check(&all, &[], "token=c&token=c", Several);
        check(&all, &[], "token", One(b""));
        check(&all, &[], "", None);
    }
}
