//! Templates as values of the file: parsed with what is known where they stand, and what is wrong said in the file's words.
//!
//! The language itself is `transform::template`'s. Called by the readers of actions, rules and listeners.

use crate::config::item::Item;
use crate::config::problem::{Wrong, did_you_mean};
use crate::transform::page::Content;
use crate::transform::template::{LONGEST, Template, Wrong as Mistake, names};
use crate::transform::{Place, Scope};

/// A template; `kind` says what was expected, `check` whether what it becomes can stand where it does.
pub(super) fn template(
    item: &Item<'_>,
    kind: &str,
    scope: Scope,
    check: impl FnOnce(&Template) -> Result<(), Wrong>,
) -> Option<Template> {
    item.parsed(kind, |text| {
        let template = parse(text, scope)?;
        check(&template).map(|()| template)
    })
}

/// Parses a text of the file.
pub(super) fn parse(text: &str, scope: Scope) -> Result<Template, Wrong> {
    Template::parse(text, scope).map_err(|mistake| match mistake {
        Mistake::Unknown(name) => Wrong {
            expected: format!(
                "a text in which only #{{...}} of {} are replaced here",
                known(scope)
            ),
            hint: meant(&name, scope),
        },
        Mistake::NotHere(name) => Wrong {
            expected: format!("a text without #{{{name}}}, which is not known here"),
            hint: None,
        },
        Mistake::Unclosed => Wrong {
            expected: "a } for each #{".to_owned(),
            hint: Some("a literal #{ is written ##{".to_owned()),
        },
        Mistake::TooLong => Wrong { expected: format!("at most {LONGEST} octets"), hint: None },
    })
}

fn known(scope: Scope) -> String {
    let name = |name: &str| match name {
        "capture." | "host." => format!("{name}1"),
        name if name.ends_with('.') => format!("{name}NAME"),
        name => name.to_owned(),
    };
    names(scope).map(name).collect::<Vec<_>>().join(", ")
}

// A name of the file's own stands behind the first dot of most.
fn meant(name: &str, scope: Scope) -> Option<String> {
    match name.split_once('.') {
        Some((first, rest)) => {
            let roots = names(scope).filter_map(|known| known.strip_suffix('.'));
            let hint = did_you_mean(first, roots)?;
            Some(hint.replace("\"?", &format!(".{rest}\"?")))
        }
        None => did_you_mean(name, names(scope)),
    }
}

/// A media type, as it is written in `Content-Type`.
pub(super) fn media_type(item: &Item<'_>) -> Option<String> {
    use crate::config::syntax;
    item.parsed("a media type such as \"text/plain; charset=utf-8\"", |text| {
        let (kind, _) = text.split_once(';').unwrap_or((text, ""));
        let (kind, subtype) = kind.trim_end().split_once('/').unwrap_or_default();
        let fits = syntax::is_token(kind) && syntax::is_token(subtype);
        if fits && syntax::is_field_value(text) { Ok(text.to_owned()) } else { Wrong::plain() }
    })
}

/// A body of this media type, whose values must be escaped as that says.
pub(super) fn content(item: &Item<'_>, kind: &str, scope: Scope) -> Option<Content> {
    item.parsed("a string", |text| read_content(text, kind, scope))
}

/// A body of this media type.
pub(super) fn read_content(text: &str, kind: &str, scope: Scope) -> Result<Content, Wrong> {
    let template = parse(text, scope)?;
    let place = Place::in_body(kind);
    let (kind, place) = match (place, template.constant()) {
        (Some(place), _) => (kind.to_owned(), place),
        (None, Some(_)) => (kind.to_owned(), Place::Text),
        (None, None) => {
            return Wrong::expected(format!(
                "a text without #{{...}} in {kind}, or a type in which values can be escaped: JSON, HTML, XML, \
                 forms or plain text"
            ));
        }
    };
    if place == Place::Html && template.stands_in_script() {
        return Wrong::expected("no #{...} inside script or style, where nothing can be escaped");
    }
    Ok(Content { kind, template, place })
}
