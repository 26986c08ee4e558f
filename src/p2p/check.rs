//! Finds out, before a node runs, whom it would reach and who would reach it: `peerfold check`.

use super::{
    NetworkError,
    about::{About, Answer, Question, Standing, about, milliseconds},
    addresses::{PeerAddress, Reach, ip, is_relayed, port, without_peer},
    candidates::Candidates,
    dial_error::explained,
    private::{Meeting, table_key},
    protocols::{ABOUT_PROTOCOL, IDENTIFY_PROTOCOL, KADEMLIA_PROTOCOL},
    settings::NetworkSettings,
    transport::{default_listen, listen_on, listen_on_some, swarm},
};
use crate::{secret::Secret, weights::FederationId};
use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, identify,
    kad::{self, GetProvidersOk, QueryResult, store::MemoryStore},
    multiaddr::Protocol,
    ping, relay,
    request_response::{self, Message, OutboundRequestId, ProtocolSupport},
    swarm::{
        ConnectionId, NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_identity::{Keypair, PeerId};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout_at};

/// Addresses of the list that are dialled at once.
const AT_ONCE: usize = 64;
/// How long a peer may take to say what it is, once it is connected.
const SAID_WITHIN: Duration = Duration::from_secs(5);
/// How long the own addresses may take to be tried out, and the table to be asked.
const TRIED_WITHIN: Duration = Duration::from_secs(15);
/// The protocol by which addresses are tried out for others.
const TRIES_OUT: &str = "/libp2p/autonat/2/dial-request";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Under which peer id it was asked.
    pub peer: String,
    /// Each address of the list.
    pub list: Vec<CheckedAddress>,
    /// Where this machine can be reached, as far as somebody has tried it out.
    pub own: Vec<OwnAddress>,
    /// Where the peers see this machine.
    pub seen: Vec<String>,
    /// What is between this machine and them.
    pub between: Between,
    /// Members of the federation that the table names; `None` without a federation, or if nobody was asked.
    pub members: Option<usize>,
}

/// An address of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedAddress {
    /// The address.
    pub address: String,
    /// Whether its peer was connected with.
    pub reached: bool,
    /// How long that took, in milliseconds.
    pub milliseconds: u64,
    /// What it says it is, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The version of what it speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Whether it relays.
    pub relays: bool,
    /// How many milliseconds its clock is ahead of this machine's, negative if it is behind; `None` if it doesn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// How it stands to the federation; `None` without a federation, or if it doesn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation: Option<Standing>,
    /// What is wrong, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// One of this machine's addresses, as others would dial it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnAddress {
    /// The address.
    pub address: String,
    /// Whether the peer that tried it out got through.
    pub reached: bool,
    /// Which peer.
    pub by: String,
}

/// What is between this machine and the peers that it reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Between {
    /// Nobody was reached who says where it sees this machine.
    Unknown,
    /// Nothing that translates addresses.
    Nothing,
    /// A router that translates addresses, and keeps the port for all whom a socket sends to: can be punched through.
    Cone,
    /// One that draws a port for each: only relays lead through.
    Symmetric,
    /// A router that translates addresses. Only one peer was asked, so it isn't known how it chooses ports.
    Translated,
}

