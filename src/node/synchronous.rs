//! A node that waits for the others after each epoch.

use super::{
    Event, LocalUpdate, NodeError, Participant, Stop,
    fold::Outcome,
    start::deadline_in,
    suspects::all_suspect,
    update::{Arrived, Listing},
};
use crate::{
    entries::MemberList,
    settings::{Form, Range, Unfit, Value, Written, settings},
    weights::{SignedEntry, Weights},
};
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, sleep_until};

/// What a synchronous node does when the deadline of an epoch passes and fewer than the quorum have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BelowQuorum {
    /// Wait on, and say so.
    #[default]
    Wait,
    /// Go on with those who answered, if need be alone.
    Alone,
    /// End with an error; the checkpoint stays.
    Stop,
}

impl Value for BelowQuorum {
    const FORM: Form = Form::Choice(&[
        ("wait", "Wait on, and say so"),
        ("alone", "Go on with those who answered, if need be alone"),
        ("stop", "End with an error; the checkpoint stays"),
    ]);

    fn read(written: &Written) -> Result<Self, Unfit> {
        match written.to_string().as_str() {
            "wait" => Ok(Self::Wait),
            "alone" => Ok(Self::Alone),
            "stop" => Ok(Self::Stop),
            _ => Err(Unfit::new("write wait, alone or stop")),
        }
    }

    fn write(&self) -> Option<Written> {
        let word = match self {
            Self::Wait => "wait",
            Self::Alone => "alone",
            Self::Stop => "stop",
        };
        Some(Written::Text(word.to_owned()))
    }
}

settings! {
    /// How a synchronous node waits. As by default it is alone.
    pub struct SyncOptions under "Waiting" {
        /// With --sync: nodes of the federation. [default: those of --allow and this one, or the N of --partition]
        pub nodes as "nodes": usize = 1, "N", Range::at_least(1.0);
        /// With --sync: nodes that suffice when the deadline passes, this one included. [default: all]
        pub quorum as "quorum": usize = 1, "Q", Range::at_least(1.0);
        /// With --sync: seconds to wait for all nodes.
        ///
        /// From the node's own publishing.
        pub deadline as "deadline": Duration = Duration::from_secs(60), "SECONDS";
        /// With --sync: what to do when the deadline passes and the quorum isn't there.
        pub below_quorum as "below-quorum": BelowQuorum = BelowQuorum::Wait, "WHAT";
    }
}

/// The members of a synchronous federation: the allowed ones if there is an allow-list, otherwise the first `nodes`
/// authors seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    nodes: usize,
    closed: bool,
    ids: BTreeSet<PeerId>,
}

impl Members {
    /// This node and the next `nodes - 1` authors seen.
    pub fn first_seen(me: PeerId, nodes: usize) -> Self {
        Self { nodes, closed: false, ids: BTreeSet::from([me]) }
    }

    /// This node and these, nobody else.
    pub fn allowed(me: PeerId, others: impl IntoIterator<Item = PeerId>) -> Self {
        let ids: BTreeSet<PeerId> = others.into_iter().chain([me]).collect();
        Self { nodes: ids.len(), closed: true, ids }
    }

    /// The allow-list has changed: its members are those of the federation. Without one it was, and stays, the first
    /// seen.
    fn follow(&mut self, me: PeerId, allowed: &MemberList) {
        if self.closed {
            *self = Self::allowed(me, allowed.peers());
        }
    }

    /// Records authors in the order in which they were seen.
    pub fn saw(&mut self, authors: impl IntoIterator<Item = PeerId>) {
        for author in authors {
            if !self.closed && self.ids.len() < self.nodes {
                self.ids.insert(author);
            }
        }
    }

    /// How many members the federation has, whether or not they have been seen.
    pub fn count(&self) -> usize {
        self.nodes
    }

    /// Whether this author is a member.
    pub fn contains(&self, author: PeerId) -> bool {
        self.ids.contains(&author)
    }

    pub(super) fn save(&self) -> Vec<Vec<u8>> {
        self.ids.iter().map(|id| id.to_bytes()).collect()
    }

    pub(super) fn restore(&mut self, saved: &[Vec<u8>]) {
        self.saw(saved.iter().filter_map(|bytes| PeerId::from_bytes(bytes).ok()));
    }
}

/// An author's answer for an epoch: its update of that epoch, or else its earliest later one.
fn answer(entries: &[Arc<SignedEntry>], epoch: u64) -> Option<&Arc<SignedEntry>> {
    let later = entries.iter().filter_map(|entry| Some((entry.key.update_epoch()?, entry)));
    later.filter(|&(found, _)| found >= epoch).min_by_key(|&(found, _)| found).map(|(_, entry)| entry)
}

/// The epoch that the others have reached together: the highest that at least `enough` of them have answered.
fn epoch_of_others(newest: impl IntoIterator<Item = u64>, enough: usize) -> Option<u64> {
    let mut newest: Vec<u64> = newest.into_iter().collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.get(enough.max(1) - 1).copied()
}

