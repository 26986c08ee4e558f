//! What has been reported about updates that don't count: each once, for as long as it is in the folder.

use super::{Event, EventSink, FoldFigures, event::tell, roster::Stale, suspicion::Suspect, told_singly::ToldSingly};
use crate::weights::{EntryHash, SignedEntry};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Display,
    time::Instant,
};

/// Most characters of the reason for a rejection.
const MAX_REASON_CHARS: usize = 500;

/// Why an update doesn't count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaint {
    /// It will never count.
    Rejected,
    /// It could not be read, and will be tried again.
    OutOfReach,
}

/// Updates in the folder that don't count, so that each is reported once and nothing is read twice.
pub(super) struct Complaints {
    events: EventSink,
    complained: BTreeMap<EntryHash, Complaint>,
    /// Those that were reported as too old.
    left_out: BTreeSet<EntryHash>,
    /// Authors of whose claims it was reported that they were cut.
    cut: BTreeSet<PeerId>,
    /// The epoch of each author's last update that was reported as out of line.
    suspected: BTreeMap<PeerId, u64>,
    /// How many there were of each kind.
    pub(super) counted: FoldFigures,
    rejections: ToldSingly,
    /// For themselves: anybody makes a crowd of old updates, and whom it rejects a node must be able to say.
    old: ToldSingly,
}

impl Complaints {
    pub(super) fn new(events: EventSink) -> Self {
        Self {
            events,
            complained: BTreeMap::new(),
            left_out: BTreeSet::new(),
            cut: BTreeSet::new(),
            suspected: BTreeMap::new(),
            counted: FoldFigures::default(),
            rejections: ToldSingly::new(Instant::now()),
            old: ToldSingly::new(Instant::now()),
        }
    }

    /// What was last reported about this entry.
    pub(super) fn of(&self, entry: &SignedEntry) -> Option<Complaint> {
        self.complained.get(&entry.hash()).copied()
    }

    /// Whether some current update in the folder could not be read at the last attempt.
    pub(super) fn any_out_of_reach(&self) -> bool {
        self.complained.values().any(|&complaint| complaint == Complaint::OutOfReach)
    }

    pub(super) fn reject(&mut self, entry: &SignedEntry, reason: &(dyn Display + Sync)) {
        self.complain(entry, Complaint::Rejected, reason);
    }

    pub(super) fn complain(&mut self, entry: &SignedEntry, complaint: Complaint, reason: &(dyn Display + Sync)) {
        if self.complained.insert(entry.hash(), complaint) != Some(complaint) {
            match complaint {
                Complaint::Rejected => self.counted.rejected += 1,
                Complaint::OutOfReach => self.counted.out_of_reach += 1,
            }
            if !self.tells() {
                return;
            }
            let author = entry.key.author();
            let epoch = entry.metadata().map_or(0, |metadata| metadata.epoch);
            // It may contain a peer's tensor names, and goes to a terminal and a log.
            let mut reason: String =
                reason.to_string().chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect();
            if complaint == Complaint::OutOfReach {
                reason.push_str("; it is tried again");
            }
            tracing::warn!(%author, epoch, reason, "update rejected");
            tell(&self.events, &Event::Rejected { author: author.to_string(), epoch, reason });
        }
    }

    /// Whether one more may be told. Of those that weren't, the number is logged.
    fn tells(&mut self) -> bool {
        let (tells, untold) = self.rejections.one_more(Instant::now());
        if let Some(updates) = untold {
            tracing::warn!(updates, "so many more were rejected, cut or suspect in the last minute");
        }
        tells
    }

    /// The update counts after all.
    pub(super) fn withdraw(&mut self, entry: &SignedEntry) {
        self.complained.remove(&entry.hash());
    }

    /// Reports updates that are too old.
    pub(super) fn leave_out(&mut self, stale: Vec<Stale>) {
        for (entry, staleness) in stale {
            if self.left_out.insert(entry.hash()) {
                self.counted.left_out += 1;
                let (tells, untold) = self.old.one_more(Instant::now());
                if let Some(updates) = untold {
                    tracing::info!(updates, "so many more were left out as too old in the last minute");
                }
                if !tells {
                    continue;
                }
                let author = entry.key.author().to_string();
                let epoch = entry.metadata().map_or(0, |metadata| metadata.epoch);
                tell(&self.events, &Event::LeftOut { author, epoch, staleness });
            }
        }
    }

    /// Reports, once for each author, that not all examples count that it claims.
    pub(super) fn tell_cut(&mut self, author: PeerId, epoch: u64, claimed: u64, counted: u64) {
        if self.cut.insert(author) && self.tells() {
            let author = author.to_string();
            tracing::warn!(author, epoch, claimed, counted, "claim cut");
            tell(&self.events, &Event::ClaimCut { author, epoch, claimed, counted });
        }
    }

    /// Reports, once for each update, that it is out of line with the others.
    pub(super) fn tell_suspect(&mut self, suspect: &Suspect) {
        let Suspect { author, epoch, left_out, .. } = *suspect;
        if self.suspected.insert(author, epoch) == Some(epoch) {
            return;
        }
        self.counted.suspected += 1;
        if self.tells() {
            let (author, reason) = (author.to_string(), suspect.how.to_string());
            tracing::warn!(author, epoch, reason, left_out, "suspect update");
            tell(&self.events, &Event::Suspect { author, epoch, reason, left_out });
        }
    }

    /// Forgets what was reported about all authors except these.
    pub(super) fn retain_authors(&mut self, keep: impl Fn(PeerId) -> bool) {
        self.cut.retain(|&author| keep(author));
        self.suspected.retain(|&author, _| keep(author));
    }

    /// Forgets what was reported about updates that are gone; a flood of them would fill the memory.
    pub(super) fn retain(&mut self, present: &HashSet<EntryHash>) {
        self.complained.retain(|hash, _| present.contains(hash));
        self.left_out.retain(|hash| present.contains(hash));
    }
}
