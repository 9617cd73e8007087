//! Content codings: which one a client gets, and bodies coded and decoded as they stream.
//!
//! Pure; `proxy::stages` feeds it.

/// What is compressed, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {}

/// How fast bodies may move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {}

/// Puts a content coding on a body.
#[derive(Debug, Default)]
pub struct Encoder {}

/// Takes a content coding off a body.
#[derive(Debug, Default)]
pub struct Decoder {}

/// What is no content of its coding, or becomes larger than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Encoder {
    /// Appends what `octets` become.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn data(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        out.extend_from_slice(octets);
        Ok(())
    }

    /// Appends what must not wait for more octets.
    pub fn pause(&mut self, _out: &mut Vec<u8>) {}

    /// Appends the end.
    ///
    /// # Errors
    /// As of [`Encoder::data`].
    pub fn end(&mut self, _out: &mut Vec<u8>) -> Result<(), Malformed> {
        Ok(())
    }
}

impl Decoder {
    /// Appends what `octets` become.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn data(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        out.extend_from_slice(octets);
        Ok(())
    }

    /// The end.
    ///
    /// # Errors
    /// [`Malformed`] where something is missing.
    pub fn end(&mut self, _out: &mut Vec<u8>) -> Result<(), Malformed> {
        Ok(())
    }
}
