//! What the demo has shown, in figures.

use super::{live::amount, phase::NodeResult};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use std::time::Duration;

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

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        let has_network = self.rows.iter().any(|(node, _)| node.sent > 0);
        let has_bucket = self.rows.iter().any(|(node, _)| node.bucket.is_some());
        let mut header = vec!["node", "examples", "alone", "federated", "gain", "time"];
        if has_network || !has_bucket {
            header.extend(["peers", "sent", "received"]);
        }
        if has_bucket {
            header.extend(["requests", "uploaded", "downloaded"]);
        }
        table.set_header(header);
        for (number, ((node, alone), gain)) in self.rows.iter().zip(self.gains()).enumerate() {
            let mut row = vec![
                number.to_string(),
                node.num_examples.to_string(),
                format!("{:.1} %", 100.0 * alone),
                format!("{:.1} %", 100.0 * node.accuracy),
                format!("{gain:+.1}"),
                format!("{:.1} s", node.seconds),
            ];
            if has_network || !has_bucket {
                row.extend([node.peers.to_string(), amount(node.sent), amount(node.received)]);
            }
            if has_bucket {
                let bucket = node.bucket.unwrap_or_default();
                row.extend([bucket.requests().to_string(), amount(bucket.sent), amount(bucket.received)]);
            }
            table.add_row(row);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
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

    pub(super) fn json(&self) -> serde_json::Value {
        let node = |(number, ((node, alone), gain)): (usize, (&(NodeResult, f64), f64))| {
            serde_json::json!({
                "node": number, "peer": node.peer, "examples": node.num_examples, "alone": alone,
                "federated": node.accuracy, "gain_points": gain, "seconds": node.seconds,
                "peers": node.peers, "sent": node.sent, "received": node.received, "bucket": node.bucket,
            })
        };
        let nodes: Vec<_> = self.rows.iter().zip(self.gains()).enumerate().map(node).collect();
        serde_json::json!({
            "summary": { "nodes": nodes, "gain_points": Self::mean(self.gains().into_iter()),
                "seconds": self.took.as_secs_f64(), "sentence": self.sentence() }
        })
    }
}
