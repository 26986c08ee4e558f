//! Addresses: a peer's as people write them, those to listen on, and which of those that peers report are kept.

use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// Most addresses kept of a peer or passed on to others, and their total bytes: twenty providers and twenty closer
/// peers must fit into one of Kademlia's answers, which is limited to 16 KiB.
pub(super) const MAX_ADDRESSES: usize = 8;
const MAX_ADDRESS_BYTES: usize = 256;

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a multiaddr at all.
    #[error("{text:?} is no multiaddr ({reason}); one looks like /ip4/192.0.2.1/tcp/4600/p2p/12D3KooW…")]
    NotMultiaddr {
        /// The text.
        text: String,
        /// What the parser says.
        reason: String,
    },
    /// It doesn't say which peer must answer.
    #[error(
        "{address} lacks /p2p/<peer id> at its end: who must answer there; `peerfold bootstrap` prints its addresses with \
         it, and `peerfold peers` those of a node"
    )]
    NoPeer {
        /// The address.
        address: Multiaddr,
    },
    /// A transport that nodes don't have, or none at all.
    #[error(
        "{address} is not for TCP or QUIC: write /ip4/…, /ip6/… or /dns/…, then /tcp/PORT or /udp/PORT/quic-v1, then \
         /p2p/<peer id>"
    )]
    NotReachable {
        /// The address.
        address: Multiaddr,
    },
    /// Nobody listens on port 0.
    #[error("{address} has port 0, which can't be dialled; write the port that the node prints")]
    PortZero {
        /// The address.
        address: Multiaddr,
    },
    /// It can't be listened on.
    #[error("{address} can't be listened on; write {instead}")]
    NotListenable {
        /// The address.
        address: Multiaddr,
        /// What can be listened on.
        instead: String,
    },
    /// Not a multiaddr at all, where one to listen on was expected.
    #[error("{text:?} is no multiaddr ({reason}); write {instead}")]
    NoListenAddress {
        /// The text.
        text: String,
        /// What the parser says.
        reason: String,
        /// What can be listened on.
        instead: String,
    },
}

/// A peer and where it listens: a multiaddr that ends in `/p2p/<peer id>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerAddress {
    /// Who must answer.
    pub peer: PeerId,
    /// Where, without `/p2p/…`.
    pub address: Multiaddr,
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut address = multiaddr(text)?;
        let whole = address.clone();
        let Some(Protocol::P2p(peer)) = address.pop() else { return Err(AddressError::NoPeer { address: whole }) };
        match port(&address) {
            Some(0) => Err(AddressError::PortZero { address: whole }),
            Some(_) => Ok(Self { peer, address }),
            // A DNS name whose TXT records list the addresses.
            None if is_dnsaddr(&address) => Ok(Self { peer, address }),
            None => Err(AddressError::NotReachable { address: whole }),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/p2p/{}", self.address, self.peer)
    }
}

/// Reads an address to listen on: one of this machine's, for TCP or QUIC, without `/p2p/…`.
pub fn listen_address(text: &str) -> Result<Multiaddr, AddressError> {
    let address = multiaddr(text).map_err(|error| match error {
        AddressError::NotMultiaddr { text, reason } => {
            AddressError::NoListenAddress { instead: listen_instead(&text), text, reason }
        }
        other => other,
    })?;
    let is_listenable = |address: &Multiaddr| {
        let is_ip = matches!(address.iter().next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
        is_ip && port(address).is_some()
    };
    if is_listenable(&address) {
        return Ok(address);
    }
    let without = without_peer(&address);
    let instead = if is_listenable(&without) { without.to_string() } else { listen_instead("") };
    Err(AddressError::NotListenable { address, instead })
}

/// What to write instead of an address to listen on that is no multiaddr: `127.0.0.1:4600`, `:4600` and `4600` say which.
fn listen_instead(text: &str) -> String {
    let socket = text.trim().parse::<SocketAddr>().ok();
    let port = || text.trim().trim_start_matches(['*', ':']).parse().ok();
    let socket = socket.or_else(|| Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port()?))));
    match socket {
        Some(socket) => {
            let tcp = Multiaddr::from(socket.ip()).with(Protocol::Tcp(socket.port()));
            let quic = Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1);
            format!("{tcp} for TCP, {quic} for QUIC")
        }
        None => "/ip4/0.0.0.0/tcp/PORT or /ip4/0.0.0.0/udp/PORT/quic-v1".to_owned(),
    }
}

/// Parses any multiaddr, whatever its use. An empty text isn't one.
pub(super) fn multiaddr(text: &str) -> Result<Multiaddr, AddressError> {
    let wrong = |reason: String| AddressError::NotMultiaddr { text: text.to_owned(), reason };
    if text.contains(char::is_control) {
        // A host name could have some, and errors show it.
        return Err(wrong("it has a control character".to_owned()));
    }
    let address: Multiaddr = text.parse().map_err(|error: libp2p::multiaddr::Error| wrong(error.to_string()))?;
    if address.is_empty() { Err(wrong("it is empty".to_owned())) } else { Ok(address) }
}

