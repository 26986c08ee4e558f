//! What a node needs to go on after it was killed: a small file, the head, that names the [blobs](super::blobs) with
//! weights, optimizer and strategy. While an epoch is trained but not folded, the head of the last complete epoch is
//! kept beside it, for readers of the newest folded weights. When each is written is up to the
//! [session](super::session).

use super::{
    Beginning, CheckpointError, FoldedFrom, Origin, Roster, SavedState,
    blobs::{BlobError, BlobId, Blobs, SavedWeights},
    sealed::{self, HASH_BYTES},
};
use crate::{
    folder::Staged,
    weights::{Layout, Manifest, Metric, Root, Weights},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

const FILE: &str = "checkpoint";
/// The last complete epoch's, as long as [`FILE`] is of a later one that isn't folded.
const COMPLETE: &str = "checkpoint.complete";
/// How often they are read again because the node has replaced one in the meantime.
const LOOKS: usize = 20;
/// Magic and version.
pub(super) const MAGIC: &[u8; 8] = b"PFCKPT\x00\x03";

/// Where in an epoch a checkpoint was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// The epoch is trained, and still has to be published and folded.
    Trained {
        /// Examples trained on.
        num_examples: u64,
        /// What the update's entry says.
        metrics: Vec<Metric>,
    },
    /// The epoch is complete: the weights are those after the fold.
    Folded,
    /// The epoch is complete without a fold because the folder failed. The weights, as trained, still have to be
    /// published.
    Unpublished {
        /// Examples trained on.
        num_examples: u64,
        /// What the update's entry says.
        metrics: Vec<Metric>,
    },
}

impl Phase {
    /// Whether the weights are the ones to go on with, folded if there was anything to fold.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Folded | Self::Unpublished { .. })
    }
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Where in the epoch.
    pub phase: Phase,
    /// The epoch, 0 before the first one.
    pub epoch: u64,
    /// Trained or folded weights, by the phase.
    pub weights: Weights,
    /// Optimizer, data cursor and whatever else the training program needs, as it made it at the end of the epoch.
    pub trainer: SavedState,
    /// The strategy's name and state.
    pub strategy: (String, SavedState),
    /// Peers and staleness.
    pub roster: Roster,
    /// Members of a synchronous federation, as bytes of their peer ids.
    pub members: Vec<Vec<u8>>,
    /// What the node began from in its first life, and the run's hyper-parameters.
    pub beginning: Beginning,
    /// What the weights were folded from: only the node's own update if there was nothing else; empty if they aren't
    /// folded yet, or are the first ones.
    pub folded_from: Vec<FoldedFrom>,
}

/// A checkpoint as its file has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    naming: Naming,
    roster: Roster,
    members: Vec<Vec<u8>>,
    beginning: SavedBeginning,
    folded_from: Vec<FoldedFrom>,
}

/// With what a head begins: all that names blobs. What is behind it can be long, and which blobs are in use is asked at
/// each save. The phase comes first: see [`is_complete`].
#[derive(Debug, Serialize, Deserialize)]
struct Naming {
    phase: Phase,
    epoch: u64,
    weights: SavedWeights,
    trainer: BlobId,
    strategy: (String, BlobId),
}

impl Naming {
    /// Of the head in this file, if there is one.
    fn read(path: &Path) -> Result<Option<Self>, CheckpointError> {
        let Some(body) = sealed::read(path, MAGIC)? else { return Ok(None) };
        postcard::take_from_bytes(&body).map(|(naming, _)| Some(naming)).map_err(|error| undecodable(path, &error))
    }

    fn blobs(&self) -> [String; 3] {
        [self.weights.name(), self.trainer.name(), self.strategy.1.name()]
    }
}

fn undecodable(path: &Path, error: &postcard::Error) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_owned(), what: error.to_string() }
}

/// A [`Beginning`] without what JSON may leave out.
#[derive(Debug, Serialize, Deserialize)]
struct SavedBeginning {
    origin: Origin,
    weights: String,
    epoch: u64,
    hyperparameters: BTreeMap<String, String>,
    distinct: BTreeMap<String, String>,
}

