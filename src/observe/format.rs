//! The formats of `[log] format`: parsed once when the file is loaded, then written once a request.
//!
//! A format holds no state and allocates nothing while it writes. Each has a file of its own; this one tells
//! them apart. Called by `config` (to check the name), `snapshot` and each worker's `Sink`.

use crate::observe::record::Record;
use crate::observe::template::Template;
use crate::observe::time::Clock;
use crate::observe::{alb, combined, json};
use std::fmt;

/// How a record becomes a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Apache's combined log format.
    Combined,
    /// The access log entry of an AWS Application Load Balancer.
    Alb,
    /// The user's own line.
    Template(Template),
}

/// Why a text is no format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// Neither a known name nor a template with a field.
    Unknown(String),
    /// A template names a field that does not exist.
    UnknownField(String),
    /// A `$` that begins no field; `$$` is a dollar sign.
    LoneDollar,
    /// A line break or another control character in a template.
    Control(char),
}

impl Format {
    /// The format called `text`, or the template that it is.
    ///
    /// # Errors
    /// When it is neither; the error lists what is known.
    pub fn parse(text: &str) -> Result<Format, FormatError> {
        match text {
            "json" => Ok(Format::Json),
            "combined" => Ok(Format::Combined),
            "alb" => Ok(Format::Alb),
            _ if text.contains('$') => Template::parse(text).map(Format::Template),
            _ => Err(FormatError::Unknown(text.to_owned())),
        }
    }

    /// Appends exactly one line for `record`, with its `\n`.
    pub fn write(&self, record: &Record<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
        match self {
            Format::Json => json::write(record, clock, out),
            Format::Combined => combined::write(record, clock, out),
            Format::Alb => alb::write(record, clock, out),
            Format::Template(template) => template.write(record, clock, out),
        }
        out.push(b'\n');
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Unknown(text) => {
                write!(
                    f,
                    "unknown log format {text:?}: expected json, combined, alb or a template such as "
                )?;
                f.write_str("`$time $client \"$method $path\" $status $bytes_out $total_ms`")
            }
            FormatError::UnknownField(name) => {
                write!(f, "unknown field `${name}` in the log format; known are")?;
                Template::fields().try_for_each(|known| write!(f, " ${known}"))
            }
            FormatError::LoneDollar => {
                f.write_str("`$` in the log format begins no field; write `$$` for a dollar sign")
            }
            FormatError::Control(c) => {
                write!(f, "control character {c:?} in the log format; a record is one line")
            }
        }
    }
}

impl std::error::Error for FormatError {}

#[cfg(test)]
mod tests;
