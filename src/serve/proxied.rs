//! The PROXY header at the beginning of a connection, where the listener expects one: whose connection it really is.
//!
//! Only `server.trusted_proxies` are believed (hazard HDR-07); anyone else's connection is closed, since it reached a listener that
//! is not meant for it. No answer is made: the protocol has none. Called by `h1` before the first request.

use crate::base::Tick;
use crate::http::Fault;
use crate::http::proxy_protocol::{self, Header};
use crate::net::{Buf, Side};
use crate::proxy::finish::{self, Unread};
use crate::proxy::{Client, Passed};
use crate::shard::{Epoch, Shard};
use crate::snapshot::Listener;
use std::rc::Rc;

/// Reads the header, if the listener expects one, and puts its addresses into `client`. What came behind it is returned.
///
/// # Errors
/// When the connection must be closed; it has been counted and logged.
pub async fn read(
    shard: &Rc<Shard>,
    epoch: &Epoch,
    listener: &Listener,
    client: &mut Client,
) -> Result<Option<Buf>, ()> {
    let Some(versions) = listener.proxy_protocol else { return Ok(None) };
    let began = Tick::now();
    let refused = |client: &Client| {
        let fault = Fault::ProxyHeader;
        finish::unread(
            shard,
            &Unread {
                listener,
                peer: client.peer,
                began,
                fault,
                deviation: None,
                status: 0,
                bytes_in: 0,
                bytes_out: 0,
                request_id: b"",
                generation: epoch.snapshot.generation,
            },
        );
    };
    if !epoch.snapshot.trusts(client.peer.ip()) {
        refused(client);
        return Err(());
    }
    client.sock.arm(Side::Read, began.after(listener.header));
    let mut buf = shard.buffers.small();
    loop {
        match proxy_protocol::parse(buf.filled(), versions) {
            Ok(Some((header, len))) => {
                let tlvs = proxy_protocol::tlvs(buf.filled().get(..len).unwrap_or_default());
                apply(header, tlvs, client);
                buf.consume(len);
                return Ok(Some(buf).filter(|buf| !buf.is_empty()));
            }
            Ok(None) => {}
            Err(_) => break,
        }
        match client.sock.read(buf.spare()).await {
            // A look whether somebody listens, as balancers take: no octet, no fault.
            Ok(0) if buf.is_empty() => return Err(()),
            Ok(n) if n > 0 => buf.fill(n),
            _ => break,
        }
    }
    refused(client);
    Err(())
}

fn apply(header: Header, tlvs: &[u8], client: &mut Client) {
    let mut passed = Passed { destination: None, tlvs: tlvs.into() };
    if let Header::Ip { source, destination, .. } = header {
        client.peer = source;
        client.port = destination.port();
        passed.destination = Some(destination);
    }
    if passed.destination.is_some() || !passed.tlvs.is_empty() {
        client.passed = Some(std::rc::Rc::new(passed));
    }
}
