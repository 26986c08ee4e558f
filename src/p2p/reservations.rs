//! At which relays to be reached, while the node isn't reached directly: a state machine without I/O.

use super::addresses::Reach;
use libp2p::{Multiaddr, core::transport::ListenerId, multiaddr::Protocol};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    time::Duration,
};

/// How long to wait for somebody to confirm an address that is the node's own. One that is not, but another's that
/// translates it, is as a rule closed.
const PATIENCE: Duration = Duration::from_secs(3);
/// How soon to ask a relay again that has refused, and how late at most.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Addresses at which others see the node, and at which somebody has reached it.
const MAX_SEEN: usize = 16;

/// Whether the node is reached from outside, as far as that is known.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// Where it listens.
    own: BTreeSet<IpAddr>,
    /// Where others see it.
    seen: BTreeSet<IpAddr>,
    /// Where somebody has reached it.
    confirmed: BTreeSet<IpAddr>,
    /// Since when somebody sees it.
    since: Option<Duration>,
}

impl Outside {
    pub(super) fn listens(&mut self, ip: IpAddr) {
        self.own.insert(ip.to_canonical());
    }

    pub(super) fn listens_no_more(&mut self, ip: IpAddr) {
        self.own.remove(&ip.to_canonical());
        self.confirmed.remove(&ip.to_canonical());
    }

    /// A peer beyond this machine sees the node there.
    pub(super) fn is_seen(&mut self, ip: IpAddr, now: Duration) {
        let ip = ip.to_canonical();
        if Reach::of(ip) > Reach::Machine && self.seen.len() < MAX_SEEN {
            self.seen.insert(ip);
            self.since.get_or_insert(now);
        }
    }

    /// Somebody has reached it there, or nobody does any more.
    pub(super) fn is_reached(&mut self, ip: IpAddr, reached: bool) {
        if !reached {
            self.confirmed.remove(&ip.to_canonical());
        } else if self.confirmed.len() < MAX_SEEN {
            self.confirmed.insert(ip.to_canonical());
        }
    }

    /// Of each kind of address at which others see it, somebody must have reached it at one. Who has addresses of the
    /// internet only in one version of IP can't use those of the other.
    fn is_reachable(&self) -> bool {
        let farthest = self.seen.iter().map(|ip| Reach::of(*ip)).max();
        let mut far = self.seen.iter().filter(|ip| Some(Reach::of(**ip)) == farthest);
        let reached = |ip: &IpAddr| {
            self.confirmed.iter().any(|at| at.is_ipv4() == ip.is_ipv4() && Some(Reach::of(*at)) >= farthest)
        };
        far.all(reached)
    }

    /// Whether something between the node and the others translates its address.
    pub(super) fn is_translated(&self) -> bool {
        self.seen.iter().any(|ip| !self.own.contains(ip))
    }

    /// Whether it needs a relay. A node that nobody beyond its machine sees doesn't.
    pub(super) fn needs_relay(&self, now: Duration) -> bool {
        let Some(since) = self.since else { return false };
        let beyond = self.own.iter().any(|ip| Reach::of(*ip) > Reach::Machine);
        beyond && !self.is_reachable() && (self.is_translated() || since.saturating_add(PATIENCE) <= now)
    }

    /// When [`needs_relay`](Self::needs_relay) may change by itself.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        self.since.map(|since| since.saturating_add(PATIENCE)).filter(|at| *at > now)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing; it may be asked from then on.
    Free(Duration),
    /// It was asked, and may have said yes.
    Asked(ListenerId),
}

#[derive(Debug)]
struct Relay {
    /// Where this node is connected with it.
    address: Multiaddr,
    stage: Stage,
    reserved: bool,
    failures: u32,
}

/// The relays that could be used, those of the bootstrap list that are connected.
#[derive(Debug)]
pub(super) struct Reservations {
    most: usize,
    relays: BTreeMap<PeerId, Relay>,
    /// Listeners whose relay has gone, until they close: at once.
    closing: HashSet<ListenerId>,
}

impl Reservations {
    /// At so many relays at once.
    pub(super) fn new(most: usize) -> Self {
        Self { most, relays: BTreeMap::new(), closing: HashSet::new() }
    }

    /// A peer says that it relays, and is connected at this address.
    pub(super) fn found(&mut self, peer: PeerId, address: Multiaddr, now: Duration) {
        let relay = Relay { address, stage: Stage::Free(now), reserved: false, failures: 0 };
        self.relays.entry(peer).or_insert(relay);
    }

