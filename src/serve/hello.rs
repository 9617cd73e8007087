//! The ClientHello at the beginning of a TLS connection, which is read and not answered: whom it is for.
//!
//! rustls reads it, from however many records and segments; nothing of what comes later is looked at. The octets stay where they
//! are and go on as they came. Pure: octets come in. Called by `relayed`.

use rustls::server::{Accepted, Acceptor};

/// What a ClientHello says of where it is going.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The name of the server, lower-case; `None` where none is named (RFC 6066 section 3).
    pub name: Option<String>,
    /// The first protocol that is offered (RFC 7301), cut where it is long.
    pub alpn: Option<String>,
}

/// Reads a ClientHello in pieces.
#[derive(Default)]
pub struct Reader(Acceptor);

/// It is none. What is sent back is an alert, or nothing to who does not speak TLS.
#[derive(Debug)]
pub struct Malformed {
    /// Octets for the client.
    pub alert: Vec<u8>,
}

/// No server of that name (RFC 6066 section 3): a fatal alert in a record of its own.
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// The server cannot go on for reasons of its own (RFC 8446 section 6.2).
pub const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

// The type of a handshake record (RFC 8446 section 5.1), and the major version of every TLS.
const HANDSHAKE: u8 = 22;
const MAJOR: u8 = 3;
const LONGEST_ALPN: usize = 32;

impl Reader {
    /// Takes further octets; `None` until it is whole.
    ///
    /// # Errors
    /// When it cannot become a ClientHello.
    pub fn take(&mut self, octets: &[u8], first: bool) -> Result<Option<Hello>, Malformed> {
        let speaks_tls = |octets: &[u8]| {
            octets.iter().zip([HANDSHAKE, MAJOR]).all(|(got, wanted)| *got == wanted)
        };
        if first && !speaks_tls(octets) {
            return Err(Malformed { alert: Vec::new() });
        }
        let mut rest = octets;
        while !rest.is_empty() {
            // Reading from a slice fails only where rustls has more in hand than any ClientHello is.
            let read = self.0.read_tls(&mut rest).unwrap_or(0);
            match self.0.accept() {
                Ok(Some(accepted)) => return Ok(Some(hello(&accepted))),
                Ok(None) if read == 0 => return Err(Malformed { alert: Vec::new() }),
                Ok(None) => {}
                Err((_, mut alert)) => {
                    let mut octets = Vec::new();
                    // Writing to a Vec cannot fail.
                    let _ = alert.write_all(&mut octets);
                    return Err(Malformed { alert: octets });
                }
            }
        }
        Ok(None)
    }
}

fn hello(accepted: &Accepted) -> Hello {
    let hello = accepted.client_hello();
    let name = hello.server_name().map(str::to_ascii_lowercase);
    let alpn = hello.alpn().and_then(|mut all| all.next()).map(|first| {
        let first = first.get(..LONGEST_ALPN).unwrap_or(first);
        String::from_utf8_lossy(first).into_owned()
    });
    Hello { name, alpn }
}