impl CheckReport {
    /// Whether anybody was reached.
    pub fn is_reached(&self) -> bool {
        self.list.iter().any(|checked| checked.reached)
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    about: About,
    kademlia: kad::Behaviour<MemoryStore>,
    candidates: Candidates,
}

/// Where a peer sees this machine, over one transport.
struct Seen {
    by: PeerId,
    at: Multiaddr,
}

struct Check {
    swarm: Swarm<Behaviour>,
    began: Instant,
    list: Vec<CheckedAddress>,
    /// The dials under way, and of which address in the list.
    dials: BTreeMap<ConnectionId, (usize, Instant)>,
    /// Those that were made, until the peer says what it is.
    unsaid: BTreeMap<ConnectionId, usize>,
    /// The federation's key in the table.
    key: Option<kad::RecordKey>,
    /// What was asked about each address, and when.
    questions: BTreeMap<OutboundRequestId, (usize, SystemTime)>,
    seen: Vec<Seen>,
    /// The peers that try out addresses.
    judges: BTreeSet<PeerId>,
    own: Vec<OwnAddress>,
    members: BTreeSet<PeerId>,
    asked: bool,
    answered: bool,
}

/// Dials the list of these settings, and asks to be dialled. Must be called inside a tokio runtime.
pub async fn check(
    keypair: &Keypair,
    settings: &NetworkSettings,
    secret: Option<&Secret>,
    federation: Option<FederationId>,
) -> Result<CheckReport, NetworkError> {
    let meeting = Meeting::new(secret, settings.swarm.pending_per_address.div_ceil(2));
    if meeting.is_private() {
        let checked = settings.check_private();
        checked.map_err(|mistake| NetworkError::Private { address: mistake.value, reason: mistake.what })?;
    }
    let behaviour = |keypair: &Keypair| {
        let me = keypair.public().to_peer_id();
        let mut config = kad::Config::new(KADEMLIA_PROTOCOL);
        config.set_query_timeout(SAID_WITHIN).set_periodic_bootstrap_interval(None);
        let mut kademlia = kad::Behaviour::with_config(me, MemoryStore::new(me), config);
        kademlia.set_mode(Some(kad::Mode::Client));
        let identify = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), keypair.public())
            .with_agent_version(concat!("peerfold-check/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_hide_listen_addrs(true)
            .with_cache_size(0);
        let (identify, ping) = (identify::Behaviour::new(identify), ping::Behaviour::default());
        // Nodes disconnect who offers no protocol of Peerfold. Nobody asks a check, and it doesn't answer.
        let about = about(ProtocolSupport::Full);
        Behaviour { identify, ping, about, kademlia, candidates: Candidates::everywhere() }
    };
    let mut swarm = swarm(keypair, &meeting, behaviour, settings.swarm.handshake_timeout)?;
    let free = default_listen(0, meeting.is_private());
    if settings.listen.is_empty() {
        listen_on_some(&mut swarm, &free, |_| None)?;
    } else if let Err(error) = listen_on(&mut swarm, &settings.listen) {
        // As a rule the node itself runs.
        let NetworkError::InUse { .. } = &error else { return Err(error) };
        tracing::warn!("{error}: what follows is of free ports");
        listen_on_some(&mut swarm, &free, |_| None)?;
    }
    let check = Check {
        swarm,
        began: Instant::now(),
        list: Vec::new(),
        dials: BTreeMap::new(),
        unsaid: BTreeMap::new(),
        key: federation.map(|federation| table_key(federation, secret)),
        questions: BTreeMap::new(),
        seen: Vec::new(),
        judges: BTreeSet::new(),
        own: Vec::new(),
        members: BTreeSet::new(),
        asked: false,
        answered: false,
    };
    Ok(check.run(&settings.bootstrap).await)
}

impl Check {
    async fn run(mut self, list: &[PeerAddress]) -> CheckReport {
        let mut waiting = list.iter();
        self.list = list.iter().map(unchecked).collect();
        let mut next = 0;
        loop {
            while self.dials.len() < AT_ONCE
                && let Some(peer) = waiting.next()
            {
                self.dial(next, peer);
                next += 1;
            }
            if self.dials.is_empty() && waiting.len() == 0 {
                break;
            }
            // Each dial has a limit.
            let event = self.swarm.select_next_some().await;
            self.happened(event);
        }
        let until = Instant::now() + SAID_WITHIN;
        while !self.unsaid.is_empty() && self.next(until).await {}
        for (_, number) in std::mem::take(&mut self.unsaid) {
            self.list[number].wrong = Some("it is connected and doesn't say what it is".to_owned());
        }
        if let Some(key) = self.key.clone().filter(|_| self.list.iter().any(|checked| checked.reached)) {
            self.asked = true;
            self.swarm.behaviour_mut().kademlia.get_providers(key);
        }
        let until = Instant::now() + TRIED_WITHIN;
        while !self.is_done() && self.next(until).await {}
        self.report()
    }

    /// Waits for what happens next. False if it takes too long.
    async fn next(&mut self, until: Instant) -> bool {
        match timeout_at(until, self.swarm.select_next_some()).await {
            Ok(event) => {
                self.happened(event);
                true
            }
            Err(_) => false,
        }
    }

    /// Whether the table has answered, and every address was tried out.
    fn is_done(&self) -> bool {
        let tried = |address: &Multiaddr| self.own.iter().any(|own| own.address == address.to_string());
        let candidates = self.swarm.behaviour().candidates.seen();
        let all_tried = self.judges.is_empty() || candidates.clone().count() > 0 && candidates.into_iter().all(tried);
        all_tried && self.questions.is_empty() && (self.answered || !self.asked)
    }

    fn dial(&mut self, number: usize, peer: &PeerAddress) {
        let options = DialOpts::peer_id(peer.peer).addresses(vec![peer.address.clone()]);
        let options = options.condition(PeerCondition::Always).build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => _ = self.dials.insert(id, (number, Instant::now())),
            Err(error) => self.failed(number, &error),
        }
    }

