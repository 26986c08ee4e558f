//! The protocols of a node, put together.

use super::{
    about::{About, about},
    admission::Admission,
    candidates::Candidates,
    dial_back::DialBack,
    doors::Doors,
    members_only::MembersOnly,
    metered_gossip::{Gossip, Gossipsub, Metered},
    patient::{LONGEST, Patience, Patient},
    private::topic,
    protocols::{BLOB_PROTOCOL, IDENTIFY_PROTOCOL, KADEMLIA_PROTOCOL, SYNC_PROTOCOL, SYNC_PROTOCOL_2},
    settings::{NetworkSettings, SwarmLimits},
    shortage::affordable_pending,
    trust::Trust,
    wire::{BlobCodec, SyncCodec},
};
use crate::{
    entries::Membership,
    secret::Secret,
    weights::{FederationId, MAX_ENTRY_BYTES},
};
use libp2p::{
    allow_block_list,
    allow_block_list::BlockedPeers,
    connection_limits::{self, ConnectionLimits},
    dcutr,
    gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, ValidationMode, WhitelistSubscriptionFilter},
    identify,
    kad::{self, StoreInserts, store::MemoryStore},
    mdns, ping, relay,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    upnp,
};
use libp2p_identity::Keypair;
use std::{num::NonZeroUsize, sync::Arc};

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    // First, so that they refuse a connection before the other protocols see it.
    pub(super) limits: connection_limits::Behaviour,
    pub(super) blocked: allow_block_list::Behaviour<BlockedPeers>,
    pub(super) admission: Admission,
    pub(super) doors: Doors,
    pub(super) gossip: MembersOnly<Gossip>,
    pub(super) sync: MembersOnly<request_response::Behaviour<Patient<SyncCodec>>>,
    pub(super) blobs: MembersOnly<request_response::Behaviour<Patient<BlobCodec>>>,
    pub(super) about: MembersOnly<About>,
    pub(super) kad: kad::Behaviour<MemoryStore>,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) relays: relay::client::Behaviour,
    pub(super) punching: dcutr::Behaviour,
    pub(super) candidates: Candidates,
    pub(super) dial_back: DialBack,
    pub(super) upnp: Toggle<upnp::tokio::Behaviour>,
}

/// The limits of connections being made, and of each peer's; [`Doors`] has the others. No connection at all if the node
/// is cut off.
pub(super) fn connection_limits(limits: &SwarmLimits, cut: bool) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established(cut.then_some(0))
        .with_max_established_per_peer(Some(limits.connections_per_peer))
        .with_max_pending_incoming(Some(affordable_pending(limits.pending)))
        .with_max_pending_outgoing(Some(affordable_pending(limits.pending)))
}

