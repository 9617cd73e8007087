//! One order with an authority, from the account to the chain: RFC 8555 section 7, step by step, each with a line in the log.
//!
//! The challenge is answered for as long as the order runs, and no longer, however it ends. When to order is not decided
//! here. Called by `acme`.

use crate::config::{Acme, Challenge};
use crate::control::acme::client::Https;
use crate::control::acme::schedule::Setback;
use crate::control::acme::store::{Store, StoredAccount};
use crate::tls::Challenges;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;

/// Why there is no certificate.
#[derive(Debug)]
pub struct Failure {
    /// For the next attempt.
    pub setback: Setback,
    /// For the log.
    pub text: String,
}

/// How long an authority may take to look at a challenge, or to sign.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// The account with an authority: the one in the storage, or a new one.
///
/// # Errors
/// When the authority is not reached, or gives none.
pub async fn account(settings: &Acme, store: &Store, https: &Https) -> Result<Account, Failure> {
    let Some(kept) = store.account() else { return register(settings, store, https).await };
    let account = Account::builder_with_http(Box::new(https.clone()));
    let account = account.from_credentials(kept.credentials).await.map_err(Failure::from)?;
    if kept.contact != settings.contact {
        let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
        account.update_contacts(&contact).await.map_err(Failure::from)?;
        // Read again, since the credentials went into the account.
        if let Some(mut kept) = store.account() {
            kept.contact.clone_from(&settings.contact);
            store.keep_account(&kept).map_err(|error| unwritable(&error))?;
        }
        tracing::info!(account = account.id(), "acme: the authority has the new contacts");
    }
    Ok(account)
}

/// A new account, kept in the storage.
///
/// # Errors
/// As [`account`].
pub async fn register(settings: &Acme, store: &Store, https: &Https) -> Result<Account, Failure> {
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: settings.terms_agreed,
        only_return_existing: false,
    };
    let eab = settings.eab.as_ref().map(|e| ExternalAccountKey::new(e.kid.clone(), &e.hmac));
    let builder = Account::builder_with_http(Box::new(https.clone()));
    let made = builder.create(&new, settings.directory.clone(), eab.as_ref()).await;
    let (account, credentials) = made.map_err(Failure::from)?;
    let kept = StoredAccount { contact: settings.contact.clone(), credentials };
    store.keep_account(&kept).map_err(|error| unwritable(&error))?;
    tracing::info!(account = account.id(), directory = settings.directory, "acme: a new account");
    Ok(account)
}