    fn failed(&mut self, number: usize, error: &libp2p::swarm::DialError) {
        let (wrong, remedy) = explained(error);
        let checked = &mut self.list[number];
        checked.wrong = Some(wrong);
        checked.remedy = (!remedy.is_empty()).then(|| remedy.to_owned());
    }

    fn happened(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                if let Some((number, since)) = self.dials.remove(&connection_id) {
                    self.list[number].reached = true;
                    self.list[number].milliseconds = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                    self.unsaid.insert(connection_id, number);
                }
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                if let Some(number) = self.unsaid.remove(&connection_id) {
                    let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
                    self.list[number].wrong = Some(format!("it has closed the connection{cause}"));
                    self.list[number].remedy =
                        Some("it may have no room, or a list of members (--allow) without this one".to_owned());
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some((number, _)) = self.dials.remove(&connection_id) {
                    self.failed(number, &error);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            })) => self.said(connection_id, peer_id, info),
            SwarmEvent::Behaviour(BehaviourEvent::About(event)) => self.told_about(event),
            SwarmEvent::Behaviour(BehaviourEvent::Candidates(tried)) => {
                let address = tried.tested_addr.to_string();
                self.own.retain(|own| own.address != address);
                self.own.push(OwnAddress { address, reached: tried.result.is_ok(), by: tried.server.to_string() });
            }
            SwarmEvent::Behaviour(BehaviourEvent::Kademlia(kad::Event::OutboundQueryProgressed {
                result: QueryResult::GetProviders(result),
                step,
                ..
            })) => {
                if let Ok(GetProvidersOk::FoundProviders { providers, .. }) = result {
                    self.members.extend(providers);
                }
                self.answered |= step.last;
            }
            _ => {}
        }
    }

    fn said(&mut self, connection: ConnectionId, peer: PeerId, info: identify::Info) {
        let Some(number) = self.unsaid.remove(&connection) else { return };
        let speaks = |name: &str| info.protocols.iter().any(|protocol| protocol.as_ref() == name);
        let checked = &mut self.list[number];
        checked.agent = Some(info.agent_version.clone());
        checked.protocol = Some(info.protocol_version.clone());
        checked.relays = speaks(relay::HOP_PROTOCOL_NAME.as_ref());
        if !speaks(KADEMLIA_PROTOCOL.as_ref()) {
            checked.wrong = Some(format!("it is no node that speaks {KADEMLIA_PROTOCOL}"));
            checked.remedy = Some("is it another program's, or of another version?".to_owned());
        } else if let Ok(address) = checked.address.parse::<PeerAddress>() {
            self.swarm.behaviour_mut().kademlia.add_address(&peer, address.address);
        }
        if speaks(ABOUT_PROTOCOL.as_ref()) {
            let question = Question::new(self.key.as_ref());
            let asked = self.swarm.behaviour_mut().about.send_request(&peer, question);
            self.questions.insert(asked, (number, SystemTime::now()));
        }
        if speaks(TRIES_OUT) {
            self.judges.insert(peer);
        }
        if !is_relayed(&info.observed_addr) {
            self.seen.push(Seen { by: peer, at: without_peer(&info.observed_addr) });
        }
    }

    /// Who doesn't answer leaves open what was asked.
    fn told_about(&mut self, event: request_response::Event<Question, Answer>) {
        match event {
            request_response::Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some((number, asked)) = self.questions.remove(&request_id) {
                    let checked = &mut self.list[number];
                    checked.clock_ahead_ms = Some(ahead(response.clock, asked, SystemTime::now()));
                    checked.federation = self.key.is_some().then_some(response.standing);
                }
            }
            request_response::Event::OutboundFailure { request_id, .. } => _ = self.questions.remove(&request_id),
            _ => {}
        }
    }

    fn report(self) -> CheckReport {
        let me = *self.swarm.local_peer_id();
        let listening: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        tracing::debug!(took = ?self.began.elapsed(), "checked");
        // Identify also combines each port with each address that somebody sees.
        let is_own =
            |own: &OwnAddress| own.address.parse().is_ok_and(|own| listening.iter().any(|at| are_alike(at, &own)));
        let seen: BTreeSet<String> = self.seen.iter().map(|seen| seen.at.to_string()).collect();
        CheckReport {
            peer: me.to_string(),
            between: between(&self.seen, &listening),
            seen: seen.into_iter().collect(),
            own: self.own.into_iter().filter(is_own).collect(),
            members: self.answered.then(|| self.members.iter().filter(|peer| **peer != me).count()),
            list: self.list,
        }
    }
}

