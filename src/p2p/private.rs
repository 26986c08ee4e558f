//! What a secret changes in the network: connections begin with libp2p's private network, over TCP alone, and the names
//! under which a federation's members meet follow from the secret.
//!
//! Whoever has another secret, or none, fails in its first bytes. libp2p would call that a broken protocol, or wait for
//! ten seconds, so [`FirstBytes`] looks at them and says what it means.

use super::{
    addresses::{PeerAddress, ip},
    gates::{Gates, Making},
};
use crate::{secret::Secret, settings::Mistake, weights::FederationId};
use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    Multiaddr,
    core::ConnectedPoint,
    gossipsub::IdentTopic,
    kad::RecordKey,
    multiaddr::Protocol,
    pnet::{PnetConfig, PnetError, PnetOutput, PreSharedKey},
};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

/// What both sides of every connection send first, once the private network's layer is taken off.
const FIRST: &[u8] = b"\x13/multistream/1.0.0\n";
/// How often refused connections are told.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The topic on which a federation's entries are told. Without a secret it is the text of its id.
pub(super) fn topic(federation: FederationId, secret: Option<&Secret>) -> IdentTopic {
    IdentTopic::new(match secret {
        None => federation.to_string(),
        Some(secret) => {
            let topic = secret.derive("peerfold 2026 gossip topic of a secret federation v1", federation.as_bytes());
            FederationId::from_bytes(topic).to_string()
        }
    })
}

/// The key under which the table lists a federation's members.
pub(super) fn table_key(federation: FederationId, secret: Option<&Secret>) -> RecordKey {
    let key = match secret {
        None => blake3::derive_key("peerfold 2026 members of a federation v1", federation.as_bytes()),
        Some(secret) => secret.derive("peerfold 2026 members of a secret federation v1", federation.as_bytes()),
    };
    RecordKey::new(&key)
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Udp(_) | Protocol::Quic | Protocol::QuicV1))
}

/// Errors for what would go over QUIC, which has no place for a secret.
pub(super) fn check_tcp(bootstrap: &[PeerAddress], listen: &[Multiaddr]) -> Result<(), Mistake> {
    let mistake = |key, value: String, instead: &str| {
        let what = format!("with --secret all goes over TCP, as QUIC has no place for a secret: write {instead}");
        Err(Mistake { key, value, what })
    };
    if let Some(address) = listen.iter().find(|address| is_quic(address)) {
        return mistake("listen", address.to_string(), "/ip4/0.0.0.0/tcp/PORT");
    }
    match bootstrap.iter().find(|peer| is_quic(&peer.address)) {
        Some(peer) => mistake("bootstrap", peer.to_string(), "the peer's address with /tcp/, as it prints it"),
        None => Ok(()),
    }
}

/// How a node meets others: with which secret, if any. Its clones share what was refused.
#[derive(Debug, Clone)]
pub(super) struct Meeting {
    key: Option<PreSharedKeyOf>,
    refused: Arc<Refused>,
    gates: Gates,
}

/// Not to be shown, which libp2p's own would.
#[derive(Clone)]
struct PreSharedKeyOf(PreSharedKey);

impl std::fmt::Debug for PreSharedKeyOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PreSharedKey")
    }
}

/// Incoming connections of peers that don't know the secret.
#[derive(Debug, Default)]
struct Refused {
    unsaid: AtomicU64,
    said: Mutex<Option<Instant>>,
}

impl Refused {
    /// Warns of one, at most once a minute.
    fn another(&self, from: &Multiaddr, has_secret: bool) {
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|said| now.duration_since(said) < SAID_EVERY) {
            return;
        }
        *said = Some(now);
        let times = self.unsaid.swap(0, Ordering::Relaxed);
        if has_secret {
            tracing::warn!(%from, times, "refused who has another secret than --secret names here, or none");
        } else {
            // Port scanners find every open port; who meant this node is told at its own end.
            tracing::debug!(%from, times, "refused what isn't a node, or has a secret, as this node has not");
        }
    }
}

/// Why a connection ended in its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unmet {
    /// They differ from what whoever has the secret sends.
    #[error("it has another secret than the file that --secret names here, or none")]
    OtherSecret,
    /// It hung up before.
    #[error(
        "it hung up before showing that it knows the secret: it has another than the file that --secret names here, or \
         none, or no room"
    )]
    HungUp,
    /// It hung up before, and here is no secret.
    #[error(
        "it hung up before showing that it is a node without a secret: it has no room, or a secret: then --secret names \
         its file"
    )]
    OpenHungUp,
    /// Here is no secret, but there may be one there.
    #[error("what answers isn't a node without a secret: if the federation has one, --secret names its file")]
    NotOpen,
}

