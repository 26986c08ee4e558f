//! What `peerfold aggregate` says when it is done.

use crate::weights::Annotations;
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::HumanBytes;
use serde::Serialize;
use std::collections::BTreeSet;

/// An update in the result.
#[derive(Debug, Serialize)]
pub(super) struct Share {
    pub(super) path: String,
    pub(super) num_examples: u64,
    pub(super) share: f64,
}

/// An update that was left out.
#[derive(Debug, Serialize)]
pub(super) struct Rejected {
    pub(super) path: String,
    pub(super) reason: String,
}

/// The output is written.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `true`
    pub(super) folded: bool,
    pub(super) strategy: &'static str,
    pub(super) round: u64,
    pub(super) output: String,
    pub(super) bytes: u64,
    pub(super) root: String,
    pub(super) inputs: Vec<Share>,
    pub(super) rejected: Vec<Rejected>,
    /// What the output has.
    #[serde(skip_serializing_if = "Annotations::is_empty")]
    pub(super) metadata: Annotations,
    /// Names of what not all inputs have alike.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) metadata_left_out: BTreeSet<String>,
}

/// Nothing was folded, or what was folded can't be kept.
#[derive(Debug, Serialize)]
pub(super) struct NotFolded {
    /// `false`
    pub(super) folded: bool,
    pub(super) strategy: &'static str,
    pub(super) round: u64,
    pub(super) reason: String,
    pub(super) rejected: Vec<Rejected>,
}

impl Report {
    /// The whole for people.
    pub(super) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["input", "examples", "share"]);
        for Share { path, num_examples, share } in &self.inputs {
            table.add_row([path.clone(), num_examples.to_string(), format!("{:.2} %", 100.0 * share)]);
        }
        for Rejected { path, .. } in &self.rejected {
            table.add_row([path.as_str(), "", "rejected"]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let Self { strategy, round, output, root, .. } = self;
        let mut text =
            format!("{table}\n{strategy}, round {round}: {output}, {}, root {root}\n", HumanBytes(self.bytes));
        if !self.metadata_left_out.is_empty() {
            // Names are the files' authors' to choose.
            let names = self.metadata_left_out.iter().map(|name| name.escape_debug().to_string());
            let names = names.collect::<Vec<_>>().join(", ");
            text += &format!("metadata that not all inputs have alike is left out: {names}\n");
        }
        text
    }
}
