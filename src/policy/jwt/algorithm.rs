//! The algorithms that a token may be signed with (RFC 7518 section 3.1, RFC 8037, RFC 9864), and sets of them.
//!
//! There is no `none`: it cannot be written in a configuration nor come out of a token (hazard AUTH-01). Which algorithms a
//! key can serve follows from its type, in `keys`. Called by everything that reads or verifies tokens.

use std::fmt;

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the algorithm of that name")]
#[repr(u8)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
    Hs256,
    Hs384,
    Hs512,
}

use Algorithm::*;

/// All of them with their names. `Ed25519` is what RFC 9864 calls the one curve of EdDSA that is served here.
const NAMES: &[(&str, Algorithm)] = &[
    ("RS256", Rs256),
    ("RS384", Rs384),
    ("RS512", Rs512),
    ("PS256", Ps256),
    ("PS384", Ps384),
    ("PS512", Ps512),
    ("ES256", Es256),
    ("ES384", Es384),
    ("ES512", Es512),
    ("EdDSA", EdDsa),
    ("Ed25519", EdDsa),
    ("HS256", Hs256),
    ("HS384", Hs384),
    ("HS512", Hs512),
];

impl Algorithm {
    /// The algorithm of this exact name: case matters (RFC 7515 section 4.1.1).
    pub fn of(name: &str) -> Option<Algorithm> {
        NAMES.iter().find(|(n, _)| *n == name).map(|(_, algorithm)| *algorithm)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, a)| *a == self).map_or("", |(name, _)| name)
    }

    /// Whether signer and verifier have the same key.
    pub fn is_symmetric(self) -> bool {
        Algorithms::SYMMETRIC.has(self)
    }

    /// The octets of its signatures, where they are always the same number.
    pub(super) fn signature_len(self) -> Option<usize> {
        match self {
            Es256 | EdDsa => Some(64),
            Es384 => Some(96),
            Es512 => Some(132),
            Hs256 => Some(32),
            Hs384 => Some(48),
            Hs512 => Some(64),
            Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => None,
        }
    }

    /// The fewest octets of a secret (RFC 7518 section 3.2).
    pub(super) fn least_secret(self) -> usize {
        match self {
            Hs384 => 48,
            Hs512 => 64,
            _ => 32,
        }
    }
}

/// A set of algorithms.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Algorithms(u16);

impl Algorithms {
    /// None.
    pub const NONE: Algorithms = Algorithms(0);
    /// RSA with either padding.
    pub const RSA: Algorithms =
        Algorithms::NONE.and(Rs256).and(Rs384).and(Rs512).and(Ps256).and(Ps384).and(Ps512);
    /// Those whose verifier has no secret.
    pub const ASYMMETRIC: Algorithms = Algorithms::RSA.and(Es256).and(Es384).and(Es512).and(EdDsa);
    /// Those of a shared secret.
    pub const SYMMETRIC: Algorithms = Algorithms::NONE.and(Hs256).and(Hs384).and(Hs512);

    /// One more.
    pub const fn and(self, algorithm: Algorithm) -> Algorithms {
        Algorithms(self.0 | (1 << algorithm as u16))
    }

    /// Whether it is one of them.
    pub const fn has(self, algorithm: Algorithm) -> bool {
        self.0 & (1 << algorithm as u16) != 0
    }

    /// Those that are in both.
    pub const fn both(self, other: Algorithms) -> Algorithms {
        Algorithms(self.0 & other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each once.
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        let names = NAMES.iter().filter(|(name, _)| *name != "Ed25519");
        names.map(|(_, algorithm)| *algorithm).filter(move |algorithm| self.has(*algorithm))
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<T: IntoIterator<Item = Algorithm>>(all: T) -> Algorithms {
        all.into_iter().fold(Algorithms::NONE, Algorithms::and)
    }
}

impl fmt::Debug for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Algorithm::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_and_none_is_not_among_them() {
        for (name, algorithm) in NAMES {
            assert_eq!(Algorithm::of(name), Some(*algorithm));
        }
        for name in ["none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", "HS1", "ES256K", "RS1"]
        {
            assert_eq!(Algorithm::of(name), None, "{name}");
        }
        assert_eq!(Algorithms::ASYMMETRIC.iter().count(), 10);
        assert!(Algorithms::ASYMMETRIC.both(Algorithms::SYMMETRIC).is_empty());
        assert!(Algorithms::SYMMETRIC.iter().all(Algorithm::is_symmetric));
    }
}
