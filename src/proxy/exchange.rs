//! The walk: route, act, finish. What a request meets on its way stands here, in order.

use crate::balance::Weighted;
use crate::base::Tick;
use crate::http::proxy_protocol::{Said, SaidTls};
use crate::http::{Fault, Framing, Known, Method, RequestView, Version, request::Form};
use crate::net::{Buf, Sock};
use crate::proxy::finish::{self, Active};
use crate::proxy::policies::{self, Step};
use crate::proxy::upgrade::{self, Upgrade};
use crate::proxy::{aggregate, call, forward, pages, reply, staged, steer, upstream_head};
use crate::shard::{Epoch, Scratch, Shard};
use crate::snapshot::redirect::RedirectTemplate;
use crate::snapshot::secure;
use crate::snapshot::{Action, FixedResponse, Listener, Rule, Snapshot};
use crate::tls::Facts;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// The client's side of a connection.
#[derive(Debug)]
pub struct Client {
    /// Its socket.
    pub sock: Sock,
    /// Its address, or its proxy's.
    pub peer: SocketAddr,
    /// The port it connected to.
    pub port: u16,
    /// [`crate::snapshot::Listener::id`]
    pub listener: u32,
    /// What a trusted balancer in front said of the connection in its PROXY header.
    pub passed: Option<Rc<Passed>>,
    /// What was agreed on in the TLS handshake; `None` where there was none.
    pub tls: Option<Rc<Facts>>,
}

/// What a PROXY header says of a connection beside the client's address.
#[derive(Debug, Default)]
pub struct Passed {
    /// Where the client connected to.
    pub destination: Option<SocketAddr>,
    /// The type-length-values of version 2, checked; [`Said::of`] reads them.
    pub tlvs: Box<[u8]>,
}

impl Client {
    /// What is known of the connection beside its addresses.
    pub fn said(&self) -> Said<'_> {
        let mut said = self.passed.as_ref().map(|p| Said::of(&p.tlvs)).unwrap_or_default();
        if let Some(facts) = &self.tls {
            // What was agreed on here is what the client asked for, whatever passed it on.
            said.alpn = facts.alpn.as_deref().unwrap_or_default();
            said.authority = facts.name.as_deref().unwrap_or_default().as_bytes();
            let vouched = facts.told.as_ref().and_then(|told| told.vouched.as_deref());
            said.tls = Some(SaidTls {
                version: facts.version.as_bytes(),
                cipher: facts.cipher.as_bytes(),
                common_name: vouched.unwrap_or_default().as_bytes(),
                verified: vouched.is_some(),
            });
        }
        said
    }

    /// How the client came: to ringgate, or to the balancer in front of it that it trusts.
    pub fn scheme(&self) -> &'static str {
        let in_front = || self.passed.as_ref().is_some_and(|p| Said::of(&p.tlvs).tls.is_some());
        if self.tls.is_some() || in_front() { "https" } else { "http" }
    }
}

/// One request on its way.
pub struct Exchange<'a> {
    /// The worker.
    pub shard: &'a Rc<Shard>,
    /// The configuration that this request began with.
    pub epoch: &'a Rc<Epoch>,
    /// Where it came in.
    pub listener: &'a Listener,
    /// Who sent it.
    pub client: &'a Client,
    /// Begins with the head; whatever of the body has arrived follows.
    pub buf: &'a mut Buf,
    /// What followed a streamed body, and begins the next request.
    pub next: Option<Buf>,
    /// The switch of protocols that it asks for, where it may.
    pub upgrade: Option<Box<Upgrade>>,
    /// The parsed head, and room to work in.
    pub scratch: &'a mut Scratch,
    /// Whether the client's connection may be used again afterwards.
    pub keep: bool,
}

