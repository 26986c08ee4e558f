//! The task that does what the core says: it alone touches the swarm.

use super::{
    Command, Figures, Setup,
    connected::Peers,
    discovery::Discovery,
    jobs::{self, Done, Housekeeping},
};
use crate::{
    cache::{Cache, KnownPeer},
    entries::Board,
    p2p::{
        addresses::can_be_dialled,
        behaviour::{Behaviour, BehaviourEvent, connection_limits, topic},
        core::{
            Core, CoreConfig, FetchError, HandedOver, Heard, Input, Output, RequestFailed, RequestId, Token, Verdict,
        },
        lookout::{Facts, Lookout},
        message::{BlobRequest, BlobResponse, SyncRequest, SyncResponse},
        options::PeerAddress,
        redial::Redial,
        settings::{FederationName, NetworkSettings, SwarmLimits},
        shortage::Shortage,
        status::NetworkStatus,
        surroundings::Surroundings,
        transport::{NetworkError, default_listen, listen_on, listen_on_some, swarm},
        wire::WireBytes,
    },
    weights::{FederationId, Root},
};
use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm,
    core::transport::ListenerId,
    gossipsub::{self, MessageAcceptance, MessageId, PublishError},
    ping,
    request_response::{self, Message, OutboundFailure, OutboundRequestId, ResponseChannel},
    swarm::{SwarmEvent, dial_opts::DialOpts, dial_opts::PeerCondition},
};
use libp2p_identity::PeerId;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::Ordering, mpsc as std_mpsc},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};

/// Requests for blobs that are answered at once, over all peers; further ones fail, and are asked again.
const MAX_SERVING: usize = 32;
/// How long the start waits for listeners to say where they listen: one on an interface without an address never does.
const LISTENING_WITHIN: Duration = Duration::from_secs(2);

pub(super) type Ready = std_mpsc::SyncSender<Result<Vec<PeerAddress>, NetworkError>>;
type Waiting = Vec<oneshot::Sender<Result<(), FetchError>>>;

pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    core: Core,
    pub(super) redial: Redial,
    pub(super) discovery: Discovery,
    pub(super) lookout: Lookout,
    pub(super) peers: Peers,
    federation: FederationId,
    /// What the federation is called, for who asks on this machine.
    named: Option<FederationName>,
    me: PeerId,
    board: Arc<Board>,
    cache: Cache,
    raise_above: Box<dyn Fn(u64) + Send>,
    figures: Arc<Figures>,
    began: Instant,
    jobs: JoinSet<Done>,
    housekeeping: Housekeeping,
    keeping: bool,
    serving: usize,
    tokens: Token,
    verdicts: BTreeMap<Token, (MessageId, PeerId)>,
    sync_replies: BTreeMap<Token, (PeerId, ResponseChannel<SyncResponse>)>,
    blob_replies: BTreeMap<Token, (PeerId, ResponseChannel<BlobResponse>)>,
    sync_requests: BTreeMap<OutboundRequestId, RequestId>,
    blob_requests: BTreeMap<OutboundRequestId, RequestId>,
    waiting: BTreeMap<Root, Waiting>,
    /// Who waits until this node has handed over what is its own.
    leaving: Vec<oneshot::Sender<HandedOver>>,
    /// Who waits until this node has looked around.
    arriving: Vec<oneshot::Sender<Surroundings>>,
    banned: BTreeMap<PeerId, Duration>,
    /// Listeners that have not said where they listen, and who waits for them.
    silent: Vec<ListenerId>,
    ready: Option<Ready>,
    /// What connections are bounded by.
    limits: SwarmLimits,
    /// See [`NetworkOptions::cut`](crate::p2p::NetworkOptions::cut).
    cut: Option<watch::Receiver<bool>>,
    is_cut: bool,
    /// What is said of connections that could not be taken.
    shortage: Shortage,
}

