//! `${NAME}` and `${NAME:-default}` inside string values.
//!
//! Replaced after the TOML is parsed, so a variable can change a value and never the shape of the file. `$${` stands
//! for `${`. As in a shell, `:-` gives its default for a variable that is unset or empty. Called by `item`.

use std::borrow::Cow;

/// Looks up an environment variable.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// The variable is not set and has no default.
    Unset(String),
    /// `${` without a name and `}` after it.
    Malformed,
}

/// `text` with its variables replaced; borrowed where there are none.
pub(super) fn expand<'a>(text: &'a str, env: Env<'_>) -> Result<Cow<'a, str>, Unresolved> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (inside, after) = after.split_once('}').ok_or(Unresolved::Malformed)?;
        out.push_str(&variable(inside, env)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

fn variable(inside: &str, env: Env<'_>) -> Result<String, Unresolved> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Unresolved::Malformed);
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Unresolved::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, Unresolved>) {
        let env = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "_B2" => Some("${A}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let expected = expected.map(str::to_owned);
        assert_eq!(expand(text, &env).map(Cow::into_owned), expected, "{text}");
    }

    #[test]
    fn replaces_variables() {
        let unset = |name: &str| Err(Unresolved::Unset(name.to_owned()));
        for (text, expected) in [
            ("plain $A {A}", Ok("plain $A {A}")),
            ("${A}", Ok("one")),
            ("x${A}y${A}z", Ok("xoneyonez")),
            ("${NO:-two}", Ok("two")),
            ("${NO:-}", Ok("")),
            ("${NO:-a:-b}", Ok("a:-b")),
            ("${EMPTY}", Ok("")),
            ("${EMPTY:-full}", Ok("full")),
            ("${_B2}", Ok("${A}")),
            ("$${A}", Ok("${A}")),
            ("$$${A}", Ok("$${A}")),
            ("#{path}", Ok("#{path}")),
            ("${NO}", unset("NO")),
            ("${a-b}", Err(Unresolved::Malformed)),
            ("${}", Err(Unresolved::Malformed)),
            ("${1A}", Err(Unresolved::Malformed)),
            ("${A", Err(Unresolved::Malformed)),
        ] {
            check(text, expected);
        }
    }
}
