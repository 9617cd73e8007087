//! A field of the head or a parameter of the query that must be there, and what its value may be. Called by the policy.

use crate::http::RequestView;
use crate::policy::Wrong;
use crate::policy::validate::Refused;
use regex::bytes::Regex;
use std::borrow::Cow;

/// As written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; a field's is lower-case.
    pub name: String,
    /// Whether it must be there and not blank.
    pub required: bool,
    /// What its value is.
    pub kind: Kind,
    /// The least and the most of a number.
    pub range: (Option<i64>, Option<i64>),
    /// The least and the most octets of the value.
    pub length: (u64, Option<u64>),
    /// A pattern that the whole value matches.
    pub pattern: Option<String>,
    /// Its values; empty for any.
    pub one_of: Vec<String>,
}

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    #[default]
    Text,
    /// A whole number in decimal.
    Integer,
    /// A number as JSON writes it.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Header,
    Query,
}

/// As run.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    field: Field,
    pattern: Option<Regex>,
}

impl Field {
    /// One that must be there, whatever it says.
    pub fn required(name: String) -> Field {
        Field {
            name,
            required: true,
            kind: Kind::Text,
            range: (None, None),
            length: (0, None),
            pattern: None,
            one_of: Vec::new(),
        }
    }
}

impl Rule {
    /// Compiles it.
    ///
    /// # Errors
    /// A pattern that is none.
    pub(crate) fn build(field: &Field) -> Result<Rule, Wrong> {
        let compile = |pattern: &String| {
            Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|error| Wrong { file: None, found: format!("{pattern:?}: {error}") })
        };
        let pattern = field.pattern.as_ref().map(compile).transpose()?;
        Ok(Rule { name: field.name.clone(), field: field.clone(), pattern })
    }

    /// Judges all values of the name.
    pub(crate) fn check<'a>(
        &self,
        place: Place,
        values: impl Iterator<Item = Cow<'a, [u8]>>,
    ) -> Result<(), Refused> {
        let refused = |why: &str| {
            let place = if place == Place::Header { "field" } else { "query parameter" };
            Refused::invalid(format!("The {place} {:?} {why}.", self.name))
        };
        let mut missing = true;
        for value in values {
            if value.trim_ascii().is_empty() {
                if self.field.required {
                    return Err(refused("is blank"));
                }
                continue;
            }
            missing = false;
            self.judge(&value).map_err(refused)?;
        }
        if missing && self.field.required {
            return Err(refused("is missing"));
        }
        Ok(())
    }

    fn judge(&self, value: &[u8]) -> Result<(), &'static str> {
        let field = &self.field;
        let text = std::str::from_utf8(value).map_err(|_| "is no UTF-8")?;
        let (least, most) = field.range;
        let inside = match field.kind {
            Kind::Text => true,
            Kind::Boolean if matches!(text, "true" | "false") => true,
            Kind::Boolean => return Err("is neither true nor false"),
            Kind::Integer => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let plain = digits.bytes().all(|b| b.is_ascii_digit());
                let number = text.parse::<i64>().ok().filter(|_| plain);
                let number = number.ok_or("is no whole number, or too large")?;
                least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most)
            }
            Kind::Number => {
                let number = serde_json::from_str::<f64>(text).map_err(|_| "is no number")?;
                least.is_none_or(|least| number >= least as f64)
                    && most.is_none_or(|most| number <= most as f64)
            }
        };
        if !inside {
            return Err("is outside its range");
        }
        let (shortest, longest) = field.length;
        let octets = value.len() as u64;
        if octets < shortest || longest.is_some_and(|longest| octets > longest) {
            return Err("is too short or too long");
        }
        if !field.one_of.is_empty() && !field.one_of.iter().any(|one| one == text) {
            return Err("is none of its values");
        }
        if self.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(value)) {
            return Err("does not match its pattern");
        }
        Ok(())
    }
}