impl Meeting {
    /// For so many connections that one address makes at once before the oldest goes for the newest.
    pub(super) fn new(secret: Option<&Secret>, made_at_once: usize) -> Self {
        let key = |secret: &Secret| PreSharedKey::new(secret.derive("peerfold 2026 private network v1", &[]));
        let gates = Gates::new(made_at_once);
        Self { key: secret.map(key).map(PreSharedKeyOf), refused: Arc::default(), gates }
    }

    /// Whether there is a secret, so that all goes over TCP.
    pub(super) fn is_private(&self) -> bool {
        self.key.is_some()
    }

    /// Connections that were given up because their address made too many at once.
    pub(super) fn given_up(&self) -> u64 {
        self.gates.given_up()
    }

    /// A new connection, in which what follows can be negotiated.
    pub(super) async fn shake_hands<S>(self, socket: S, endpoint: ConnectedPoint) -> io::Result<FirstBytes<Stream<S>>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let making = match &endpoint {
            ConnectedPoint::Listener { send_back_addr, .. } => ip(send_back_addr).map(|ip| self.gates.enter(ip)),
            ConnectedPoint::Dialer { .. } => None,
        };
        let stream = match &self.key {
            None => Stream::Open(socket),
            Some(PreSharedKeyOf(key)) => match handshake(*key, socket, making.as_ref()).await {
                Ok(stream) => Stream::Private(Box::new(stream)),
                Err(PnetError::HandshakeError(error) | PnetError::IoError(error)) => {
                    return Err(io::Error::new(error.kind(), Unmet::HungUp));
                }
            },
        };
        Ok(FirstBytes { stream, seen: 0, endpoint, meeting: self, making })
    }
}

/// The private network's, unless the connection is given up meanwhile.
async fn handshake<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    key: PreSharedKey,
    socket: S,
    making: Option<&Making>,
) -> Result<PnetOutput<S>, PnetError> {
    let handshake = PnetConfig::new(key).handshake(socket);
    let Some(making) = making else { return handshake.await };
    tokio::select! {
        biased;
        met = handshake => met,
        error = making.given_up() => Err(PnetError::IoError(error)),
    }
}

/// A connection with the private network's layer, or without.
pub(super) enum Stream<S> {
    Open(S),
    Private(Box<PnetOutput<S>>),
}

/// A connection that ends if the other side doesn't begin as every node does.
pub(super) struct FirstBytes<S> {
    stream: S,
    /// How many of the first bytes were as they should be.
    seen: usize,
    endpoint: ConnectedPoint,
    meeting: Meeting,
    /// As long as the handshake lasts that somebody else has begun.
    making: Option<Making>,
}

impl<S> FirstBytes<S> {
    fn is_met(&self) -> bool {
        self.seen == FIRST.len()
    }

    /// What was read is right, as far as it is of the first bytes.
    fn look(&mut self, read: &[u8]) -> io::Result<()> {
        let expected = &FIRST[self.seen..];
        let counted = read.len().min(expected.len());
        if read[..counted] == expected[..counted] {
            self.seen += counted;
            return Ok(());
        }
        if let ConnectedPoint::Listener { send_back_addr, .. } = &self.endpoint {
            self.meeting.refused.another(send_back_addr, self.meeting.is_private());
        }
        let unmet = if self.meeting.is_private() { Unmet::OtherSecret } else { Unmet::NotOpen };
        Err(io::Error::new(io::ErrorKind::InvalidData, unmet))
    }

    /// A connection that breaks off, in words.
    fn broken(&self, error: io::Error) -> io::Error {
        if self.is_met() {
            return error;
        }
        let unmet = if self.meeting.is_private() { Unmet::HungUp } else { Unmet::OpenHungUp };
        io::Error::new(error.kind(), unmet)
    }
}

