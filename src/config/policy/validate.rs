//! `validate` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::check::Seen;
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::syntax;
use crate::policy::validate::{Body, Field, Kind, OpenApi, Range, Settings, Source};
use std::path::{Path, PathBuf};

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[
    ("policy.*.validate", KEYS),
    ("policy.*.validate.headers", FIELD),
    ("policy.*.validate.query", FIELD),
    ("policy.*.validate.body", BODY),
    ("policy.*.validate.openapi", OPENAPI),
];

const KEYS: Keys = &["headers", "query", "body", "openapi", "limit", "depth"];
const FIELD: Keys =
    &["name", "required", "type", "min", "max", "min_length", "max_length", "pattern", "one_of"];
const BODY: Keys = &["required", "max", "types", "unknown", "schema", "schema_file"];
const OPENAPI: Keys = &["file", "operation", "base", "unknown"];

// The most octets of a body that are read into memory at once.
const LARGEST: u64 = 64 << 20;
const UNKNOWN: &[(&str, bool)] = &[("refuse", false), ("pass", true)];

/// `validate = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let mut settings = Settings {
        headers: fields(&table, "headers"),
        query: fields(&table, "query"),
        body: table.item("body").and_then(|item| body(&item)),
        openapi: table.item("openapi").and_then(|item| openapi(&item)),
        ..Settings::default()
    };
    set(&mut settings.limit, table.item("limit").and_then(|item| item.size(1..=LARGEST)));
    let depth = table.item("depth").and_then(|item| item.integer(1..=120));
    set(&mut settings.depth, depth.and_then(|depth| usize::try_from(depth).ok()));
    if ["headers", "query", "body", "openapi"].iter().all(|key| table.item(key).is_none()) {
        item.problem("nothing to validate", "headers, query, body or openapi", None);
    }
    Some(settings)
}

fn fields(table: &Table<'_>, key: &str) -> Vec<Field> {
    const KIND: &str = "a name, or a table of name, required, type, pattern and others";
    let Some(item) = table.item(key) else { return Vec::new() };
    let read: Vec<Field> = item.one_or_more(KIND).iter().filter_map(|i| field(i, key)).collect();
    for (at, one) in read.iter().enumerate() {
        if read.iter().take(at).any(|other| other.name == one.name) {
            item.problem(format!("{:?} twice", one.name), "each name once", None);
        }
    }
    read
}

fn field(item: &Item<'_>, key: &str) -> Option<Field> {
    let header = key == "headers";
    let kind = if header { "the name of a header field" } else { "the name of a query parameter" };
    let name = |item: &Item<'_>| {
        item.parsed(kind, |text| {
            let fits = if header { syntax::is_token(text) } else { !text.is_empty() };
            if !fits {
                return Wrong::plain();
            }
            Ok(if header { text.to_ascii_lowercase() } else { text.to_owned() })
        })
    };
    if !item.is_table() {
        return name(item).map(Field::required);
    }
    let table = item.table(FIELD)?;
    let mut field = Field::required(table.need("name", kind).and_then(|item| name(&item))?);
    set(&mut field.required, table.item("required").and_then(|item| item.boolean()));
    let words = [
        ("string", Kind::Text),
        ("integer", Kind::Integer),
        ("number", Kind::Number),
        ("boolean", Kind::Boolean),
    ];
    set(&mut field.kind, table.item("type").and_then(|item| item.choice(&words)));
    let numeric = matches!(field.kind, Kind::Integer | Kind::Number);
    let bound = |key: &str| {
        let item = table.item(key)?;
        if !numeric {
            item.problem("a bound of a text", "type = \"integer\" or \"number\" beside it", None);
        }
        item.signed(i64::MIN..=i64::MAX)
    };
    field.range = (bound("min"), bound("max"));
    let octets = |key: &str| table.item(key).and_then(|item| item.integer(0..=1 << 20));
    field.length = (octets("min_length").unwrap_or(0), octets("max_length"));
    field.pattern = table.item("pattern").and_then(|item| {
        item.parsed("a regular expression, which the whole value must match", syntax::regex)
    });
    if let Some(item) = table.item("one_of") {
        let values = item.one_or_more("a value");
        let values = values.iter().filter_map(|item| item.text("a value"));
        field.one_of = values.map(|text| text.into_owned()).collect();
    }
    Some(field)
}

fn body(item: &Item<'_>) -> Option<Body> {
    let table = item.table(BODY)?;
    let types = table.item("types").map(|item| {
        let kind = "a media type or a range of them: \"application/json\", \"text/*\"";
        let parse = |text: &str| Range::parse(text).ok_or_else(Wrong::default);
        item.one_or_more(kind).iter().filter_map(|item| item.parsed(kind, parse)).collect()
    });
    let schema = match (table.item("schema"), table.item("schema_file")) {
        (Some(text), Some(_)) => {
            text.problem("schema and schema_file", "one of them", None);
            None
        }
        (Some(item), None) => {
            item.text("a JSON Schema as text").map(|text| Source::Text(text.into_owned()))
        }
        (None, Some(item)) => path(&item).map(Source::File),
        (None, None) => None,
    };
    Some(Body {
        required: table.item("required").and_then(|item| item.boolean()).unwrap_or(false),
        max: table.item("max").and_then(|item| item.size(0..=LARGEST)),
        types: types.unwrap_or_default(),
        pass_unknown: unknown(&table),
        schema,
    })
}

fn openapi(item: &Item<'_>) -> Option<OpenApi> {
    let table = item.table(OPENAPI)?;
    let file = table.need("file", "the path of an OpenAPI file").and_then(|item| path(&item));
    let text = |key: &str, kind: &str| {
        let text = table.item(key).and_then(|item| item.text(kind));
        text.map(|text| text.into_owned())
    };
    let base = table.item("base").and_then(|item| {
        item.parsed("a path such as \"/v1\", or \"\"", |text| {
            let fits = text.is_empty() || text.starts_with('/');
            if fits { Ok(text.to_owned()) } else { Wrong::plain() }
        })
    });
    let operation = text("operation", "the operationId of an operation");
    Some(OpenApi { file: file?, operation, base, pass_unknown: unknown(&table) })
}

fn unknown(table: &Table<'_>) -> bool {
    table.item("unknown").and_then(|item| item.choice(UNKNOWN)).unwrap_or(false)
}

// A path, relative to the folder of the file that names it.
fn path(item: &Item<'_>) -> Option<PathBuf> {
    let path = item.parsed("the path of a file", |text| {
        if text.is_empty() || text.contains('\0') { Wrong::plain() } else { Ok(text.to_owned()) }
    })?;
    let place = item.place();
    let folder = Path::new(&*place.file).parent().unwrap_or(Path::new(""));
    Some(folder.join(path))
}