/// Whether it is a name and nothing else.
fn is_dnsaddr(address: &Multiaddr) -> bool {
    matches!(address.iter().collect::<Vec<_>>()[..], [Protocol::Dnsaddr(_)])
}

/// The port of an address, or `None` if a node's transports can't dial it.
pub(super) fn port(address: &Multiaddr) -> Option<u16> {
    let mut parts = address.iter();
    let host = parts.next()?;
    let is_host = matches!(
        host,
        Protocol::Ip4(_)
            | Protocol::Ip6(_)
            | Protocol::Dns(_)
            | Protocol::Dns4(_)
            | Protocol::Dns6(_)
            | Protocol::Dnsaddr(_)
    );
    match (parts.next()?, parts.next(), parts.next()) {
        (Protocol::Tcp(port), None, None) if is_host => Some(port),
        (Protocol::Udp(port), Some(Protocol::QuicV1), None) if is_host => Some(port),
        _ => None,
    }
}

/// The usable addresses of a peer: for TCP or QUIC, or of a relay that is reached so, each once, and loopback addresses
/// only if the peer is on this machine.
pub(super) fn usable(addresses: Vec<Multiaddr>, local: bool) -> Vec<Multiaddr> {
    let (mut used, mut bytes) = (Vec::new(), 0);
    let is_port = |address: &Multiaddr| port(address).is_some_and(|port| port != 0);
    for address in addresses.iter().map(without_peer) {
        let nowhere = match address.iter().next() {
            Some(Protocol::Ip4(ip)) => ip.is_unspecified(),
            Some(Protocol::Ip6(ip)) => ip.is_unspecified(),
            _ => false,
        };
        let can_be_dialled = match relay(&address) {
            Some(PeerAddress { address: relay, .. }) => is_port(&relay) || is_dnsaddr(&relay),
            None => is_port(&address),
        };
        let useful = can_be_dialled && !nowhere && (local || !is_loopback(&address));
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

/// Whether an address leads by way of a relay: `/…/p2p/RELAY/p2p-circuit`.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// The relay of a relayed address without the `/p2p/…` at its end. `None` for every other address.
pub(super) fn relay(address: &Multiaddr) -> Option<PeerAddress> {
    let mut relay = address.clone();
    if !matches!(relay.pop(), Some(Protocol::P2pCircuit)) {
        return None;
    }
    let Some(Protocol::P2p(peer)) = relay.pop() else { return None };
    Some(PeerAddress { peer, address: relay })
}

/// From how far an address can be reached, if nothing is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// From this machine.
    Machine,
    /// From the networks of this site: addresses that the internet doesn't route.
    Site,
    /// From anywhere.
    World,
}

impl Reach {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() || ip.is_unspecified() => Self::Machine,
            IpAddr::V4(ip) => {
                // Shared by a provider's customers: 100.64.0.0/10.
                let is_shared = ip.to_bits() >> 22 == 0x6440_0000 >> 22;
                if ip.is_private() || ip.is_link_local() || is_shared { Self::Site } else { Self::World }
            }
            IpAddr::V6(ip) => {
                if ip.is_unique_local() || ip.is_unicast_link_local() {
                    Self::Site
                } else {
                    Self::World
                }
            }
        }
    }

    /// That of an address that isn't a relay's. A name may be anybody's.
    pub(super) fn of_address(address: &Multiaddr) -> Self {
        ip(address).map_or(Self::World, Self::of)
    }
}

/// Whether others can dial an address that is listened on. IPv6 link-local addresses need an interface name, which a
/// multiaddr that can be dialled has no place for.
pub(super) fn can_be_dialled(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
        _ => true,
    }
}

/// Whether an address is reachable from this machine only.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        _ => false,
    }
}