impl<S: AsyncRead + Unpin> FirstBytes<S> {
    /// A connection that breaks off while something is sent. Whoever refuses this side hangs up before it has read all,
    /// so what it sent before, which says why, is often still unread here.
    fn broken_off(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let mut came = [0; FIRST.len()];
        if !self.is_met()
            && let Poll::Ready(Ok(read)) = Pin::new(&mut self.stream).poll_read(cx, &mut came)
            && let Err(unmet) = self.look(&came[..read])
        {
            return unmet;
        }
        self.broken(error)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let read = match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(read) => read.map_err(|error| this.broken(error))?,
            Poll::Pending => {
                // Only of one that says nothing.
                this.making.as_ref().map_or(Ok(()), |making| making.check(cx))?;
                return Poll::Pending;
            }
        };
        if !this.is_met() && !buf.is_empty() {
            if read == 0 {
                return Poll::Ready(Err(this.broken(io::ErrorKind::UnexpectedEof.into())));
            }
            this.look(&buf[..read])?;
        }
        if this.making.as_mut().is_some_and(|making| making.is_made_by(read)) {
            this.making = None;
        }
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let sent = ready!(Pin::new(&mut this.stream).poll_write(cx, buf));
        Poll::Ready(sent.map_err(|error| this.broken_off(cx, error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let sent = ready!(Pin::new(&mut this.stream).poll_flush(cx));
        Poll::Ready(sent.map_err(|error| this.broken_off(cx, error)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Open(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Private(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Open(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Private(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Open(stream) => Pin::new(stream).poll_flush(cx),
            Self::Private(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Open(stream) => Pin::new(stream).poll_close(cx),
            Self::Private(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn the_names_of_a_secret_federation_follow_from_its_secret() {
        let (federation, secret) = (FederationId::new("ward", "1"), Secret::from_bytes([1; 32]));
        let other = Secret::from_bytes([2; 32]);
        let topics = [None, Some(&secret), Some(&other)].map(|secret| topic(federation, secret).hash());
        let keys = [None, Some(&secret), Some(&other)].map(|secret| table_key(federation, secret).to_vec());
        for n in 0..3 {
            for m in 0..n {
                assert!(topics[n] != topics[m] && keys[n] != keys[m]);
            }
        }
        assert_ne!(topic(FederationId::new("ward", "2"), Some(&secret)).hash(), topics[1]);
    }

    /// A peer that sends this, reads nothing and hangs up.
    struct HangsUp(&'static [u8]);

    impl AsyncRead for HangsUp {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_read(&mut Context::from_waker(std::task::Waker::noop()), buf)
        }
    }

    impl AsyncWrite for HangsUp {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Which of both comes first, its bytes or the news that it hung up, is the network's choice.
    #[tokio::test]
    async fn who_hangs_up_is_asked_for_its_secret_whatever_comes_first() {
        let dialer = || ConnectedPoint::Dialer {
            address: "/ip4/127.0.0.1/tcp/1".parse().unwrap(),
            role_override: libp2p::core::Endpoint::Dialer,
            port_use: libp2p::core::transport::PortUse::Reuse,
        };
        let meet = |sends| Meeting::new(None, 8).shake_hands(HangsUp(sends), dialer());
        for (sends, unmet) in [(&b"the 24 bytes of a nonce."[..], Unmet::NotOpen), (&[], Unmet::OpenHungUp)] {
            let error = meet(sends).await.unwrap().write(FIRST).await.unwrap_err();
            assert_eq!(error.to_string(), unmet.to_string());
            assert!(error.to_string().contains("--secret names its file"), "{error}");
        }
        // A node without a secret that hangs up later.
        let mut met = meet(FIRST).await.unwrap();
        met.read_exact(&mut [0; FIRST.len()]).await.unwrap();
        let error = met.write(FIRST).await.unwrap_err();
        assert!(error.get_ref().is_none(), "{error}");
    }

    #[test]
    fn quic_is_refused_by_the_address_that_names_it() {
        let peer = "12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7";
        let listed = |address: &str| vec![format!("{address}/p2p/{peer}").parse::<PeerAddress>().unwrap()];
        let listen = |address: &str| vec![address.parse::<Multiaddr>().unwrap()];
        check_tcp(&listed("/dns/a.example/tcp/1"), &listen("/ip4/0.0.0.0/tcp/0")).unwrap();
        let error = check_tcp(&[], &listen("/ip4/0.0.0.0/udp/0/quic-v1")).unwrap_err();
        assert!(error.key == "listen" && error.to_string().contains("/tcp/"), "{error}");
        let error = check_tcp(&listed("/dns/a.example/udp/1/quic-v1"), &[]).unwrap_err();
        assert!(error.key == "bootstrap" && error.to_string().contains("/tcp/"), "{error}");
    }
}
