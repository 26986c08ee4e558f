//! Decides when a node knows who is there, and what it still waits for before it may say that nobody is. A state
//! machine without I/O.
//!
//! "Nobody" is only said on the strength of answers, never because something hasn't been heard yet. A connected peer
//! counts as unheard until it has said what it is and whether it is a member. A member counts as unheard until it has
//! told what it knows. The table does until a query that began after all its known peers were met has been answered by
//! every peer it went to. An announced member does until it is connected, or could not be reached several times.

use super::{core::Heard, redial::Redial, surroundings::Surroundings};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Failed dials after which an announced peer, or one that is remembered, counts as out of reach.
pub(super) const TRIES: u32 = 3;
/// How long to wait for the peers of the bootstrap list, as long as none has been reached, and for those of the last
/// run.
const LISTED_WITHIN: Duration = Duration::from_secs(10);
/// How long peers on the local network take to answer mDNS, which has no answer for "nobody".
pub(super) const BESIDE_WITHIN: Duration = Duration::from_secs(2);
/// Peers remembered as announced, or as members that have gone. A table may report any number.
const MAX_REMEMBERED: usize = 256;

/// Identifies a query to the table by how many of the table's peers had been met when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Met(u64);

/// What a node has heard from which peers.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// Connected peers, and whether they have said what they are.
    connected: BTreeMap<PeerId, bool>,
    /// Peers that were announced but not heard yet, and how often they could not be reached or were lost unheard.
    announced: BTreeMap<PeerId, u32>,
    /// Members that were connected and are not any more.
    away: BTreeSet<PeerId>,
    met: Met,
    answered: Option<Met>,
    /// Whether anybody on the bootstrap list was ever connected.
    list_reached: bool,
}

/// What the lookout asks its owner.
pub(super) struct Facts<'a, H> {
    /// What is known of a connected peer.
    pub(super) heard: H,
    pub(super) redial: &'a Redial,
    /// Whether mDNS is used.
    pub(super) searches_beside: bool,
    /// Whether any entry that counts of another author is known: whoever told us knows the rest.
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

    /// A peer has said what it is. `asked` is whether to ask it who the members are: it is part of the table, and we
    /// had looked for it.
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

    /// The query has ended. `whole` is whether it went to anybody and everybody it went to has answered.
    pub(super) fn answered(&mut self, met: Met, whole: bool) {
        if whole {
            self.answered = self.answered.max(Some(met));
        }
    }

    /// Whether to ask the table again soon: its answer is missing, or an announced peer, whose address the answer would
    /// give, hasn't been reached.
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

    /// Whether everything that can be known about who is there is known, so that [`surroundings`](Self::surroundings)
    /// can be trusted.
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

    /// When to check again even if nothing has happened.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        [BESIDE_WITHIN, LISTED_WITHIN].into_iter().find(|at| *at > now)
    }

    fn unreached(&self) -> usize {
        let failed = |(peer, failures): &(&PeerId, &u32)| **failures > 0 && !self.connected.contains_key(*peer);
        self.announced.iter().filter(failed).count()
    }

    /// The peers that the node has found.
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
            has_secret: false,
        }
    }
}

#[cfg(test)]
mod tests;
