//! The state of the network's task, and the operations that its parts share. Only this touches the swarm.
//!
//! On top of it are `outputs`, `discovery`, `events` and `commands`, each a part of the task's work, and `task`, which
//! runs them.

use super::{
    Setup, bans,
    connected::{Peers, Unreached},
    jobs::{Done, Housekeeping},
    pending::{Pending, Protocol},
    ports::{self, Ports},
    table_queries::TableQueries,
};
use crate::{
    cache::{Cache, KnownPeer},
    entries::{Board, MemberList, Membership},
    p2p::{
        addresses::{PeerAddress, is_relayed},
        announcements::{Announcements, Places},
        behaviour::Behaviour,
        core::{Answers, Core, CoreConfig, FetchError, HandedOver, Input, Rate, Rates, Room},
        figures::Counters,
        lookout::Lookout,
        message::BlobResponse,
        private::{Meeting, table_key, topic},
        punch_again::PunchAgain,
        redial::Redial,
        reservations::{Outside, Reservations},
        settings::{FederationName, NetworkSettings, SwarmLimits},
        shortage::{Shortage, Strangers},
        status::Refusals,
        surroundings::Surroundings,
        transport::{NetworkError, default_listen, listen_on, listen_on_some, relayed_swarm},
        trust::Trust,
    },
    weights::{BlobHash, FederationId, Root},
};
use libp2p::{
    Multiaddr, Swarm,
    core::transport::ListenerId,
    gossipsub::TopicHash,
    request_response::{InboundRequestId, ResponseChannel},
    swarm::ConnectionId,
};
use libp2p_identity::{Keypair, PeerId};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering, mpsc as std_mpsc},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::Instant,
};

/// How long the start waits for listeners to report their addresses. One on an interface without an address never does.
pub(super) const LISTENING_WITHIN: Duration = Duration::from_secs(2);

pub(super) type Ready = std_mpsc::SyncSender<Result<Vec<PeerAddress>, NetworkError>>;
type Waiting = Vec<oneshot::Sender<Result<(), FetchError>>>;

/// Every field lives as long as the task unless it says otherwise; for collections, the line says how long their items
/// live.
pub(super) struct Driver {
    /// Connections and protocols.
    pub(super) swarm: Swarm<Behaviour>,
    /// Makes the decisions: it is told of everything that happens, and asked what to do after each.
    pub(super) core: Core,
    /// Peers to redial when they are lost: those on the list for ever, others until they are forgotten.
    pub(super) redial: Redial,
    /// The queries to the table for members, and when the next one is due.
    pub(super) table_queries: TableQueries,
    /// The peers found since the start, and what we still have to hear from them.
    pub(super) lookout: Lookout,
    /// Each peer from its first connection to the end of its last.
    pub(super) peers: Peers,
    /// Who may take part. The swarm, the core and this share it.
    pub(super) membership: Arc<Membership>,
    /// Says when that has changed.
    pub(super) membership_changes: watch::Receiver<Option<Arc<MemberList>>>,
    /// The federation of this node; requests for others are turned away.
    pub(super) federation: FederationId,
    /// Where its entries are told.
    pub(super) topic: TopicHash,
    /// Whether the federation has a secret.
    pub(super) has_secret: bool,
    /// The federation's name, for callers on this machine.
    pub(super) named: Option<FederationName>,
    /// What the whole node has counted, for the same.
    pub(super) figures: Option<watch::Receiver<serde_json::Value>>,
    /// This node.
    pub(super) me: PeerId,
    /// The entries that are known, shared with the folder. No lock of it is held while another is taken.
    pub(super) board: Arc<Board>,
    /// Values, entries and peers on the disk: read and written by jobs, closed at the task's end.
    pub(super) cache: Cache,
    /// Called with sequence numbers of our own entries that peers show.
    pub(super) raise_above: Box<dyn Fn(u64) + Send>,
    /// Shared with the handle.
    pub(super) counters: Arc<Counters>,
    /// When the task began: the core's time counts from it.
    pub(super) began: Instant,
    /// Blocking jobs, each until it is done. At the end they are waited for.
    pub(super) jobs: JoinSet<Done>,
    /// What the next job will write to the cache. Emptied when that job begins.
    pub(super) housekeeping: Housekeeping,
    /// Whether such a job runs: there is one at a time.
    pub(super) keeping: bool,
    /// When the next one may begin.
    pub(super) keep_from: Duration,
    /// Requests in both directions, until they are answered.
    pub(super) pending: Pending,
    /// Callers waiting for a value, until it has arrived, can't be fetched, or nobody waits any more.
    pub(super) waiting: BTreeMap<Root, Waiting>,
    /// Callers waiting until this node has handed over what it published.
    pub(super) leaving: Vec<oneshot::Sender<HandedOver>>,
    /// Callers waiting until this node has looked around.
    pub(super) arriving: Vec<oneshot::Sender<Surroundings>>,
    /// Peers that were dropped for what they did, until they are let in again.
    pub(super) banned: BTreeMap<PeerId, Banned>,
    /// Whom room is kept for.
    pub(super) trust: Trust,
    /// Answers that peers have yet to read, and requests that wait for room for theirs.
    pub(super) answers: Answers<(Protocol, InboundRequestId), (ResponseChannel<BlobResponse>, Vec<BlobHash>)>,
    /// How many requests peers may send.
    pub(super) requests: Rates,
    /// How many bytes of values peers may be given.
    pub(super) upload: Rates,
    /// Requests for blobs that were put off so far.
    pub(super) put_off: u64,
    /// How this node is reached from outside.
    pub(super) outside: Outside,
    /// Since when a router is asked to open ports, until anything is heard of it or has been said of its silence.
    pub(super) router_silent_since: Option<Duration>,
    /// The relays by which it is, if it needs any.
    pub(super) reservations: Reservations,
    /// Connections through what is between, from when they are made until they are told of: a moment.
    pub(super) punched: BTreeSet<ConnectionId>,
    /// When it is tried again to replace relayed connections.
    pub(super) punch_again: PunchAgain,
    /// Peers that couldn't be reached, until they are. Bounded where they are added.
    pub(super) unreached: BTreeMap<PeerId, Unreached>,
    /// Whether weights may go by relays.
    pub(super) relay_weights: bool,
    /// Peers of whom it is to be told how they are reached, and when. As many at most as are connected.
    pub(super) untold: BTreeSet<PeerId>,
    pub(super) tell_ways_at: Option<Duration>,
    /// Whether the system chose the ports, so that they are remembered.
    pub(super) chose_ports: bool,
    /// What other nodes have announced to this node's part of the table.
    pub(super) table: Announcements,
    /// What was refused so far.
    pub(super) refusals: Refusals,
    pub(super) meeting: Meeting,
    /// Listeners that haven't reported an address yet.
    pub(super) silent: Vec<ListenerId>,
    /// The caller waiting for them, only at the start.
    pub(super) ready: Option<Ready>,
    /// The limits on connections.
    pub(super) limits: SwarmLimits,
    /// See [`NetworkOptions::cut`](crate::p2p::NetworkOptions::cut).
    pub(super) cut: Option<watch::Receiver<bool>>,
    /// Its last value.
    pub(super) is_cut: bool,
    /// Warnings about connections that were refused.
    pub(super) shortage: Shortage,
    /// What is said about peers that may not take part.
    pub(super) strangers: Strangers,
}

