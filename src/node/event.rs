//! What a node reports as it happens. The documentation here becomes the schema of `--json`.

use crate::{bucket::BucketFigures, p2p::Way};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Where a node's first weights came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The federation's model seed: the same on every node.
    Seed,
    /// A file, `--init`.
    Init,
    /// A fold of the updates that were there.
    Fold,
    /// The checkpoint in its home.
    Checkpoint,
}

/// Tensors that a fold took whole from one update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct UnaveragedTensors {
    /// Peer id of the author whose they are; missing if that isn't known: the strategy kept them from an
    /// earlier fold, or the updates are differences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Their names.
    pub tensors: Vec<String>,
}

/// One update in a fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct FoldedUpdate {
    /// Peer id of its author.
    pub author: String,
    /// The epoch that it comes after.
    pub epoch: u64,
    /// Examples it was trained on.
    pub num_examples: u64,
    /// Its weight in the fold; where the rule is a mean, all add up to 1.
    pub weight: f64,
    /// Staleness τ: 0 for a fresh one.
    pub staleness: u64,
    /// Whether it is this node's own.
    pub own: bool,
}

/// What happens in a node, as it happens. With `--json` each is one line on standard output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The node has its first weights and begins.
    Started {
        /// Its peer id.
        peer: String,
        /// The federation's id: hash of name and run label.
        federation: String,
        /// Hash of the weights' names, dtypes and shapes.
        layout: String,
        /// The epoch it goes on from; 0 for a new federation.
        epoch: u64,
        /// Where its weights came from.
        origin: Origin,
        /// Root hash of the weights it begins with.
        root: String,
        /// Authors of the updates that it began from, if the origin is a fold.
        authors: Vec<String>,
    },
    /// It is alone: nobody else is in the federation at the start, or in the whole run nothing of a peer's was folded.
    Alone {
        /// The epoch it is at; 0 at the start.
        epoch: u64,
        /// Who was looked for, and who answers.
        reason: String,
        /// Whether this is said at the end of the run.
        ended: bool,
    },
    /// It waits for peers: at the start, or in a synchronous federation for the answers of an epoch.
    Waiting {
        /// The epoch.
        epoch: u64,
        /// Peers or members that are there.
        present: usize,
        /// How many it needs.
        needed: usize,
        /// Why it waits.
        reason: String,
    },
    /// Its update is in the folder.
    Published {
        /// The epoch.
        epoch: u64,
        /// Root hash of the trained weights.
        root: String,
        /// Their bytes.
        bytes: u64,
        /// Number of the entry.
        sequence: u64,
        /// Examples trained on.
        num_examples: u64,
    },
    /// A peer's update has arrived and passed the checks.
    Received {
        /// Peer id of its author.
        author: String,
        /// The epoch that it comes after.
        epoch: u64,
        /// Root hash.
        root: String,
        /// Its bytes.
        bytes: u64,
        /// Examples it was trained on.
        num_examples: u64,
    },
    /// A peer's update does not count.
    Rejected {
        /// Peer id of its author.
        author: String,
        /// The epoch that it comes after.
        epoch: u64,
        /// Why.
        reason: String,
    },
    /// A peer's update is too old for this fold.
    LeftOut {
        /// Peer id of its author.
        author: String,
        /// The epoch that it comes after.
        epoch: u64,
        /// Its staleness τ.
        staleness: u64,
    },
    /// An author, possibly this node itself, claims so many examples more than the others of a fold that not all of them
    /// count. Told once for each author.
    ClaimCut {
        /// Peer id of the author.
        author: String,
        /// The epoch that the update comes after.
        epoch: u64,
        /// Examples it claims.
        claimed: u64,
        /// Examples that count.
        counted: u64,
    },
    /// An update of a fold, possibly this node's own, is far out of line with the others: its author may be hostile, or
    /// have other data or settings. Told once for each update.
    Suspect {
        /// Peer id of the author.
        author: String,
        /// The epoch that the update comes after.
        epoch: u64,
        /// In what it is out of line.
        reason: String,
        /// Whether it is left out of the fold. A node never leaves out its own.
        left_out: bool,
    },
    /// A peer runs with other hyper-parameters, began from other weights, or has what each node should have to itself, as
    /// its part of the data. Or this node, by its own peer id, goes on with other settings than its checkpoint's.
    Mismatch {
        /// Peer id.
        author: String,
        /// What differs, name by name: `name: theirs, here ours`; for this node `name: now, until this start before`.
        differences: Vec<String>,
    },
    /// An author signed two entries under one number and is excluded.
    Excluded {
        /// Peer id.
        author: String,
        /// The proof in words.
        reason: String,
    },
    /// Updates were folded.
    Folded {
        /// The epoch that the node has finished with it.
        epoch: u64,
        /// The node's own count of folds, from 1.
        round: u64,
        /// What was folded, in the order of the sum.
        updates: Vec<FoldedUpdate>,
        /// Integer and boolean tensors that were not averaged but taken whole, by whose they are.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unaveraged: Vec<UnaveragedTensors>,
        /// Tensors that have a number below 0 although no update has one there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        turned_negative: Vec<String>,
    },
    /// No fold in this epoch: the node goes on with its own weights.
    NotFolded {
        /// The epoch.
        epoch: u64,
        /// Why.
        reason: String,
    },
    /// The shared folder can't be written or read now, or there is no room for a checkpoint. The node trains on, and tries
    /// again after the next epoch.
    FolderFailed {
        /// The epoch.
        epoch: u64,
        /// What failed.
        reason: String,
    },
    /// Which ways to the others work, for a node that has a bucket: at its start, and whenever it changes. It goes on with
    /// what works, or alone, and catches up by itself.
    Routes {
        /// Whether a peer is connected; absent without a network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<bool>,
        /// Whether the bucket can be read and written.
        bucket: bool,
        /// Why the bucket can't be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A peer was disconnected for what it did, and is kept out for a while. At most a hundred a minute are told; the
    /// figures count all.
    PeerDropped {
        /// The peer.
        peer: String,
        /// What it did.
        reason: String,
        /// How long it is kept out.
        seconds: u64,
    },
    /// A member is reached, or is reached in another way than before. At most a hundred such events a minute are told, and
    /// as many of the next kind.
    PeerReached {
        /// The peer.
        peer: String,
        /// How: by a relay entries come, and weights only if that is allowed.
        way: Way,
        /// Why it isn't reached in a better way, if that was tried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A peer that is looked for can't be reached, for the first time since it was: it is tried again and again.
    PeerNotReached {
        /// The peer.
        peer: String,
        /// Each address that was tried, and why it failed.
        reason: String,
    },
    /// It was behind and goes on at the epoch of the others: a synchronous node with their fold, an asynchronous one, whose
    /// updates were about to be left out as too old, with its own update in the fold too.
    CaughtUp {
        /// The epoch it was at.
        from: u64,
        /// The epoch it is at now.
        epoch: u64,
    },
    /// The middle of the epoch under way is on the disk: a node that is started again with the same settings goes on
    /// there.
    ProgressSaved {
        /// The epoch, from 1.
        epoch: u64,
        /// Training steps done of it.
        steps: u64,
        /// Training steps of an epoch; absent where an epoch is a time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        steps_per_epoch: Option<u64>,
        /// Whether it was saved because a stop was requested, and not for `--checkpoint-every`.
        stopping: bool,
    },
    /// It goes on in the middle of an epoch.
    ProgressResumed {
        /// The epoch, from 1.
        epoch: u64,
        /// Training steps done of it before.
        steps: u64,
        /// Training steps of an epoch; absent where an epoch is a time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        steps_per_epoch: Option<u64>,
    },
    /// What was saved of the middle of an epoch can't be gone on with, and the epoch is trained anew.
    ProgressDropped {
        /// The epoch, from 1; absent if what was saved can't be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
        /// Training steps done of it, in vain; absent if what was saved can't be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        steps: Option<u64>,
        /// Why.
        reason: String,
    },
    /// An epoch is complete: trained, published, folded, saved and evaluated.
    EpochDone {
        /// The epoch, from 1.
        epoch: u64,
        /// Epochs the run is to have.
        epochs: u64,
        /// Of a built-in model `loss` on the training batches; `test_loss` and `accuracy` (0 to 1) after the fold.
        metrics: BTreeMap<String, f64>,
        /// Training steps.
        steps: u64,
        /// Seconds since the epoch began. Of one that was gone on with after a stop, without those in between.
        seconds: f64,
        /// Bytes written to the folder so far.
        written: u64,
        /// Bytes read from the folder so far.
        read: u64,
        /// Members of the federation that are connected, if the folder is a network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peers: Option<usize>,
        /// Bytes sent to peers so far, if the folder is a network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sent: Option<u64>,
        /// Bytes received from peers so far, if the folder is a network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received: Option<u64>,
        /// What the bucket has cost since the last epoch was done, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bucket: Option<BucketFigures>,
    },
    /// The run is over. A node that is stopped while it waits at its start ends without this.
    Finished {
        /// The epoch it is at.
        epoch: u64,
        /// Of a built-in model `test_loss` and `accuracy` (0 to 1) of the final weights.
        metrics: BTreeMap<String, f64>,
        /// Whether a signal ended it before its last epoch.
        stopped: bool,
        /// Root hash of the final weights.
        root: String,
        /// Seconds since the program began.
        seconds: f64,
        /// Bytes written to the folder.
        written: u64,
        /// Bytes read from the folder.
        read: u64,
        /// Members of the federation that were connected at the end, if the folder is a network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peers: Option<usize>,
        /// Bytes sent to peers, if the folder is a network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sent: Option<u64>,
        /// Bytes received from peers, if the folder is a network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received: Option<u64>,
        /// What the bucket has cost in all, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bucket: Option<BucketFigures>,
    },
    /// The program ends with an error, at its start or later. No event follows.
    Failed {
        /// The error, with its causes, on one line.
        reason: String,
    },
}

/// Where events go. Called from the node's task: what blocks here holds the node up.
pub type EventSink = Arc<dyn Fn(&Event) + Send + Sync>;

/// Emits an event, and logs it.
pub(super) fn tell(events: &EventSink, event: &Event) {
    tracing::debug!(?event);
    events(event);
}