impl From<Beginning> for SavedBeginning {
    fn from(beginning: Beginning) -> Self {
        let Beginning { origin, weights, epoch, hyperparameters, distinct } = beginning;
        Self { origin, weights, epoch, hyperparameters, distinct }
    }
}

impl From<SavedBeginning> for Beginning {
    fn from(saved: SavedBeginning) -> Self {
        let SavedBeginning { origin, weights, epoch, hyperparameters, distinct } = saved;
        Self { origin, weights, epoch, hyperparameters, distinct }
    }
}

impl Head {
    /// The head in this file, if there is one. No blob is looked at.
    fn read(path: &Path) -> Result<Option<Self>, CheckpointError> {
        let Some(body) = sealed::read(path, MAGIC)? else { return Ok(None) };
        Self::decode(path, &body).map(Some)
    }

    /// What the file at `path` holds.
    pub(super) fn decode(path: &Path, body: &[u8]) -> Result<Self, CheckpointError> {
        postcard::from_bytes(body).map_err(|error| undecodable(path, &error))
    }

    /// The checkpoint at `path`, with the weights that it names. The states of training program and strategy are not
    /// read yet.
    pub(super) fn with(self, path: &Path, blobs: &Arc<Blobs>) -> Result<Checkpoint, CheckpointError> {
        let Naming { phase, epoch, weights, trainer, strategy: (strategy, state) } = self.naming;
        Ok(Checkpoint {
            weights: blobs.read_weights(&weights).map_err(|error| error.of(path))?,
            trainer: SavedState::named(blobs, trainer),
            strategy: (strategy, SavedState::named(blobs, state)),
            phase,
            epoch,
            roster: self.roster,
            members: self.members,
            beginning: self.beginning.into(),
            folded_from: self.folded_from,
        })
    }
}

impl Checkpoint {
    /// Where the checkpoint of a run lies.
    pub fn path(run_dir: &Path) -> PathBuf {
        run_dir.join(FILE)
    }