impl Driver {
    /// Listens, and knows what it needs. Inside the runtime.
    pub(super) fn new(setup: Setup, figures: Arc<Figures>, ready: Ready) -> Result<Self, NetworkError> {
        let Setup { keypair, federation, layout, board, cache, known, raise_above, options, .. } = setup;
        let settings = options.settings;
        let me = keypair.public().to_peer_id();
        let behaviour = Behaviour::new(&keypair, federation, &settings);
        let behaviour = behaviour.map_err(|reason| NetworkError::Start { reason })?;
        let mut swarm = swarm(&keypair, |_| behaviour)?;
        let silent = if settings.listen.is_empty() {
            listen_on_some(&mut swarm, &default_listen(0))?
        } else {
            listen_on(&mut swarm, &settings.listen)?
        };
        let mut redial = Redial::new(options.seed);
        for peer in known.iter().filter(|known| known.peer != me) {
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
        let NetworkSettings { sync_every, limits, swarm: swarm_limits, .. } = settings;
        let config = CoreConfig { federation, me, layout, sync_every, limits };
        Ok(Self {
            swarm,
            core: Core::new(config, board.clone(), options.seed),
            redial,
            discovery: Discovery::new(federation, sync_every),
            lookout: Lookout::default(),
            peers: Peers::default(),
            federation,
            named: options.named,
            me,
            board,
            cache,
            raise_above,
            figures,
            began: Instant::now(),
            jobs: JoinSet::new(),
            // What the last run left may be over the quota of this one.
            housekeeping: Housekeeping { retain: true, ..Housekeeping::default() },
            keeping: false,
            serving: 0,
            tokens: 0,
            verdicts: BTreeMap::new(),
            sync_replies: BTreeMap::new(),
            blob_replies: BTreeMap::new(),
            sync_requests: BTreeMap::new(),
            blob_requests: BTreeMap::new(),
            waiting: BTreeMap::new(),
            leaving: Vec::new(),
            arriving: Vec::new(),
            banned: BTreeMap::new(),
            silent,
            ready: Some(ready),
            limits: swarm_limits,
            cut: options.cut,
            is_cut: false,
            shortage: Shortage::default(),
        })
    }

    /// Until the handle is dropped.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.tick();
        loop {
            self.act();
            let wakeup = self.began + self.next_wakeup();
            tokio::select! {
                event = self.swarm.select_next_some() => self.happened(event),
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(done) = self.jobs.join_next() => self.job_done(done),
                cut = changed(&mut self.cut) => self.cut_off(cut),
                () = tokio::time::sleep_until(wakeup) => self.tick(),
            }
        }
        drop(self.swarm);
        if !self.keeping {
            let (housekeeping, cache, board) = (self.housekeeping, self.cache.clone(), self.board.clone());
            self.jobs.spawn_blocking(move || housekeeping.run(&cache, &board, self.me));
        }
        while self.jobs.join_next().await.is_some() {}
        // So that the home can be opened again, whoever still holds a value.
        let _ = tokio::task::spawn_blocking(move || self.cache.close()).await;
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn tell(&mut self, input: Input) {
        let now = self.now();
        self.core.handle(now, input);
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }

    fn next_wakeup(&self) -> Duration {
        let unban = self.banned.values().copied().min();
        let ready = self.ready.is_some().then_some(LISTENING_WITHIN);
        let look = (!self.arriving.is_empty()).then(|| self.lookout.next(self.now())).flatten();
        let redial = self.redial.next().filter(|_| !self.is_cut);
        let times = [self.core.next_wakeup(), redial, Some(self.discovery.next()), unban, ready, look];
        times.into_iter().flatten().min().unwrap_or(Duration::MAX).min(self.now() + Duration::from_secs(60))
    }

    fn tick(&mut self) {
        let now = self.now();
        let free: Vec<PeerId> = self.banned.iter().filter(|(_, until)| **until <= now).map(|(peer, _)| *peer).collect();
        for peer in free {
            self.banned.remove(&peer);
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
        let given_up: Vec<Root> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.iter().all(oneshot::Sender::is_closed))
            .map(|(root, _)| *root)
            .collect();
        for root in given_up {
            self.waiting.remove(&root);
            self.tell(Input::Unwant(root));
        }
        if now >= LISTENING_WITHIN {
            self.tell_where();
        }
        self.discovery.tick(now, self.lookout.asks(), &mut self.swarm.behaviour_mut().kad);
        self.tell(Input::Tick);
    }

    fn cut_off(&mut self, cut: bool) {
        self.is_cut = cut;
        *self.swarm.behaviour_mut().limits.limits_mut() = connection_limits(&self.limits, cut);
        if cut {
            let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
            for peer in connected {
                // An error says that it is gone already.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        } else {
            self.redial.again(self.now());
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Published(entry) => {
                self.housekeeping.retain = true;
                self.tell(Input::Published(entry));
            }
            Command::BoardChanged => self.tell(Input::BoardChanged),
            Command::Learned(entries) => self.tell(Input::Learned(entries)),
            Command::Fetch(entry, done) => match entry.root() {
                Some(root) => {
                    self.waiting.entry(root).or_default().push(done);
                    self.tell(Input::Want(entry));
                }
                None => drop(done.send(Err(FetchError::Gone))),
            },
            Command::HandOver(done) => {
                self.leaving.push(done);
                // A conflict may have come onto the board past the core, which looks for it now.
                self.tell(Input::Leaves(true));
            }
            Command::LookAround(done) => self.arriving.push(done),
            Command::Surroundings(done) => drop(done.send(self.surroundings())),
            Command::HandedOver(done) => drop(done.send(self.core.handed_over())),
            Command::Status(done) => drop(done.send(self.status())),
        }
    }

    /// Does what the core says, and what follows from it.
    fn act(&mut self) {
        while let Some(output) = self.core.poll() {
            self.output(output);
        }
        let now = self.now();
        let members = self.peers.members();
        self.figures.members.send_if_modified(|known| std::mem::replace(known, members) != members);
        let due = if self.is_cut { Vec::new() } else { self.redial.due(now, members) };
        for (peer, addresses) in due {
            let options =
                DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::DisconnectedAndNotDialing);
            if let Err(error) = self.swarm.dial(options.build()) {
                tracing::debug!(%peer, %error, "not dialled");
                if !self.swarm.is_connected(&peer) {
                    self.redial.lost(&peer, now);
                }
            }
        }
        if !self.keeping && !self.housekeeping.is_empty() {
            self.keeping = true;
            let housekeeping = std::mem::take(&mut self.housekeeping);
            let (cache, board, me) = (self.cache.clone(), self.board.clone(), self.me);
            self.jobs.spawn_blocking(move || housekeeping.run(&cache, &board, me));
        }
        self.arriving.retain(|arriving| !arriving.is_closed());
        if !self.arriving.is_empty() {
            if self.lookout.is_settled(now, &self.facts()) {
                let surroundings = self.surroundings();
                self.arriving.drain(..).for_each(|arriving| _ = arriving.send(surroundings));
            } else {
                self.ask_table_again();
            }
        }
        if !self.leaving.is_empty() {
            self.leave();
        }
    }

    fn facts(&self) -> Facts<'_, impl Fn(&PeerId) -> Heard> {
        let set = self.board.set();
        let of_others = |author: &PeerId| *author != self.me && set.newest_update(*author).is_some();
        Facts {
            heard: |peer: &PeerId| self.core.heard(peer),
            redial: &self.redial,
            searches_beside: self.swarm.behaviour().mdns.is_enabled(),
            knows_updates: set.authors().any(|author| of_others(&author)),
            is_learning: self.core.is_learning(),
        }
    }

