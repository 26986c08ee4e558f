//! What `peerfold aggregate` says when it is done.

use crate::{
    cli::{Column, Sheet},
    program::sentence,
    weights::Annotations,
};
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
    /// The whole for people, the table at most so wide.
    pub(super) fn text(&self, columns: Option<usize>) -> String {
        let paths = self.inputs.iter().map(|share| &share.path).chain(self.rejected.iter().map(|input| &input.path));
        let examples = self.inputs.iter().map(|share| share.num_examples.to_string());
        let shares = self.inputs.iter().map(|share| format!("{:.2} %", 100.0 * share.share));
        let rejected = || self.rejected.iter();
        let table = Sheet::of(Column::words("input", paths.cloned()))
            .with([Column::numbers("examples", examples.chain(rejected().map(|_| String::new())))])
            .with([Column::numbers("share", shares.chain(rejected().map(|_| "rejected".to_owned())))]);
        let Self { strategy, round, output, root, .. } = self;
        let told = format!("{strategy}, round {round}: {output}, {}, root {root}", HumanBytes(self.bytes));
        let mut text = format!("{}\n{}\n", table.text(columns), sentence(&told, columns));
        if !self.metadata_left_out.is_empty() {
            // Names are the files' authors' to choose.
            let names = self.metadata_left_out.iter().map(|name| name.escape_debug().to_string());
            let names = names.collect::<Vec<_>>().join(", ");
            let told = format!("metadata that not all inputs have alike is left out: {names}");
            text += &format!("{}\n", sentence(&told, columns));
        }
        text
    }
}