/// A peer that is kept out.
pub(super) struct Banned {
    pub(super) until: Duration,
    pub(super) reason: String,
}

/// Seconds of its rate that a peer may send requests at once.
const BURST_SECONDS: f64 = 8.0;
/// The part of the requests that wait which may be one peer's.
const WAITING_PER_PEER: usize = 8;

impl Driver {
    /// Listens, and knows what it needs. Inside the runtime.
    pub(super) fn new(setup: Setup, counters: Arc<Counters>, ready: Ready) -> Result<Self, NetworkError> {
        let Setup {
            keypair,
            federation,
            layout,
            sampled,
            membership,
            membership_changes,
            board,
            cache,
            known,
            raise_above,
            options,
            ..
        } = setup;
        let settings = options.settings;
        let me = keypair.public().to_peer_id();
        let trust =
            Trust::new(board.clone(), membership.clone(), settings.bootstrap.iter().map(|address| address.peer));
        let secret = options.secret.as_ref();
        let meeting = Meeting::new(secret, settings.swarm.pending_per_address.div_ceil(2));
        if meeting.is_private() {
            let checked = settings.check_private();
            checked.map_err(|mistake| NetworkError::Private { address: mistake.value, reason: mistake.what })?;
        }
        let behaviour = |keypair: &Keypair, relays| {
            let made = Behaviour::new(keypair, federation, &membership, &settings, secret, trust.clone(), relays);
            made.map_err(Into::into)
        };
        let mut swarm = relayed_swarm(&keypair, &meeting, behaviour, settings.swarm.handshake_timeout)?;
        let chose_ports = settings.listen.is_empty();
        let silent = if chose_ports {
            let noted = cache.notes(ports::NOTE).unwrap_or_default();
            let ports = noted.get(ports::NOTE).map(|note| Ports::decode(note)).unwrap_or_default();
            listen_on_some(&mut swarm, &default_listen(0, meeting.is_private()), |address| ports.again(address))?
        } else {
            listen_on(&mut swarm, &settings.listen)?
        };
        let mut redial = Redial::new(options.seed);
        for peer in known.iter().filter(|known| known.peer != me && membership.allows(known.peer)) {
            let addresses = peer.addresses.iter().filter_map(|address| address.parse().ok());
            redial.remember(peer.peer, addresses, Duration::ZERO);
        }
        for PeerAddress { peer, address } in settings.bootstrap {
            if peer == me {
                tracing::warn!(%peer, "the bootstrap list names this node itself; it is left out");
            } else {
                redial.listed(peer, address, Duration::ZERO);
            }
        }
        let NetworkSettings { sync_every, limits, swarm: swarm_limits, relay_weights, upnp, .. } = settings;
        let config = CoreConfig { federation, me, layout, sampled, membership: membership.clone(), sync_every, limits };
        let mut core = Core::new(config, board.clone(), options.seed);
        let noted = cache.notes(bans::NOTE).unwrap_or_default();
        let bans = noted.get(bans::NOTE).map(|note| bans::decode(note, SystemTime::now())).unwrap_or_default();
        core.restore_bans(bans);
        let mut banned = BTreeMap::new();
        for (peer, ban) in core.bans().into_iter().filter(|(_, ban)| !ban.left.is_zero()) {
            swarm.behaviour_mut().blocked.block_peer(peer);
            banned.insert(peer, Banned { until: ban.left, reason: "it was dropped in the last run".to_owned() });
        }
        let room = Room {
            per_peer: swarm_limits.answers_per_peer.as_u64(),
            all: swarm_limits.answers.as_u64(),
            waiting_per_peer: (swarm_limits.waiting / WAITING_PER_PEER).max(1),
            waiting: swarm_limits.waiting,
        };
        let requests = Rates::new(
            Rate::new(swarm_limits.request_rate, BURST_SECONDS),
            Rate::new(swarm_limits.requests_rate, BURST_SECONDS),
        );
        let upload = Rates::new(
            Rate::bounded(swarm_limits.upload_per_peer.as_u64()),
            Rate::bounded(swarm_limits.upload.as_u64()),
        );
        Ok(Self {
            swarm,
            core,
            redial,
            table_queries: TableQueries::new(table_key(federation, secret), sync_every),
            lookout: Lookout::default(),
            peers: Peers::default(),
            membership_changes,
            membership,
            federation,
            topic: topic(federation, secret).hash(),
            has_secret: secret.is_some(),
            named: options.named,
            figures: options.figures,
            me,
            board,
            cache,
            raise_above,
            counters,
            began: Instant::now(),
            jobs: JoinSet::new(),
            // What the last run left may exceed this run's quota.
            housekeeping: Housekeeping { retain: true, ..Housekeeping::default() },
            keeping: false,
            keep_from: Duration::ZERO,
            pending: Pending::default(),
            waiting: BTreeMap::new(),
            leaving: Vec::new(),
            arriving: Vec::new(),
            banned,
            trust,
            answers: Answers::new(room),
            requests,
            upload,
            put_off: 0,
            outside: Outside::default(),
            router_silent_since: upnp.then_some(Duration::ZERO),
            reservations: Reservations::new(swarm_limits.relays),
            punched: BTreeSet::new(),
            punch_again: PunchAgain::default(),
            unreached: BTreeMap::new(),
            relay_weights,
            untold: BTreeSet::new(),
            tell_ways_at: None,
            chose_ports,
            table: Announcements::new(Places { records: swarm_limits.announcements, ttl: swarm_limits.provider_ttl }),
            refusals: Refusals::default(),
            meeting,
            silent,
            ready: Some(ready),
            limits: swarm_limits,
            cut: options.cut,
            is_cut: false,
            shortage: Shortage::default(),
            strangers: Strangers::default(),
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn tell(&mut self, input: Input) {
        let now = self.now();
        self.core.handle(now, input);
    }

    /// Keeps a member's addresses for the next run, and dials it again when it is lost.
    pub(super) fn remember(&mut self, id: &PeerId) {
        let now = self.now();
        let Some(peer) = self.peers.by_id.get(id).filter(|peer| peer.member && !peer.addresses.is_empty()) else {
            return;
        };
        self.redial.remember(*id, peer.addresses.clone(), now);
        self.redial.connected(id);
        self.redial.moved(id, peer.addresses.clone());
        let last_seen = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let addresses = peer.addresses.iter().map(Multiaddr::to_string).collect();
        self.housekeeping.peers.push(KnownPeer { peer: *id, addresses, last_seen });
    }

    pub(super) fn sent(&mut self, peer: &PeerId, bytes: u64) {
        self.counters.sent.fetch_add(bytes, Ordering::Relaxed);
        if let Some(peer) = self.peers.by_id.get_mut(peer) {
            peer.sent += bytes;
        }
    }

    pub(super) fn received(&mut self, peer: &PeerId, bytes: u64) {
        self.counters.received.fetch_add(bytes, Ordering::Relaxed);
        let now = self.now();
        if let Some(peer) = self.peers.by_id.get_mut(peer) {
            peer.received += bytes;
            peer.seen = now;
        }
    }

    pub(super) fn tell_where(&mut self) {
        if let Some(ready) = self.ready.take() {
            if self.chose_ports {
                self.housekeeping.ports = Some(Ports::of(self.swarm.listeners()).encode());
            }
            let _ = ready.send(Ok(self.listening()));
        }
    }

    pub(super) fn listening(&self) -> Vec<PeerAddress> {
        let own = self.swarm.listeners().filter(|address| !is_relayed(address));
        own.map(|address| PeerAddress { peer: self.me, address: address.clone() }).collect()
    }
}
