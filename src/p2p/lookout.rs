//! Whether a node knows who is there: what it still waits for before it may say that nobody is. A state machine without
//! I/O.
//!
//! "Nobody" is said of what has answered, never of what has not been heard yet: a peer that is connected counts as unheard
//! until it has said what it is, and whether it is a member; a member, until it has told what it knows; a table, until a
//! question that was begun after all its known peers were met has been answered by every peer that it went to; an announced
//! member, until it is connected or could not be reached several times.

use super::{core::Heard, redial::Redial, surroundings::Surroundings};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Failed dials after which an announced peer, or one that is remembered, counts as out of reach.
pub(super) const TRIES: u32 = 3;
/// How long the peers of the bootstrap list may take to be reached, if none of them has been, and those of the last run.
const LISTED_WITHIN: Duration = Duration::from_secs(10);
/// How long peers on the local network take to answer mDNS, which has no answer for "nobody".
pub(super) const BESIDE_WITHIN: Duration = Duration::from_secs(2);
/// Peers that are remembered as announced, or as members that are gone: a table may tell any number.
const MAX_REMEMBERED: usize = 256;

/// Which question to the table this is about, by how many peers of the table had been met when it was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Met(u64);

/// What a node has heard of whom.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// Connected peers, and whether they have said what they are.
    connected: BTreeMap<PeerId, bool>,
    /// Peers that were announced and not heard yet, and how often they could not be reached, or were lost unheard.
    announced: BTreeMap<PeerId, u32>,
    /// Members that were connected and are not any more.
    away: BTreeSet<PeerId>,
    met: Met,
    answered: Option<Met>,
    /// Whether anybody on the bootstrap list was ever connected.
    list_reached: bool,
}

/// What the lookout asks of those who know.
pub(super) struct Facts<'a, H> {
    /// What is known of a connected peer.
    pub(super) heard: H,
    pub(super) redial: &'a Redial,
    /// Whether mDNS is used.
    pub(super) searches_beside: bool,
    /// Whether anything of another author's that counts is known: then whoever told it knows the rest.
    pub(super) knows_updates: bool,
    /// Whether entries are on their way.
    pub(super) is_learning: bool,
}

impl Lookout {
    pub(super) fn connected(&mut self, peer: PeerId, listed: bool) {
        self.connected.entry(peer).or_insert(false);
        self.away.remove(&peer);
        self.list_reached |= listed;
    }

    /// The last connection to a peer has ended. `heard` is what was known of it; `sought`, whether this node had looked
    /// for it.
    pub(super) fn disconnected(&mut self, peer: PeerId, heard: Heard, sought: bool) {
        let unidentified = self.connected.remove(&peer) != Some(true);
        if heard == Heard::Nothing || unidentified {
            if sought {
                self.announced(peer);
            }
            return self.not_reached(&peer);
        }
        self.announced.remove(&peer);
        if heard == Heard::Member && self.away.len() < MAX_REMEMBERED {
            self.away.insert(peer);
        }
    }

    /// A peer has said what it is. `asked` if it is to be asked who the members are: it is of the table, and was sought.
    pub(super) fn identified(&mut self, peer: &PeerId, asked: bool) {
        if let Some(identified) = self.connected.get_mut(peer)
            && !std::mem::replace(identified, true)
            && asked
        {
            self.met.0 += 1;
        }
    }

    pub(super) fn is_identified(&self, peer: &PeerId) -> bool {
        self.connected.get(peer).copied().unwrap_or(false)
    }

    /// The table, or the local network, says that this peer is there.
    pub(super) fn announced(&mut self, peer: PeerId) {
        if !self.connected.contains_key(&peer) && self.announced.len() < MAX_REMEMBERED {
            self.announced.entry(peer).or_insert(0);
        }
    }

    pub(super) fn is_announced(&self, peer: &PeerId) -> bool {
        self.announced.contains_key(peer)
    }

    pub(super) fn not_reached(&mut self, peer: &PeerId) {
        if let Some(failures) = self.announced.get_mut(peer) {
            *failures += 1;
        }
    }

    /// A question to the table is begun.
    pub(super) fn asks(&self) -> Met {
        self.met
    }

    /// It has ended: `whole` if it went to somebody, and everybody that it went to has answered.
    pub(super) fn answered(&mut self, met: Met, whole: bool) {
        if whole {
            self.answered = self.answered.max(Some(met));
        }
    }

    /// Whether the table is to be asked again soon: its answer is missing, or somebody announced hasn't been reached, whose
    /// address the answer says.
    pub(super) fn wants_answer(&self) -> bool {
        self.table_is_silent() || self.expected().next().is_some()
    }

    /// Announced peers that may still be reached.
    fn expected(&self) -> impl Iterator<Item = &PeerId> {
        let open = |(peer, failures): &(&PeerId, &u32)| **failures < TRIES && !self.connected.contains_key(*peer);
        self.announced.iter().filter(open).map(|(peer, _)| peer)
    }

    fn table_is_silent(&self) -> bool {
        self.met > Met::default() && self.answered.is_none_or(|answered| answered < self.met)
    }

    /// Whether members that were connected are gone.
    pub(super) fn misses_members(&self) -> bool {
        !self.away.is_empty()
    }

    /// Whether some connected peer has not said yet what it is, or not all that it knows.
    pub(super) fn is_unheard(&self, heard: impl Fn(&PeerId) -> Heard) -> bool {
        self.connected.iter().any(|(peer, identified)| !identified || heard(peer) == Heard::Nothing)
    }

    /// Whether all that can be known of who is there is known: then what [`surroundings`](Self::surroundings) says holds.
    pub(super) fn is_settled(&self, now: Duration, facts: &Facts<'_, impl Fn(&PeerId) -> Heard>) -> bool {
        let members = self.connected.keys().any(|peer| (facts.heard)(peer) == Heard::Member);
        if members && facts.knows_updates {
            return !facts.is_learning;
        }
        let untold = self.is_unheard(&facts.heard)
            || self.table_is_silent()
            || self.expected().next().is_some()
            || now < LISTED_WITHIN && !facts.redial.remembered_tried(TRIES);
        let beside = !members && facts.searches_beside && now < BESIDE_WITHIN;
        let list = !members
            && facts.redial.count_listed() > 0
            && now < LISTED_WITHIN
            && !(self.list_reached && facts.redial.listed_tried());
        !untold && !beside && !list
    }

    /// When to look at it again although nothing has happened.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        [BESIDE_WITHIN, LISTED_WITHIN].into_iter().find(|at| *at > now)
    }

    fn unreached(&self) -> usize {
        let failed = |(peer, failures): &(&PeerId, &u32)| **failures > 0 && !self.connected.contains_key(*peer);
        self.announced.iter().filter(failed).count()
    }

    /// Whom the node has found.
    pub(super) fn surroundings(&self, facts: &Facts<'_, impl Fn(&PeerId) -> Heard>) -> Surroundings {
        let count = |wanted: Heard| self.connected.keys().filter(|peer| (facts.heard)(peer) == wanted).count();
        Surroundings {
            members: count(Heard::Member),
            listed: facts.redial.count_listed(),
            listed_connected: self.connected.keys().filter(|peer| facts.redial.is_listed(peer)).count(),
            elsewhere: count(Heard::Elsewhere),
            unreached: self.unreached(),
            silent: count(Heard::Nothing),
            searches_beside: facts.searches_beside,
        }
    }
}

#[cfg(test)]
mod tests;
