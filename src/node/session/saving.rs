//! What a session writes to its run's directory, and reads from it: checkpoints, and the middle of an epoch.

use super::{
    super::{
        Checkpoint, CheckpointError, Event, LocalUpdate, Mode, NodeError, Phase, Progress, SavedState,
        background::off_runtime,
        blobs::{BlobError, Blobs},
        progress::{SavedProgress, base_of},
    },
    Session,
};
use crate::{strategy::Strategy, weights::Weights};
use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

/// How often a synchronous node looks whether there is room on the disk again.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// What a run's directory holds of the middle of an epoch.
pub(super) enum Middle {
    None,
    Found(SavedProgress),
    /// Why not.
    Unreadable(String),
}

impl Session {
    /// What was saved in the middle of the epoch after the last complete one, if it was trained from the result of that
    /// one.
    pub(super) async fn take_up(&mut self, saved: Middle) -> Result<Option<Progress>, NodeError> {
        let (Some(run_dir), Some(blobs)) = (self.options.run_dir.clone(), self.blobs.clone()) else { return Ok(None) };
        let (epoch, steps, reason) = match saved {
            Middle::None => return Ok(None),
            Middle::Unreadable(reason) => (None, None, reason),
            Middle::Found(saved) => {
                let (complete, base) = self.complete.unwrap_or_default();
                let (epoch, steps) = (saved.epoch, saved.steps);
                let reason = if epoch <= complete {
                    format!("the node is at epoch {complete} already")
                } else if epoch > complete + 1 || base != Some(saved.base()) {
                    "the checkpoint isn't the one that it goes on from".to_owned()
                } else {
                    let (run_dir, blobs) = (run_dir.clone(), blobs.clone());
                    match off_runtime(move || saved.load(&run_dir, &blobs)).await? {
                        Ok(progress) => return Ok(Some(progress)),
                        Err(CheckpointError::Damaged { path, what }) => damaged(&path, &what),
                        Err(error) => return Err(error.into()),
                    }
                };
                (Some(epoch), Some(steps), reason)
            }
        };
        self.mode.participant().emit(&Event::ProgressDropped { epoch, steps, reason });
        off_runtime(move || {
            let _alone = blobs.alone();
            Progress::remove(&run_dir)?;
            sweep(&run_dir, &blobs);
            Ok::<_, CheckpointError>(None)
        })
        .await?
        .map_err(NodeError::from)
    }

