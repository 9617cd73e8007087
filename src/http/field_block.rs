//! What can be told of header blocks without decoding them: whether a pseudo-header field is in one.
//!
//! h2 takes pseudo-header fields out of trailers without a word, where they make a message malformed (RFC 9113 section 8.1). Seen
//! from here a block is a row of representations (RFC 7541 section 6): indices and strings, which need not be read for their names to
//! be known. Of the dynamic table it is enough to remember which of the newest entries are pseudo-header fields: indices count from
//! the newest, and what is evicted can be named no more. What is malformed is h2's to find. Called by `frames`.

/// Follows the header blocks of one direction of a connection, in whatever pieces they arrive.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    at: At,
    // The entries of the dynamic table that are pseudo-header fields, the newest at bit 0: no more than 128 entries fit into
    // 4,096 octets, the size that both sides begin with and ringgate never raises (RFC 7541 section 4.1).
    dynamic: u128,
    // One has been in this block.
    found: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum At {
    // A representation.
    #[default]
    Start,
    // The rest of an integer that did not fit into its prefix (RFC 7541 section 5.1).
    Integer {
        of: Number,
        value: u32,
        shift: u8,
    },
    // The first octet of a string's length.
    Length(Text),
    // A string, of which so many octets are left.
    Inside {
        text: Text,
        left: u32,
    },
    // Nothing can follow that h2 would understand.
    Lost,
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Index,
    NameIndex { inserts: bool },
    TableSize,
    Length(Text),
}

#[derive(Clone, Copy, Debug)]
enum Text {
    // A name of which no octet was seen.
    Name { inserts: bool, coded: bool },
    // The rest of it.
    Rest { inserts: bool, pseudo: bool },
    Value { inserts: bool, pseudo: bool },
}

// The first entries of the static table (RFC 7541 appendix A) are pseudo-header fields, from :authority to :status 500.
const PSEUDO: std::ops::RangeInclusive<u32> = 1..=14;
const FIRST_DYNAMIC: u32 = 62;

impl Blocks {
    /// Looks at `octets`, the next of a block.
    #[inline]
    pub fn feed(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while let [first, after @ ..] = rest {
            rest = match self.at {
                At::Start => self.start(*first, after),
                At::Integer { of, value, shift } => self.integer(*first, of, value, shift, after),
                At::Length(text) => {
                    let text = match text {
                        Text::Name { inserts, .. } => {
                            Text::Name { inserts, coded: first & 0x80 != 0 }
                        }
                        value => value,
                    };
                    self.number(*first, 7, Number::Length(text), after)
                }
                At::Inside { text, left } => self.inside(rest, text, left),
                At::Lost => return,
            };
        }
    }

    /// The block is complete: whether a pseudo-header field was in it.
    #[inline]
    pub fn end(&mut self) -> bool {
        self.at = At::Start;
        std::mem::take(&mut self.found)
    }

    #[inline]
    fn start<'o>(&mut self, first: u8, after: &'o [u8]) -> &'o [u8] {
        match first {
            0x80.. => self.number(first, 7, Number::Index, after),
            0x40.. => self.number(first, 6, Number::NameIndex { inserts: true }, after),
            0x20.. => self.number(first, 5, Number::TableSize, after),
            _ => self.number(first, 4, Number::NameIndex { inserts: false }, after),
        }
    }

    // The first octet of an integer, which has a prefix of so many bits.
    #[inline]
    fn number<'o>(&mut self, first: u8, bits: u8, of: Number, after: &'o [u8]) -> &'o [u8] {
        let most = (1 << bits) - 1;
        let value = first & most;
        if value < most {
            self.counted(of, u32::from(value));
        } else {
            self.at = At::Integer { of, value: u32::from(most), shift: 0 };
        }
        after
    }

    fn integer<'o>(
        &mut self,
        octet: u8,
        of: Number,
        value: u32,
        shift: u8,
        after: &'o [u8],
    ) -> &'o [u8] {
        // Four octets are 28 bits: far beyond any index and any length that h2 takes.
        if shift > 21 {
            self.at = At::Lost;
            return after;
        }
        let value = value + (u32::from(octet & 0x7f) << shift);
        match octet & 0x80 {
            0 => self.counted(of, value),
            _ => self.at = At::Integer { of, value, shift: shift + 7 },
        }
        after
    }

    #[inline]
    fn counted(&mut self, of: Number, value: u32) {
        self.at = match of {
            Number::Index => {
                self.found |= self.is_pseudo(value);
                At::Start
            }
            Number::NameIndex { inserts } if value == 0 => {
                At::Length(Text::Name { inserts, coded: false })
            }
            Number::NameIndex { inserts } => {
                At::Length(Text::Value { inserts, pseudo: self.is_pseudo(value) })
            }
            Number::TableSize => At::Start,
            Number::Length(text) if value > 0 => At::Inside { text, left: value },
            // What is empty.
            Number::Length(Text::Name { inserts, .. } | Text::Rest { inserts, .. }) => {
                At::Length(Text::Value { inserts, pseudo: false })
            }
            Number::Length(Text::Value { inserts, pseudo }) => self.complete(inserts, pseudo),
        };
    }

    #[inline]
    fn inside<'o>(&mut self, octets: &'o [u8], text: Text, left: u32) -> &'o [u8] {
        let there = u32::try_from(octets.len()).unwrap_or(u32::MAX).min(left);
        let text = match (text, octets.first()) {
            // The first octet of a name tells. The Huffman code of a colon is 1011100 (RFC 7541 appendix B).
            (Text::Name { inserts, coded }, Some(first)) => {
                let pseudo = if coded { first >> 1 == 0b101_1100 } else { *first == b':' };
                Text::Rest { inserts, pseudo }
            }
            (text, _) => text,
        };
        self.at = match text {
            _ if there < left => At::Inside { text, left: left - there },
            Text::Name { .. } => At::Lost,
            Text::Rest { inserts, pseudo } => At::Length(Text::Value { inserts, pseudo }),
            Text::Value { inserts, pseudo } => self.complete(inserts, pseudo),
        };
        octets.get(there as usize..).unwrap_or_default()
    }

    // A field is: it may be in the table from now on.
    #[inline]
    fn complete(&mut self, inserts: bool, pseudo: bool) -> At {
        self.found |= pseudo;
        if inserts {
            // One that is too large for the table empties it instead: then no older entry can be named, and no bit is asked for.
            self.dynamic = self.dynamic << 1 | u128::from(pseudo);
        }
        At::Start
    }

    #[inline]
    fn is_pseudo(&self, index: u32) -> bool {
        PSEUDO.contains(&index)
            || index
                .checked_sub(FIRST_DYNAMIC)
                .and_then(|at| self.dynamic.checked_shr(at))
                .is_some_and(|bits| bits & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
