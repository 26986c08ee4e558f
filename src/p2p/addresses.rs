//! What is taken of the addresses that peers tell of themselves.

use super::options::port;
use libp2p::{Multiaddr, multiaddr::Protocol};

/// Most addresses of a peer that are kept or told to others, and their bytes altogether: twenty providers and twenty
/// closer peers must fit into an answer of Kademlia, which has 16 KiB.
pub(super) const MAX_ADDRESSES: usize = 8;
const MAX_ADDRESS_BYTES: usize = 256;

/// The addresses of a peer that can be used: for TCP or QUIC, each once, and only from this machine such that lead to it.
pub(super) fn usable(addresses: Vec<Multiaddr>, local: bool) -> Vec<Multiaddr> {
    let (mut used, mut bytes) = (Vec::new(), 0);
    for address in addresses.iter().map(without_peer) {
        let nowhere = match address.iter().next() {
            Some(Protocol::Ip4(ip)) => ip.is_unspecified(),
            Some(Protocol::Ip6(ip)) => ip.is_unspecified(),
            _ => false,
        };
        let useful = port(&address).is_some_and(|port| port != 0) && !nowhere && (local || !is_loopback(&address));
        if !useful || used.contains(&address) || bytes + address.len() > MAX_ADDRESS_BYTES {
            continue;
        }
        bytes += address.len();
        used.push(address);
        if used.len() == MAX_ADDRESSES {
            break;
        }
    }
    used
}

/// An address without the `/p2p/…` at its end.
pub(super) fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// Whether others can dial an address that is listened on. IPv6's link-local ones need the name of an interface beside
/// them, for which a multiaddr that can be dialled has no place.
pub(super) fn can_be_dialled(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
        _ => true,
    }
}

/// Whether an address leads to this machine alone.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(addresses: &[&str], local: bool) -> Vec<String> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        usable(addresses, local).iter().map(Multiaddr::to_string).collect()
    }

    #[test]
    fn only_what_can_be_used_is_taken() {
        let addresses = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7",
            "/ip4/192.0.2.1/tcp/1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/192.0.2.1/tcp/0",
            "/ip4/192.0.2.1/udp/1/quic-v1",
            "/ip4/192.0.2.1/tcp/1/ws",
        ];
        let far = ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1"];
        assert_eq!(told(&addresses, false), far);
        assert_eq!(told(&addresses, true), [&addresses[..2], &far].concat());
    }

    #[test]
    fn only_what_can_be_dialled_is_shown() {
        for (address, can) in [
            ("/ip4/192.0.2.1/tcp/1", true),
            ("/ip6/2001:db8::1/udp/1/quic-v1", true),
            ("/ip6/fe80::1/tcp/1", false),
            ("/ip6/::/tcp/1", false),
            ("/ip4/0.0.0.0/tcp/1", false),
        ] {
            assert_eq!(can_be_dialled(&address.parse().unwrap()), can, "{address}");
        }
    }

    #[test]
    fn no_peer_fills_an_answer() {
        let many: Vec<String> = (1..100).map(|port| format!("/ip4/192.0.2.1/tcp/{port}")).collect();
        assert_eq!(told(&many.iter().map(String::as_str).collect::<Vec<_>>(), false).len(), MAX_ADDRESSES);
        let long: Vec<String> = (1..9).map(|port| format!("/dns/{}/tcp/{port}", "x".repeat(100))).collect();
        assert_eq!(told(&long.iter().map(String::as_str).collect::<Vec<_>>(), false).len(), 2);
    }
}
