//! The files whose content is sent: of `respond`, and of error pages. Control reads them; what they say is put into the file as run.
//!
//! Called by control, before anything is compiled.

use crate::config::template::read_content;
use crate::config::traffic::change::scope_of_errors;
use crate::config::{Action, Config, Material, Place, Problem, Respond};
use crate::transform::page::ErrorPage;
use std::path::Path;
use std::sync::Arc;

/// The largest file that is sent, in octets: all of it is held in memory.
const LARGEST: usize = 1 << 20;

enum Page<'c> {
    Answer(&'c mut Respond),
    // Of a rule (`true`), or of a listener.
    Error(&'c mut ErrorPage, bool),
}

/// The files, for control to read and to be let read.
pub fn pages(config: &Config) -> impl Iterator<Item = Material> + '_ {
    fn of<'c>(
        action: &'c Action,
        errors: &'c [ErrorPage],
        place: &'c Place,
    ) -> impl Iterator<Item = Material> + 'c {
        let answer = match action {
            Action::Respond(respond) => respond.file.as_ref(),
            _ => None,
        };
        let errors = errors.iter().filter_map(|page| page.file.as_ref());
        answer
            .into_iter()
            .chain(errors)
            .map(|path| Material { path: path.clone(), place: place.clone() })
    }
    let rules = config.rules.iter().flat_map(|rule| {
        let errors = rule.traffic.response.as_ref().map_or(&[][..], |response| &response.errors);
        of(&rule.action, errors, &rule.place)
    });
    rules.chain(config.listeners.iter().flat_map(|l| of(&l.default, &l.errors, &l.place)))
}

/// Reads all of them with `read`, which says why it cannot; all that is wrong.
pub fn read_pages(
    config: &mut Config,
    read: &mut dyn FnMut(&Path) -> Result<Vec<u8>, String>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut one = |page: Page<'_>, place: &Place, key: String| {
        if let Err((found, expected)) = load(page, read) {
            problems.push(Problem { place: place.clone(), key, found, expected, hint: None });
        }
    };
    for rule in &mut config.rules {
        let (place, key) = (&rule.place, format!("rule.{}", rule.name));
        if let Action::Respond(respond) = &mut rule.action {
            one(Page::Answer(respond), place, format!("{key}.respond.file"));
        }
        for page in rule.traffic.response.iter_mut().flat_map(|response| &mut response.errors) {
            one(Page::Error(page, true), place, format!("{key}.errors.file"));
        }
    }
    for listener in &mut config.listeners {
        let (place, key) = (&listener.place, format!("listener.{}", listener.name));
        if let Action::Respond(respond) = &mut listener.default {
            one(Page::Answer(respond), place, format!("{key}.default.respond.file"));
        }
        for page in &mut listener.errors {
            one(Page::Error(page, false), place, format!("{key}.errors.file"));
        }
    }
    problems
}

// What was found, and what was expected, where it cannot be.
fn load(
    page: Page<'_>,
    read: &mut dyn FnMut(&Path) -> Result<Vec<u8>, String>,
) -> Result<(), (String, String)> {
    let path = match &page {
        Page::Answer(respond) => &respond.file,
        Page::Error(page, _) => &page.file,
    };
    let Some(path) = path else { return Ok(()) };
    let shown = path.display().to_string();
    let octets = read(path)
        .map_err(|error| (format!("{shown}: {error}"), "a file that can be read".to_owned()))?;
    if octets.len() > LARGEST {
        let found = format!("{shown}: {} octets", octets.len());
        return Err((found, format!("at most {LARGEST}: larger files are for a server of files")));
    }
    match page {
        Page::Answer(respond) => respond.octets = Some(Arc::from(octets)),
        Page::Error(page, of_rule) => {
            let text = String::from_utf8(octets)
                .map_err(|_| (format!("{shown}: no UTF-8"), "a page of text".to_owned()))?;
            let kind = page.content.kind.clone();
            page.content = read_content(&text, &kind, scope_of_errors(of_rule))
                .map_err(|wrong| (format!("{shown}: a template that is none"), wrong.expected))?;
        }
    }
    Ok(())
}
