//! A peer that speaks the protocols but follows none of the rules.

use futures::StreamExt;
use libp2p::{
    PeerId, Swarm, SwarmBuilder,
    gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, ValidationMode},
    noise,
    request_response::{self, Config, Message, ProtocolSupport, ResponseChannel},
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use libp2p_identity::Keypair;
use peerfold::{
    entries::Fingerprints,
    p2p::{
        BLOB_PROTOCOL, BlobCodec, BlobRequest, BlobResponse, PeerAddress, SYNC_PROTOCOL, SyncCodec, SyncRequest,
        SyncResponse,
    },
    weights::{Digest, FederationId},
};
use rand::random;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(NetworkBehaviour)]
struct Behaviour {
    gossip: gossipsub::Behaviour,
    sync: request_response::Behaviour<SyncCodec>,
    blob: request_response::Behaviour<BlobCodec>,
}

/// A peer under an identity of its own, which nobody has seen before.
pub struct Rogue {
    swarm: Swarm<Behaviour>,
    federation: FederationId,
}

/// What happens to it.
pub enum Happened {
    Connected(ConnectionId),
    /// Closed, or never made.
    Closed(ConnectionId),
    /// A peer listens to the federation's gossip.
    Subscribed(PeerId),
    SyncAsked(ConnectionId, SyncRequest, ResponseChannel<SyncResponse>),
    /// An answer of sync has left.
    SyncSaid(ConnectionId),
    /// A question of sync was answered.
    SyncAnswered(ConnectionId),
    BlobAsked(ConnectionId, BlobRequest, ResponseChannel<BlobResponse>),
    /// A question about blobs was answered, or what was told was noted.
    BlobAnswered(ConnectionId),
}

impl Rogue {
    /// One that pretends to be in this federation. Inside a runtime.
    pub fn new(federation: FederationId) -> Self {
        Self::of(Keypair::generate_ed25519(), federation)
    }

    /// One with an identity that somebody may have seen before.
    pub fn of(keypair: Keypair, federation: FederationId) -> Self {
        let gossip = gossipsub::ConfigBuilder::default()
            .validation_mode(ValidationMode::Anonymous)
            .message_id_fn(|message| MessageId::from(blake3::hash(&message.data).as_bytes().to_vec()))
            .build()
            .unwrap();
        let mut gossip = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, gossip).unwrap();
        gossip.subscribe(&topic(federation)).unwrap();
        let config = || Config::default().with_request_timeout(DAY);
        let behaviour = Behaviour {
            gossip,
            sync: request_response::Behaviour::with_codec(
                SyncCodec,
                [(SYNC_PROTOCOL, ProtocolSupport::Full)],
                config(),
            ),
            blob: request_response::Behaviour::with_codec(
                BlobCodec,
                [(BLOB_PROTOCOL, ProtocolSupport::Full)],
                config(),
            ),
        };
        let swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_quic()
            .with_behaviour(|_| behaviour)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(DAY))
            .build();
        Self { swarm, federation }
    }

    pub fn peer_id(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    /// Dials an address, whoever answers there and however often it is connected already.
    pub fn dial(&mut self, address: &PeerAddress) -> ConnectionId {
        let options = DialOpts::unknown_peer_id().address(address.address.clone()).build();
        let connection = options.connection_id();
        self.swarm.dial(options).unwrap();
        connection
    }

    /// Sends a message to all that listen. False if it can't be sent.
    pub fn gossip(&mut self, data: &[u8]) -> bool {
        let topic = topic(self.federation);
        self.swarm.behaviour_mut().gossip.publish(topic, data).is_ok()
    }

    /// Asks a peer to compare, with a digest that nobody has.
    pub fn compare(&mut self, peer: PeerId) {
        let request = SyncRequest::Compare { federation: self.federation, digest: Digest::from_bytes(random()) };
        self.swarm.behaviour_mut().sync.send_request(&peer, request);
    }

    /// Asks a peer for blobs, or tells it what this one holds.
    pub fn blob(&mut self, peer: PeerId, request: BlobRequest) {
        self.swarm.behaviour_mut().blob.send_request(&peer, request);
    }

    /// Answers a question of sync; who asked may be gone.
    pub fn say(&mut self, channel: ResponseChannel<SyncResponse>, response: SyncResponse) {
        let _ = self.swarm.behaviour_mut().sync.send_response(channel, response);
    }

    /// Answers a question about blobs; who asked may be gone.
    pub fn give(&mut self, channel: ResponseChannel<BlobResponse>, response: BlobResponse) {
        let _ = self.swarm.behaviour_mut().blob.send_response(channel, response);
    }

    /// Waits for what happens next. Has to be called all the time: nothing moves without.
    pub async fn next(&mut self) -> Happened {
        loop {
            let happened = match self.swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { connection_id, .. } => Some(Happened::Connected(connection_id)),
                SwarmEvent::ConnectionClosed { connection_id, .. }
                | SwarmEvent::OutgoingConnectionError { connection_id, .. } => Some(Happened::Closed(connection_id)),
                SwarmEvent::Behaviour(event) => protocol(event),
                _ => None,
            };
            if let Some(happened) = happened {
                return happened;
            }
        }
    }
}

fn protocol(event: BehaviourEvent) -> Option<Happened> {
    use request_response::Event;
    match event {
        BehaviourEvent::Gossip(gossipsub::Event::Subscribed { peer_id, .. }) => Some(Happened::Subscribed(peer_id)),
        BehaviourEvent::Gossip(_) => None,
        BehaviourEvent::Sync(event) => match event {
            Event::Message { connection_id, message, .. } => Some(match message {
                Message::Request { request, channel, .. } => Happened::SyncAsked(connection_id, request, channel),
                Message::Response { .. } => Happened::SyncAnswered(connection_id),
            }),
            Event::ResponseSent { connection_id, .. } => Some(Happened::SyncSaid(connection_id)),
            // It was refused, which is an answer too.
            Event::OutboundFailure { connection_id, .. } => Some(Happened::SyncAnswered(connection_id)),
            Event::InboundFailure { .. } => None,
        },
        BehaviourEvent::Blob(event) => match event {
            Event::Message { connection_id, message, .. } => Some(match message {
                Message::Request { request, channel, .. } => Happened::BlobAsked(connection_id, request, channel),
                Message::Response { .. } => Happened::BlobAnswered(connection_id),
            }),
            Event::OutboundFailure { connection_id, .. } => Some(Happened::BlobAnswered(connection_id)),
            Event::ResponseSent { .. } | Event::InboundFailure { .. } => None,
        },
    }
}

fn topic(federation: FederationId) -> IdentTopic {
    IdentTopic::new(federation.to_string())
}

/// Fingerprints that differ from everybody's in every bucket.
pub fn random_fingerprints() -> Fingerprints {
    Fingerprints(vec![[0; 16]; 256].into_iter().map(|_| random()).collect::<Vec<_>>().try_into().unwrap())
}