    /// Writes the training program's state for [`epoch_trained`](Self::epoch_trained) or
    /// [`save_progress`](Self::save_progress): whatever `write` writes, piece by piece, without the weights, which
    /// these two are given. It is on the disk when this returns, and is removed when neither a checkpoint nor a
    /// [`SavedState`] needs it any more. A crash leaves nothing that counts.
    ///
    /// If there is no room on the disk, gives a state of which no checkpoint can be made:
    /// [`epoch_trained`](Self::epoch_trained) says what becomes of the epoch.
    ///
    /// Blocks the calling thread. Without a directory for checkpoints it does nothing, and doesn't call `write`.
    pub fn write_state<E: From<NodeError>>(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<SavedState, E> {
        let (Some(run_dir), Some(blobs)) = (&self.options.run_dir, &self.blobs) else {
            return Ok(SavedState::default());
        };
        let error = |error: BlobError| NodeError::from(error.of(&Checkpoint::path(run_dir)));
        if self.beginning.is_none() {
            // There may be room for it only then.
            let _alone = blobs.alone();
            clean_up(run_dir, blobs).map_err(NodeError::from)?;
            sweep(run_dir, blobs);
        }
        let unwritten = || SavedState::unwritten(blobs.dir());
        let mut writer = match blobs.writer() {
            Err(failed) if failed.is_full() => return Ok(unwritten()),
            writer => writer.map_err(error)?,
        };
        match write(&mut writer) {
            Err(_) if writer.is_full() => return Ok(unwritten()),
            written => written?,
        }
        let held = match writer.finish() {
            Err(failed) if failed.is_full() => return Ok(unwritten()),
            held => held.map_err(error)?,
        };
        Ok(if held.id().length == 0 { SavedState::default() } else { SavedState::held(held) })
    }

    /// Saves the middle of the epoch after the last complete one: `steps` training steps are done of it, to these
    /// weights, and `trainer` is what else the training program needs to do the rest. The next life gets it as
    /// [`Begun::progress`](super::Begun::progress), until the epoch is trained; the checkpoint stays as it is. A crash or a cancellation leaves
    /// either what was saved before, or this.
    ///
    /// Does nothing before [`begin`](Self::begin), without a directory for checkpoints, or while the last complete epoch
    /// isn't on the disk. Says whether it is saved.
    pub async fn save_progress(
        &mut self,
        steps: u64,
        weights: Weights,
        trainer: SavedState,
    ) -> Result<bool, NodeError> {
        let (Some(run_dir), Some(blobs)) = (self.options.run_dir.clone(), self.blobs.clone()) else { return Ok(false) };
        let Some((epoch, Some(base))) = self.complete else { return Ok(false) };
        let progress = Progress { epoch: epoch + 1, steps, weights, trainer };
        let work = move || {
            let _alone = blobs.alone();
            progress.save(&run_dir, &blobs, base)?;
            sweep(&run_dir, &blobs);
            Ok::<_, CheckpointError>(())
        };
        off_runtime(work).await??;
        fail::fail_point!("session::progress-saved");
        Ok(true)
    }

    /// Writes *trained(e)*. Returns false if there is no room for it and the node goes on all the same.
    pub(super) async fn save_when_there_is_room(
        &mut self,
        phase: Phase,
        local: &LocalUpdate,
    ) -> Result<bool, NodeError> {
        loop {
            if self.saved_or_full(phase.clone(), local.epoch, &local.weights).await? {
                self.unsaved = None;
                return Ok(true);
            }
            if matches!(self.mode, Mode::Async(_)) || self.options.run_dir.is_none() {
                return Ok(false);
            }
            // No system tells when there is room on a disk.
            tokio::select! {
                () = tokio::time::sleep(LOOK_FOR_ROOM) => {}
                () = self.options.stop.requested() => return Err(NodeError::Stopped),
            }
        }
    }

    /// Writes a checkpoint. Returns false if the disk has no room, after saying so once.
    pub(super) async fn saved_or_full(
        &mut self,
        phase: Phase,
        epoch: u64,
        weights: &Weights,
    ) -> Result<bool, NodeError> {
        match self.save(phase, epoch, weights).await {
            Ok(()) => {
                self.told_full = false;
                Ok(true)
            }
            Err(NodeError::Checkpoint(error)) if error.is_full() => {
                if !std::mem::replace(&mut self.told_full, true) {
                    let reason = format!("{error}; until there is room, a restart goes on from an earlier epoch");
                    tracing::warn!(epoch, reason, "no checkpoint");
                    self.mode.participant().emit(&Event::FolderFailed { epoch, reason });
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the checkpoint of a complete epoch. An update that the folder didn't take was not folded with anything,
    /// so its weights are the ones to go on with. If there is no room, the checkpoint stays *trained(e)*, and a restart
    /// folds again.
    pub(super) async fn save_complete(&mut self, epoch: u64, weights: &Weights) -> Result<(), NodeError> {
        let unpublished = self.mode.participant().unpublished().filter(|update| update.epoch == epoch);
        let phase = unpublished.map_or(Phase::Folded, |update| Phase::Unpublished {
            num_examples: update.num_examples,
            metrics: update.metrics.clone(),
        });
        let saved_unpublished = phase != Phase::Folded;
        self.saved_unpublished = self.saved_or_full(phase, epoch, weights).await? && saved_unpublished;
        Ok(())
    }

    /// The checkpoint, if there is one, with its state of the strategy restored, and what was saved of the epoch after it.
    pub(super) async fn load(&mut self) -> Result<(Option<Checkpoint>, Middle), NodeError> {
        let (Some(run_dir), Some(blobs)) = (self.options.run_dir.clone(), self.blobs.clone()) else {
            return Ok((None, Middle::None));
        };
        let participant = self.mode.participant();
        let (layout, strategy) = (participant.layout().clone(), participant.strategy_name());
        let work = move |rule: &mut dyn Strategy| {
            let _alone = blobs.alone();
            let path = Checkpoint::path(&run_dir);
            clean_up(&run_dir, &blobs)?;
            // What a killed process has just put into its place, and not flushed, is gone on from and published.
            match crate::durable_file::sync_dir(&run_dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                synced => {
                    synced.map_err(|source| CheckpointError::Io { what: "flushing", path: run_dir.clone(), source })?
                }
            }
            let checkpoint = Checkpoint::read(&path, &blobs)?;
            if let Some(checkpoint) = &checkpoint {
                checkpoint.check(&run_dir, &layout, strategy)?;
                checkpoint.trainer.verify(&path)?;
                rule.restore(&checkpoint.strategy.1.read(&path)?)?;
            }
            let progress = match SavedProgress::read(&run_dir) {
                Ok(None) => Middle::None,
                // A kill came between the checkpoint and the removal; the trained epoch includes it.
                Ok(Some(progress)) if checkpoint.as_ref().is_some_and(|it| it.has_trained(progress.epoch)) => {
                    Progress::remove(&run_dir)?;
                    Middle::None
                }
                Ok(Some(progress)) => Middle::Found(progress),
                Err(CheckpointError::Damaged { path, what }) => Middle::Unreadable(damaged(&path, &what)),
                Err(CheckpointError::Version { path, .. }) => Middle::Unreadable(format!(
                    "the file {} was written by another version of the program",
                    path.display()
                )),
                Err(error) => return Err(error.into()),
            };
            sweep(&run_dir, &blobs);
            Ok((checkpoint, progress))
        };
        participant.with_strategy(work).await?
    }

    /// Writes a checkpoint. If its weights are published next, the folder takes them in first, so that both have the same
    /// bytes on the disk.
    pub(super) async fn save(&mut self, phase: Phase, epoch: u64, weights: &Weights) -> Result<(), NodeError> {
        let is_trained = matches!(phase, Phase::Trained { .. });
        let before = self.complete;
        self.complete = (!is_trained).then_some((epoch, None));
        if !is_trained {
            self.completed = epoch;
        }
        let (Some(run_dir), Some(blobs), Some(beginning)) =
            (self.options.run_dir.clone(), self.blobs.clone(), self.beginning.clone())
        else {
            return Ok(());
        };
        // Of another value, if a caller was cancelled.
        self.staged = None;
        let is_published = is_trained || phase == Phase::Folded && self.options.publish_folded && epoch > 0;
        let mut staged = None;
        if is_published {
            staged = match self.mode.participant().folder().stage(weights).await {
                Ok(staged) => Some(staged),
                // The checkpoint does without, and the put reports it.
                Err(error) => {
                    tracing::debug!(epoch, %error, "the folder doesn't take the weights in");
                    None
                }
            };
        }
        let participant = self.mode.participant();
        let folded_from = if phase.is_complete() { participant.folded_in(epoch).to_vec() } else { Vec::new() };
        let mut checkpoint = Checkpoint {
            folded_from,
            phase,
            epoch,
            weights: weights.clone(),
            strategy: (participant.strategy_name().to_owned(), SavedState::default()),
            roster: participant.roster.clone(),
            trainer: self.trainer.clone(),
            members: match &self.mode {
                Mode::Async(_) => Vec::new(),
                Mode::Sync(node) => node.members.save(),
            },
            beginning,
        };
        let work = move |strategy: &mut dyn Strategy| {
            let _alone = blobs.alone();
            let state = blobs.keep_written(|out| strategy.save_to(out));
            let state = state.map_err(|error| error.of(&Checkpoint::path(&run_dir)))?;
            checkpoint.strategy.1 = SavedState::named(&blobs, state);
            let root = checkpoint.save(&run_dir, &blobs, staged.as_ref())?;
            if is_trained {
                // Its middle is no longer needed. If a kill leaves it behind, the next start removes it.
                Progress::remove(&run_dir)?;
            }
            sweep(&run_dir, &blobs);
            Ok::<_, CheckpointError>((base_of(epoch, root, &checkpoint.trainer), staged))
        };
        let written = participant.with_strategy(work).await?;
        if is_trained && written.is_err() {
            // The disk still has the epoch before, from which this one can be trained again.
            self.complete = before;
        }
        let (base, staged) = written?;
        self.staged = staged;
        if !is_trained {
            self.complete = Some((epoch, Some(base)));
        }
        Ok(())
    }
}

/// Removes what a crash left half-written.
fn clean_up(run_dir: &Path, blobs: &Blobs) -> Result<(), CheckpointError> {
    let path = Checkpoint::path(run_dir);
    crate::durable_file::remove_partial(run_dir).map_err(|source| CheckpointError::Io {
        what: "cleaning up beside",
        path: path.clone(),
        source,
    })?;
    blobs.clean().map_err(|error| error.of(&path))
}

/// Removes the blobs in `run_dir` that no head names, or none if that can't be known now.
fn sweep(run_dir: &Path, blobs: &Blobs) {
    match (Checkpoint::names(run_dir), SavedProgress::names(run_dir)) {
        (Ok(names), Ok(more)) => blobs.sweep(&names.into_iter().chain(more).collect()),
        (Err(error), _) | (_, Err(error)) => tracing::debug!(%error, "blobs that nothing names stay"),
    }
}

fn damaged(path: &Path, what: &str) -> String {
    format!("the file {} is damaged ({what})", path.display())
}
