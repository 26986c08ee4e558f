//! The demo's own events, besides those of its nodes.

use crate::program::rfc_3339;
use serde::Serialize;
use std::time::SystemTime;

/// The phase in which the nodes meet.
pub(super) const TOGETHER: &str = "together";
/// The phase in which each learns alone.
pub(super) const ALONE: &str = "alone";

/// A line that a demo with `--json` writes of its own.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub(crate) struct DemoLine {
    /// When it happened, by this machine's clock: RFC 3339 with milliseconds, UTC.
    #[serde(with = "rfc_3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub(super) time: SystemTime,
    /// What it says.
    #[serde(flatten)]
    pub(super) event: DemoEvent,
}

/// A line that a demo with `--json` writes beside the events of its nodes, which have two fields more there: `phase`,
/// `together` or `alone`, and `node`, the node's number.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum DemoEvent {
    /// What the demo has done to a node, or to a way between all of them.
    Note {
        /// `together` or `alone`.
        phase: &'static str,
        /// The node's number; absent if it concerns all.
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<usize>,
        /// What, in words.
        note: String,
    },
    /// The last line of a demo that came to its end.
    Summary {
        /// What it has shown.
        summary: Figures,
    },
    /// The last line of a demo that has failed: a node has, or some node never folded what another has learned.
    Failed {
        /// Why, on one line.
        reason: String,
    },
    /// The last line of a demo that was stopped.
    Stopped,
}

/// What a demo has shown.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub(crate) struct Figures {
    /// Each node, by its number.
    pub(super) nodes: Vec<NodeFigures>,
    /// What federating has gained on average, in percentage points of test accuracy.
    pub(super) gain_points: f64,
    /// Seconds that all took.
    pub(super) seconds: f64,
    /// The whole in words.
    pub(super) sentence: String,
}

/// A node of a demo.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub(crate) struct NodeFigures {
    /// Its number.
    pub(super) node: usize,
    /// Its peer id in the phase `together`.
    pub(super) peer: String,
    /// Different examples it trained on in an epoch.
    pub(super) examples: u64,
    /// Test accuracy of the weights that it trained alone, 0 to 1.
    pub(super) alone: f64,
    /// Test accuracy of the weights that it trained with the others, 0 to 1.
    pub(super) federated: f64,
    /// What it has gained, in percentage points.
    pub(super) gain_points: f64,
    /// Seconds of its epochs.
    pub(super) seconds: f64,
    /// Peers that it was connected to at its end.
    pub(super) peers: usize,
    /// Bytes sent to peers.
    pub(super) sent: u64,
    /// Bytes received from peers.
    pub(super) received: u64,
    /// What the bucket has cost; null if there is none.
    pub(super) bucket: Option<crate::bucket::BucketFigures>,
}
