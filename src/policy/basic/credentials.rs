//! `Authorization: Basic`: what stands in it (RFC 7617 section 2).
//!
//! The text is UTF-8, as the challenge asks for; control characters, which the RFC forbids, are refused, and so is what is
//! longer than anybody's password. Called by `basic`.

use crate::http::{Fault, Fields};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Octets that user, colon and password may have.
pub const LONGEST: usize = 1024;
/// Room to decode into: base64 wants a little more than comes of it.
pub const ROOM: usize = LONGEST + 8;

const INDIFFERENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, INDIFFERENT);

/// A user and a password.
pub struct Credentials<'a> {
    /// Never empty.
    pub user: &'a str,
    /// May be empty.
    pub password: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// Reads them from a head.
    ///
    /// # Errors
    /// When there are none, or none that could be right.
    pub fn read(fields: Fields<'_>, room: &'a mut [u8; ROOM]) -> Result<Credentials<'a>, Fault> {
        let mut values = fields.all("authorization");
        let value = values.next().ok_or(Fault::CredentialsMissing)?;
        if values.next().is_some() {
            return Err(Fault::CredentialsInvalid);
        }
        let scheme = value.get(..6).filter(|s| s.eq_ignore_ascii_case(b"basic "));
        scheme.ok_or(Fault::CredentialsMissing)?;
        let token = value.get(6..).unwrap_or_default().trim_ascii_start();
        let length = BASE64.decode_slice(token, room).map_err(|_| Fault::CredentialsInvalid)?;
        let text = room.get(..length.min(LONGEST + 1)).unwrap_or_default();
        if length > LONGEST {
            return Err(Fault::CredentialsInvalid);
        }
        let text = std::str::from_utf8(text).map_err(|_| Fault::CredentialsInvalid)?;
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() && !text.contains(char::is_control) => {
                Ok(Credentials { user, password: password.as_bytes() })
            }
            _ => Err(Fault::CredentialsInvalid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;

    fn check(values: &[&str], expected: Result<(&str, &str), Fault>) {
        let fields: OwnedFields = values.iter().map(|value| ("Authorization", *value)).collect();
        let mut room = [0; ROOM];
        let got = Credentials::read(fields.view(), &mut room);
        let got = got.map(|c| (c.user.to_owned(), String::from_utf8(c.password.to_vec()).unwrap()));
        let expected = expected.map(|(user, password)| (user.to_owned(), password.to_owned()));
        assert_eq!(got, expected, "{values:?}");
    }

    fn basic(text: impl AsRef<[u8]>) -> String {
        format!("Basic {}", BASE64.encode(text))
    }

    #[test]
    fn reads_what_the_rfc_allows_and_nothing_else() {
        // The two examples of RFC 7617.
        check(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="], Ok(("Aladdin", "open sesame")));
        check(&["Basic dGVzdDoxMjPCow=="], Ok(("test", "123£")));
        check(&["bAsIc   QWxhZGRpbjpvcGVuIHNlc2FtZQ"], Ok(("Aladdin", "open sesame")));
        check(&[&basic("a:")], Ok(("a", "")));
        check(&[&basic("a:b:c")], Ok(("a", "b:c")));
        let longest = format!("a:{}", "b".repeat(LONGEST - 2));
        check(&[&basic(&longest)], Ok(("a", &longest[2..])));

        for missing in ["Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic", "", "Basicx QQ=="] {
            check(&[missing], Err(Fault::CredentialsMissing));
        }
        check(&[], Err(Fault::CredentialsMissing));
        for wrong in [
            "Basic ",
            "Basic a:b",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== x",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ===",
            &basic("nocolon"),
            &basic(":nouser"),
            &basic("a:b\r\nx: y"),
            &basic("a\0:b"),
            &basic(b"\xfc:b"),
            &basic(format!("{longest}b")),
            &basic("a:".to_owned() + &"b".repeat(9000)),
        ] {
            check(&[wrong], Err(Fault::CredentialsInvalid));
        }
        check(&[&basic("a:b"), &basic("a:b")], Err(Fault::CredentialsInvalid));
    }
}
