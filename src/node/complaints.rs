//! What has been reported about updates that don't count: each once, for as long as it is in the folder.

use super::{Event, EventSink, FoldFigures, event::tell, roster::Stale, suspicion::Suspect};
use crate::weights::{EntryHash, SignedEntry};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    time::{Duration, Instant},
};

/// Most characters of the reason for a rejection.
const MAX_REASON_CHARS: usize = 500;

/// How many rejections and suspects are told one by one in a while. Of more only the number is logged: whoever has many names can
/// have any number of updates rejected.
const TOLD: u32 = 100;
const WHILE: Duration = Duration::from_secs(60);

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
    /// How many may still be told before `again`, and how many were not.
    may_tell: u32,
    again: Instant,
    untold: u64,
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
            may_tell: TOLD,
            again: Instant::now() + WHILE,
            untold: 0,
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

    /// Whether one more may be told.
    fn tells(&mut self) -> bool {
        if Instant::now() >= self.again {
            if self.untold > 0 {
                tracing::warn!(updates = self.untold, "so many more were rejected or suspect in the last minute");
            }
            (self.may_tell, self.again, self.untold) = (TOLD, Instant::now() + WHILE, 0);
        }
        let tells = self.may_tell > 0;
        self.may_tell = self.may_tell.saturating_sub(1);
        self.untold += u64::from(!tells);
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
                let author = entry.key.author().to_string();
                let epoch = entry.metadata().map_or(0, |metadata| metadata.epoch);
                tell(&self.events, &Event::LeftOut { author, epoch, staleness });
            }
        }
    }

    /// Reports, once for each author, that not all examples count that it claims.
    pub(super) fn tell_cut(&mut self, author: PeerId, epoch: u64, claimed: u64, counted: u64) {
        if self.cut.insert(author) {
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
    pub(super) fn retain(&mut self, present: &BTreeSet<EntryHash>) {
        self.complained.retain(|hash, _| present.contains(hash));
        self.left_out.retain(|hash| present.contains(hash));
    }
}
