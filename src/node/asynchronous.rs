//! A node that waits for nobody longer than for a small part of its own time.

use super::{
    Event, LocalUpdate, NodeError, Participant, Standpoint, fold::Outcome, patience::Patience, sample::Sample,
    suspects::all_suspect,
};
use crate::{
    settings::{Range, settings},
    weights::Weights,
};
use libp2p_identity::PeerId;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

/// How many folds ahead it is looked for one in which the node takes part.
const FOLDS_AHEAD: u64 = 256;

settings! {
    /// How an asynchronous node takes part. As by default it folds every peer after every epoch.
    pub struct AsyncOptions under "Folding" {
        /// Leave out updates that were folded already.
        ///
        /// Else one is folded again until a newer one comes.
        pub ignore_seen as "ignore-seen": bool = false, "BOOL";
        /// Fold after an epoch with this probability only.
        ///
        /// The node publishes in any case.
        pub participation as "participation": f64 = 1.0, "C",
            Range::between(0.0, 1.0).worded("must be a probability, 0 to 1");
        /// Fold after every so many epochs.
        pub epochs_between_folds as "epochs-between-folds": u64 = 1, "N", Range::at_least(1.0);
        /// Publish, but never fold.
        pub upload_only as "upload-only": bool = false, "BOOL";
        /// Fold at most so many peers, each time a fresh random sample. [default: all]
        ///
        /// The sample of a fold is drawn after the one before, and only its values are fetched.
        pub max_peers as "max-peers": Option<usize> = None, "K";
        /// Wait for updates that are still on their way for at most this part of the time that the node trains.
        ///
        /// Taken together, and at most ten seconds at once. What comes later is folded next time, and who has made the
        /// node wait in vain is waited for half as long.
        pub max_wait as "max-wait": f64 = 0.1, "PART",
            Range::between(0.0, 1.0).worded("must be a part of 1, 0 to 1");
    }
    beside {
        /// Seed of the participation and of the sample, which depend on nothing else but the epoch.
        pub seed: u64 = 0;
    }
}

/// A node that never waits: it publishes, folds what its peers have now, and goes on.
///
/// Its own update comes first in the sum, then the peers' by author id. Peer ids are compared as bytes.
pub struct AsyncNode {
    pub(super) participant: Participant,
    options: AsyncOptions,
    /// When the last exchange ended: since then the node has trained.
    since: Instant,
}

impl AsyncNode {
    /// A node over a participant.
    pub fn new(mut participant: Participant, options: AsyncOptions) -> Self {
        participant.patience = Patience::new(options.max_wait);
        participant.sample = Sample::new(options.seed, options.max_peers);
        Self { participant, options, since: Instant::now() }
    }

    /// Whether it folds at all.
    pub(super) fn folds(&self) -> bool {
        !self.options.upload_only
    }

    /// Publishes the update, folds, and returns the weights to go on with and the epoch they belong to. If there is
    /// nothing to fold with, those are the trained weights, and no fold is counted. What peers see remains the update
    /// as it was trained.
    ///
    /// The epoch is a later one if this node was so far behind that its peers leave its updates out as too old,
    /// although they are as good as theirs. Otherwise a node that is slow or was cut off would never be heard again.
    /// After the fold it goes on at the others' epoch.
    ///
    /// A failing folder is reported as an event, and training goes on; the next epoch tries again.
    ///
    /// If it is cancelled, the update may or may not be published, and no fold is counted. A node that is cancelled in
    /// the middle of a fold can't go on: [`NodeError::FoldCancelled`].
    pub async fn exchange(&mut self, local: &LocalUpdate) -> Result<(Weights, u64), NodeError> {
        self.participant.patience.worked(self.since.elapsed());
        let exchanged = self.try_exchange(local).await;
        self.since = Instant::now();
        match exchanged {
            Err(NodeError::Folder(error)) if error.may_pass() => {
                tracing::warn!(epoch = local.epoch, %error, "the shared folder failed");
                let (epoch, reason) = (local.epoch, error.to_string());
                self.participant.emit(&Event::FolderFailed { epoch, reason });
                Ok((local.weights.clone(), local.epoch))
            }
            result => result,
        }
    }

