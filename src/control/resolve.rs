//! Names of targets to addresses, on the control thread, by hickory-resolver.
//!
//! Only successes with at least one address replace what is known: an error or an empty answer keeps the last good
//! addresses and is asked again after a while. Workers never resolve; the schedule on the control thread calls this.

use crate::base::{Rng, Tick};
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// However short a TTL, a name is not asked for more often.
const LEAST_TTL: Duration = Duration::from_secs(1);
/// However long a TTL, a name is asked for again.
const MOST_TTL: Duration = Duration::from_secs(300);
/// How long an entry of the hosts file is believed.
const HOSTS_TTL: Duration = Duration::from_secs(60);
/// For one look-up with all its attempts.
const LOOKUP_WAIT: Duration = Duration::from_secs(10);
/// After the first failure; doubled with each further one.
const LEAST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after failures.
const MOST_RETRY: Duration = Duration::from_secs(30);

/// Asks the hosts file, then name servers. Keeps no cache: [`Known`] says when to ask again.
pub struct Resolver {
    /// `None` when the system names no server: then the hosts file alone.
    servers: Option<TokioResolver>,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Sorted, each once; never empty.
    pub addresses: Vec<IpAddr>,
    /// How long they are to be believed, between 1 s and 5 min.
    pub ttl: Duration,
}

/// Why a name has no addresses now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// The name does not exist, or has no address.
    Empty,
    /// No answer, or no valid one; the text says which.
    Failed(String),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::Empty => f.write_str("the name has no address"),
            ResolveError::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ResolveError {}

impl Resolver {
    /// Asks the servers of `/etc/resolv.conf`, with its search list and options.
    pub fn system() -> Resolver {
        let servers = TokioResolver::builder_tokio().ok().and_then(|mut builder| {
            set(builder.options_mut());
            builder.build().ok()
        });
        Resolver { servers }
    }

    /// Asks these servers over UDP and, where an answer is cut, over TCP.
    pub fn with_servers(servers: &[SocketAddr]) -> Resolver {
        let server = |address: &SocketAddr| {
            let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
            (udp.port, tcp.port) = (address.port(), address.port());
            NameServerConfig::new(address.ip(), true, vec![udp, tcp])
        };
        let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        set(builder.options_mut());
        Resolver { servers: builder.build().ok() }
    }

    /// The addresses of `name`, IPv4 and IPv6.
    ///
    /// # Errors
    /// When there is none, or nobody says so. The caller keeps what it knew.
    pub async fn resolve(&self, name: &str) -> Result<Resolved, ResolveError> {
        let failed = |error: &dyn fmt::Display| ResolveError::Failed(error.to_string());
        let parsed = Name::from_utf8(name).map_err(|error| failed(&error))?;
        if let Some(addresses) = local(&parsed) {
            return sorted(addresses, HOSTS_TTL);
        }
        let Some(servers) = &self.servers else {
            return Err(ResolveError::Failed("no name server is configured".to_owned()));
        };
        let lookup = match tokio::time::timeout(LOOKUP_WAIT, servers.lookup_ip(parsed)).await {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => {
                return Err(ResolveError::Empty);
            }
            Ok(Err(error)) => return Err(failed(&error)),
            Err(_) => return Err(ResolveError::Failed("no answer in time".to_owned())),
        };
        let ttl = lookup.as_lookup().answers().iter().map(|record| record.ttl).min();
        sorted(lookup.iter().collect(), Duration::from_secs(u64::from(ttl.unwrap_or(0))))
    }
}

/// What is known of one name, and when to ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The addresses of the last success; empty before the first.
    pub last_good: Vec<IpAddr>,
    /// When to ask next; at once before the first time.
    pub next_at: Tick,
    /// What the last attempt failed with; `None` after a success.
    pub last_error: Option<ResolveError>,
    /// Failures since the last success.
    failures: u32,
}

impl Default for Known {
    fn default() -> Known {
        Known { last_good: Vec::new(), next_at: Tick::ZERO, last_error: None, failures: 0 }
    }
}

