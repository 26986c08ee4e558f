//! The ports of the last run, by which others remember a node: taken again if nobody else has them.

use crate::p2p::addresses::{ip, is_relayed, port};
use libp2p::{Multiaddr, multiaddr::Protocol};
use std::collections::BTreeMap;

/// The note that they are kept in.
pub(super) const NOTE: &[u8] = b"ports";

/// What a socket is for: one for each transport and version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    is_tcp: bool,
    is_ipv4: bool,
}

/// A port for each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::p2p) struct Ports(BTreeMap<Kind, u16>);

fn kind(address: &Multiaddr) -> Option<Kind> {
    let is_ipv4 = ip(address)?.is_ipv4();
    Some(Kind { is_tcp: address.iter().any(|part| matches!(part, Protocol::Tcp(_))), is_ipv4 })
}

impl Ports {
    /// Those of the addresses that are listened on.
    pub(super) fn of<'a>(listening: impl IntoIterator<Item = &'a Multiaddr>) -> Self {
        let own = listening.into_iter().filter(|address| !is_relayed(address));
        Self(own.filter_map(|address| Some((kind(address)?, port(address).filter(|port| *port != 0)?))).collect())
    }

    /// The same address with the port that it had, if it had one.
    pub(super) fn again(&self, address: &Multiaddr) -> Option<Multiaddr> {
        let port = *self.0.get(&kind(address)?)?;
        let with_port = |part| match part {
            Protocol::Tcp(_) => Protocol::Tcp(port),
            Protocol::Udp(_) => Protocol::Udp(port),
            other => other,
        };
        Some(address.iter().map(with_port).collect())
    }

    /// Three bytes for each: what it is for, and the port.
    pub(in crate::p2p) fn encode(&self) -> Vec<u8> {
        let of_one = |(kind, port): (&Kind, &u16)| {
            let [low, high] = port.to_le_bytes();
            [u8::from(kind.is_tcp) | u8::from(kind.is_ipv4) << 1, low, high]
        };
        self.0.iter().flat_map(of_one).collect()
    }

    /// What of a note can be read.
    pub(in crate::p2p) fn decode(note: &[u8]) -> Self {
        let of_one = |bytes: &[u8; 3]| {
            let [kind @ 0..4, low, high] = *bytes else { return None };
            let kind = Kind { is_tcp: kind & 1 > 0, is_ipv4: kind & 2 > 0 };
            Some((kind, u16::from_le_bytes([low, high]))).filter(|(_, port)| *port != 0)
        };
        let (parts, _) = note.as_chunks::<3>();
        Self(parts.iter().filter_map(of_one).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_socket_gets_the_port_that_it_had() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Multiaddr>>();
        let listening = addresses(&[
            "/ip4/127.0.0.1/tcp/1001",
            "/ip4/10.0.0.2/tcp/1001",
            "/ip4/10.0.0.2/udp/1002/quic-v1",
            "/ip6/::1/tcp/1003",
            "/ip4/192.0.2.1/tcp/9/p2p/12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7/p2p-circuit",
        ]);
        let ports = Ports::of(&listening);
        let again = |address: &str| ports.again(&address.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(again("/ip4/0.0.0.0/tcp/0").unwrap(), "/ip4/0.0.0.0/tcp/1001");
        assert_eq!(again("/ip4/0.0.0.0/udp/0/quic-v1").unwrap(), "/ip4/0.0.0.0/udp/1002/quic-v1");
        assert_eq!(again("/ip6/::/tcp/0").unwrap(), "/ip6/::/tcp/1003");
        assert_eq!(again("/ip6/::/udp/0/quic-v1"), None);
        assert_eq!(Ports::decode(&ports.encode()), ports);
        assert_eq!(Ports::decode(&[4, 1, 1, 3, 0, 0, 3, 1]), Ports::default());
    }
}