/// Takes one request from its parsed head to its access record. Afterwards [`Exchange::keep`] says whether the
/// connection may carry another. Returns when it ended.
pub async fn exchange(x: &mut Exchange<'_>) -> Tick {
    x.scratch.trace.bytes_in = x.scratch.request.len as u64;
    x.scratch.sent.clear();
    x.scratch.added.clear();
    let _active = Active::begin(x.listener.meters.cell(x.shard.worker));
    upstream_head::assign_id(x);
    call::begin(x);
    if let Err(fault) = walk(x).await {
        // Whatever failed then, failed for want of a client.
        let fault = if x.client.sock.is_gone() { Fault::ClientGone } else { fault };
        x.scratch.trace.fault = Some(fault);
        policies::hide_parameters(x);
        if x.scratch.trace.status == 0 && fault.status() != 460 {
            reply::own(x, fault).await;
        } else {
            x.keep = false;
            x.scratch.trace.broken_off = true;
            // An answer whose end is that of the connection may not look whole, whichever side broke the exchange off.
            let unended = matches!(x.scratch.response.framing, Framing::Close | Framing::Chunked);
            if x.scratch.trace.status != 0
                && x.scratch.request.version == Version::Http10
                && unended
            {
                x.client.sock.reset_on_close();
            }
        }
    }
    policies::hide_from_logs(x);
    finish::finish(x)
}

async fn walk(x: &mut Exchange<'_>) -> Result<(), Fault> {
    let epoch = Rc::clone(x.epoch);
    let snapshot: &Snapshot = &epoch.snapshot;
    // Before any rule: a redirect to https, or a sign-on, would keep an authority from seeing it.
    if let Some(answer) = snapshot.challenges.answer(x.view().path) {
        x.scratch.trace.action = "respond";
        return reply::fixed(x, &FixedResponse::acme(answer)).await;
    }
    if secure::is_barred(x.listener, x.client.tls.as_deref()) {
        x.keep = false;
        return Err(Fault::Misdirected);
    }
    if let Some(template) = to_https(x) {
        x.scratch.trace.action = "redirect";
        // A request of HTTP/1.0 need not name a host; where https is for it is then not known.
        let known = !x.scratch.request.host.is_empty();
        return if known { reply::redirect(x, template).await } else { Err(Fault::HostMissing) };
    }
    if snapshot.guarded && is_misdirected(x, snapshot) {
        // Another connection may be fine (RFC 9113 section 9.1.2); this one is left to the hosts that it is for.
        return Err(Fault::Misdirected);
    }
    let (rule, action) = route(x, snapshot);
    let rule = preflighted(x, snapshot, rule);
    let _active = rule.map(|rule| Active::begin(rule.meters.cell(x.shard.worker)));
    x.scratch.trace.action = action.name();
    if policies::any(x, rule) && !judge(x, rule).await? {
        return Ok(());
    }
    let limit = rule.map_or(snapshot.limits.body, |r| r.body_limit);
    if let (Framing::Length(length), Some(limit)) = (x.scratch.request.framing, limit)
        && length > limit
    {
        return Err(Fault::BodyTooLarge);
    }
    if passed_here(x, snapshot) >= MOST_PASSES {
        return Err(Fault::Loop);
    }
    if x.scratch.request.max_forwards == Some(0) {
        return reply::options(x).await;
    }
    match action {
        Action::Forward { groups, weights } => {
            let way = Way { rule, groups, weights, body_limit: limit };
            if rule.map_or(x.listener.compress.is_some(), |rule| rule.traffic.staged) {
                // Rare, and large: kept out of the future of every other request.
                return Box::pin(staged::forward(x, &way)).await;
            }
            send_on(x, &way).await
        }
        Action::Aggregate(parts) => Box::pin(aggregate::answer(x, rule, parts)).await,
        Action::Redirect(template) => reply::redirect(x, template).await,
        Action::Respond(fixed) => reply::configured(x, fixed).await,
        Action::Page(page) => Box::pin(pages::answer(x, page)).await,
        Action::NotFound => Err(Fault::NoRoute),
    }
}

/// Where a request may be sent, as its rule or its listener says.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The rule; `None` for a listener's default.
    pub rule: Option<&'a Rule>,
    /// Indices into the snapshot's groups.
    pub groups: &'a [usize],
    /// Chooses one of them.
    pub weights: &'a Weighted,
    /// Octets that the request's body may have.
    pub body_limit: Option<u64>,
}