/// How soon a folder that has failed is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a look at the folder has shown.
enum Looked {
    /// The others were far ahead: their fold and its epoch.
    CaughtUp(Weights, u64),
    /// The other members' answers.
    Answers(Vec<Arrived>),
}

/// A node that folds what its peers fold: after each epoch it waits for the other members' updates of that epoch.
///
/// Updates are summed strictly by author id, its own in its place, so that with all members present every node holds
/// equal bits. A dead member doesn't hang the others: see [`SyncOptions`].
pub struct SyncNode {
    pub(super) participant: Participant,
    options: SyncOptions,
    pub(super) members: Members,
}

impl SyncNode {
    /// A node over a participant.
    pub fn new(participant: Participant, options: SyncOptions, members: Members) -> Self {
        // Each node has a validation part of its own, and nodes that leave out different updates hold different bits.
        Self { participant: participant.without_leaving_out_by_loss(), options, members }
    }

    /// Publishes the update, waits for the other members, and folds. Returns the weights to go on with and the epoch
    /// they belong to, which is a later one if the others were more than one epoch ahead.
    ///
    /// A failing folder is reported as an event and retried; the rules for members that don't answer apply then too.
    ///
    /// Cancelling it, or a stop request while it waits, leaves the update published and no fold counted. A node that is
    /// cancelled in the middle of a fold can't go on: [`NodeError::FoldCancelled`].
    pub async fn exchange(&mut self, local: &LocalUpdate, stop: &Stop) -> Result<(Weights, u64), NodeError> {
        let mut watch = self.participant.folder().watch("");
        let mut membership = self.participant.membership().changes();
        let deadline = deadline_in(self.options.deadline);
        let (mut published, mut told, mut failed) = (false, None, None);
        loop {
            // What arrives from here on wakes it; what came before is in the listing.
            while watch.try_next().is_some() {}
            membership.mark_unchanged();
            let passed = Instant::now() >= deadline;
            let answers = match self.look(local, &mut published).await {
                Ok(Looked::CaughtUp(weights, epoch)) => return Ok((weights, epoch)),
                Ok(Looked::Answers(answers)) => {
                    failed = None;
                    answers
                }
                Err(NodeError::Folder(error)) if error.may_pass() => {
                    let (epoch, reason) = (local.epoch, error.to_string());
                    if failed.as_ref() != Some(&reason) {
                        self.participant.emit(&Event::FolderFailed { epoch, reason: reason.clone() });
                    }
                    failed = Some(reason);
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
            let mut present = 1 + answers.len();
            let quorum = self.options.quorum.min(self.members.count());
            let needed = match (passed, self.options.below_quorum) {
                (false, _) => self.members.count(),
                (true, BelowQuorum::Alone) => 1,
                (true, _) => quorum,
            };
            // An answer that was readable when it was counted may be unreadable when it is folded.
            let mut lost = false;
            if present >= needed && (failed.is_none() || passed) {
                match self.fold(local, answers, needed).await? {
                    Ok(weights) => return Ok((weights, local.epoch)),
                    Err(usable) => (present, lost) = (usable, true),
                }
            }
            if passed && self.options.below_quorum == BelowQuorum::Stop {
                return Err(NodeError::BelowQuorum { epoch: local.epoch, present, quorum });
            }
            if told.replace((present, passed)) != Some((present, passed)) {
                let reason = if passed { "below quorum after the deadline" } else { "answers of the other members" };
                let (epoch, reason) = (local.epoch, reason.to_owned());
                self.participant.emit(&Event::Waiting { epoch, present, needed, reason });
            }
            // No watch reports that a storage works again.
            let again = failed.is_some() || lost || self.participant.has_unread();
            tokio::select! {
                () = stop.requested() => return Err(NodeError::Stopped),
                _ = watch.next() => {}
                // Somebody who is waited for may have been revoked.
                Ok(()) = membership.changed() => {}
                () = sleep_until(deadline), if !passed => {}
                () = sleep(TRY_AGAIN_AFTER), if again => {}
            }
        }
    }

    /// One look at the folder.
    async fn look(&mut self, local: &LocalUpdate, published: &mut bool) -> Result<Looked, NodeError> {
        if !*published {
            self.participant.publish(local).await?;
            *published = true;
        }
        let listing = self.list().await?;
        if let Some((weights, epoch)) = self.adopt(&listing, local.epoch).await? {
            return Ok(Looked::CaughtUp(weights, epoch));
        }
        self.take_answers(local.epoch).await.map(Looked::Answers)
    }

    /// Checks whether the others are more than one epoch ahead of `epoch`, and if so returns the fold of their updates
    /// and their epoch. A node does this before it trains on after a restart. A failing folder is reported as an event.
    pub async fn catch_up(&mut self, epoch: u64) -> Result<Option<(Weights, u64)>, NodeError> {
        let caught_up = match self.list().await {
            Ok(listing) => self.adopt(&listing, epoch).await,
            Err(error) => Err(error),
        };
        match caught_up {
            Err(NodeError::Folder(error)) if error.may_pass() => {
                self.participant.emit(&Event::FolderFailed { epoch, reason: error.to_string() });
                Ok(None)
            }
            result => result,
        }
    }

    async fn list(&mut self) -> Result<Listing, NodeError> {
        let listing = self.participant.list_updates().await?;
        if let Some(allowed) = self.participant.membership().list() {
            self.members.follow(self.participant.peer_id(), &allowed);
        }
        self.members.saw(listing.by_author().map(|(author, _)| author));
        Ok(listing)
    }

    async fn adopt(&mut self, listing: &Listing, own_epoch: u64) -> Result<Option<(Weights, u64)>, NodeError> {
        let of_members = listing.by_author().filter(|&(author, _)| self.members.contains(author));
        let newest = of_members.filter_map(|(_, entries)| entries.iter().filter_map(|e| e.key.update_epoch()).max());
        // The quorum counts this node, which is not among the others. Whatever the quorum is, half of the others must
        // be there: one member's claim takes nobody along.
        let others = self.members.count().saturating_sub(1);
        let enough = self.options.quorum.min(others).max(others.div_ceil(2));
        let Some(epoch) = epoch_of_others(newest, enough).filter(|&epoch| epoch > own_epoch.saturating_add(1)) else {
            return Ok(None);
        };
        let arrived = self.take_answers(epoch).await?;
        if arrived.len() < enough.max(1) {
            return Ok(None);
        }
        let fresh = arrived.into_iter().map(|arrived| (arrived, 0)).collect();
        let folded = self.participant.fold(None, fresh, epoch, enough.max(1)).await?;
        let Outcome::Weights(weights) = folded else { return Ok(None) };
        self.participant.emit(&Event::CaughtUp { from: own_epoch, epoch });
        Ok(Some((weights, epoch)))
    }

    /// The members' answers for an epoch that have passed the checks, by author id.
    async fn take_answers(&mut self, epoch: u64) -> Result<Vec<Arrived>, NodeError> {
        let members = self.members.clone();
        let choose = |updates: &Listing, _: &super::Roster| {
            let of_members = updates.by_author().filter(|&(author, _)| members.contains(author));
            of_members.filter_map(|(_, entries)| answer(entries, epoch).cloned()).collect()
        };
        self.participant.take_in(choose).await
    }

    /// The weights to go on with, or how many members' updates could be read if fewer than `needed`.
    async fn fold(
        &mut self,
        local: &LocalUpdate,
        answers: Vec<Arrived>,
        needed: usize,
    ) -> Result<Result<Weights, usize>, NodeError> {
        if !answers.is_empty() {
            let me = self.participant.peer_id();
            let place = answers.iter().take_while(|arrived| arrived.author() < me).count();
            let fresh = answers.into_iter().map(|arrived| (arrived, 0)).collect();
            match self.participant.fold(Some((place, local)), fresh, local.epoch, needed).await? {
                Outcome::Weights(weights) => return Ok(Ok(weights)),
                Outcome::Refused => return Ok(Ok(local.weights.clone())),
                Outcome::AllSuspect(left_out) => {
                    let reason = all_suspect(left_out);
                    self.participant.emit(&Event::NotFolded { epoch: local.epoch, reason });
                    return Ok(Ok(local.weights.clone()));
                }
                Outcome::TooFew(usable) if usable < needed => return Ok(Err(usable)),
                Outcome::TooFew(_) => {}
            }
        }
        let reason = "no other member has answered".to_owned();
        self.participant.emit(&Event::NotFolded { epoch: local.epoch, reason });
        Ok(Ok(local.weights.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_epoch_is_one_that_enough_of_them_have_answered() {
        assert_eq!(epoch_of_others([7, 9, 8], 2), Some(8));
        assert_eq!(epoch_of_others([7, 9, 8], 3), Some(7));
        assert_eq!(epoch_of_others([7], 2), None);
        assert_eq!(epoch_of_others([], 0), None);
    }

    #[test]
    fn the_first_authors_seen_are_members_and_later_ones_are_not() {
        let (me, a, b, c) = (PeerId::random(), PeerId::random(), PeerId::random(), PeerId::random());
        let mut members = Members::first_seen(me, 3);
        members.saw([a]);
        members.saw([a, b, c]);
        assert!([me, a, b].into_iter().all(|id| members.contains(id)));
        assert!(!members.contains(c));
        let mut restored = Members::first_seen(me, 3);
        restored.restore(&members.save());
        assert_eq!(restored, members);
        let mut allowed = Members::allowed(me, [a]);
        allowed.saw([b]);
        assert!(!allowed.contains(b));
        assert_eq!(allowed.count(), 2);
    }
}
