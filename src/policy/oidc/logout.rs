//! The logout: the session's cookies go, and the browser is sent to the provider's own logout (OpenID Connect RP-Initiated
//! Logout 1.0) where it has one.
//!
//! Another site must not log users out: what comes from one is refused, by Sec-Fetch-Site, Origin or Referer. The session's
//! number is remembered as over, so that an answer that was under way with a refreshed cookie does not bring it back (hazard
//! AUTH-18). Called by the policy's check.

use crate::http::Fault;
use crate::policy::oidc::login::redirect;
use crate::policy::oidc::site::is_own;
use crate::policy::oidc::text::pair;
use crate::policy::oidc::{At, Core, Policy};
use crate::policy::{Findings, Reply, Verdict};

impl Policy {
    /// Logs out. `described` is the reply where the provider's description was asked for.
    pub(super) fn log_out(
        &self,
        core: &Core,
        at: &At<'_>,
        findings: &mut Findings,
        described: Option<Reply>,
    ) -> Verdict {
        let view = at.view();
        if !matches!(view.method, b"GET" | b"POST") || !is_own(view, &at.site.origin()) {
            return Verdict::Refuse(Fault::LogoutRefused);
        }
        match described {
            // Whatever comes of it, the user is logged out here.
            Some(Reply::Called(called)) => {
                let _ = self.provider.learn_endpoints(&called, at.unix);
            }
            Some(_) => {}
            None if self.provider.endpoints(at.unix).is_none() => return self.describe(findings),
            None => {}
        }
        let session = self.session(core, at);
        if let Some(entry) = &session {
            self.shared.ended.spend(&entry.id, entry.session.ends, at.unix);
        }
        let mut lines = Vec::new();
        at.names.clear_session(&mut lines, view.fields);
        let id_token = session.as_ref().map_or("", |entry| &entry.session.id_token);
        let to = self.after_logout(at, id_token);
        redirect(if view.method == b"POST" { 303 } else { 302 }, &to, lines)
    }

    fn after_logout(&self, at: &At<'_>, id_token: &str) -> String {
        let own = self.settings.after_logout.as_deref().map(|place| at.site.address(place));
        let endpoints = self.provider.endpoints(at.unix);
        let Some(endpoint) = endpoints.as_ref().and_then(|e| e.end_session.as_ref()) else {
            return own.unwrap_or_else(|| at.site.address("/"));
        };
        let mut to = endpoint.clone();
        to.push(if endpoint.contains('?') { '&' } else { '?' });
        pair(&mut to, "client_id", &self.settings.client_id);
        if !id_token.is_empty() {
            pair(&mut to, "id_token_hint", id_token);
        }
        if let Some(own) = own {
            pair(&mut to, "post_logout_redirect_uri", &own);
        }
        to
    }
}