/// Sends a request to a target of one of the groups, and its response to the client.
///
/// # Errors
/// What the client is told, unless it has been sent a response already.
pub async fn send_on(x: &mut Exchange<'_>, way: &Way<'_>) -> Result<(), Fault> {
    let group = steer::group(x, way).ok_or(Fault::NoTarget)?;
    if let Some(total) = way.rule.and_then(|rule| rule.total) {
        let trace = &mut x.scratch.trace;
        let until = trace.began.after(total);
        trace.deadline = Some(trace.deadline.map_or(until, |deadline| deadline.min(until)));
    }
    let shard: &Shard = x.shard;
    upgrade::offer(x, way.rule, group)?;
    // Before it costs a target anything; what ringgate answers by itself goes on.
    let _place = shard.place(&x.epoch.snapshot, way.rule).ok_or(Fault::Shed)?;
    let terms = forward::Terms {
        group,
        response: way.rule.and_then(|rule| rule.response),
        body: way.rule.and_then(|rule| rule.body).unwrap_or(x.listener.body),
        body_limit: way.body_limit,
    };
    forward::forward(x, &terms).await
}

// Whether the request may go on to its action; a policy may have answered it.
async fn judge(x: &mut Exchange<'_>, rule: Option<&Rule>) -> Result<bool, Fault> {
    let mut cursor = policies::begin(x, rule);
    match policies::run(x, rule, &mut cursor, None) {
        Step::Pass => {}
        Step::Refuse(fault) => return Err(fault),
        // Rare, and large: kept out of the future of every other request.
        step => {
            if !Box::pin(policies::slow(x, rule, cursor, step)).await? {
                policies::hide_parameters(x);
                return Ok(false);
            }
        }
    }
    policies::hide_parameters(x);
    Ok(true)
}

// A preflight is judged as the request that it asks for, also where no rule takes OPTIONS.
fn preflighted<'s>(
    x: &mut Exchange<'_>,
    snapshot: &'s Snapshot,
    rule: Option<&'s Rule>,
) -> Option<&'s Rule> {
    let Some(method) = policies::requested_method(x) else { return rule };
    if policies::is_preflight(x, rule) {
        return rule;
    }
    let found = snapshot.routes.find(x.listener.route, &RequestView { method, ..x.view() });
    let asked = found.and_then(|id| snapshot.rules.get(id.0 as usize));
    let Some(asked) = asked.filter(|asked| asked.policies.cors) else { return rule };
    x.scratch.trace.rule = found.map(|id| id.0 as usize);
    Some(asked)
}

// What a certificate authority fetches over plain HTTP to see whose a name is (RFC 8555 section 8.3).
const ACME_CHALLENGE: &[u8] = b"/.well-known/acme-challenge/";

// Without a host there is nobody's to be reached.
fn is_misdirected(x: &Exchange<'_>, snapshot: &Snapshot) -> bool {
    let Some(facts) = &x.client.tls else { return false };
    let view = x.view();
    let host = std::str::from_utf8(view.host).unwrap_or_default();
    !host.is_empty() && secure::is_misdirected(snapshot, x.listener, facts, host)
}

// How a request is sent to https, where the listener does that to all. One that came by TLS to a balancer in front, which it
// says as a trusted peer, would come back here for ever.
fn to_https<'a>(x: &Exchange<'a>) -> Option<&'a RedirectTemplate> {
    let [get, other] = x.listener.redirect_https.as_deref()?;
    if x.came_by_tls() || x.view().path.starts_with(ACME_CHALLENGE) {
        return None;
    }
    let is_get = matches!(x.scratch.request.method, Method::Get | Method::Head);
    Some(if is_get { get } else { other })
}

// How often a request may come through proxies of this name before that is taken for a loop (RFC 9110 section 7.6.3).
const MOST_PASSES: usize = 8;

fn passed_here(x: &Exchange<'_>, snapshot: &Snapshot) -> usize {
    let name = snapshot.via.get(4..).unwrap_or_default();
    let lines = x.scratch.request.fields.iter().filter(|f| f.known == Known::Via);
    lines
        .flat_map(|f| f.value.of(x.buf.filled()).split(|b| *b == b','))
        .filter(|hop| hop.trim_ascii().split(|b| *b == b' ').nth(1) == Some(name))
        .count()
}

