//! What happens to the octets of a body on the way, where client and target speak different forms of gRPC.
//!
//! A request in gRPC-Web's text form leaves base64; a response becomes gRPC-Web again, with its trailers as its last frame,
//! which a browser can read. Everything else of a body is `body`'s. Pure. Called by `body`, set up by `multiplex`.

use crate::http::Known;
use crate::http::grpc::Call;
use crate::http::grpc_web::{Decoder, Encoder, Malformed, trailer_frame};
use crate::http::{Framing, ResponseHead};

/// One body being recoded.
#[derive(Debug)]
pub enum Recode {
    /// From base64, which a request of gRPC-Web's text form is.
    FromText(Decoder),
    /// To gRPC-Web.
    ToWeb,
    /// To gRPC-Web's text form.
    ToText(Encoder),
}

impl Recode {
    /// What the body of a request needs on its way to a target that speaks gRPC.
    pub fn of_request(call: Call) -> Option<Recode> {
        (call == Call::WebText).then(|| Recode::FromText(Decoder::default()))
    }

    /// What the body of a response needs on its way to a client that asked for `form`.
    pub fn of_response(form: Call) -> Option<Recode> {
        match form {
            Call::No | Call::Grpc => None,
            Call::Web => Some(Recode::ToWeb),
            Call::WebText => Some(Recode::ToText(Encoder::default())),
        }
    }

    /// Appends what `octets` become. What a receiver waits for is never held back.
    ///
    /// # Errors
    /// [`Malformed`] for text that is no base64.
    pub fn data(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Recode::FromText(decoder) => decoder.decode(octets, out)?,
            Recode::ToWeb => out.extend_from_slice(octets),
            Recode::ToText(encoder) => encoder.encode(octets, out),
        }
        Ok(())
    }

    /// Appends what must not wait for more octets.
    pub fn pause(&mut self, out: &mut Vec<u8>) {
        if let Recode::ToText(encoder) = self {
            encoder.flush(out);
        }
    }

    /// Appends what the end of the body becomes, with its trailer fields as lines.
    ///
    /// # Errors
    /// As of [`Recode::data`].
    pub fn end(&mut self, trailers: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Recode::FromText(decoder) if decoder.is_whole() => Ok(()),
            Recode::FromText(_) => Err(Malformed),
            Recode::ToWeb | Recode::ToText(_) => {
                self.data(&trailer_frame(trailers), out)?;
                self.pause(out);
                Ok(())
            }
        }
    }
}

/// The form in which a client of gRPC-Web wants its response: that of its request, unless its `Accept` names the other one.
pub fn form_wanted<'a>(call: Call, mut accepts: impl Iterator<Item = &'a [u8]>) -> Call {
    if !call.is_web() {
        return Call::No;
    }
    let named = accepts.find_map(|value| {
        let mut kinds = value.split(|b| *b == b',').map(|kind| Call::of(kind.trim_ascii()));
        kinds.find(|kind| kind.is_web())
    });
    named.unwrap_or(call)
}

/// Makes a response of gRPC ready to become one in `form`: where it has a body, that is of another length afterwards.
/// Returns what it becomes; [`Call::No`] for a response that is none of gRPC, which stays as it is.
pub fn prepare(response: &mut ResponseHead, section: &[u8], form: Call) -> Call {
    let mut fields = response.fields.iter().filter(|field| field.known == Known::ContentType);
    let kind = fields.next().map_or(Call::No, |field| Call::of(field.value.of(section)));
    if kind != Call::Grpc || !form.is_web() {
        return Call::No;
    }
    if matches!(response.framing, Framing::Length(1..)) {
        response.framing = Framing::Chunked;
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_chooses_the_form_and_the_request_otherwise() {
        let wanted =
            |call, accepts: &[&str]| form_wanted(call, accepts.iter().map(|a| a.as_bytes()));
        assert_eq!(wanted(Call::Web, &[]), Call::Web);
        assert_eq!(wanted(Call::WebText, &["*/*"]), Call::WebText);
        assert_eq!(wanted(Call::Web, &["text/x", "a/b, application/grpc-web-text"]), Call::WebText);
        assert_eq!(wanted(Call::WebText, &["application/grpc-web+proto;q=1"]), Call::Web);
        assert_eq!(wanted(Call::Grpc, &["application/grpc-web"]), Call::No);
    }

    #[test]
    fn a_response_becomes_frames_and_its_trailers_the_last_one() {
        let mut out = Vec::new();
        let mut web = Recode::of_response(Call::Web).unwrap();
        web.data(b"\0\0\0\0\x01a", &mut out).unwrap();
        web.pause(&mut out);
        web.end(b"grpc-status: 0\r\n", &mut out).unwrap();
        assert_eq!(out, b"\0\0\0\0\x01a\x80\0\0\0\x10grpc-status: 0\r\n");
    }

    #[test]
    fn text_is_never_held_back() {
        let mut out = Vec::new();
        let mut text = Recode::of_response(Call::WebText).unwrap();
        text.data(b"ab", &mut out).unwrap();
        text.pause(&mut out);
        assert_eq!(out, b"YWI=");
        text.end(b"", &mut out).unwrap();
        assert_eq!(out, b"YWI=gAAAAAA=");
    }

    #[test]
    fn a_request_that_ends_within_a_group_is_malformed() {
        let mut out = Vec::new();
        let mut text = Recode::of_request(Call::WebText).unwrap();
        text.data(b"YWI", &mut out).unwrap();
        assert_eq!(text.end(b"", &mut out), Err(Malformed));
        text.data(b"=", &mut out).unwrap();
        assert_eq!((text.end(b"", &mut out), out), (Ok(()), b"ab".to_vec()));
    }
}
