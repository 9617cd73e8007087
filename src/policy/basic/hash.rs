//! Hashes of passwords: argon2 in PHC form, and bcrypt. Nothing faster is taken, since it would be guessed.
//!
//! [`judge`] says at load whether a hash can be used, and bounds what checking one costs; [`verify`] does the work, for which
//! control has threads. Called by `basic` and `control::answers`.

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params};

/// The most memory that an argon2 hash may ask for, in KiB.
const MOST_MEMORY: u32 = 256 << 10;
/// The most passes of argon2 over its memory.
const MOST_PASSES: u32 = 64;
/// The most lanes of argon2.
const MOST_LANES: u32 = 64;
/// The highest cost of bcrypt; 16 takes some seconds.
const MOST_COST: u32 = 16;
/// The lowest, below which guessing is cheap; 10 is what htpasswd calls for.
const LEAST_COST: u32 = 4;

/// Whether a hash can be used.
///
/// # Errors
/// What it is, and what to do. The hash itself is not in the text.
pub fn judge(hash: &str) -> Result<(), String> {
    if hash.starts_with("$argon2") {
        return argon2(hash).map_err(|why| format!("an argon2 hash that {why}"));
    }
    let rest = ["$2y$", "$2b$", "$2a$"].iter().find_map(|prefix| hash.strip_prefix(prefix));
    if let Some(rest) = rest {
        return bcrypt(rest).map_err(|why| format!("a bcrypt hash that {why}"));
    }
    let kind = match hash {
        _ if hash.starts_with("$apr1$") || hash.starts_with("$1$") => "an MD5 hash",
        _ if hash.starts_with("{SHA}") => "an unsalted SHA-1 hash",
        _ if hash.starts_with("$5$") || hash.starts_with("$6$") => "a hash of SHA-crypt",
        _ => "no hash of argon2 or bcrypt",
    };
    Err(format!(
        "{kind}; only bcrypt (as `htpasswd -B` writes it) and argon2 ($argon2id$...) are taken"
    ))
}

fn argon2(hash: &str) -> Result<(), String> {
    let parsed = PasswordHash::new(hash).map_err(|_| "is malformed".to_owned())?;
    Algorithm::try_from(parsed.algorithm.as_str())
        .map_err(|_| "is of an unknown kind".to_owned())?;
    if parsed.salt.is_none() || parsed.hash.is_none() {
        return Err("is cut short".to_owned());
    }
    let params = Params::try_from(&parsed).map_err(|_| "has parameters out of range".to_owned())?;
    if params.m_cost() > MOST_MEMORY {
        return Err(format!(
            "needs {} KiB of memory; at most {MOST_MEMORY} are given",
            params.m_cost()
        ));
    }
    if params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES {
        return Err(format!("has more than {MOST_PASSES} passes or {MOST_LANES} lanes"));
    }
    Ok(())
}

fn bcrypt(rest: &str) -> Result<(), String> {
    let (cost, body) = rest.split_once('$').ok_or("is cut short")?;
    let cost = cost.parse::<u32>().ok().filter(|_| cost.len() == 2);
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    if body.len() != 53 || !body.bytes().all(base64) {
        return Err("is malformed".to_owned());
    }
    match cost {
        Some(cost) if (LEAST_COST..=MOST_COST).contains(&cost) => Ok(()),
        _ => Err(format!("has a cost other than {LEAST_COST} to {MOST_COST}")),
    }
}

/// Whether the password belongs to the hash. It takes the time that the hash asks for: tens to hundreds of milliseconds.
/// As everywhere, bcrypt looks at the first 72 octets of a password only.
pub fn verify(hash: &str, password: &[u8]) -> bool {
    if hash.starts_with("$argon2") {
        let parsed = PasswordHash::new(hash);
        return parsed.is_ok_and(|p| Argon2::default().verify_password(password, &p).is_ok());
    }
    bcrypt::verify(password, hash).unwrap_or(false)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Of "password", by bcrypt with the least cost.
    pub const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm";
    /// The same by argon2, from the tests of its reference implementation.
    pub const ARGON2: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn only_slow_hashes_of_a_bounded_cost_are_taken() {
        let salt_and_hash = ARGON2.rsplit_once(",p=1").map(|(_, rest)| rest).unwrap();
        let argon2 = |params: &str| format!("$argon2id$v=19${params}{salt_and_hash}");
        let body = &BCRYPT[7..];
        for (hash, expected) in [
            (BCRYPT.to_owned(), None),
            (BCRYPT.replace("$2y$", "$2b$"), None),
            (ARGON2.to_owned(), None),
            (ARGON2.replace("m=256", "m=512"), None),
            (format!("$2y$17${body}"), Some("cost other than 4 to 16")),
            (format!("$2y$03${body}"), Some("cost other than")),
            (format!("$2y$4${body}"), Some("cost other than")),
            (format!("$2x$04${body}"), Some("no hash of argon2 or bcrypt")),
            (BCRYPT[..59].to_owned(), Some("is malformed")),
            ("$2y$04".to_owned(), Some("is cut short")),
            (argon2("m=300000,t=1,p=1"), Some("needs 300000 KiB")),
            (argon2("m=64,t=65,p=1"), Some("more than 64 passes")),
            (argon2("m=1,t=1,p=1"), Some("out of range")),
            ("$argon2id$v=19$m=64,t=1,p=1".to_owned(), Some("is cut short")),
            ("$argon2x$v=19$m=64,t=1,p=1$c2FsdHNhbHQ".to_owned(), Some("unknown kind")),
            ("$apr1$x$y".to_owned(), Some("an MD5 hash; only bcrypt")),
            ("{SHA}x".to_owned(), Some("an unsalted SHA-1")),
            ("$6$x$y".to_owned(), Some("SHA-crypt")),
            ("password".to_owned(), Some("no hash")),
            (String::new(), Some("no hash")),
        ] {
            match (judge(&hash), expected) {
                (Ok(()), None) => {}
                (Err(why), Some(part)) => {
                    assert!(why.contains(part), "{hash}: {why}");
                    assert!(hash.len() < 9 || !why.contains(&hash), "the hash is in the text");
                }
                (got, _) => panic!("{hash}: {got:?}"),
            }
        }
    }

    #[test]
    fn the_right_password_belongs_to_its_hash_and_no_other_does() {
        for hash in [BCRYPT, &BCRYPT.replace("$2y$", "$2b$"), ARGON2] {
            assert!(verify(hash, b"password"), "{hash}");
            for wrong in ["", "Password", "password ", "password\0", "paßword"] {
                assert!(!verify(hash, wrong.as_bytes()), "{hash} {wrong:?}");
            }
        }
        assert!(!verify("", b"") && !verify("$argon2id$", b"") && !verify("$2y$04$", b""));
    }
}
