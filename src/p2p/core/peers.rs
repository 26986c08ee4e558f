//! The connected peers, and what each of them is to the federation.

use super::{
    Ban, Core, Misdeed, Output,
    pace::Pace,
    session::{Barren, Session, Settled},
    strikes::{NewBan, Severity},
};
use libp2p_identity::PeerId;
use std::{collections::btree_map::Entry, time::Duration};

/// What a connected peer is to the federation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Relation {
    /// It hasn't said yet.
    #[default]
    Unknown,
    /// A member.
    Member,
    /// A node of other federations. It counts as that until it reconnects, or asks for something of this federation.
    Elsewhere,
    /// Not a node at all: a bootstrap node, or some other program.
    NoNode,
}

impl Relation {
    pub(super) fn is_stranger(self) -> bool {
        matches!(self, Self::Elsewhere | Self::NoNode)
    }
}

/// What is known of a connected peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It hasn't said yet whether it is a member, or it is one but hasn't told everything it knows.
    Nothing,
    /// A member that has told this node what it knows since it connected.
    Member,
    /// A node of other federations.
    Elsewhere,
    /// Not a node: a bootstrap node.
    NoNode,
}

/// A connected peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) relation: Relation,
    /// The sync session with it, if one is running.
    pub(super) session: Option<Session>,
    pub(super) settled: Option<Settled>,
    /// The same, bucket by bucket.
    pub(super) barren: Option<Barren>,
    /// Whether a sync with it has completed, so that this node knows what it knew.
    pub(super) synced: bool,
    /// It has put this node off until then, and isn't asked for blobs before.
    pub(super) later: Duration,
    /// Whether, by its last answer, it knows this node's own entries as they are now.
    pub(super) knows_own: bool,
    /// How fast it gives blobs.
    pub(super) pace: Pace,
}

impl Core {
    /// The connected peers that are known to be members.
    pub fn members(&self) -> impl Iterator<Item = PeerId> {
        self.connected_as(Relation::Member)
    }

    /// What is known of a peer; nothing if it isn't connected.
    pub fn heard(&self, peer: &PeerId) -> Heard {
        match self.peers.get(peer) {
            Some(Peer { relation: Relation::Member, synced: true, .. }) => Heard::Member,
            Some(Peer { relation: Relation::Elsewhere, .. }) => Heard::Elsewhere,
            Some(Peer { relation: Relation::NoNode, .. }) => Heard::NoNode,
            _ => Heard::Nothing,
        }
    }

    pub(super) fn connected_as(&self, relation: Relation) -> impl Iterator<Item = PeerId> {
        self.peers.iter().filter(move |(_, peer)| peer.relation == relation).map(|(peer, _)| *peer)
    }

    pub(super) fn connected(&mut self, peer: PeerId) {
        if let Some(length) = self.strikes.banned_for(&peer, self.now) {
            let reason = "it was dropped a short while ago".to_owned();
            return self.push(Output::Ban { peer, reason, length });
        }
        if !self.admits(&peer) {
            // It is on the bootstrap list, and serves the table. That is all it is here.
            self.peers.entry(peer).or_insert(Peer { relation: Relation::NoNode, ..Peer::default() });
            return;
        }
        if let Entry::Vacant(new) = self.peers.entry(peer) {
            new.insert(Peer::default());
            self.fetches.forgive(peer);
            self.came_or_went(peer);
            self.compare(peer);
        } else {
            // Possibly by a new process, before the loss of the old one's connection was noticed.
            self.holders.forgets(&peer);
            self.tell_held(peer);
        }
    }

    pub(super) fn disconnected(&mut self, peer: PeerId) {
        self.relayed.remove(&peer);
        let Some(Peer { session, .. }) = self.peers.remove(&peer) else { return };
        if session.is_some_and(|session| session.changed) {
            self.set_changed(None);
        }
        self.fetches.disconnected(peer);
        self.came_or_went(peer);
        self.holders.disconnected(peer);
        if let Some(root) = self.keeps.disconnected(&peer) {
            self.drop_kept(root, peer);
        }
        self.own_proof.disconnected(peer);
    }

    /// It has said that it is a member, or has asked something that only a member asks.
    pub(super) fn found_member(&mut self, peer: PeerId) {
        if !self.admits(&peer) {
            return;
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.relation != Relation::Member {
            state.relation = Relation::Member;
            self.push(Output::Member(peer));
            self.tell_held(peer);
            self.fetches.wake_all(peer);
        }
    }

    pub(super) fn found_stranger(&mut self, peer: PeerId, is: Relation) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.relation = is;
            state.session = None;
        }
    }

    /// Counts something wrong that a peer did. After too much the peer is dropped, and forgotten here at once.
    pub(super) fn strike(&mut self, peer: PeerId, severity: Severity, reason: &str) {
        if self.is_banned(&peer) {
            return;
        }
        let (board, membership) = (self.board.clone(), self.config.membership.clone());
        // Where there is a list, who is on it has a name.
        let is_known = |peer: &PeerId| !membership.is_open() && membership.allows(*peer) || board.set().is_known(*peer);
        if let Some(NewBan { length, forgotten }) = self.strikes.add(peer, severity, self.now, is_known) {
            forgotten.into_iter().for_each(|other| self.push(Output::Unban(other)));
            self.disconnected(peer);
            self.push(Output::Ban { peer, reason: reason.to_owned(), length });
        }
    }

    /// What the driver has seen.
    pub(super) fn misdeed(&mut self, peer: PeerId, misdeed: Misdeed) {
        let (severity, reason) = match misdeed {
            Misdeed::Unread => (Severity::MidTolerance, "it doesn't read what it asked for".to_owned()),
            Misdeed::Repeats => (Severity::Fatal, "it asked for a blob twice at once".to_owned()),
            Misdeed::Requests => (Severity::HighTolerance, "it sends too many requests".to_owned()),
            Misdeed::Gossip(dropped) => {
                (Severity::LowTolerance, format!("it sends too much gossip, {dropped} messages of which were dropped"))
            }
        };
        self.strike(peer, severity, &reason);
    }

    /// The bans that are to be kept for the next run.
    pub fn bans(&mut self) -> Vec<(PeerId, Ban)> {
        self.strikes.bans(self.now)
    }

    /// Takes over the bans of the last run.
    pub fn restore_bans(&mut self, bans: impl IntoIterator<Item = (PeerId, Ban)>) {
        self.strikes.restore(bans, self.now);
    }

    pub(super) fn is_banned(&self, peer: &PeerId) -> bool {
        self.strikes.banned_for(peer, self.now).is_some()
    }
}