impl Behaviour {
    pub(super) fn new(
        keypair: &Keypair,
        federation: FederationId,
        membership: &Arc<Membership>,
        settings: &NetworkSettings,
        secret: Option<&Secret>,
        trust: Trust,
        relays: relay::client::Behaviour,
    ) -> Result<Self, String> {
        let me = keypair.public().to_peer_id();
        let limits = &settings.swarm;
        let patience = Patience { answer: limits.request_timeout, stall: limits.stall_timeout };
        let requests = || {
            request_response::Config::default()
                // `patience` ends what doesn't get on long before.
                .with_request_timeout(LONGEST)
                .with_max_concurrent_streams(limits.streams)
        };
        let both = |protocol| [(protocol, ProtocolSupport::Full)];
        let topic = topic(federation, secret);
        let mut gossip = Gossip::new(limits, trust.clone(), |metered| gossipsub(&topic, limits, metered))?;
        gossip.subscribe(&topic).map_err(|error| error.to_string())?;
        // It would tell everybody on the local network this node's peer id and where it listens.
        let found = (!settings.no_mdns && secret.is_none())
            .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), me))
            .transpose();
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "peers on the local network can't be looked for (mDNS)");
            None
        });
        let blobs = MembersOnly::new(
            request_response::Behaviour::with_codec(Patient::new(BlobCodec, patience), both(BLOB_PROTOCOL), requests()),
            membership.clone(),
        );
        let agent = concat!("peerfold/", env!("CARGO_PKG_VERSION")).to_owned();
        // Others are told the addresses that may lead here: see `network/reach`.
        let identity = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), keypair.public())
            .with_agent_version(agent)
            .with_push_listen_addr_updates(true)
            .with_hide_listen_addrs(true);
        Ok(Self {
            limits: connection_limits::Behaviour::new(connection_limits(limits, false)),
            blocked: allow_block_list::Behaviour::default(),
            admission: Admission::new(membership.clone(), settings.bootstrap.iter().map(|listed| listed.peer)),
            doors: Doors::new(limits, trust),
            gossip: MembersOnly::new(gossip, membership.clone()),
            sync: MembersOnly::new(
                request_response::Behaviour::with_codec(
                    Patient::new(SyncCodec, patience),
                    [SYNC_PROTOCOL_2, SYNC_PROTOCOL].map(|protocol| (protocol, ProtocolSupport::Full)),
                    requests(),
                ),
                membership.clone(),
            ),
            blobs: if settings.relay_weights { blobs } else { blobs.direct_only() },
            about: MembersOnly::new(about(ProtocolSupport::Inbound), membership.clone()),
            kad: kad(keypair, limits),
            identify: identify::Behaviour::new(identity),
            ping: ping::Behaviour::default(),
            mdns: found.into(),
            relays,
            punching: dcutr::Behaviour::new(me),
            candidates: Candidates::new(),
            dial_back: DialBack::new(limits.dial_backs),
            upnp: settings.upnp.then(upnp::tokio::Behaviour::default).into(),
        })
    }
}

fn gossipsub(topic: &IdentTopic, limits: &SwarmLimits, metered: Metered) -> Result<Gossipsub, String> {
    // An entry proves itself, so messages carry neither author nor signature. Gossipsub doesn't score peers: its scores
    // count addresses, and a whole hospital may share one. The core drops peers that send rubbish.
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| MessageId::from(blake3::hash(&message.data).as_bytes().to_vec()))
        // Entries are short and rare, so they go to every subscribed peer at once instead of after the next heartbeat.
        .flood_publish(true)
        .max_transmit_size_for_topic(2 * MAX_ENTRY_BYTES, topic.hash())
        .duplicate_cache_time(limits.seen_for)
        .build()
        .map_err(|error| error.to_string())?;
    let filter = WhitelistSubscriptionFilter([topic.hash()].into());
    let anonymous = MessageAuthenticity::Anonymous;
    Gossipsub::new_with_subscription_filter_and_transform(anonymous, config, filter, metered).map_err(str::to_owned)
}

fn kad(keypair: &Keypair, limits: &SwarmLimits) -> kad::Behaviour<MemoryStore> {
    let me = keypair.public().to_peer_id();
    let store = kad::store::MemoryStoreConfig {
        // Only provider records are accepted, no values.
        max_records: 0,
        max_value_bytes: 0,
        max_providers_per_key: limits.members,
        // And this node's own, for which there is always room.
        max_provided_keys: limits.federations + 1,
    };
    let mut config = kad::Config::new(KADEMLIA_PROTOCOL);
    config
        .set_query_timeout(limits.table_timeout)
        .set_provider_record_ttl(Some(limits.provider_ttl))
        .set_provider_publication_interval(None)
        // What peers announce is taken in as far as there is room for it: see `Announcements`.
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_parallelism(NonZeroUsize::new(5).unwrap_or(NonZeroUsize::MIN));
    let mut kad = kad::Behaviour::with_config(me, MemoryStore::with_config(me, store), config);
    kad.set_mode(Some(kad::Mode::Server));
    kad
}
