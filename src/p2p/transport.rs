//! The transports by which every node, bootstrap nodes included, is reached: TCP and QUIC, Noise and Yamux. With a secret
//! it is TCP alone.

use super::{
    addresses::{ip, port},
    closing::Closing,
    private::Meeting,
};
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, ListenerId},
        upgrade::Version,
    },
    dns,
    multiaddr::Protocol,
    noise, quic, relay,
    swarm::{self, NetworkBehaviour},
    tcp, yamux,
};
use libp2p_identity::{Keypair, PeerId};
use socket2::{Domain, Socket, Type};
use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

/// Pings detect a dead peer; nothing else closes a connection that both sides want.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// From which of this machine's addresses the system sends to another, if it sends there at all. Nothing is sent.
pub(super) fn source_of(other: &Multiaddr) -> Option<IpAddr> {
    let to = SocketAddr::new(ip(other)?, port(other)?);
    let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Why a node can't take part in the network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Somebody else listens on an address.
    #[error(
        "can't listen on {address}: another program listens there already; stop it, or choose another port (0 takes a \
         free one)"
    )]
    InUse {
        /// The address.
        address: Multiaddr,
    },
    /// An address can't be listened on.
    #[error("can't listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why, and what to do.
        reason: String,
    },
    /// A secret can't protect what goes there.
    #[error("{address} can't be used: {reason}")]
    Private {
        /// The address.
        address: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The transports can't be made.
    #[error("the network can't be started: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
    /// The local socket for `peerfold peers` can't be made.
    #[error("the socket {} can't be made: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// TCP, and QUIC if there is no secret. Both with Noise or what QUIC has in its place.
fn transports(
    keypair: &Keypair,
    meeting: Meeting,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Box<dyn Error + Send + Sync>> {
    let is_private = meeting.is_private();
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .and_then(move |socket, endpoint| meeting.shake_hands(socket, endpoint))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux::Config::default())
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(Closing::new(connection))));
    if is_private {
        return Ok(tcp.boxed());
    }
    let quic = quic::tokio::Transport::new(quic::Config::new(keypair))
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(Closing::new(connection))));
    Ok(tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed())
}

/// The same, with names looked up.
fn with_names(
    keypair: &Keypair,
    meeting: &Meeting,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Box<dyn Error + Send + Sync>> {
    Ok(match dns::tokio::Transport::system(transports(keypair, meeting.clone())?) {
        Ok(transport) => transport.boxed(),
        Err(error) => {
            tracing::warn!(%error, "no resolver is configured on this machine: names in addresses can't be looked up");
            let (config, options) = (dns::ResolverConfig::default(), dns::ResolverOpts::default());
            dns::tokio::Transport::custom(transports(keypair, meeting.clone())?, config, options).boxed()
        }
    })
}

/// A swarm over TCP and QUIC, or TCP alone if there is a secret, where a connection may take so long to be made. Must be
/// called inside a tokio runtime, which will run its connections.
pub(super) fn swarm<B: NetworkBehaviour>(
    keypair: &Keypair,
    meeting: &Meeting,
    behaviour: impl FnOnce(&Keypair) -> B,
    handshake_timeout: Duration,
) -> Result<Swarm<B>, NetworkError> {
    let failed = |error: &dyn std::fmt::Display| NetworkError::Start { reason: error.to_string() };
    let builder = SwarmBuilder::with_existing_identity(keypair.clone())
        .with_tokio()
        .with_other_transport(|keypair| with_names(keypair, meeting))
        .map_err(|error| failed(&error))?;
    let builder = builder.with_behaviour(behaviour).map_err(|error| failed(&error))?;
    Ok(builder.with_swarm_config(idle).with_connection_timeout(handshake_timeout).build())
}

/// The same for a node that relays can connect with others. Such a connection goes inside the relay's, so where there is a
/// secret, the relay has it too.
pub(super) fn relayed_swarm<B: NetworkBehaviour>(
    keypair: &Keypair,
    meeting: &Meeting,
    behaviour: impl FnOnce(&Keypair, relay::client::Behaviour) -> Result<B, Box<dyn Error + Send + Sync>>,
    handshake_timeout: Duration,
) -> Result<Swarm<B>, NetworkError> {
    let failed = |error: &dyn std::fmt::Display| NetworkError::Start { reason: error.to_string() };
    let builder = SwarmBuilder::with_existing_identity(keypair.clone())
        .with_tokio()
        .with_other_transport(|keypair| with_names(keypair, meeting))
        .map_err(|error| failed(&error))?;
    let builder =
        builder.with_relay_client(noise::Config::new, yamux::Config::default).map_err(|error| failed(&error))?;
    let builder = builder.with_behaviour(behaviour).map_err(|error| failed(&error))?;
    Ok(builder.with_swarm_config(idle).with_connection_timeout(handshake_timeout).build())
}

fn idle(config: swarm::Config) -> swarm::Config {
    config.with_idle_connection_timeout(IDLE)
}

/// Every interface, over TCP, and QUIC unless all must be private, on this port. With 0 the system chooses one.
pub(super) fn default_listen(port: u16, is_private: bool) -> Vec<Multiaddr> {
    let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    any.into_iter()
        .flat_map(|ip| {
            let ip = Multiaddr::from(ip);
            let quic = (!is_private).then(|| ip.clone().with(Protocol::Udp(port)).with(Protocol::QuicV1));
            [Some(ip.with(Protocol::Tcp(port))), quic].into_iter().flatten()
        })
        .collect()
}

/// Listens on all of these addresses.
pub(super) fn listen_on<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    addresses: &[Multiaddr],
) -> Result<Vec<ListenerId>, NetworkError> {
    addresses.iter().map(|address| listen(swarm, address)).collect()
}