fn unchecked(peer: &PeerAddress) -> CheckedAddress {
    CheckedAddress {
        address: peer.to_string(),
        reached: false,
        milliseconds: 0,
        agent: None,
        protocol: None,
        relays: false,
        clock_ahead_ms: None,
        federation: None,
        wrong: None,
        remedy: None,
    }
}

/// By how many milliseconds a clock is ahead that was read between these two moments of this machine's; 0 if it may have
/// been read at the same time.
fn ahead(clock: u64, asked: SystemTime, answered: SystemTime) -> i64 {
    let (asked, answered) = (milliseconds(asked), milliseconds(answered));
    let by = i128::from(clock) - i128::from(clock.clamp(asked.min(answered), asked.max(answered)));
    i64::try_from(by).unwrap_or(if by < 0 { i64::MIN } else { i64::MAX })
}

/// Whether one socket may be behind both: of the same port, transport and version of IP.
fn are_alike(one: &Multiaddr, other: &Multiaddr) -> bool {
    let of = |address: &Multiaddr| {
        let is_tcp = address.iter().any(|part| matches!(part, Protocol::Tcp(_)));
        (port(&without_peer(address)), is_tcp, ip(address).map(|ip| ip.is_ipv4()))
    };
    of(one) == of(other)
}

/// What is between, by where peers see this machine.
fn between(seen: &[Seen], listening: &[Multiaddr]) -> Between {
    let own: BTreeSet<IpAddr> = listening.iter().filter_map(ip).collect();
    let mut farthest: Vec<&Seen> = Vec::new();
    for seen in seen.iter().filter(|seen| ip(&seen.at).is_some()) {
        match farthest.first().map(|far| Reach::of_address(&far.at).cmp(&Reach::of_address(&seen.at))) {
            Some(std::cmp::Ordering::Greater) => {}
            Some(std::cmp::Ordering::Less) => farthest = vec![seen],
            _ => farthest.push(seen),
        }
    }
    if farthest.is_empty() {
        return Between::Unknown;
    }
    if farthest.iter().all(|seen| ip(&seen.at).is_some_and(|ip| own.contains(&ip))) {
        return Between::Nothing;
    }
    let is_tcp = |seen: &Seen| seen.at.iter().any(|part| matches!(part, Protocol::Tcp(_)));
    let mut kinds = Vec::new();
    for (number, one) in farthest.iter().enumerate() {
        for other in &farthest[number + 1..] {
            if one.by != other.by
                && is_tcp(one) == is_tcp(other)
                && ip(&one.at).map(|ip| ip.is_ipv4()) == ip(&other.at).map(|ip| ip.is_ipv4())
            {
                kinds.push(one.at == other.at);
            }
        }
    }
    match kinds.iter().all(|same| *same) {
        _ if kinds.is_empty() => Between::Translated,
        true => Between::Cone,
        false => Between::Symmetric,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_clock_is_ahead_of_what_this_one_shows_while_it_is_read() {
        let at = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        let of = |clock| ahead(clock, at(1000), at(1100));
        assert_eq!([of(1000), of(1050), of(1100), of(1200), of(0)], [0, 0, 0, 100, -1000]);
        assert_eq!(of(u64::MAX), i64::MAX);
        assert_eq!(ahead(1050, at(1100), at(1000)), 0, "set back meanwhile");
    }

    #[test]
    fn what_is_between_shows_in_where_peers_see_this_machine() {
        let listening: Vec<Multiaddr> = vec!["/ip4/10.0.0.2/tcp/5".parse().unwrap()];
        let [one, other] = [PeerId::random(), PeerId::random()];
        let seen = |told: &[(PeerId, &str)]| {
            let seen: Vec<Seen> = told.iter().map(|(by, at)| Seen { by: *by, at: at.parse().unwrap() }).collect();
            between(&seen, &listening)
        };
        assert_eq!(seen(&[]), Between::Unknown);
        assert_eq!(seen(&[(one, "/ip4/10.0.0.2/tcp/5")]), Between::Nothing);
        assert_eq!(seen(&[(one, "/ip4/203.0.113.1/tcp/5")]), Between::Translated);
        let same = (other, "/ip4/203.0.113.1/tcp/5");
        assert_eq!(seen(&[(one, "/ip4/203.0.113.1/tcp/5"), same]), Between::Cone);
        assert_eq!(seen(&[(one, "/ip4/203.0.113.1/tcp/6"), same]), Between::Symmetric);
        assert_eq!(seen(&[(one, "/ip4/203.0.113.1/udp/6/quic-v1"), same]), Between::Translated);
        assert_eq!(seen(&[(one, "/ip4/10.0.0.2/tcp/5"), same]), Between::Translated, "one is near");
    }
}
