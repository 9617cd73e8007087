//! What gRPC writes into fields (`grpc-timeout`, `grpc-status`, `grpc-message`, media types) against plain readings of it.
//!
//! The input is the value of a field, as it may come from a peer.

use ringgate::http::grpc::{Call, percent_encode, status, timeout, timeout_value, trailers_only};
use std::time::Duration;

/// See the module's documentation.
pub fn grpc(data: &[u8]) {
    let text = std::str::from_utf8(data).unwrap_or("");
    assert_eq!(timeout(data), plain_timeout(text), "{:?}", data.escape_ascii());
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let plain = digits.then(|| text.parse().ok()).flatten();
    assert_eq!(status(data), plain, "{:?}", data.escape_ascii());
    if let Some(given) = timeout(data) {
        let again = timeout(timeout_value(given).as_bytes()).expect("a timeout");
        assert!(again <= given && given - again <= given / 90_000, "{given:?} became {again:?}");
    }
    encoded(data);
    kinds(data);
}

fn plain_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u64 = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return None,
    };
    let nanos = digits.parse::<u128>().ok()? * u128::from(nanos);
    let whole = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(whole, u32::try_from(nanos % 1_000_000_000).ok()?))
}

// What is encoded is a clean value of a field, and says the same.
fn encoded(data: &[u8]) {
    let mut out = Vec::new();
    percent_encode(&mut out, data);
    assert!(out.iter().all(|b| (b' '..=b'~').contains(b)));
    let (mut plain, mut at) = (Vec::new(), 0);
    while let Some(octet) = out.get(at) {
        if *octet == b'%' {
            let digits = std::str::from_utf8(&out[at + 1..at + 3]).expect("two digits");
            plain.push(u8::from_str_radix(digits, 16).expect("two digits"));
            at += 3;
        } else {
            plain.push(*octet);
            at += 1;
        }
    }
    assert_eq!(plain, data);
}

// Whatever the type of a request is, an answer of ours has whole lines of its own and no more.
fn kinds(data: &[u8]) {
    let call = Call::of(data);
    if call == Call::No {
        return;
    }
    let name = call.media_type(data);
    assert_eq!(Call::of(&name), call);
    assert!(data.to_ascii_lowercase().windows(16).any(|w| w == b"application/grpc"));
    let mut out = Vec::new();
    trailers_only(&mut out, call, data, 2, "a\r\nb");
    let text = out.strip_suffix(b"\r\n").expect("a last line");
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    assert!((2..=3).contains(&lines.len()), "{:?}", out.escape_ascii());
}
