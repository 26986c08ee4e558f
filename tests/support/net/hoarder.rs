//! A peer that asks for blobs and never reads what it gets.

use futures::{AsyncRead, AsyncWrite, StreamExt};
use libp2p::{
    StreamProtocol, SwarmBuilder, noise,
    request_response::{self, Codec, Config, ProtocolSupport},
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use peerfold::p2p::{BLOB_PROTOCOL, BlobCodec, BlobRequest, BlobResponse, PeerAddress};
use std::{future::pending, io, time::Duration};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes requests as a node does, and waits for ever before it reads an answer.
#[derive(Clone, Default)]
struct Unread(BlobCodec);

impl Codec for Unread {
    type Protocol = StreamProtocol;
    type Request = BlobRequest;
    type Response = BlobResponse;

    async fn read_request<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<BlobRequest>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.0.read_request(protocol, io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<BlobResponse>
    where
        T: AsyncRead + Unpin + Send,
    {
        pending().await
    }

    async fn write_request<T>(&mut self, protocol: &StreamProtocol, io: &mut T, request: BlobRequest) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.0.write_request(protocol, io, request).await
    }

    async fn write_response<T>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
        response: BlobResponse,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.0.write_response(protocol, io, response).await
    }
}

/// Sends a node so many of these requests on each of so many connections, and reads nothing. Ends when the node closes one
/// of them: it may have refused all requests on another.
pub async fn hoard(node: PeerAddress, request: BlobRequest, connections: usize, times: usize) {
    let config = Config::default().with_request_timeout(DAY).with_max_concurrent_streams(times);
    let protocols = [(BLOB_PROTOCOL, ProtocolSupport::Full)];
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| request_response::Behaviour::with_codec(Unread::default(), protocols, config))
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(DAY))
        .build();
    for _ in 0..connections {
        swarm.dial(DialOpts::unknown_peer_id().address(node.address.clone()).build()).unwrap();
    }
    let mut made = 0;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => {
                made += 1;
                if made == connections {
                    for _ in 0..connections * times {
                        swarm.behaviour_mut().send_request(&node.peer, request.clone());
                    }
                }
            }
            SwarmEvent::ConnectionClosed { .. } => return,
            _ => {}
        }
    }
}
