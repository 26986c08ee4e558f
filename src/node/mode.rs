//! How a node takes part: asynchronous or synchronous.

use super::{AsyncNode, LocalUpdate, NodeError, Participant, Stop, SyncNode};
use crate::weights::Weights;

/// An asynchronous or a synchronous node.
pub enum Mode {
    /// Never waits.
    Async(AsyncNode),
    /// Waits for the other members.
    Sync(SyncNode),
}

impl From<AsyncNode> for Mode {
    fn from(node: AsyncNode) -> Self {
        Self::Async(node)
    }
}

impl From<SyncNode> for Mode {
    fn from(node: SyncNode) -> Self {
        Self::Sync(node)
    }
}

impl Mode {
    pub(super) fn participant(&self) -> &Participant {
        match self {
            Self::Async(node) => &node.participant,
            Self::Sync(node) => &node.participant,
        }
    }

    pub(super) fn participant_mut(&mut self) -> &mut Participant {
        match self {
            Self::Async(node) => &mut node.participant,
            Self::Sync(node) => &mut node.participant,
        }
    }

    /// Whether it would fold what peers publish.
    pub(super) fn folds(&self) -> bool {
        match self {
            Self::Async(node) => node.folds(),
            Self::Sync(_) => true,
        }
    }

    pub(super) async fn exchange(&mut self, local: &LocalUpdate, stop: &Stop) -> Result<(Weights, u64), NodeError> {
        match self {
            Self::Async(node) => node.exchange(local).await,
            Self::Sync(node) => node.exchange(local, stop).await,
        }
    }

    /// Says whose updates it needs next after this epoch, if not everybody's.
    pub(super) async fn expect_after(&mut self, epoch: u64) -> Result<(), NodeError> {
        match self {
            Self::Async(node) => node.expect_after(epoch).await,
            Self::Sync(_) => Ok(()),
        }
    }

    pub(super) async fn catch_up(&mut self, epoch: u64) -> Result<Option<(Weights, u64)>, NodeError> {
        match self {
            Self::Async(_) => Ok(None),
            Self::Sync(node) => node.catch_up(epoch).await,
        }
    }
}