/// The decoded values of a query parameter.
pub(crate) fn query_values<'a>(
    view: &RequestView<'a>,
    name: &str,
) -> impl Iterator<Item = Cow<'a, [u8]>> {
    view.query_pairs()
        .filter(move |(key, _)| *decoded(key, true) == *name.as_bytes())
        .map(|(_, value)| decoded(value, true))
}

/// Text without its percent-encoding; where `plus` is set, `+` is a space, as forms have it.
pub(crate) fn decoded(text: &[u8], plus: bool) -> Cow<'_, [u8]> {
    if !text.iter().any(|b| *b == b'%' || (plus && *b == b'+')) {
        return Cow::Borrowed(text);
    }
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, digit(tail.first()), digit(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', ..) if plus => out.push(b' '),
            (other, ..) => out.push(*other),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: Field, values: &[&str], expected: Result<(), &str>) {
        let rule = Rule::build(&field).unwrap();
        let values = values.iter().map(|value| Cow::Borrowed(value.as_bytes()));
        let got = rule.check(Place::Query, values).map_err(|refused| refused.detail);
        let expected = expected.map_err(|why| format!("The query parameter \"x\" {why}."));
        assert_eq!(got, expected);
    }

    fn of_kind(kind: Kind) -> Field {
        Field { kind, required: false, ..Field::required("x".to_owned()) }
    }

    #[test]
    fn values_are_judged() {
        let required = || Field::required("x".to_owned());
        check(required(), &["a"], Ok(()));
        check(required(), &[], Err("is missing"));
        check(required(), &[""], Err("is blank"));
        check(required(), &["a", " \t"], Err("is blank"));
        check(of_kind(Kind::Text), &[], Ok(()));
        check(of_kind(Kind::Integer), &["-5", "7"], Ok(()));
        let none = Err("is no whole number, or too large");
        for text in ["+5", "5.0", "0x5", "five", "1 ", "9223372036854775808", "-"] {
            check(of_kind(Kind::Integer), &["5", text], none);
        }
        check(of_kind(Kind::Number), &["-5.5e1"], Ok(()));
        check(of_kind(Kind::Number), &["NaN"], Err("is no number"));
        check(of_kind(Kind::Boolean), &["true"], Ok(()));
        check(of_kind(Kind::Boolean), &["True"], Err("is neither true nor false"));
        let range = |kind| Field { range: (Some(-1), Some(10)), ..of_kind(kind) };
        check(range(Kind::Integer), &["-1", "10"], Ok(()));
        check(range(Kind::Integer), &["11"], Err("is outside its range"));
        check(range(Kind::Number), &["10.1"], Err("is outside its range"));
        let short = Field { length: (2, Some(3)), ..of_kind(Kind::Text) };
        check(short.clone(), &["ab", "abc"], Ok(()));
        check(short.clone(), &["a"], Err("is too short or too long"));
        check(short, &["abcd"], Err("is too short or too long"));
        let pattern = Field { pattern: Some("a|b+".to_owned()), ..of_kind(Kind::Text) };
        check(pattern.clone(), &["a", "bb"], Ok(()));
        check(pattern.clone(), &["ab"], Err("does not match its pattern"));
        check(pattern, &["a\n"], Err("does not match its pattern"));
        let one = Field { one_of: vec!["a".to_owned()], ..of_kind(Kind::Text) };
        check(one.clone(), &["a"], Ok(()));
        check(one, &["A"], Err("is none of its values"));
        assert!(Rule::build(&Field { pattern: Some("(".to_owned()), ..required() }).is_err());
    }

    #[test]
    fn percent_encoding_is_undone() {
        for (text, plus, expected) in [
            ("a%20b+c", true, "a b c"),
            ("a+b", false, "a+b"),
            ("%zz%4", true, "%zz%4"),
            ("%C3%A9%", true, "é%"),
        ] {
            assert_eq!(&*decoded(text.as_bytes(), plus), expected.as_bytes());
        }
    }
}