    async fn try_exchange(&mut self, local: &LocalUpdate) -> Result<(Weights, u64), NodeError> {
        self.participant.publish(local).await?;
        let epoch = local.epoch;
        if let Some(reason) = self.leaves_fold_out(epoch) {
            self.participant.emit(&Event::NotFolded { epoch, reason: reason.to_owned() });
            return Ok((local.weights.clone(), epoch));
        }
        let exchanged = self.fold(local).await?;
        self.expect_after(exchanged.1).await?;
        Ok(exchanged)
    }

    /// Draws the peers of the next fold after this epoch, so that their updates come while the node trains.
    pub(super) async fn expect_after(&mut self, epoch: u64) -> Result<(), NodeError> {
        self.participant.expect_for(self.next_fold_after(epoch)).await
    }

    /// Why it doesn't fold in an epoch.
    fn leaves_fold_out(&self, epoch: u64) -> Option<&'static str> {
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        random.set_stream(epoch);
        if self.options.upload_only {
            Some("this node only uploads")
        } else if !epoch.is_multiple_of(self.options.epochs_between_folds.max(1)) {
            Some("not in this epoch: epochs between folds")
        } else if random.random::<f64>() >= self.options.participation {
            Some("not in this epoch: participation probability")
        } else {
            None
        }
    }

    /// The next epoch in which it folds, as far ahead as is worth looking.
    fn next_fold_after(&self, epoch: u64) -> u64 {
        let every = self.options.epochs_between_folds.max(1);
        let first = (epoch / every).saturating_add(1).saturating_mul(every);
        let mut folds = (0..FOLDS_AHEAD).map(|more| first.saturating_add(every.saturating_mul(more)));
        folds.find(|epoch| self.leaves_fold_out(*epoch).is_none()).unwrap_or(first)
    }

    async fn fold(&mut self, local: &LocalUpdate) -> Result<(Weights, u64), NodeError> {
        let epoch = local.epoch;
        let ignore_seen = self.options.ignore_seen;
        let sample = self.participant.sample.clone();
        let from = self.participant.standpoint();
        let mut stale = Vec::new();
        let (arrived, late) = self
            .participant
            .take_in_briefly(
                |updates, roster| {
                    let wanted =
                        updates.newest().filter(|entry| !(ignore_seen && roster.was_folded(entry.key.author())));
                    // Updates that are too old aren't even read, and take no place in the sample.
                    let fresh;
                    (fresh, stale) = roster.split_by_staleness(wanted.cloned(), from);
                    let mut chosen = sample.draw(epoch, fresh);
                    chosen.sort_by_key(|entry| entry.key.author());
                    chosen
                },
                !ignore_seen,
            )
            .await?;
        self.participant.leave_out(stale);
        let fresh = self.participant.with_staleness(arrived, from);
        if fresh.is_empty() {
            let reason = match late {
                0 => "no peer has anything to fold",
                _ => "what peers have to fold has not come in time",
            };
            self.participant.emit(&Event::NotFolded { epoch, reason: reason.to_owned() });
            return Ok((local.weights.clone(), epoch));
        }
        let epochs = fresh.iter().map(|(arrived, _)| (arrived.author(), arrived.metadata.epoch)).collect();
        match self.participant.fold(Some((0, local)), fresh, epoch, 2).await? {
            Outcome::Weights(weights) => return Ok((weights, self.epoch_to_go_on_at(epoch, epochs))),
            Outcome::Refused => {}
            Outcome::AllSuspect(left_out) => {
                let reason = all_suspect(left_out);
                self.participant.emit(&Event::NotFolded { epoch, reason });
            }
            Outcome::TooFew(_) => {
                self.participant.emit(&Event::NotFolded { epoch, reason: "no peer's update could be read".to_owned() });
            }
        }
        Ok((local.weights.clone(), epoch))
    }

    /// The lower median of the folded epochs that are believed, this node's included, if its own is too old for others
    /// by that measure; otherwise its own.
    fn epoch_to_go_on_at(&self, own: u64, mut folded: Vec<(PeerId, u64)>) -> u64 {
        folded.push((self.participant.peer_id(), own));
        let from = Standpoint { epoch: Some(own), ..self.participant.standpoint() };
        let of_all = self.participant.roster.common_epoch(&folded, from).unwrap_or(own);
        if of_all.saturating_sub(own) <= from.reach {
            return own;
        }
        self.participant.emit(&Event::CaughtUp { from: own, epoch: of_all });
        of_all
    }
}
