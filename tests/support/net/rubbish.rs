//! A peer that completes the handshake and then sends meaningless bytes.

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    StreamProtocol, SwarmBuilder, noise,
    request_response::{self, Codec, Config, Message, ProtocolSupport},
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use peerfold::p2p::PeerAddress;
use std::{io, time::Duration};

/// Protocols of a node, each of which must stand anything.
pub const PROTOCOLS: [&str; 7] = [
    "/peerfold/sync/1",
    "/peerfold/sync/2",
    "/peerfold/blob/1",
    "/peerfold/kad/1",
    "/meshsub/1.1.0",
    "/ipfs/id/push/1.0.0",
    "/ipfs/ping/1.0.0",
];
/// More than a node may read of one message.
const ENOUGH: u64 = 64 << 20;
/// Requests that are open at once.
const AT_ONCE: usize = 8;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What is sent on a stream, whoever has opened it.
#[derive(Debug, Clone)]
pub enum Rubbish {
    /// These bytes, and the end.
    Bytes(Vec<u8>),
    /// These bytes again and again, as long as they are taken, up to [`ENOUGH`].
    Endless(Vec<u8>),
    /// These bytes, and then nothing, without an end.
    HalfOpen(Vec<u8>),
}

impl Rubbish {
    async fn send(&self, io: &mut (impl AsyncWrite + Unpin + Send)) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => io.write_all(bytes).await,
            Self::Endless(bytes) => {
                for _ in 0..ENOUGH / bytes.len() as u64 {
                    io.write_all(bytes).await?;
                }
                Ok(())
            }
            Self::HalfOpen(bytes) => {
                io.write_all(bytes).await?;
                io.flush().await?;
                std::future::pending().await
            }
        }
    }
}

/// Sends rubbish as the question and as the answer, and reads whatever comes.
#[derive(Clone)]
struct RubbishCodec(Rubbish);

impl Codec for RubbishCodec {
    type Protocol = StreamProtocol;
    type Request = ();
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        // Answered before it is read.
        Ok(())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut answer = Vec::new();
        io.take(ENOUGH).read_to_end(&mut answer).await.map(drop)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.0.send(io).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.0.send(io).await
    }
}

/// Sends rubbish to a node over one protocol, several streams at once, until it is stopped. What the node asks over that
/// protocol is answered with rubbish too. Comes to an end by itself only when the node lets it in no more.
pub async fn attack(node: PeerAddress, protocol: &'static str, rubbish: Rubbish) {
    let config = Config::default().with_request_timeout(REQUEST_TIMEOUT);
    let protocols = [(StreamProtocol::new(protocol), ProtocolSupport::Full)];
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|_| request_response::Behaviour::with_codec(RubbishCodec(rubbish), protocols, config))
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(REQUEST_TIMEOUT))
        .build();
    swarm.dial(DialOpts::peer_id(node.peer).addresses(vec![node.address]).build()).unwrap();
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => {
                for _ in 0..AT_ONCE {
                    swarm.behaviour_mut().send_request(&node.peer, ());
                }
            }
            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => return,
            SwarmEvent::Behaviour(event) => match event {
                request_response::Event::Message { message: Message::Request { channel, .. }, .. } => {
                    let _ = swarm.behaviour_mut().send_response(channel, ());
                }
                request_response::Event::Message { message: Message::Response { .. }, .. }
                | request_response::Event::OutboundFailure { .. }
                    if swarm.is_connected(&node.peer) =>
                {
                    swarm.behaviour_mut().send_request(&node.peer, ());
                }
                _ => {}
            },
            _ => {}
        }
    }
}