fn route<'s>(x: &mut Exchange<'_>, snapshot: &'s Snapshot) -> (Option<&'s Rule>, &'s Action) {
    let found = snapshot.routes.find(x.listener.route, &x.view());
    let index = found.map(|id| id.0 as usize);
    match index.and_then(|at| snapshot.rules.get(at)) {
        Some(rule) => {
            x.scratch.trace.rule = index;
            (Some(rule), &rule.action)
        }
        None => {
            // The exchange borrows the listener from the same snapshot that is handed in.
            let default = snapshot.listener(x.listener.id).map(|l| &l.default);
            (None, default.unwrap_or(&Action::NotFound))
        }
    }
}

impl Exchange<'_> {
    /// What decisions read.
    pub fn view(&self) -> RequestView<'_> {
        self.scratch.request.view(self.buf.filled(), self.client.peer.ip())
    }

    /// The path and query as they are sent on, where they are not the target as received.
    pub fn canonical_target(&self) -> Option<Vec<u8>> {
        let (head, buf) = (&self.scratch.request, self.buf.filled());
        if head.form == Form::Origin && head.rewritten.is_empty() {
            return None;
        }
        let path = head.canonical_path(buf);
        let target = match head.query {
            Some(query) => [path, b"?", query.of(buf)].concat(),
            None => path.to_vec(),
        };
        Some(target).filter(|t| t != head.target.of(buf))
    }

    /// Whether all of the request's body has arrived, or there is none: then it can be sent again.
    pub fn body_is_here(&self) -> bool {
        match self.scratch.request.framing {
            Framing::None => true,
            Framing::Length(length) => {
                let have = self.buf.len().saturating_sub(self.scratch.request.len);
                have as u64 >= length
            }
            Framing::Chunked | Framing::Close => false,
        }
    }

    /// The part of the body that is here when all of it is.
    pub fn body_here(&self) -> &[u8] {
        let Framing::Length(length) = self.scratch.request.framing else {
            return &[];
        };
        let rest = self.buf.filled().get(self.scratch.request.len..).unwrap_or_default();
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        rest.get(..length).unwrap_or_default()
    }

    /// The client as limits, logs and hashes know it: the peer, or whom a trusted peer names. Read from right to left,
    /// the first address that is not a trusted proxy.
    pub fn client_ip(&self) -> IpAddr {
        let peer = self.client.peer.ip().to_canonical();
        let snapshot = &self.epoch.snapshot;
        if !snapshot.trusts(peer) {
            return peer;
        }
        let buf = self.buf.filled();
        let mut found = peer;
        // Fields come in order; the last entry of the last field is the nearest hop.
        let lines = self.scratch.request.fields.iter().rev();
        let lines = lines.filter(|f| f.known == Known::XForwardedFor).map(|f| f.value.of(buf));
        for entry in lines.flat_map(|l| l.rsplit(|b| *b == b',')) {
            let Some(ip) = parse_node(entry.trim_ascii()) else {
                return found;
            };
            found = ip.to_canonical();
            if !snapshot.trusts(found) {
                return found;
            }
        }
        found
    }

    /// Whether the client came by TLS, here or to a trusted proxy.
    pub fn came_by_tls(&self) -> bool {
        if self.client.scheme() == "https" {
            return true;
        }
        let mut fields = self.scratch.request.fields.iter();
        let said = fields.find(|f| f.known == Known::XForwardedProto);
        let by_tls =
            said.is_some_and(|f| f.value.of(self.buf.filled()).eq_ignore_ascii_case(b"https"));
        by_tls && self.epoch.snapshot.trusts(self.client.peer.ip())
    }

    /// Whether the target is the whole server (`OPTIONS *`).
    pub fn is_asterisk(&self) -> bool {
        self.scratch.request.form == Form::Asterisk
    }
}

// An entry of X-Forwarded-For: an address, with or without port and brackets.
fn parse_node(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(socket.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}