/// Listens on as many of these addresses as possible: not every machine has IPv6. An error if none works, or if another
/// process listens on one. In the place of each that is tried first which `again` names for it, if any.
pub(super) fn listen_on_some<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    addresses: &[Multiaddr],
    again: impl Fn(&Multiaddr) -> Option<Multiaddr>,
) -> Result<Vec<ListenerId>, NetworkError> {
    let mut last = None;
    let mut listening = Vec::new();
    for address in addresses {
        let remembered = again(address).and_then(|again| listen(swarm, &again).ok());
        match remembered.map_or_else(|| listen(swarm, address), Ok) {
            Ok(listener) => listening.push(listener),
            Err(error @ NetworkError::InUse { .. }) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    last.filter(|_| listening.is_empty()).map_or(Ok(listening), Err)
}

fn listen<B: NetworkBehaviour>(swarm: &mut Swarm<B>, address: &Multiaddr) -> Result<ListenerId, NetworkError> {
    let failed = |reason| NetworkError::Listen { address: address.clone(), reason };
    if let Err(error) = try_bind(address) {
        return Err(match error.kind() {
            io::ErrorKind::AddrInUse => NetworkError::InUse { address: address.clone() },
            io::ErrorKind::AddrNotAvailable => failed("this machine doesn't have that address".to_owned()),
            io::ErrorKind::PermissionDenied => failed("not permitted; ports below 1024 are the system's".to_owned()),
            _ => failed(error.to_string()),
        });
    }
    match swarm.listen_on(address.clone()) {
        Ok(listener) => Ok(listener),
        Err(TransportError::MultiaddrNotSupported(_)) => {
            let use_instead = "/ip4/0.0.0.0/tcp/PORT or /ip4/0.0.0.0/udp/PORT/quic-v1";
            Err(failed(format!("that is no address for TCP or QUIC; write {use_instead}")))
        }
        Err(TransportError::Other(error)) => Err(failed(error.to_string())),
    }
}

/// Whether we could bind an exclusive socket there. libp2p's TCP sockets share their ports with others of the same
/// user: two nodes would both listen without an error, and each would get some of the connections. Other failures are
/// wrapped too deep in libp2p's errors to be told apart.
fn try_bind(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::from(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::from(ip),
        _ => return Ok(()),
    };
    let (port, kind) = match parts.next() {
        Some(Protocol::Tcp(port)) => (port, Type::STREAM),
        Some(Protocol::Udp(port)) => (port, Type::DGRAM),
        _ => return Ok(()),
    };
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // Connections that have just been closed don't count.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())
}