/// Whether the authority does not know the account any more.
pub fn lost_account(error: &Error) -> bool {
    let Error::Api(problem) = error else { return false };
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// Obtains a certificate for `name`: the key and the chain in PEM.
///
/// # Errors
/// What the authority says, as instant-acme gives it.
pub async fn obtain(
    account: &Account,
    name: &str,
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<String, Error> {
    let identifiers = [Identifier::Dns(name.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    tracing::info!(name, url = order.url(), "acme: ordered, to be shown by {}", challenge.name());
    let offers = answer(&mut order, name, challenge, challenges).await?;
    let ready = match order.state().status {
        OrderStatus::Ready => OrderStatus::Ready,
        _ => order.poll_ready(&POLL).await?,
    };
    if ready != OrderStatus::Ready {
        return Err(rejection(&mut order).await);
    }
    drop(offers);
    tracing::info!(name, "acme: the authority is content, and signs");
    let other = |error: rcgen::Error| Error::Other(error.into());
    let key = KeyPair::generate().map_err(other)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(other)?;
    params.distinguished_name = DistinguishedName::new();
    order.finalize_csr(params.serialize_request(&key).map_err(other)?.der()).await?;
    let chain = order.poll_certificate(&POLL).await?;
    certified(chain.as_bytes(), &key)?;
    Ok(key.serialize_pem() + &chain)
}

/// Answers the challenge of each authorization that is not valid already.
async fn answer(
    order: &mut Order,
    name: &str,
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<Vec<Offer>, Error> {
    let kind = match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let mut offers = Vec::new();
    let mut all = order.authorizations();
    while let Some(authorization) = all.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            _ => return Err(Error::Str("an authorization that can still be met")),
        }
        let mut offered = authorization
            .challenge(kind.clone())
            .ok_or(Error::Str("a challenge of the kind that the file asks for"))?;
        let proof = offered.key_authorization();
        offers.push(match challenge {
            Challenge::Http01 => Offer::answer(challenges, &offered.token, proof.as_str()),
            Challenge::TlsAlpn01 => Offer::certificate(challenges, name, proof.digest().as_ref())?,
        });
        offered.set_ready().await?;
        tracing::info!(name, "acme: the authority may look");
    }
    Ok(offers)
}

/// What the authority found wrong: the order does not say it, its challenges do.
async fn rejection(order: &mut Order) -> Error {
    let mut all = order.authorizations();
    while let Some(Ok(mut authorization)) = all.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|c| c.error.clone()) {
            return Error::Api(problem);
        }
    }
    Error::Other("the order was refused without a reason".into())
}

/// An answer to a challenge, until this is dropped.
struct Offer {
    challenges: Arc<Challenges>,
    what: Offered,
}

enum Offered {
    Token(String),
    Name(String),
}

impl Offer {
    fn answer(challenges: &Arc<Challenges>, token: &str, answer: &str) -> Offer {
        challenges.offer_answer(token, answer);
        Offer { challenges: Arc::clone(challenges), what: Offered::Token(token.to_owned()) }
    }

    fn certificate(
        challenges: &Arc<Challenges>,
        name: &str,
        digest: &[u8],
    ) -> Result<Offer, Error> {
        let certificate = challenge_certificate(name, digest)?;
        challenges.offer_certificate(name, &Arc::new(certificate));
        Ok(Offer { challenges: Arc::clone(challenges), what: Offered::Name(name.to_owned()) })
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        match &self.what {
            Offered::Token(token) => self.challenges.withdraw_answer(token),
            Offered::Name(name) => self.challenges.withdraw_certificate(name),
        }
    }
}

/// RFC 8737 section 3: self-signed, for the name alone, with the digest in a critical extension.
fn challenge_certificate(name: &str, digest: &[u8]) -> Result<CertifiedKey, Error> {
    let other = |error: rcgen::Error| Error::Other(error.into());
    let key = KeyPair::generate().map_err(other)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(other)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(other)?;
    // Not as below: what no verifier knows is critical in it on purpose.
    let signer =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| Error::Other(e.into()))?;
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&signer);
    let signer = signer.map_err(|error| Error::Other(error.into()))?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signer))
}

/// The chain with its key, if they fit.
fn certified(chain: &[u8], key: &KeyPair) -> Result<CertifiedKey, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Other(format!("the chain: {error}").into());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| wrong(&error))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| wrong(&error))
}

/// A storage that cannot be written to.
pub fn unwritable(error: &std::io::Error) -> Failure {
    let text = format!("acme.storage cannot be written to: {error}");
    Failure { setback: Setback::Refused, text }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let setback = match &error {
            Error::Api(problem) => match problem.r#type.as_deref() {
                Some("urn:ietf:params:acme:error:rateLimited") => Setback::TooOften,
                _ => Setback::Refused,
            },
            // Ours, or hyper's: the authority was not asked, or did not answer.
            Error::Other(_) | Error::Http(_) | Error::Json(_) => Setback::Unreachable,
            _ => Setback::Refused,
        };
        Failure { setback, text: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8737 section 3: exactly one dNSName, and the digest as critical id-pe-acmeIdentifier.
    #[test]
    fn a_challenge_certificate_is_as_the_rfc_has_it() {
        let digest = [7; 32];
        let made = challenge_certificate("a.test", &digest).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&made.cert[0]).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 1);
        assert!(names.general_names[0].to_string().contains("a.test"));
        let oid = "1.3.6.1.5.5.7.1.31";
        let extension = leaf.extensions().iter().find(|e| e.oid.to_id_string() == oid).unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4, 32], digest.as_slice()].concat());
    }

    #[test]
    fn an_answer_lasts_as_long_as_its_order() {
        let challenges = Arc::new(Challenges::default());
        let path = b"/.well-known/acme-challenge/tok";
        let offers = [
            Offer::answer(&challenges, "tok", "tok.thumb"),
            Offer::certificate(&challenges, "a.test", &[1; 32]).unwrap(),
        ];
        assert_eq!(challenges.answer(path).as_deref(), Some(b"tok.thumb".as_slice()));
        assert!(challenges.certificate("a.test").is_some());
        drop(offers);
        assert!(challenges.answer(path).is_none() && challenges.certificate("a.test").is_none());
    }

    #[test]
    fn a_chain_for_another_key_is_not_kept() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        assert!(certified(chain.as_bytes(), &key).is_ok());
        assert!(certified(chain.as_bytes(), &other).is_err());
        assert!(certified(b"", &key).is_err());
    }
}
