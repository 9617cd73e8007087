//! The TLS handshake of a client: within its deadline, with a bound of how many at once, counted and, if it fails, said.
//!
//! Whoever fails gets the alert that rustls has for it and nothing else, except who speaks plain HTTP here, and is told so in a way
//! that a person can read. Called by `h1`, behind the PROXY header and before the first request.

use crate::base::Tick;
use crate::net::{Buf, Side};
use crate::proxy::Client;
use crate::serve::refuse::linger;
use crate::shard::{Epoch, Shard};
use crate::snapshot::{Listener, Secure};
use crate::tls::choose::ACME;
use crate::tls::{Clients, Facts, Failure, Reason, client_cert};
use std::rc::Rc;

/// What is spoken from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

const HANDSHAKE: u8 = 22;
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nx-ringgate-reason: tls_not_tls\r\n\
    content-length: 52\r\nconnection: close\r\n\r\nThis port speaks https. Ask for it with https://...\n";

/// Shakes hands. `first` is what was read of the connection already.
///
/// # Errors
/// When the connection must be closed; it has been counted and logged.
pub async fn shake_hands(
    shard: &Rc<Shard>,
    epoch: &Epoch,
    listener: &Listener,
    client: &mut Client,
    first: Option<Buf>,
) -> Result<Spoken, ()> {
    let began = Tick::now();
    let failure = match attempt(shard, epoch, listener, client, first, began).await {
        Ok(Some(spoken)) => return Ok(spoken),
        // An authority has seen what it wanted to see, or somebody that there is somebody.
        Ok(None) => return Err(()),
        Err(failure) => failure,
    };
    shard.pulse.handshakes.add_failure(failure.reason);
    if shard.handshakes.may_say(began) {
        tracing::info!(
            listener = &*listener.name,
            client = %client.peer,
            reason = failure.reason.code(),
            "TLS handshake failed: {failure}"
        );
    }
    if failure.reason != Reason::Overloaded {
        // Closing over unread octets would be a reset, and could overtake the alert.
        linger(&client.sock, &mut shard.buffers.small()).await;
    }
    Err(())
}

async fn attempt(
    shard: &Rc<Shard>,
    epoch: &Epoch,
    listener: &Listener,
    client: &mut Client,
    first: Option<Buf>,
    began: Tick,
) -> Result<Option<Spoken>, Failure> {
    let secure: &Secure = listener.secure.as_ref().ok_or(Failure::new(Reason::Internal))?;
    let deadline = began.after(listener.handshake);
    client.sock.arm(Side::Read, deadline);
    let Some(first) = first_octets(shard, client, first).await? else { return Ok(None) };
    if first.filled().first() != Some(&HANDSHAKE) {
        if first.filled().first().is_some_and(u8::is_ascii_uppercase) {
            let _ = client.sock.write_all(NOT_TLS, listener.handshake).await;
        }
        return Err(Failure::new(Reason::NotTls));
    }
    // Counted from the first octet on: who only connects is `max_connections`' matter.
    let most = epoch.snapshot.limits.handshakes;
    let _in_progress = shard.handshakes.begin(most).ok_or(Failure::new(Reason::Overloaded))?;
    client.sock.accept_tls(&secure.config, &shard.buffers, Some(first), deadline).await?;
    let Some(facts) = client.sock.tls() else { return Err(Failure::new(Reason::Internal)) };
    shard.pulse.handshakes.add(facts);
    let told = match secure.terms.clients {
        Clients::Unasked => None,
        Clients::Required(_) | Clients::Optional(_) => client_cert::verified(&facts.peer),
        Clients::Passthrough => client_cert::passed_through(&facts.peer),
    };
    client.tls = Some(match told {
        None => Rc::clone(facts),
        told => {
            let trust = secure.terms.clients.trust().map(|trust| trust.id);
            Rc::new(Facts { told, trust, peer: Vec::new(), ..Facts::clone(facts) })
        }
    });
    // Hazard TLS-11: what was agreed on is spoken, and nothing else.
    Ok(match facts.alpn.as_deref() {
        Some(b"h2") => Some(Spoken::Http2),
        Some(ACME) => None,
        _ => Some(Spoken::Http1),
    })
}

// `None` from who has connected and gone without a word, as balancers do to see whether somebody listens.
async fn first_octets(
    shard: &Rc<Shard>,
    client: &Client,
    first: Option<Buf>,
) -> Result<Option<Buf>, Failure> {
    if let Some(first) = first {
        return Ok(Some(first));
    }
    // Whoever says nothing holds no block.
    client.sock.readable().await.map_err(|_| Failure::new(Reason::Timeout))?;
    let mut first = shard.buffers.small();
    match client.sock.read(first.spare()).await {
        Ok(0) => Ok(None),
        Ok(n) => {
            first.fill(n);
            Ok(Some(first))
        }
        Err(_) => Err(Failure::new(Reason::Closed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_in_plain_text_is_as_long_as_it_says() {
        let text = std::str::from_utf8(NOT_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
    }
}