impl Known {
    /// Takes in an answer. Returns whether the addresses changed. After failures the next attempt comes after 1 s,
    /// doubling to 30 s, give or take a tenth.
    pub fn update(
        &mut self,
        result: Result<Resolved, ResolveError>,
        now: Tick,
        rng: &mut Rng,
    ) -> bool {
        let result = result.and_then(|found| match found.addresses.as_slice() {
            [] => Err(ResolveError::Empty),
            _ => Ok(found),
        });
        match result {
            Ok(found) => {
                self.failures = 0;
                self.last_error = None;
                self.next_at = now.after(found.ttl.clamp(LEAST_TTL, MOST_TTL));
                let changed = self.last_good != found.addresses;
                self.last_good = found.addresses;
                changed
            }
            Err(error) => {
                let wait = LEAST_RETRY.saturating_mul(1 << self.failures.min(5)).min(MOST_RETRY);
                self.failures = self.failures.saturating_add(1);
                self.last_error = Some(error);
                self.next_at = now.after(wait.mul_f64(0.9 + 0.2 * rng.f64()));
                false
            }
        }
    }
}

fn set(options: &mut ResolverOpts) {
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.try_tcp_on_error = true;
}

/// What the hosts file says now (it is read each time, so that edits count), or RFC 6761 section 6.3 of `localhost`.
/// Asked here since the library would still ask servers for the address family that the file lacks.
fn local(name: &Name) -> Option<Vec<IpAddr>> {
    let hosts = Hosts::from_system().unwrap_or_default();
    let listed = |kind| hosts.lookup_static_host(&Query::query(name.to_lowercase(), kind));
    let listed = [RecordType::A, RecordType::AAAA].into_iter().filter_map(listed);
    let addresses: Vec<IpAddr> = listed
        .flat_map(|l| l.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<_>>())
        .collect();
    if !addresses.is_empty() {
        return Some(addresses);
    }
    let last = name.iter().next_back()?;
    last.eq_ignore_ascii_case(b"localhost")
        .then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

fn sorted(mut addresses: Vec<IpAddr>, ttl: Duration) -> Result<Resolved, ResolveError> {
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(ResolveError::Empty);
    }
    Ok(Resolved { addresses, ttl: ttl.clamp(LEAST_TTL, MOST_TTL) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UdpSocket;

    /// What the server of the test answers: response code, TTL, IPv4 and IPv6 addresses.
    type Zone = (u8, u32, &'static [[u8; 4]], &'static [[u16; 8]]);

    fn zone(first_label: &[u8]) -> Option<Zone> {
        const V6: [u16; 8] = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];
        Some(match first_label {
            b"good" => (0, 7, &[[10, 0, 0, 2], [10, 0, 0, 1], [10, 0, 0, 2]], &[V6]),
            b"zero" => (0, 0, &[[10, 0, 0, 1]], &[]),
            b"long" => (0, 86_400, &[[10, 0, 0, 1]], &[]),
            b"six" => (0, 60, &[], &[V6]),
            b"empty" => (0, 60, &[], &[]),
            b"none" => (3, 60, &[], &[]),
            b"broken" => (2, 60, &[], &[]),
            _ => return None,
        })
    }

    /// An answer to a query with one question (RFC 1035 section 4); none for names that are not in the zone.
    fn answer(query: &[u8]) -> Option<Vec<u8>> {
        let label = query.get(13..13 + usize::from(query[12]))?.to_ascii_lowercase();
        let (code, ttl, v4, v6) = zone(&label)?;
        let name_end = 12 + query[12..].iter().position(|b| *b == 0)? + 1;
        let kind = u16::from_be_bytes([query[name_end], query[name_end + 1]]);
        let data: Vec<Vec<u8>> = match kind {
            1 => v4.iter().map(|a| a.to_vec()).collect(),
            28 => v6.iter().map(|a| a.iter().flat_map(|w| w.to_be_bytes()).collect()).collect(),
            _ => Vec::new(),
        };
        let mut out = query[..2].to_vec();
        out.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(data.len()).ok()?, 0, 0, 0, 0]);
        out.extend(&query[12..name_end + 4]);
        for octets in data {
            out.extend([0xc0, 0x0c]);
            out.extend(kind.to_be_bytes());
            out.extend([0, 1]);
            out.extend(ttl.to_be_bytes());
            out.extend(u16::try_from(octets.len()).ok()?.to_be_bytes());
            out.extend(octets);
        }
        Some(out)
    }

    async fn resolver() -> Resolver {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
                if let Some(answer) = answer(&buffer[..count]) {
                    let _ = socket.send_to(&answer, peer).await;
                }
            }
        });
        Resolver::with_servers(&[address])
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn answers_become_addresses_with_a_sane_ttl() {
        let resolver = resolver().await;
        let cases: &[(&str, &[&str], u64)] = &[
            ("good.test", &["10.0.0.1", "10.0.0.2", "2001:db8::1"], 7),
            ("GOOD.test.", &["10.0.0.1", "10.0.0.2", "2001:db8::1"], 7),
            ("zero.test", &["10.0.0.1"], 1),
            ("long.test", &["10.0.0.1"], 300),
            ("six.test", &["2001:db8::1"], 60),
        ];
        for (name, expected, ttl) in cases {
            let got = resolver.resolve(name).await.unwrap();
            assert_eq!(got.addresses, addresses(expected), "{name}");
            assert_eq!(got.ttl, Duration::from_secs(*ttl), "{name}");
        }
    }

    #[tokio::test]
    async fn nothing_and_failure_are_told_apart() {
        let resolver = resolver().await;
        for name in ["none.test", "empty.test"] {
            assert_eq!(resolver.resolve(name).await, Err(ResolveError::Empty), "{name}");
        }
        for name in ["broken.test", "a..b", &"x".repeat(64)] {
            let got = resolver.resolve(name).await;
            assert!(matches!(got, Err(ResolveError::Failed(_))), "{name}: {got:?}");
        }
        let nobody = Resolver { servers: None };
        assert!(matches!(nobody.resolve("good.test").await, Err(ResolveError::Failed(_))));
    }

    #[tokio::test]
    async fn localhost_needs_no_server() {
        let nobody = Resolver { servers: None };
        for name in ["localhost", "LocalHost."] {
            let got = nobody.resolve(name).await.unwrap();
            assert!(got.addresses.iter().all(IpAddr::is_loopback), "{got:?}");
        }
        assert_eq!(
            nobody.resolve("a.localhost").await.unwrap().addresses,
            addresses(&["127.0.0.1", "::1"])
        );
    }

    #[test]
    fn the_last_good_answer_outlives_errors_and_empty_answers() {
        let mut rng = Rng::with_seed(1);
        let mut known = Known::default();
        let good = |list: &[&str]| Resolved { addresses: addresses(list), ttl: LEAST_TTL };
        let now = Tick::from_nanos(1);
        assert!(known.update(Ok(good(&["10.0.0.1"])), now, &mut rng));
        assert!(!known.update(Ok(good(&["10.0.0.1"])), now, &mut rng));
        assert_eq!(known.next_at, now.after(LEAST_TTL));

        let bad = [
            Err(ResolveError::Empty),
            Err(ResolveError::Failed("refused".to_owned())),
            Ok(good(&[])),
        ];
        for (result, error) in bad.into_iter().zip([true, false, true]) {
            assert!(!known.update(result, now, &mut rng));
            assert_eq!(known.last_good, addresses(&["10.0.0.1"]));
            assert_eq!(known.last_error == Some(ResolveError::Empty), error);
        }
        assert!(known.update(Ok(good(&["10.0.0.2"])), now, &mut rng));
        assert_eq!(known.last_error, None);
    }

    #[test]
    fn retries_back_off_to_half_a_minute() {
        let mut rng = Rng::with_seed(2);
        let mut known = Known::default();
        let now = Tick::from_nanos(9);
        for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            known.update(Err(ResolveError::Empty), now, &mut rng);
            let wait = known.next_at.since(now).as_secs_f64();
            assert!((seconds * 0.9..=seconds * 1.1).contains(&wait), "{wait} for {seconds}");
        }
        let found = Resolved { addresses: addresses(&["::1"]), ttl: LEAST_TTL };
        known.update(Ok(found), now, &mut rng);
        known.update(Err(ResolveError::Empty), now, &mut rng);
        assert!(known.next_at.since(now) < Duration::from_secs(2));
    }
}
