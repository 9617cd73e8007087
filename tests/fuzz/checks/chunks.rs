//! The chunk decoder (hazards H1-07 to H1-11) against a plain reading of the whole body, and against itself however the
//! body is cut.
//!
//! The input is a chunked body as it arrives, with whatever follows it.

use super::split::splits;
use ringgate::http::chunk::{Chunks, Malformed, Piece, chunk_line};

/// The data, and where the trailer section begins if the last chunk has arrived.
type Decoded = Result<(Vec<u8>, Option<usize>), Malformed>;

/// See the module's documentation.
pub fn chunks(data: &[u8]) {
    let whole = decode(data, &[data.len()]);
    assert_eq!(whole, reference(data), "{:?}", data.escape_ascii());
    for ends in splits(data) {
        assert_eq!(decode(data, &ends), whole, "cut at {ends:?}: {:?}", data.escape_ascii());
    }
    let Ok((body, end)) = whole else { return };
    assert!(body.len() <= data.len());
    if let Some(end) = end {
        // What follows the last chunk changes nothing.
        assert_eq!(decode(&data[..end], &[end]), Ok((body.clone(), Some(end))));
        chunked_anew(&body);
    }
}

/// Runs the decoder over octets that arrive until each of `ends`.
fn decode(data: &[u8], ends: &[usize]) -> Decoded {
    let (mut decoder, mut body, mut taken) = (Chunks::default(), Vec::new(), 0);
    for end in ends {
        loop {
            let arrived = &data[taken..*end];
            let (n, piece) = decoder.next(arrived)?;
            taken += n;
            match piece {
                Piece::Data(span) => {
                    assert!(span.end as usize == n && !span.is_empty());
                    body.extend_from_slice(span.of(arrived));
                }
                Piece::More => break,
                Piece::Last => return Ok((body, Some(taken))),
            }
        }
        assert_eq!(taken, *end, "octets that are neither taken nor refused");
    }
    Ok((body, None))
}

/// RFC 9112 section 7.1 line by line, with this decoder's limits: 15 digits, 4096 octets of extensions, no control
/// characters but HTAB in these, and a name at their beginning.
fn reference(data: &[u8]) -> Decoded {
    let (mut body, mut at, mut extensions) = (Vec::new(), 0, 0);
    loop {
        let rest = &data[at..];
        let line = match rest.iter().position(|b| *b == b'\n') {
            Some(lf) => &rest[..=lf],
            None => rest,
        };
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let whole = match &line[digits..] {
            [] if digits <= 15 => return Ok((body, None)),
            [b'\r'] if (1..=15).contains(&digits) => return Ok((body, None)),
            [b'\r', b'\n'] if (1..=15).contains(&digits) => true,
            [b';', extension @ ..] if (1..=15).contains(&digits) => {
                let text = extension.strip_suffix(b"\r\n");
                let shown = text.or(extension.strip_suffix(b"\r")).unwrap_or(extension);
                extensions += shown.len();
                let name = shown.iter().find(|b| !matches!(b, b' ' | b'\t'));
                let named = name.is_some_and(|b| super::head::is_token(&[*b]));
                let fine = super::head::is_text(shown)
                    && extensions <= 4096
                    && (named || (name.is_none() && shown == extension));
                if !fine {
                    return Err(Malformed);
                }
                text.is_some()
            }
            _ => return Err(Malformed),
        };
        if !whole {
            return Ok((body, None));
        }
        at += line.len();
        let size = String::from_utf8_lossy(&line[..digits]);
        let size = u64::from_str_radix(&size, 16).expect("15 digits are a number");
        if size == 0 {
            return Ok((body, Some(at)));
        }
        let rest = &data[at..];
        let take = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        body.extend_from_slice(&rest[..take]);
        match &rest[take..] {
            [] | [b'\r'] => return Ok((body, None)),
            [b'\r', b'\n', ..] => at += take + 2,
            _ => return Err(Malformed),
        }
    }
}

/// A body goes on in chunks of ours, of whatever sizes; they must say the same.
fn chunked_anew(body: &[u8]) {
    for size in [1, 7, 4096] {
        let mut anew = Vec::new();
        for part in body.chunks(size) {
            anew.extend_from_slice(chunk_line(part.len(), &mut [0; 18]));
            anew.extend_from_slice(part);
            anew.extend_from_slice(b"\r\n");
        }
        anew.extend_from_slice(chunk_line(0, &mut [0; 18]));
        assert_eq!(decode(&anew, &[anew.len()]), Ok((body.to_vec(), Some(anew.len()))));
    }
}
