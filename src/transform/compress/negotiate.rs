//! What a client says of content codings (RFC 9110 section 12.5.3), and which one it gets.
//!
//! What it values most it gets; of codings that it values the same, the server's first. Called by `proxy::coding`.

use crate::transform::compress::Coding;

/// What the fields `Accept-Encoding` of a request say. Weights in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    said: bool,
    codings: [Option<u16>; 4],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Accepted {
    /// Reads the values of all fields of that name. What has no sound weight is not accepted.
    pub fn of<'v>(values: impl Iterator<Item = &'v [u8]>) -> Accepted {
        let mut accepted = Accepted::default();
        for value in values {
            accepted.said = true;
            for member in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                accepted.note(member);
            }
        }
        accepted
    }

    fn note(&mut self, member: &[u8]) {
        let mut parts = member.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let weight = match parts.next() {
            None => 1000,
            Some(parameter) => weight(parameter).filter(|_| parts.next().is_none()).unwrap_or(0),
        };
        let slot = match name {
            b"*" => &mut self.any,
            name if name.eq_ignore_ascii_case(b"identity") => &mut self.identity,
            name => match Coding::of(name) {
                Some(coding) => &mut self.codings[place(coding)],
                None => return,
            },
        };
        // Of two members with one name the more careful one holds.
        *slot = Some(slot.map_or(weight, |before| before.min(weight)));
    }

    /// How much it values a coding; 0 for not at all.
    fn weight(&self, coding: Coding) -> u16 {
        self.codings[place(coding)].or(self.any).unwrap_or(0)
    }

    /// Whether a response with this coding is acceptable: where the client says nothing, any is.
    pub fn takes(&self, coding: Coding) -> bool {
        !self.said || self.weight(coding) > 0
    }

    /// The best of `offered`, which are in the order that the server likes; `None` for no coding at all.
    pub fn choose(&self, offered: &[Coding]) -> Option<Coding> {
        // Not named, it is as good as nothing, but never refused.
        let plain = self.identity.unwrap_or(0);
        let mut best = None;
        for coding in offered {
            let weight = self.weight(*coding);
            if weight > 0 && weight >= plain && best.is_none_or(|(_, most)| weight > most) {
                best = Some((*coding, weight));
            }
        }
        best.map(|(coding, _)| coding)
    }
}

fn place(coding: Coding) -> usize {
    match coding {
        Coding::Zstd => 0,
        Coding::Brotli => 1,
        Coding::Gzip => 2,
        Coding::Deflate => 3,
    }
}

// `q=0.5` (RFC 9110 section 12.4.2), in thousandths.
fn weight(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, fraction) = match value {
        [whole] => (*whole, &[][..]),
        [whole, b'.', fraction @ ..] => (*whole, fraction),
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let scales = [100_u16, 10, 1];
    let parts = fraction.iter().zip(scales).map(|(digit, scale)| u16::from(digit - b'0') * scale);
    match (whole, parts.sum::<u16>()) {
        (b'0', thousandths) => Some(thousandths),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Coding::{Brotli, Gzip, Zstd};

    const ALL: &[Coding] = &[Zstd, Brotli, Gzip];

    #[track_caller]
    fn check(fields: &[&str], offered: &[Coding], expected: Option<Coding>) {
        let accepted = Accepted::of(fields.iter().map(|f| f.as_bytes()));
        assert_eq!(accepted.choose(offered), expected, "{fields:?}");
    }

    #[test]
    fn the_client_chooses_and_then_the_server() {
        for (fields, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["gzip"], Some(Gzip)),
            (&["GZip"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["gzip, deflate, br, zstd"], Some(Zstd)),
            (&["gzip, deflate, br"], Some(Brotli)),
            (&["gzip", "br"], Some(Brotli)),
            (&["br;q=0.5, gzip;q=0.8"], Some(Gzip)),
            (&["br;q=0.8, gzip;q=0.8, zstd;q=0.1"], Some(Brotli)),
            (&["br ; q=0.001 ,gzip;q=0"], Some(Brotli)),
            (&["zstd;q=0, *"], Some(Brotli)),
            (&["*"], Some(Zstd)),
            (&["*;q=0"], None),
            (&["*;q=0, gzip"], Some(Gzip)),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000"], None),
            (&["identity"], None),
            (&["identity, gzip"], Some(Gzip)),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip;q=0.5"], Some(Gzip)),
            (&["identity;q=0"], None),
            (&["identity;q=0, br;q=0.1"], Some(Brotli)),
            (&["compress, exi;q=1, sdch"], None),
            (&["compress;q=0.5, gzip;q=1.0"], Some(Gzip)),
            (&["gzip;q=1.1"], None),
            (&["gzip;q=0.1234"], None),
            (&["gzip;q=-1"], None),
            (&["gzip;q="], None),
            (&["gzip;q"], None),
            (&["gzip;x=1"], None),
            (&["gzip;q=1;x=1"], None),
            (&["gzip;Q=1."], Some(Gzip)),
            (&["gzip, gzip;q=0"], None),
            (&[",, gzip ,"], Some(Gzip)),
        ] {
            check(fields, ALL, expected);
        }
    }

    #[test]
    fn only_what_is_offered_is_chosen_in_the_order_of_the_offer() {
        check(&["gzip, br, zstd"], &[Gzip, Zstd], Some(Gzip));
        check(&["*"], &[Brotli], Some(Brotli));
        check(&["gzip"], &[Brotli], None);
        check(&["*"], &[], None);
    }

    #[test]
    fn what_a_target_has_coded_is_acceptable_or_not() {
        for (fields, coding, expected) in [
            (&[][..], Gzip, true),
            (&[""], Gzip, false),
            (&["br"], Gzip, false),
            (&["br, *;q=0.1"], Gzip, true),
            (&["gzip;q=0, *"], Gzip, false),
            (&["deflate"], Coding::Deflate, true),
        ] {
            let accepted = Accepted::of(fields.iter().map(|f: &&str| f.as_bytes()));
            assert_eq!(accepted.takes(coding), expected, "{fields:?}");
        }
    }
}
