//! Dates of HTTP (RFC 9110 section 5.6.7) as seconds since 1970: the form that is sent, and the two obsolete ones.
//!
//! Called by `storable` and `conditional`.

/// The seconds since 1970; `None` for what is no date, or one before.
pub fn parse(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}
