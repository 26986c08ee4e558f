//! The one loop of a federation's epochs: begin, train, publish, fold, evaluate, finish, hand over, stay.
//!
//! A [`Run`] is the life of one node. It emits every [`Event`](crate::node::Event) of it, records its
//! [history](Run::history), saves the middle of epochs, and ends when a stop is requested. It is driven in one of two
//! ways; the first is built from the steps of the second:
//!
//! - **By a [`Learner`]**, if the loop can be ours: [`federate`] is a whole life in one call, and [`Run::start`],
//!   [`Run::train`] and [`Run::finish`] are its parts. `peerfold node` does this.
//! - **Step by step**, if the loop is the program's own: [`Run::begin`], then for each epoch
//!   [`next_epoch`](Run::next_epoch), [`take_up`](Run::take_up), [`write_state`](Run::write_state),
//!   [`publish`](Run::publish) and [`epoch_done`](Run::epoch_done), and [`Run::finish`]; within one
//!   [`write_middle`](Run::write_middle) and [`save_progress`](Run::save_progress). The callback for burn modules does
//!   this. A program whose weights are all it has begins with [`Run::join`] and ends an epoch with [`Run::epoch_end`].
//!
//! Between trained and published comes [`Outgoing`].

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod drive;
mod history;
mod learner;
mod life;
mod middle;
mod outgoing;

pub use self::{
    drive::federate,
    history::{EpochRecord, History, MAX_EPOCHS, MAX_FOLDED},
    learner::{Learner, LearnerError, Metrics, Steps, Trained},
    life::{Recipe, Run, RunOptions},
    middle::{Middle, MiddleState},
    outgoing::{Outgoing, Unchanged},
};

use crate::node::NodeError;

/// Why a run can't begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The node can't begin or go on.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Metrics that no entry can have.
    #[error("the metrics of epoch {epoch} are not acceptable: {what}")]
    Metrics {
        /// The epoch.
        epoch: u64,
        /// What is wrong with them.
        what: String,
    },
    /// The learner, or what acts on its weights before they leave the node, has failed.
    #[error("{doing} failed: {source}")]
    Learner {
        /// What it was doing.
        doing: String,
        /// Its own error.
        source: LearnerError,
    },
    /// A stop was requested in the middle of an epoch that can't be saved. What is complete is published and saved.
    #[error("the {steps} steps of epoch {epoch} can't be saved; started again the node does them anew: {source}")]
    Unsaved {
        /// The epoch.
        epoch: u64,
        /// Steps done of it.
        steps: u64,
        /// Why.
        source: Box<RunError>,
    },
    /// At the end of the run the folder still hasn't taken the newest update, which is kept in the home.
    #[error("the newest update is not in the shared folder; start the node again to publish it: {0}")]
    Unpublished(#[source] NodeError),
}

impl RunError {
    /// Whether it only says that a stop was requested while the node waited.
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Node(NodeError::Stopped))
    }

    /// The learner failed while it was doing this.
    pub(crate) fn learner(doing: impl Into<String>) -> impl FnOnce(LearnerError) -> Self {
        let doing = doing.into();
        move |source| Self::Learner { doing, source }
    }
}
