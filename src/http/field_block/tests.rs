//! Blocks of fields as octets: those of the RFC, every way of naming a field, and whatever else there may be.

use super::Blocks;
use proptest::prelude::*;

fn has_pseudo(blocks: &mut Blocks, octets: &[u8]) -> bool {
    blocks.feed(octets);
    blocks.end()
}

// The requests of RFC 7541 appendices C.3 and C.4, one after the other on one connection.
#[test]
fn the_examples_of_the_rfc() {
    let plain = b"\x82\x86\x84\x41\x0fwww.example.com";
    let coded = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    for first in [&plain[..], coded] {
        let mut blocks = Blocks::default();
        assert!(has_pseudo(&mut blocks, first));
        assert!(has_pseudo(&mut blocks, b"\x82\x86\x84\xbe\x58\x08no-cache"));
        // Newest first: cache-control, :authority.
        assert!(!has_pseudo(&mut blocks, b"\xbe"));
        assert!(has_pseudo(&mut blocks, b"\xbf"));
        assert!(!has_pseudo(&mut blocks, b"\xc0"), "which is not there");
        let custom = b"\x40\x0acustom-key\x0ccustom-value";
        assert!(!has_pseudo(&mut blocks, custom));
        assert!(!has_pseudo(&mut blocks, b"\xbf") && has_pseudo(&mut blocks, b"\xc0"));
    }
}

#[test]
fn every_way_of_naming_a_field() {
    for (octets, pseudo) in [
        (&b"\x84"[..], true),
        (b"\x8f", false),
        (b"\x04\x02/x", true),
        (b"\x14\x00", true),
        (b"\x44\x02/x", true),
        (b"\x0f\x00\x01x", false),
        (b"\x00\x05:path\x01/", true),
        (b"\x10\x01:\x00", true),
        (b"\x00\x82\xb9\xe7\x00", true),
        (b"\x00\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x01:", false),
        (b"\x00\x05path:\x01:", false),
        (b"\x00\x00\x02:x", false),
        (b"\x3f\xe1\x1f\x84", true),
        (b"\x3f\xe1\x1f\x90", false),
        (b"", false),
    ] {
        let mut blocks = Blocks::default();
        assert_eq!(has_pseudo(&mut blocks, octets), pseudo, "{octets:x?}");
    }
}

#[test]
fn what_is_no_block_harms_nobody() {
    let mut blocks = Blocks::default();
    assert!(!has_pseudo(&mut blocks, b"\xff\xff\xff\xff\xff\xff\xff\x84\x84"));
    assert!(!has_pseudo(&mut blocks, b"\x00\x7f\xff\xff\xff\x7f:"));
    assert!(has_pseudo(&mut blocks, b"\x84"), "the next block is one");
}

#[derive(Clone, Debug)]
enum Name {
    Static(u8),
    Dynamic(usize),
    New(bool),
}

// An index and a literal, as octets and as what is in the table then.
fn written(
    table: &mut Vec<bool>,
    name: &Name,
    literal: Option<(bool, u8)>,
    out: &mut Vec<u8>,
) -> bool {
    let integer = |out: &mut Vec<u8>, first: u8, bits: u8, value: usize| {
        let most = (1 << bits) - 1;
        if value < most {
            return out.push(first | value as u8);
        }
        out.push(first | most as u8);
        let mut left = value - most;
        while left >= 128 {
            out.push(left as u8 | 0x80);
            left /= 128;
        }
        out.push(left as u8);
    };
    let (index, pseudo) = match name {
        Name::Static(at) => (usize::from(*at), *at <= 14),
        Name::Dynamic(at) if !table.is_empty() => {
            let at = at % table.len().min(128);
            (62 + at, table[table.len() - 1 - at])
        }
        Name::Dynamic(_) => (16, false),
        Name::New(pseudo) => (0, *pseudo),
    };
    let Some((inserts, len)) = literal.or((index == 0).then_some((false, 3))) else {
        integer(out, 0x80, 7, index);
        return pseudo;
    };
    let (first, bits) = if inserts { (0x40, 6) } else { (0, 4) };
    integer(out, first, bits, index);
    if index == 0 {
        out.extend_from_slice(if pseudo { b"\x05:path" } else { b"\x05x-any" });
    }
    integer(out, 0, 7, usize::from(len));
    out.extend(std::iter::repeat_n(b':', usize::from(len)));
    if inserts {
        table.push(pseudo);
    }
    pseudo
}

fn field() -> impl Strategy<Value = (Name, Option<(bool, u8)>)> {
    let name = prop_oneof![
        (1..=61u8).prop_map(Name::Static),
        any::<usize>().prop_map(Name::Dynamic),
        any::<bool>().prop_map(Name::New),
    ];
    (name, proptest::option::of((any::<bool>(), any::<u8>())))
}

proptest! {
    // Whatever was said before and however the octets are cut: against a table that remembers everything.
    #[test]
    fn as_one_who_reads_it_all(blocks in proptest::collection::vec(proptest::collection::vec(field(), 0..6), 1..60), cut in 1..40usize) {
        let (mut table, mut seen) = (Vec::new(), Blocks::default());
        for block in blocks {
            let mut octets = Vec::new();
            let mut expected = false;
            for (name, literal) in &block {
                expected |= written(&mut table, name, *literal, &mut octets);
            }
            octets.chunks(cut).for_each(|part| seen.feed(part));
            prop_assert_eq!(seen.end(), expected);
        }
    }

    #[test]
    fn never_panics(octets: Vec<u8>, cut in 1..9usize) {
        let mut blocks = Blocks::default();
        octets.chunks(cut).for_each(|part| blocks.feed(part));
        blocks.end();
    }
}
