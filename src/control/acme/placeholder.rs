//! A certificate of our own making, for a name whose first one is still to be obtained: a listener cannot start without.
//!
//! Nobody is to trust it, and it says so. Made anew whenever it is needed; kept nowhere. Called by what loads certificates.

use rcgen::{CertificateParams, DnType, KeyPair};

/// Key and certificate in PEM.
///
/// # Errors
/// When `name` does not fit into a certificate, which the file's reader sees to.
pub fn self_signed(name: &str) -> Result<Vec<u8>, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::OrganizationName, "ringgate");
    params.distinguished_name.push(DnType::CommonName, "not obtained yet");
    let certificate = params.self_signed(&key)?;
    Ok((key.serialize_pem() + &certificate.pem()).into_bytes())
}

#[cfg(test)]
mod tests {
    use crate::control::acme::store::validity;

    #[test]
    fn is_for_its_name_and_never_due() {
        let pem = super::self_signed("a.test").unwrap();
        let now = crate::control::source::unix_now();
        let validity = validity(&pem, "a.test").unwrap();
        assert!(validity.not_before < now && validity.not_after > now + 10 * 365 * 86_400);
    }
}
