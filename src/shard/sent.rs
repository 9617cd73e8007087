//! What a target is sent instead of what the client has sent: set on the way, read where the head is rendered.
//!
//! Empty for most requests; then nothing of it is looked at.

/// What differs from the client's head.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Whether anything does.
    pub any: bool,
    /// The path, with its query if there is one, instead of the canonical one; empty for that.
    pub target: Vec<u8>,
    /// The host, instead of the client's; empty for that.
    pub host: Vec<u8>,
    /// Whether the host is the target's name, instead of the client's.
    pub host_of_target: bool,
    /// The method, instead of the client's; empty for that.
    pub method: Vec<u8>,
    /// Fields, as lines, that are added.
    pub fields: Vec<u8>,
    /// Names (lower-case) of the client's fields that are not sent on.
    pub held: Vec<Box<[u8]>>,
}

impl Sent {
    /// Whether the client's field of this name is not sent on.
    #[inline]
    pub fn holds(&self, name: &[u8]) -> bool {
        self.any && self.held.iter().any(|held| held.eq_ignore_ascii_case(name))
    }

    /// Forgets all of it.
    #[inline]
    pub fn clear(&mut self) {
        if self.any {
            *self = Sent::default();
        }
    }
}