    /// Replaces the checkpoint in `run_dir`, and returns the root of its weights. Whatever equals an existing blob, or
    /// what the folder has `staged`, isn't written again. A crash leaves the old checkpoint or the new one. Blocks on
    /// the disk.
    pub(super) fn save(
        &self,
        run_dir: &Path,
        blobs: &Arc<Blobs>,
        staged: Option<&Staged>,
    ) -> Result<Root, CheckpointError> {
        let path = Self::path(run_dir);
        let manifest = match staged {
            Some(staged) => staged.manifest().clone(),
            None => self.weights.manifest(),
        };
        let kept = Kept::new(self, &manifest, blobs, staged).map_err(|error| error.of(&path))?;
        let naming = Naming {
            phase: self.phase.clone(),
            epoch: self.epoch,
            weights: kept.weights,
            trainer: kept.trainer,
            strategy: (self.strategy.0.clone(), kept.strategy),
        };
        let head = Head {
            naming,
            roster: self.roster.clone(),
            members: self.members.clone(),
            beginning: self.beginning.clone().into(),
            folded_from: self.folded_from.clone(),
        };
        let body = postcard::to_stdvec(&head).map_err(|error| CheckpointError::Io {
            what: "writing",
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        if !self.phase.is_complete() {
            keep_complete(run_dir);
        }
        sealed::write(&path, MAGIC, &body)?;
        if self.phase.is_complete() {
            // It exists only after an epoch that wasn't complete; if it stays, it only costs space.
            let _ = fs::remove_file(run_dir.join(COMPLETE));
        }
        Ok(head.naming.weights.root())
    }

    /// Reads the checkpoint in `run_dir`, if there is one. Blocks on the disk.
    pub fn load(run_dir: &Path) -> Result<Option<Self>, CheckpointError> {
        Self::read(&Self::path(run_dir), &Arc::new(Blobs::new(run_dir)))
    }

    /// Reads the checkpoint of the newest complete epoch in `run_dir`, also while a node runs there: its weights are
    /// the newest folded ones. `None` if there is no checkpoint; an incomplete one if there is no other. Blocks on the
    /// disk.
    pub fn newest_complete(run_dir: &Path) -> Result<Option<Self>, CheckpointError> {
        let blobs = Arc::new(Blobs::new(run_dir));
        let paths = [Self::path(run_dir), run_dir.join(COMPLETE)];
        for _ in 0..LOOKS {
            for path in &paths {
                let before = sealed::bytes(path).ok();
                match Self::read(path, &blobs) {
                    Ok(None) if *path == paths[0] => return Ok(None),
                    Ok(Some(checkpoint)) if checkpoint.phase.is_complete() => return Ok(Some(checkpoint)),
                    // Its blobs were removed because another head replaced it.
                    Err(CheckpointError::Damaged { .. }) if sealed::bytes(path).ok() != before => {}
                    Err(error) => return Err(error),
                    Ok(_) => {}
                }
            }
            // The epoch was completed between the two looks.
        }
        Self::read(&paths[0], &blobs)
    }

    /// The blobs that the checkpoints in `run_dir` name. An error says that they can't be known now.
    pub(super) fn names(run_dir: &Path) -> Result<Vec<String>, CheckpointError> {
        let newest = Naming::read(&Self::path(run_dir))?;
        let complete = readable(Naming::read(&run_dir.join(COMPLETE)))?;
        Ok(newest.iter().chain(&complete).flat_map(Naming::blobs).collect())
    }

    /// The states of training program and strategy are not read yet.
    pub(super) fn read(path: &Path, blobs: &Arc<Blobs>) -> Result<Option<Self>, CheckpointError> {
        Head::read(path)?.map(|head| head.with(path, blobs)).transpose()
    }

    /// Whether this epoch is trained, with its weights saved here or already folded.
    pub(super) fn has_trained(&self, epoch: u64) -> bool {
        epoch <= self.epoch
    }

    /// Errors unless the checkpoint can go on with this layout and strategy.
    pub(super) fn check(&self, run_dir: &Path, layout: &Layout, strategy: &str) -> Result<(), CheckpointError> {
        let settings = |what| CheckpointError::Settings { path: Self::path(run_dir), what };
        if let Some(difference) = layout.difference(self.weights.layout()) {
            return Err(settings(format!("another model: {difference}")));
        }
        if self.strategy.0 != strategy {
            return Err(settings(format!("the strategy {}, not {strategy}", self.strategy.0)));
        }
        Ok(())
    }
}

/// A head that is damaged, or from another version, is as good as none; one that just can't be read now isn't.
pub(super) fn readable<T>(head: Result<Option<T>, CheckpointError>) -> Result<Option<T>, CheckpointError> {
    match head {
        Err(CheckpointError::Damaged { .. } | CheckpointError::Version { .. }) => Ok(None),
        head => head,
    }
}

/// The blobs of a checkpoint about to be written: on the disk, names included.
struct Kept {
    weights: SavedWeights,
    trainer: BlobId,
    strategy: BlobId,
}

impl Kept {
    fn new(
        checkpoint: &Checkpoint,
        manifest: &Manifest,
        blobs: &Arc<Blobs>,
        staged: Option<&Staged>,
    ) -> Result<Self, BlobError> {
        let weights = blobs.keep_weights(manifest, &checkpoint.weights, staged)?;
        let trainer = checkpoint.trainer.keep(blobs)?;
        let strategy = checkpoint.strategy.1.keep(blobs)?;
        blobs.sync()?;
        Ok(Self { weights, trainer, strategy })
    }
}

/// Gives the checkpoint of a complete epoch a second name before an incomplete one replaces it. If that fails, nobody
/// can look at it, and nothing else is lost.
fn keep_complete(run_dir: &Path) {
    let (path, kept) = (Checkpoint::path(run_dir), run_dir.join(COMPLETE));
    if !is_complete(&path) {
        return;
    }
    let removed = match fs::remove_file(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    // Not every file system has hard links.
    let kept = removed.and_then(|()| fs::hard_link(&path, &kept).or_else(|_| fs::copy(&path, &kept).map(drop)));
    if let Err(error) = kept {
        tracing::debug!(path = %path.display(), %error, "the last complete epoch's checkpoint isn't kept");
    }
}

/// Whether a checkpoint is of a complete epoch, judged by its beginning: the phase is encoded first.
fn is_complete(path: &Path) -> bool {
    let mut start = [0; MAGIC.len() + HASH_BYTES + 1];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    let complete = |phase: Phase| postcard::to_stdvec(&phase).ok().and_then(|bytes| bytes.first().copied());
    let unpublished = Phase::Unpublished { num_examples: 0, metrics: Vec::new() };
    read.is_ok() && [complete(Phase::Folded), complete(unpublished)].contains(&start.last().copied())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::{DType, Tensor, TensorSpec};
    use bytes::Bytes;
    use std::io::Write;

    fn checkpoint() -> Checkpoint {
        let spec = TensorSpec { name: "w".to_owned(), dtype: DType::F32, shape: vec![2] };
        let weights = Weights::new(vec![Tensor { spec, data: Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]) }]).unwrap();
        let metrics = vec![Metric { name: "loss".to_owned(), value: 0.5 }];
        Checkpoint {
            phase: Phase::Trained { num_examples: 7, metrics },
            epoch: 3,
            weights,
            trainer: Bytes::from_static(b"moments").into(),
            strategy: ("fedavg".to_owned(), SavedState::default()),
            roster: Roster::default(),
            members: vec![vec![1, 2]],
            beginning: Beginning {
                origin: Origin::Init,
                weights: "00".to_owned(),
                epoch: 2,
                hyperparameters: BTreeMap::from([("lr".to_owned(), "0.1".to_owned())]),
                distinct: BTreeMap::from([("partition".to_owned(), "0/2".to_owned())]),
            },
            folded_from: vec![FoldedFrom { author: "a".to_owned(), epoch: 3, num_examples: 7, weight: 0.5 }],
        }
    }

    fn save(checkpoint: &Checkpoint, dir: &Path) {
        let blobs = Arc::new(Blobs::new(dir));
        checkpoint.save(dir, &blobs, None).unwrap();
        blobs.sweep(&Checkpoint::names(dir).unwrap().into_iter().collect());
    }

    fn blobs(dir: &Path) -> Vec<PathBuf> {
        fs::read_dir(dir.join("blobs")).unwrap().map(|file| file.unwrap().path()).collect()
    }

    #[test]
    fn comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), None);
        save(&checkpoint(), dir.path());
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), Some(checkpoint()));
    }

    #[test]
    fn the_last_complete_epoch_stays_readable_until_the_next_is() {
        let dir = tempfile::tempdir().unwrap();
        let other = |epoch: u64| {
            let spec = TensorSpec { name: "w".to_owned(), dtype: DType::F32, shape: vec![2] };
            Weights::new(vec![Tensor { spec, data: vec![epoch as u8; 8].into() }]).unwrap()
        };
        let at = |epoch, phase| Checkpoint { epoch, phase, weights: other(epoch), ..checkpoint() };
        let newest = || Checkpoint::newest_complete(dir.path()).unwrap().map(|it| (it.epoch, it.weights));
        let unpublished = Phase::Unpublished { num_examples: 7, metrics: Vec::new() };
        assert_eq!(newest(), None);
        for complete in [Phase::Folded, unpublished] {
            save(&at(1, complete), dir.path());
            assert_eq!(newest(), Some((1, other(1))));
            // Also if it is saved twice, as happens after a restart.
            for _ in 0..2 {
                save(&at(2, checkpoint().phase), dir.path());
                assert_eq!(newest(), Some((1, other(1))));
                assert_eq!(Checkpoint::load(dir.path()).unwrap().unwrap().epoch, 2);
            }
            save(&at(2, Phase::Folded), dir.path());
            assert_eq!(newest(), Some((2, other(2))));
            // The head and the directory of its blobs: weights and training state.
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
            assert_eq!(blobs(dir.path()).len(), 2);
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        save(&checkpoint(), dir.path());
        let path = Checkpoint::path(dir.path());
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(Checkpoint::load(dir.path()), Err(CheckpointError::Damaged { .. })), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            let error = Checkpoint::load(dir.path()).unwrap_err();
            // The last byte of the magic number is the version.
            let noticed = match error {
                CheckpointError::Version { .. } => at == MAGIC.len() - 1,
                error => matches!(error, CheckpointError::Damaged { .. }),
            };
            assert!(noticed, "changed at {at}");
        }
    }

    #[test]
    fn a_blob_that_is_damaged_cut_or_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint { strategy: ("fedavgm".to_owned(), b"x"[..].into()), ..checkpoint() };
        save(&checkpoint, dir.path());
        let path = Checkpoint::path(dir.path());
        assert_eq!(blobs(dir.path()).len(), 3);
        for blob in blobs(dir.path()) {
            let whole = fs::read(&blob).unwrap();
            let mut changed = whole.clone();
            changed[0] ^= 1;
            for (now, how) in [(Some(&changed[..]), ""), (Some(&whole[1..]), ""), (None, " is missing")] {
                match now {
                    Some(now) => fs::write(&blob, now).unwrap(),
                    None => fs::remove_file(&blob).unwrap(),
                }
                let loaded = Checkpoint::load(dir.path());
                let verified = loaded
                    .map(Option::unwrap)
                    .and_then(|it| it.trainer.verify(&path).and_then(|()| it.strategy.1.read(&path)));
                let error = verified.unwrap_err().to_string();
                assert!(error.contains(&format!("{}{how}", blob.display())) && error.contains("remove it"), "{error}");
            }
            fs::write(&blob, &whole).unwrap();
        }
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), Some(checkpoint));
    }

    #[test]
    fn a_head_that_cannot_be_read_now_lets_nothing_be_swept() {
        let dir = tempfile::tempdir().unwrap();
        save(&checkpoint(), dir.path());
        fs::write(dir.path().join(COMPLETE), "not one of ours").unwrap();
        assert_eq!(Checkpoint::names(dir.path()).unwrap().len(), 3);
        fs::remove_file(dir.path().join(COMPLETE)).unwrap();
        fs::create_dir(dir.path().join(COMPLETE)).unwrap();
        assert!(matches!(Checkpoint::names(dir.path()), Err(CheckpointError::Io { .. })));
    }

    #[test]
    fn a_state_that_is_written_differently_each_time_is_named_by_what_is_in_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::new(dir.path()));
        let calls = std::cell::Cell::new(0u8);
        let state = blobs.keep_written(|out| {
            calls.set(calls.get() + 1);
            out.write_all(&[calls.get()])
        });
        SavedState::named(&blobs, state.unwrap()).verify(dir.path()).unwrap();
    }

    #[test]
    fn a_state_of_another_run_is_copied() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut writer = Arc::new(Blobs::new(other.path())).writer().unwrap();
        writer.write_all(b"moments").unwrap();
        let trainer = SavedState::held(writer.finish().unwrap());
        save(&Checkpoint { trainer, ..checkpoint() }, own.path());
        drop(other);
        assert_eq!(Checkpoint::load(own.path()).unwrap(), Some(checkpoint()));
    }

    #[cfg(unix)]
    #[test]
    fn files_that_others_may_write_are_not_shared() {
        use std::os::unix::fs::PermissionsExt;
        for (mode, shared) in [(0o644, true), (0o664, false), (0o646, false)] {
            let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (checkpoint, path) = (checkpoint(), folder.path().join("value"));
            fs::write(&path, [1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let files = crate::folder::StagedFiles::Whole { path: path.clone(), start: 0 };
            let staged = Staged::new(checkpoint.weights.manifest(), files, ());
            checkpoint.save(dir.path(), &Arc::new(Blobs::new(dir.path())), Some(&staged)).unwrap();
            fs::write(&path, "changed ").unwrap();
            assert_eq!(Checkpoint::load(dir.path()).is_err(), shared, "{mode:o}");
        }
    }

    #[test]
    fn of_a_huge_file_only_its_beginning_is_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(Checkpoint::path(dir.path()), b"PFCKPT\x00\x02").unwrap();
        let file = fs::OpenOptions::new().write(true).open(Checkpoint::path(dir.path())).unwrap();
        file.set_len(1 << 36).unwrap();
        let error = Checkpoint::newest_complete(dir.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Version { found: 2, .. }), "{error}");
    }

    #[test]
    fn a_checkpoint_of_another_version_is_refused_in_a_line_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(Checkpoint::path(dir.path()), [b"PFCKPT\x00\x02", &[7; 100][..]].concat()).unwrap();
        let error = Checkpoint::load(dir.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Version { found: 2, known: 3, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("has format 2") && text.contains("remove it to begin anew") && !text.contains('\n'));
    }
}
