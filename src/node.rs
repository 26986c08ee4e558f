//! Nodes: publish after each epoch, take the peers' newest updates, fold them, go on.
//!
//! [`AsyncNode`] never waits for anybody; [`SyncNode`] folds the same updates as its peers, in the same order. A
//! [`Session`] runs one of them over a home: it writes the checkpoints, and after a crash it goes on where it was.
//!
//! Everything that decides without I/O is separate and tested on its own: the [`Roster`] (who is known, how stale an
//! update is), the members of a synchronous federation, the checks of an update. Reading, hashing and folding run on
//! blocking threads, so that the async runtime answers meanwhile.

mod allow_list;
mod alone;
mod asynchronous;
mod background;
mod blobs;
mod blocking;
mod checkpoint;
mod checkpoint_error;
mod checks;
mod choice;
mod comparison;
mod complaints;
mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod event;
mod figures;
mod fold;
mod list_change;
mod list_file;
mod list_follower;
mod mode;
mod participant;
mod patience;
mod progress;
mod roster;
mod sample;
mod saved_state;
mod sealed;
mod session;
mod settings;
mod start;
mod stop;
mod suspects;
mod suspicion;
mod synchronous;
mod told_by_folder;
mod told_singly;
mod update;
mod validation;
mod values;

pub use self::{
    allow_list::{AllowListError, Allowed},
    asynchronous::{AsyncNode, AsyncOptions},
    blocking::BlockingSession,
    checkpoint::{Checkpoint, Phase},
    checkpoint_error::CheckpointError,
    checks::{Checks, Rejection},
    choice::StrategyChoice,
    config::{NodeConfig, Pace},
    event::{Event, EventSink, FoldedUpdate, Origin, UnaveragedTensors},
    figures::{Figures, FoldFigures, ListFigures, RunFigures, TrainingFigures},
    list_change::{ListChange, ListTold},
    list_file::{ListFile, ListFileError},
    mode::Mode,
    participant::{Participant, ParticipantOptions},
    progress::Progress,
    roster::{Roster, Standpoint},
    saved_state::SavedState,
    session::{Begun, Completed, Session, SessionOptions},
    settings::{EndSettings, PublishSettings, TrustSettings},
    start::{Beginning, StartOptions},
    stop::Stop,
    suspicion::Suspicion,
    synchronous::{BelowQuorum, Members, SyncNode, SyncOptions},
    update::{FoldedFrom, LocalUpdate},
    validation::Validation,
};

use crate::{
    folder::FolderError,
    home::HomeError,
    settings::Mistake,
    strategy::{FoldError, StrategyError},
    weights::WeightsError,
};

/// Why a node can't go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The shared folder failed.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The home failed.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The checkpoint can't be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The strategy can't be made.
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    /// The fold failed for a reason that no other update would fix.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The allow-list can't be read.
    #[error(transparent)]
    AllowList(#[from] AllowListError),
    /// The administrator's list in the home can't be used.
    #[error(transparent)]
    ListFile(#[from] ListFileError),
    /// A setting is out of its bounds.
    #[error(transparent)]
    Setting(#[from] Mistake),
    /// Weights given by the caller don't fit the model.
    #[error("{what} have another layout than the model: {difference}")]
    Layout {
        /// Whose weights.
        what: String,
        /// The first difference.
        difference: String,
    },
    /// Training has spoiled the weights. If they were published, everybody would refuse them.
    #[error("the weights after epoch {epoch} can't be published: {reason}; a smaller learning rate may help")]
    Diverged {
        /// The epoch.
        epoch: u64,
        /// What is wrong with them.
        reason: Rejection,
    },
    /// An update that claims more than peers with the same limits would believe.
    #[error(
        "the update of epoch {epoch} can't be published: {reason}; claim less, or raise the limit on every node of the \
         federation"
    )]
    Claim {
        /// The epoch.
        epoch: u64,
        /// Which claim.
        reason: Rejection,
    },
    /// Too few members answered in time, and `--below-quorum stop` was given.
    #[error("epoch {epoch}: {present} of {quorum} needed members answered in time, and below quorum this node stops")]
    BelowQuorum {
        /// The epoch.
        epoch: u64,
        /// Members that answered, this one included.
        present: usize,
        /// Members needed.
        quorum: usize,
    },
    /// The previous fold was cancelled, and it isn't known whether the strategy has taken its step.
    #[error("a fold was cancelled, so this node can't go on; open it again from its checkpoint")]
    FoldCancelled,
    /// A stop was requested while the node waited.
    #[error("stopped on request")]
    Stopped,
    /// What the node begins from can't be published as its first entry.
    #[error("what this node begins from can't be published: {0}")]
    Beginning(#[source] WeightsError),
    /// The system has no thread for a [`BlockingSession`].
    #[error(
        "this node's runtime can't be started: {source}; end what has many threads or files open, or raise the limits"
    )]
    Runtime {
        /// The system's error.
        source: std::io::Error,
    },
    /// A call of a [`BlockingSession`] has panicked, and its session is lost with it.
    #[error("an earlier call of this session panicked, so it can't go on; open it again from its checkpoint")]
    SessionLost,
    /// A worker thread has panicked, or was ended with the runtime.
    #[error("a worker thread failed: {0}")]
    Worker(String),
}