/// The IP address that a multiaddr begins with: of a relayed one that of the relay.
pub(super) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PEER: &str = "12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7";

    #[test]
    fn addresses_of_peers_are_read_and_shown() {
        for start in [
            "/ip4/192.0.2.1/tcp/4600",
            "/ip6/2001:db8::1/tcp/4600",
            "/ip4/192.0.2.1/udp/4600/quic-v1",
            "/dns/example.org/tcp/4600",
            "/dns4/example.org/udp/4600/quic-v1",
            "/dns6/example.org/tcp/1",
            "/dnsaddr/example.org",
        ] {
            let text = format!("{start}/p2p/{PEER}");
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!((address.to_string(), address.address.to_string()), (text, start.to_owned()));
        }
    }

    #[test]
    fn mistakes_in_addresses_of_peers_say_what_to_write() {
        let with_peer = |start: &str| format!("{start}/p2p/{PEER}");
        for (text, part) in [
            (String::new(), "is no multiaddr"),
            ("/".to_owned(), "is no multiaddr"),
            ("192.0.2.1:4600".to_owned(), "is no multiaddr"),
            ("/ip4/192.0.2.256/tcp/1".to_owned(), "is no multiaddr"),
            ("/ip4/192.0.2.1/tcp/4600/p2p/me".to_owned(), "is no multiaddr"),
            ("/ip4/192.0.2.1/tcp/4600".to_owned(), "lacks /p2p/"),
            (with_peer("/ip4/192.0.2.1/udp/4600"), "not for TCP or QUIC"),
            (with_peer("/ip4/192.0.2.1/udp/4600/quic"), "not for TCP or QUIC"),
            (with_peer("/ip4/192.0.2.1/tcp/4600/ws"), "not for TCP or QUIC"),
            (with_peer("/ip4/192.0.2.1"), "not for TCP or QUIC"),
            (with_peer("/unix/a"), "not for TCP or QUIC"),
            (with_peer(""), "not for TCP or QUIC"),
            (with_peer("/ip4/192.0.2.1/tcp/0"), "port 0"),
        ] {
            let error = text.parse::<PeerAddress>().unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        for text in ["/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/4600/quic-v1"] {
            assert_eq!(listen_address(text).unwrap().to_string(), text);
        }
        for text in ["/dns/localhost/tcp/1", "/ip4/0.0.0.0/udp/1", "/ip4/0.0.0.0", "0.0.0.0:1", ""] {
            listen_address(text).unwrap_err();
        }
        let own = format!("/ip4/0.0.0.0/tcp/1/p2p/{PEER}");
        for (text, instead) in [
            (own.as_str(), "/ip4/0.0.0.0/tcp/1"),
            ("127.0.0.1:4600", "/ip4/127.0.0.1/tcp/4600"),
            ("[::1]:4600", "/ip6/::1/tcp/4600"),
            (":4600", "/ip4/0.0.0.0/tcp/4600"),
            ("4600", "/ip4/0.0.0.0/tcp/4600"),
        ] {
            let error = listen_address(text).unwrap_err().to_string();
            let written = error.split("write ").last().unwrap().split(' ').next().unwrap();
            assert_eq!(written, instead, "{error}");
            // The suggestion is itself valid.
            assert_eq!(listen_address(written).unwrap().to_string(), written);
        }
        let error = listen_address("/dns/localhost/tcp/1").unwrap_err().to_string();
        assert!(error.contains("/ip4/0.0.0.0/tcp/PORT"), "{error}");
    }

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
    fn relayed_addresses_are_told_from_others() {
        let circuit = format!("/ip4/192.0.2.1/tcp/4600/p2p/{PEER}/p2p-circuit");
        let address: Multiaddr = circuit.parse().unwrap();
        let relay = relay(&address).unwrap();
        assert_eq!(relay.to_string(), format!("/ip4/192.0.2.1/tcp/4600/p2p/{PEER}"));
        assert!(is_relayed(&address) && !is_relayed(&relay.address));
        // Only those are taken whose relay can be dialled.
        let addresses = [
            format!("{circuit}/p2p/{PEER}"),
            circuit.clone(),
            format!("/p2p/{PEER}/p2p-circuit"),
            format!("/ip4/192.0.2.1/tcp/0/p2p/{PEER}/p2p-circuit"),
            format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}/p2p-circuit"),
            "/ip4/192.0.2.1/tcp/1/p2p-circuit".to_owned(),
            format!("{circuit}/p2p/{PEER}/p2p-circuit"),
        ];
        assert_eq!(told(&addresses.each_ref().map(String::as_str), false), [circuit]);
        let named = format!("/dnsaddr/relay.example/p2p/{PEER}/p2p-circuit");
        assert_eq!(told(&[&named], false), [named]);
    }

    #[test]
    fn addresses_reach_so_far() {
        for (address, reach) in [
            ("127.0.0.1", Reach::Machine),
            ("::1", Reach::Machine),
            ("::ffff:127.0.0.1", Reach::Machine),
            ("10.1.2.3", Reach::Site),
            ("192.168.1.1", Reach::Site),
            ("172.31.0.1", Reach::Site),
            ("169.254.1.1", Reach::Site),
            ("100.64.0.1", Reach::Site),
            ("100.127.255.255", Reach::Site),
            ("fd00::1", Reach::Site),
            ("fe80::1", Reach::Site),
            ("100.63.0.1", Reach::World),
            ("100.128.0.1", Reach::World),
            ("8.8.8.8", Reach::World),
            ("2001:db8::1", Reach::World),
        ] {
            assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
        }
        assert_eq!(Reach::of_address(&"/dns/example.org/tcp/1".parse().unwrap()), Reach::World);
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
