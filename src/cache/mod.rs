//! The rules of a shared cache: what may be stored, for how long, for whom, and what is answered from it (RFC 9111).
//!
//! Pure decisions over heads and times. The octets lie in `store`, the walk is `proxy::cached`'s.

/// What a rule says about storing responses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {}
