//! Sets of addresses: ranges in order, none of which touches another, found by halving.
//!
//! 100,000 networks of IPv4 take 800 kB, of IPv6 3.2 MB. An IPv4-mapped address (RFC 4291 section 2.5.5.2) is the IPv4 address that
//! it holds, in networks as in requests; a wider network of IPv6, `::/0` too, holds no IPv4 address. Called by `policy::ip`.

use ipnet::IpNet;
use std::net::IpAddr;

/// A set of addresses.
#[derive(Debug, Default)]
pub struct Ranges {
    v4: Spans<u32>,
    v6: Spans<u128>,
}

// The first and the last of each range, apart from each other: only the first ones are searched.
#[derive(Debug, Default)]
struct Spans<T> {
    first: Box<[T]>,
    last: Box<[T]>,
}

impl Ranges {
    /// The addresses of these networks.
    pub fn new(networks: &[IpNet]) -> Ranges {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match (network.network().to_canonical(), network.broadcast().to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                _ => {
                    if let IpNet::V6(net) = network {
                        v6.push((net.network().to_bits(), net.broadcast().to_bits()));
                    }
                }
            }
        }
        Ranges { v4: Spans::new(v4, 1), v6: Spans::new(v6, 1) }
    }

    /// Whether the address is one of them.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(address.to_bits()),
            IpAddr::V6(address) => self.v6.contains(address.to_bits()),
        }
    }

    /// How many ranges they make.
    pub fn len(&self) -> usize {
        self.v4.first.len() + self.v6.first.len()
    }

    /// Whether there is no address.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Copy + Ord + std::ops::Sub<Output = T>> Spans<T> {
    fn new(mut ranges: Vec<(T, T)>, one: T) -> Spans<T> {
        ranges.sort_unstable();
        let (mut first, mut last): (Vec<T>, Vec<T>) = (Vec::new(), Vec::new());
        for (from, to) in ranges {
            match last.last_mut() {
                // It overlaps the one before, or follows it at once.
                Some(end) if from <= *end || from - one == *end => *end = to.max(*end),
                _ => {
                    first.push(from);
                    last.push(to);
                }
            }
        }
        Spans { first: first.into(), last: last.into() }
    }

    #[inline]
    fn contains(&self, address: T) -> bool {
        let after = self.first.partition_point(|first| *first <= address);
        let last = after.checked_sub(1).and_then(|at| self.last.get(at));
        last.is_some_and(|last| address <= *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn ranges(networks: &[&str]) -> Ranges {
        let parsed: Vec<IpNet> = networks
            .iter()
            .map(|n| n.parse().unwrap_or_else(|_| IpNet::from(n.parse::<IpAddr>().unwrap())))
            .collect();
        Ranges::new(&parsed)
    }

    fn check(networks: &[&str], inside: &[&str], outside: &[&str]) {
        let ranges = ranges(networks);
        for (addresses, expected) in [(inside, true), (outside, false)] {
            for address in addresses {
                let is = ranges.contains(address.parse().unwrap());
                assert_eq!(is, expected, "{address} in {networks:?}");
            }
        }
    }

    #[test]
    fn an_address_lies_in_a_network_or_not() {
        check(&[], &[], &["0.0.0.0", "::", "255.255.255.255"]);
        check(
            &["10.0.0.0/8", "192.0.2.7"],
            &["10.0.0.0", "10.255.255.255", "192.0.2.7", "::ffff:10.1.2.3"],
            &["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "::a00:1", "2001:db8::1"],
        );
        check(
            &["2001:db8::/32", "::1"],
            &["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "::1"],
            &["2001:db7:ffff::", "2001:db9::", "::2", "0.0.0.1"],
        );
        check(&["0.0.0.0/0"], &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::", "::1"]);
        check(&["::/0"], &["::", "ffff::"], &["0.0.0.0", "1.2.3.4", "::ffff:1.2.3.4"]);
    }

    #[test]
    fn mapped_networks_are_those_of_ipv4() {
        check(
            &["::ffff:10.0.0.0/104"],
            &["10.1.2.3", "::ffff:10.1.2.3"],
            &["11.0.0.0", "::a01:203"],
        );
        check(&["::ffff:192.0.2.1"], &["192.0.2.1"], &["192.0.2.2"]);
    }

    #[test]
    fn what_overlaps_or_touches_is_one_range() {
        for (networks, count) in [
            (&["10.0.0.0/9", "10.128.0.0/9"][..], 1),
            (&["10.0.0.0/8", "10.1.0.0/16", "10.0.0.1"], 1),
            (&["10.0.0.0/24", "10.0.2.0/24"], 2),
            (&["255.255.255.255", "0.0.0.0", "0.0.0.0/32"], 2),
            (&["::/1", "8000::/1"], 1),
            (&["0.0.0.0/0", "::/0"], 2),
        ] {
            assert_eq!(ranges(networks).len(), count, "{networks:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn agrees_with_each_network_looked_at_alone(
            nets in prop::collection::vec((any::<u8>(), 0..=32u8), 0..40),
            sixes in prop::collection::vec((any::<u16>(), 0..=128u8), 0..20),
            addresses in prop::collection::vec(any::<u32>(), 20),
        ) {
            // Few different first octets, so that networks overlap and addresses meet them.
            let v4 = |n: u8| Ipv4Addr::from(u32::from(n).wrapping_mul(0x0101_0101));
            let v6 = |n: u16| Ipv6Addr::from((u128::from(n) << 112) | u128::from(n));
            let mut all: Vec<IpNet> = Vec::new();
            all.extend(nets.iter().map(|(n, p)| IpNet::new(v4(*n).into(), *p).unwrap().trunc()));
            all.extend(sixes.iter().map(|(n, p)| IpNet::new(v6(*n).into(), *p).unwrap().trunc()));
            let ranges = Ranges::new(&all);
            let edges = all.iter().flat_map(|net| [net.network(), net.broadcast()]);
            let random = addresses.iter().map(|a| IpAddr::V4(Ipv4Addr::from(*a)));
            for address in edges.chain(random) {
                let expected = all.iter().any(|net| net.contains(&address));
                prop_assert_eq!(ranges.contains(address), expected, "{}", address);
            }
        }
    }
}
