//! The place between trained and published, where something can act on the weights before they leave the node.

use super::LearnerError;
use crate::{node::LocalUpdate, weights::Weights};

/// What acts on an update between its training and its publication: noise, clipping, sparsification.
///
/// It acts **before** the checkpoint *trained(e)* is written, once for each trained epoch: what it gives is what the
/// checkpoint has, what is put, and what this node folds as its own, so that all members of a synchronous federation
/// still fold equal bits. A node that is killed after the checkpoint puts the same root again without calling this
/// again. It may therefore draw random numbers, and noise is never drawn twice for an epoch that peers have seen.
/// Killed before the checkpoint, the epoch is trained and this is asked again; nothing had left the node.
///
/// A lossless encoding of what is sent belongs below, into the folder: the root is of the decoded weights.
///
/// Its state isn't in the checkpoint. Whatever it remembers between epochs is lost at a restart, so what it draws
/// should follow from [`LocalUpdate::epoch`] and a seed.
pub trait Outgoing: Send {
    /// What leaves the node of `update`, which was trained from the weights `start`: of the same layout, with metrics
    /// that an entry can have. On an error the epoch is neither saved nor published, and the run ends.
    /// Unless it [needs](Self::needs_start) them, `start` may have no tensors.
    fn prepare(&mut self, update: LocalUpdate, start: &Weights) -> Result<LocalUpdate, LearnerError>;

    /// Whether it looks at the weights that the epoch began from. If not they aren't held in memory meanwhile, which are
    /// as large as the update.
    fn needs_start(&self) -> bool {
        false
    }
}

/// Publishes what was trained unchanged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unchanged;

impl Outgoing for Unchanged {
    fn prepare(&mut self, update: LocalUpdate, _start: &Weights) -> Result<LocalUpdate, LearnerError> {
        Ok(update)
    }
}
