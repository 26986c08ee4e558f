//! The demo's result as a table.

use super::{
    event::{Figures, NodeFigures},
    verdict::Dealings,
};
use crate::{
    bucket::BucketFigures,
    program::{Column, Sheet},
};
use std::time::Duration;

/// What became of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeResult {
    /// Its peer id.
    pub(super) peer: String,
    /// Different examples it trained on in an epoch.
    pub(super) num_examples: u64,
    /// Share of the test set that its final weights get right.
    pub(super) accuracy: f64,
    /// Seconds it ran, over all its starts.
    pub(super) seconds: f64,
    /// Peers that it was connected to at its end.
    pub(super) peers: usize,
    /// Bytes sent to peers and received from them, over all its starts.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// What the bucket has cost, over all its starts.
    pub(super) bucket: Option<BucketFigures>,
    /// What it got from the others.
    pub(super) dealings: Dealings,
}

/// Each node together and alone.
pub(super) struct Summary {
    rows: Vec<(NodeResult, f64)>,
    took: Duration,
}

impl Summary {
    pub(super) fn new(together: &[NodeResult], alone: &[NodeResult], took: Duration) -> Self {
        let rows = together.iter().cloned().zip(alone.iter().map(|node| node.accuracy)).collect();
        Self { rows, took }
    }

    fn gains(&self) -> Vec<f64> {
        self.rows.iter().map(|(node, alone)| 100.0 * (node.accuracy - alone)).collect()
    }

    fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
        let count = values.len() as f64;
        values.sum::<f64>() / count
    }

    /// The table, at most this wide.
    pub(super) fn table(&self, columns: Option<usize>) -> String {
        let has_network = self.rows.iter().any(|(node, _)| node.sent > 0);
        let has_bucket = self.rows.iter().any(|(node, _)| node.bucket.is_some());
        let numbers = |heading, cell: fn(&NodeResult) -> String| {
            Column::numbers(heading, self.rows.iter().map(|(node, _)| cell(node)))
        };
        let alone = self.rows.iter().map(|(_, alone)| format!("{:.1} %", 100.0 * alone));
        let gains = self.gains().into_iter().map(|gain| format!("{gain:+.1}"));
        let mut sheet = Sheet::of(Column::words("node", (0..self.rows.len()).map(|number| number.to_string()))).with([
            numbers("examples", |node| node.num_examples.to_string()),
            Column::numbers("alone", alone),
            numbers("federated", |node| format!("{:.1} %", 100.0 * node.accuracy)),
            Column::numbers("gain", gains),
            numbers("time", |node| format!("{:.1} s", node.seconds)),
        ]);
        if has_network || !has_bucket {
            sheet = sheet.with([
                numbers("peers", |node| node.peers.to_string()),
                numbers("sent", |node| amount(node.sent)),
                numbers("received", |node| amount(node.received)),
            ]);
        }
        if has_bucket {
            sheet = sheet.with([
                numbers("requests", |node| node.bucket.unwrap_or_default().requests().to_string()),
                numbers("uploaded", |node| amount(node.bucket.unwrap_or_default().sent)),
                numbers("downloaded", |node| amount(node.bucket.unwrap_or_default().received)),
            ]);
        }
        sheet.text(columns)
    }

    pub(super) fn sentence(&self) -> String {
        let gains = self.gains();
        let mean = Self::mean(gains.iter().copied());
        let least = gains.iter().copied().fold(f64::INFINITY, f64::min);
        let alone = 100.0 * Self::mean(self.rows.iter().map(|(_, alone)| *alone));
        let together = 100.0 * Self::mean(self.rows.iter().map(|(node, _)| node.accuracy));
        let seconds = self.took.as_secs_f64();
        let verdict = if self.rows.len() == 1 {
            "A single node has nobody to fold with".to_owned()
        } else if least > 0.0 {
            format!("Federating made every node better, by {mean:.1} points on average and at least {least:.1}")
        } else if mean > 0.0 {
            format!("Federating gained {mean:.1} points on average, but not on every node (least {least:+.1})")
        } else {
            format!("Federating gained nothing here ({mean:+.1} points on average)")
        };
        format!(
            "{verdict}: test accuracy {alone:.1} % alone, {together:.1} % together. No example left its node. \
             It all took {seconds:.1} s."
        )
    }

    pub(super) fn figures(&self) -> Figures {
        let node = |(number, ((node, alone), gain)): (usize, (&(NodeResult, f64), f64))| NodeFigures {
            node: number,
            peer: node.peer.clone(),
            examples: node.num_examples,
            alone: *alone,
            federated: node.accuracy,
            gain_points: gain,
            seconds: node.seconds,
            peers: node.peers,
            sent: node.sent,
            received: node.received,
            bucket: node.bucket,
        };
        Figures {
            nodes: self.rows.iter().zip(self.gains()).enumerate().map(node).collect(),
            gain_points: Self::mean(self.gains().into_iter()),
            seconds: self.took.as_secs_f64(),
            sentence: self.sentence(),
        }
    }
}

/// Bytes in few characters.
pub(super) fn amount(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    match bytes as f64 {
        few if few < KIB => format!("{bytes} B"),
        some if some < KIB * KIB => format!("{:.0} KiB", some / KIB),
        many => format!("{:.1} MiB", many / (KIB * KIB)),
    }
}