    /// It isn't connected any more.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        if let Some(Relay { stage: Stage::Asked(listener), .. }) = self.relays.remove(peer) {
            self.closing.insert(listener);
        }
    }

    /// It has said yes.
    pub(super) fn reserved(&mut self, peer: &PeerId) {
        if let Some(relay) = self.relays.get_mut(peer) {
            (relay.reserved, relay.failures) = (true, 0);
        }
    }

    /// What was asked with this listener has ended, or was never begun. Says whether it is one of these.
    pub(super) fn ended(&mut self, listener: ListenerId, now: Duration) -> bool {
        let asked = self.relays.values_mut().find(|relay| relay.stage == Stage::Asked(listener));
        if let Some(relay) = asked {
            let wait = FIRST_WAIT.saturating_mul(1u32.checked_shl(relay.failures).unwrap_or(u32::MAX));
            relay.stage = Stage::Free(now.saturating_add(wait.min(LONGEST_WAIT)));
            relay.failures = (relay.failures + 1).min(u32::BITS);
            relay.reserved = false;
            return true;
        }
        self.closing.remove(&listener)
    }

    /// Whom to ask now, and with which listener: each that is given a listener is asked.
    pub(super) fn ask(&mut self, now: Duration, mut listen: impl FnMut(Multiaddr) -> Option<ListenerId>) {
        let asked = self.relays.values().filter(|relay| matches!(relay.stage, Stage::Asked(_))).count();
        let mut free = self.most.saturating_sub(asked);
        for (peer, relay) in &mut self.relays {
            if free == 0 {
                return;
            }
            if !matches!(relay.stage, Stage::Free(from) if from <= now) {
                continue;
            }
            let address = relay.address.clone().with(Protocol::P2p(*peer)).with(Protocol::P2pCircuit);
            if let Some(listener) = listen(address) {
                relay.stage = Stage::Asked(listener);
                free -= 1;
            } else {
                relay.stage = Stage::Free(now.saturating_add(LONGEST_WAIT));
            }
        }
    }

    /// When [`ask`](Self::ask) has something next, if no relay is asked meanwhile.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        let from = self.relays.values().filter_map(|relay| match relay.stage {
            Stage::Free(from) if from > now => Some(from),
            _ => None,
        });
        from.min()
    }

    /// The relays by which this node is reached.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &PeerId> {
        self.relays.iter().filter(|(_, relay)| relay.reserved).map(|(peer, _)| peer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const NOW: Duration = Duration::from_secs(10);

    #[test]
    fn who_is_seen_at_an_address_that_isnt_its_own_needs_a_relay_at_once() {
        let mut outside = Outside::default();
        outside.listens(ip("127.0.0.1"));
        outside.listens(ip("10.0.0.7"));
        assert!(!outside.needs_relay(NOW), "nobody sees it yet");
        outside.is_seen(ip("203.0.113.1"), NOW);
        assert!(outside.needs_relay(NOW) && outside.is_translated());
        outside.is_reached(ip("10.0.0.7"), true);
        assert!(outside.needs_relay(NOW), "only from its own site");
        outside.is_reached(ip("203.0.113.1"), true);
        assert!(!outside.needs_relay(NOW), "its port is forwarded");
        outside.is_seen(ip("2001:db8::1"), NOW);
        assert!(outside.needs_relay(NOW), "but not for those with the other IP");
    }

    #[test]
    fn who_has_the_address_at_which_it_is_seen_waits_for_a_while() {
        let mut outside = Outside::default();
        outside.listens(ip("203.0.113.1"));
        outside.is_seen(ip("203.0.113.1"), NOW);
        assert!(!outside.needs_relay(NOW));
        assert_eq!(outside.next(NOW), Some(NOW + PATIENCE));
        assert!(outside.needs_relay(NOW + PATIENCE), "a firewall");
        outside.is_reached(ip("203.0.113.1"), true);
        assert!(!outside.needs_relay(NOW + PATIENCE));
    }

    #[test]
    fn in_a_site_of_its_own_its_addresses_there_are_enough() {
        let mut outside = Outside::default();
        outside.listens(ip("10.0.0.7"));
        outside.is_seen(ip("10.0.0.7"), NOW);
        outside.is_reached(ip("10.0.0.7"), true);
        assert!(!outside.needs_relay(NOW + PATIENCE));
    }

    #[test]
    fn a_node_of_one_machine_needs_none() {
        let mut outside = Outside::default();
        outside.listens(ip("127.0.0.1"));
        outside.is_seen(ip("127.0.0.1"), NOW);
        outside.is_seen(ip("203.0.113.1"), NOW);
        assert!(!outside.needs_relay(NOW + PATIENCE));
    }

    #[test]
    fn few_relays_are_asked_and_who_refuses_not_at_once_again() {
        let mut reservations = Reservations::new(2);
        let relays: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        for relay in &relays {
            reservations.found(*relay, "/ip4/192.0.2.1/tcp/1".parse().unwrap(), NOW);
        }
        let ask = |reservations: &mut Reservations, now| {
            let mut asked = Vec::new();
            reservations.ask(now, |address| {
                assert!(address.to_string().ends_with("/p2p-circuit"), "{address}");
                asked.push(ListenerId::next());
                asked.last().copied()
            });
            asked
        };
        let first = ask(&mut reservations, NOW);
        assert_eq!((first.len(), ask(&mut reservations, NOW).len()), (2, 0));
        reservations.ended(first[0], NOW);
        assert_eq!(ask(&mut reservations, NOW).len(), 1, "the third");
        reservations.ended(first[1], NOW);
        assert_eq!(ask(&mut reservations, NOW).len(), 0);
        assert_eq!(reservations.next(NOW), Some(NOW + FIRST_WAIT));
        assert_eq!(ask(&mut reservations, NOW + FIRST_WAIT).len(), 1);
        relays.iter().for_each(|relay| reservations.reserved(relay));
        assert_eq!(reservations.in_use().count(), 3);
        relays.iter().for_each(|relay| reservations.gone(relay));
        assert_eq!((reservations.in_use().count(), reservations.next(NOW)), (0, None));
    }
}
