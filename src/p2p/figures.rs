//! What a node has moved over the network so far.

use super::status::Way;
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{broadcast, watch};

/// Drops that nobody has taken note of yet; older ones are only counted.
const DROPS_KEPT: usize = 16;
/// Peers that were reached, and not, of which nobody has taken note yet.
const REACHED_KEPT: usize = 64;

/// A node's figures in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkFigures {
    /// Members of the federation that are connected.
    pub peers: usize,
    /// Bytes of messages sent to peers since the node joined.
    pub sent: u64,
    /// Bytes of messages received from peers since then.
    pub received: u64,
    /// Peers dropped for what they did since then.
    #[serde(default)]
    pub bans: u64,
    /// Connections, requests and messages of gossip refused since then, because there was no room for them or their peer
    /// sent too many.
    #[serde(default)]
    pub refused: u64,
}

/// A peer that was disconnected for what it did, and is kept out for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedPeer {
    /// The peer.
    pub peer: PeerId,
    /// What it did.
    pub reason: String,
    /// How long it is kept out.
    pub length: Duration,
}

/// How a peer is reached from now on, or why it isn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedPeer {
    /// The peer.
    pub peer: PeerId,
    /// How; `None` if it isn't.
    pub way: Option<Way>,
    /// Why it isn't, or not better.
    pub reason: Option<String>,
}

/// The figures while they grow.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) members: watch::Sender<usize>,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) bans: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) dropped: broadcast::Sender<DroppedPeer>,
    reached: broadcast::Sender<ReachedPeer>,
    /// Until somebody listens.
    early: Mutex<Option<Vec<ReachedPeer>>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            members: watch::Sender::default(),
            sent: AtomicU64::default(),
            received: AtomicU64::default(),
            bans: AtomicU64::default(),
            refused: AtomicU64::default(),
            dropped: broadcast::Sender::new(DROPS_KEPT),
            reached: broadcast::Sender::new(REACHED_KEPT),
            early: Mutex::new(Some(Vec::new())),
        }
    }
}

impl Counters {
    /// Whoever wants to know later is told too.
    pub(crate) fn tell_reached(&self, reached: ReachedPeer) {
        let mut early = self.early();
        match &mut *early {
            Some(early) if early.len() < REACHED_KEPT => early.push(reached),
            Some(_) => {}
            None => _ = self.reached.send(reached),
        }
    }

    /// What was told before anybody listened, which only the first is told, and what is told from now on.
    pub(crate) fn reached(&self) -> (Vec<ReachedPeer>, broadcast::Receiver<ReachedPeer>) {
        let mut early = self.early();
        (early.take().unwrap_or_default(), self.reached.subscribe())
    }

    fn early(&self) -> MutexGuard<'_, Option<Vec<ReachedPeer>>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn figures(&self) -> NetworkFigures {
        NetworkFigures {
            peers: *self.members.borrow(),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            bans: self.bans.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