    fn surroundings(&self) -> Surroundings {
        self.lookout.surroundings(&self.facts())
    }

    /// Answers those who wait for what is this node's own to be handed over, if it is, or if nobody is left who could take
    /// it. Who has not been heard yet could, and so could members that were lost, as long as nobody has anything. Of a node
    /// that is excluded the proof is all that is handed over.
    fn leave(&mut self) {
        self.leaving.retain(|leaving| !leaving.is_closed());
        if self.leaving.is_empty() {
            return self.tell(Input::Leaves(false));
        }
        let handed_over = self.core.handed_over();
        let done = if self.board.is_excluded(self.me) {
            !self.core.is_telling_own_proof()
        } else {
            let unheard = self.lookout.is_unheard(|peer| self.core.heard(peer));
            let returning = handed_over.holding == 0 && self.lookout.misses_members();
            !unheard && (handed_over.is_done() || handed_over.members == 0 && !returning)
        };
        if done {
            self.leaving.drain(..).for_each(|leaving| _ = leaving.send(handed_over));
            self.tell(Input::Leaves(false));
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Gossip(data) => self.publish(&data),
            Output::Verdict { token, verdict } => {
                let Some((message, from)) = self.verdicts.remove(&token) else { return };
                let acceptance = match verdict {
                    Verdict::Accept => MessageAcceptance::Accept,
                    Verdict::Ignore => MessageAcceptance::Ignore,
                    Verdict::Reject => MessageAcceptance::Reject,
                };
                self.swarm.behaviour_mut().gossip.report_message_validation_result(&message, &from, acceptance);
            }
            Output::Sync { id, peer, request } => {
                self.sent(&peer, request.wire_bytes());
                let request = self.swarm.behaviour_mut().sync.send_request(&peer, request);
                self.sync_requests.insert(request, id);
            }
            Output::SyncReply { token, response } => {
                let Some((peer, channel)) = self.sync_replies.remove(&token) else { return };
                self.sent(&peer, response.wire_bytes());
                // The peer may be gone.
                let _ = self.swarm.behaviour_mut().sync.send_response(channel, response);
            }
            Output::Blobs { id, peer, request } => {
                self.sent(&peer, request.wire_bytes());
                let request = self.swarm.behaviour_mut().blobs.send_request(&peer, request);
                self.blob_requests.insert(request, id);
            }
            Output::Lookup(entry) => {
                let cache = self.cache.clone();
                self.jobs.spawn_blocking(move || jobs::look(&cache, &entry));
            }
            Output::Store { hash, root, bytes } => {
                let cache = self.cache.clone();
                self.jobs.spawn_blocking(move || jobs::store(&cache, root, hash, &bytes));
            }
            Output::Save(entry) => self.housekeeping.entries.push(entry),
            Output::SaveProof(conflict) => {
                tracing::warn!("{conflict}; its author is excluded");
                self.housekeeping.proofs.push(conflict);
            }
            Output::Retain => self.housekeeping.retain = true,
            Output::OwnSequence(number) => (self.raise_above)(number),
            Output::Fetched { root, result } => {
                for waiting in self.waiting.remove(&root).unwrap_or_default() {
                    let _ = waiting.send(result.clone());
                }
            }
            Output::Ban { peer, reason, length } => {
                tracing::warn!(%peer, reason, "dropped for {} s", length.as_secs());
                self.banned.insert(peer, self.now() + length);
                let behaviour = self.swarm.behaviour_mut();
                behaviour.blocked.block_peer(peer);
                behaviour.kad.remove_peer(&peer);
                if !self.redial.is_listed(&peer) {
                    self.redial.forget(&peer);
                }
            }
            Output::Member(peer) => {
                if let Some(known) = self.peers.by_id.get_mut(&peer) {
                    known.member = true;
                }
                tracing::info!(%peer, "a member of the federation is connected");
                self.remember(&peer);
            }
        }
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

    fn publish(&mut self, data: &[u8]) {
        let behaviour = self.swarm.behaviour_mut();
        let subscribed: Vec<PeerId> =
            behaviour.gossip.all_peers().filter(|(_, topics)| !topics.is_empty()).map(|(peer, _)| *peer).collect();
        match behaviour.gossip.publish(topic(self.federation), data) {
            Ok(_) => subscribed.iter().for_each(|peer| self.sent(peer, data.len() as u64)),
            Err(PublishError::Duplicate) => {}
            Err(error) => {
                tracing::debug!(%error, "not gossiped");
                self.tell(Input::GossipFailed);
            }
        }
    }

    pub(super) fn sent(&mut self, peer: &PeerId, bytes: u64) {
        self.figures.sent.fetch_add(bytes, Ordering::Relaxed);
        if let Some(peer) = self.peers.by_id.get_mut(peer) {
            peer.sent += bytes;
        }
    }

    fn received(&mut self, peer: &PeerId, bytes: u64) {
        self.figures.received.fetch_add(bytes, Ordering::Relaxed);
        let now = self.now();
        if let Some(peer) = self.peers.by_id.get_mut(peer) {
            peer.received += bytes;
            peer.seen = now;
        }
    }

    fn job_done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Looked { root, looked }) => self.tell(Input::Looked { root, looked }),
            Ok(Done::Stored { hash, result }) => self.tell(Input::Stored { hash, result }),
            Ok(Done::Read { token, blobs }) => {
                self.serving -= 1;
                if let Some((peer, channel)) = self.blob_replies.remove(&token) {
                    let response = BlobResponse::Blobs(blobs);
                    self.sent(&peer, response.wire_bytes());
                    let _ = self.swarm.behaviour_mut().blobs.send_response(channel, response);
                }
            }
            Ok(Done::Kept) => self.keeping = false,
            // A job that panicked is a fault of this program: what waits for it would wait for ever.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn happened(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.protocol(event),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::info!(%address, "listening");
                // Until it is known how others see this node: where it listens is what it tells them.
                self.swarm.add_external_address(address);
                self.listener_spoke(listener_id);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.swarm.remove_external_address(&address),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                let reason = reason.err().map_or_else(|| "it was asked to".to_owned(), |error| error.to_string());
                tracing::warn!(reason, "a listener has closed");
                self.listener_spoke(listener_id);
            }
            SwarmEvent::ListenerError { error, .. } => self.shortage.not_accepted(&error),
            SwarmEvent::IncomingConnectionError { error, .. } if !self.is_cut => {
                self.shortage.refused(&error, self.limits.connections, self.limits.pending);
            }
            event => self.connection(event),
        }
    }

    fn listener_spoke(&mut self, listener: ListenerId) {
        self.silent.retain(|silent| *silent != listener);
        if self.silent.is_empty() {
            self.tell_where();
        }
    }

    fn tell_where(&mut self) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Ok(self.listening()));
        }
    }

    fn listening(&self) -> Vec<PeerAddress> {
        self.swarm.listeners().map(|address| PeerAddress { peer: self.me, address: address.clone() }).collect()
    }

    pub(super) fn is_first(&mut self, peer: PeerId) {
        self.redial.connected(&peer);
        self.lookout.connected(peer, self.redial.is_listed(&peer));
        self.tell(Input::Connected(peer));
    }

    /// One more connection to a connected peer.
    pub(super) fn is_further(&mut self, peer: PeerId) {
        self.tell(Input::Connected(peer));
    }

    pub(super) fn is_gone(&mut self, peer: PeerId) {
        let now = self.now();
        self.redial.lost(&peer, now);
        self.lookout.disconnected(peer, self.core.heard(&peer), self.redial.is_sought(&peer));
        self.tell(Input::Disconnected(peer));
    }

    fn protocol(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.received(&propagation_source, message.data.len() as u64);
                let token = self.token();
                self.verdicts.insert(token, (message_id, propagation_source));
                self.tell(Input::Gossip { token, from: propagation_source, data: message.data.into() });
            }
            BehaviourEvent::Sync(event) => self.sync(event),
            BehaviourEvent::Blobs(event) => self.blobs(event),
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) => match result {
                Ok(_) => self.received(&peer, 0),
                Err(ping::Failure::Unsupported) => {}
                Err(error) => {
                    tracing::debug!(%peer, %error, "a peer doesn't answer");
                    self.swarm.close_connection(connection);
                }
            },
            BehaviourEvent::Kad(event) => self.table(event),
            BehaviourEvent::Identify(event) => self.identified(event),
            BehaviourEvent::Mdns(event) => self.found_beside(event),
            BehaviourEvent::Gossip(_) => {}
            BehaviourEvent::Limits(never) | BehaviourEvent::Blocked(never) => match never {},
        }
    }

    fn sync(&mut self, event: request_response::Event<SyncRequest, SyncResponse>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => {
                    self.received(&peer, request.wire_bytes());
                    let token = self.token();
                    self.sync_replies.insert(token, (peer, channel));
                    self.tell(Input::SyncRequest { token, peer, request });
                }
                Message::Response { request_id, response } => {
                    self.received(&peer, response.wire_bytes());
                    if let Some(id) = self.sync_requests.remove(&request_id) {
                        self.tell(Input::SyncResponse { id, response: Ok(response) });
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(id) = self.sync_requests.remove(&request_id) {
                    self.tell(Input::SyncResponse { id, response: Err(failed(&error)) });
                }
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn blobs(&mut self, event: request_response::Event<BlobRequest, BlobResponse>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => {
                    self.received(&peer, request.wire_bytes());
                    self.serve(peer, request, channel);
                }
                Message::Response { request_id, response } => {
                    self.received(&peer, response.wire_bytes());
                    let Some(id) = self.blob_requests.remove(&request_id) else { return };
                    let response = match response {
                        BlobResponse::Blobs(blobs) => Ok(blobs),
                        BlobResponse::Noted => Ok(Vec::new()),
                        BlobResponse::NotMember => Err(RequestFailed::Unsupported),
                    };
                    self.tell(Input::BlobResponse { id, response });
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(id) = self.blob_requests.remove(&request_id) {
                    self.tell(Input::BlobResponse { id, response: Err(failed(&error)) });
                }
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn serve(&mut self, peer: PeerId, request: BlobRequest, channel: ResponseChannel<BlobResponse>) {
        let (BlobRequest::Get { federation, .. }
        | BlobRequest::Holds { federation, .. }
        | BlobRequest::Keep { federation, .. }) = &request;
        let now = |response| {
            move |driver: &mut Self, channel| drop(driver.swarm.behaviour_mut().blobs.send_response(channel, response))
        };
        if *federation != self.federation {
            return now(BlobResponse::NotMember)(self, channel);
        }
        self.tell(Input::Asked(peer));
        match request {
            BlobRequest::Holds { roots, .. } => {
                self.tell(Input::Holds { peer, roots });
                now(BlobResponse::Noted)(self, channel);
            }
            BlobRequest::Keep { entry, .. } => {
                self.tell(Input::Keep { peer, entry });
                now(BlobResponse::Noted)(self, channel);
            }
            // A channel that is dropped is a failed request there.
            BlobRequest::Get { .. } if self.serving >= MAX_SERVING => {}
            BlobRequest::Get { hashes, .. } => {
                self.serving += 1;
                let (token, cache) = (self.token(), self.cache.clone());
                self.blob_replies.insert(token, (peer, channel));
                self.jobs.spawn_blocking(move || jobs::read(&cache, token, &hashes));
            }
        }
    }

    fn status(&self) -> NetworkStatus {
        // Before the board is locked: no lock is taken under another one here.
        let (cached, now) = (self.cache.used(), self.now());
        let set = self.board.set();
        let entries = |author| set.of_author(author).count();
        NetworkStatus {
            peer: self.me.to_string(),
            name: self.named.as_ref().map(|named| named.name.clone()),
            run: self.named.as_ref().map(|named| named.run.clone()),
            federation: self.federation.to_string(),
            listening: self
                .listening()
                .iter()
                .filter(|listening| can_be_dialled(&listening.address))
                .map(PeerAddress::to_string)
                .collect(),
            entries: set.iter("").count(),
            authors: set.authors().count(),
            sent: self.figures.sent.load(Ordering::Relaxed),
            received: self.figures.received.load(Ordering::Relaxed),
            cached,
            peers: self.peers.status(now, |peer| self.redial.is_listed(peer), entries),
        }
    }
}

/// What a watch says when it has changed; never, if there is none or nobody can change it any more.
async fn changed(watched: &mut Option<watch::Receiver<bool>>) -> bool {
    if let Some(receiver) = watched
        && receiver.changed().await.is_ok()
    {
        return *receiver.borrow_and_update();
    }
    std::future::pending().await
}

fn failed(error: &OutboundFailure) -> RequestFailed {
    match error {
        OutboundFailure::UnsupportedProtocols => RequestFailed::Unsupported,
        OutboundFailure::Io(error) if error.kind() == io::ErrorKind::InvalidData => RequestFailed::Malformed,
        _ => RequestFailed::Failed,
    }
}
