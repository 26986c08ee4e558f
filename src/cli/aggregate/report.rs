//! The output of `peerfold aggregate`, as text and as JSON.

use crate::{
    program::{Column, Sheet, sentence, some_names},
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
    /// Integer and boolean tensors that were taken whole.
    pub(super) unaveraged: Vec<Whole>,
    pub(super) turned_negative: Vec<String>,
    pub(super) rejected: Vec<Rejected>,
    /// What the output has.
    #[serde(skip_serializing_if = "Annotations::is_empty")]
    pub(super) metadata: Annotations,
    /// Names of metadata on which the inputs don't agree.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) metadata_left_out: BTreeSet<String>,
}

/// Tensors that are those of one input.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    /// Of which input; none if they are what the state kept.
    pub(super) path: Option<String>,
    pub(super) tensors: Vec<String>,
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
    /// The result as text for people, with the table at most this wide.
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
        let mut lines = vec![table.text(columns)];
        for Whole { path, tensors } in &self.unaveraged {
            let names = some_names(tensors);
            let told = match path {
                Some(path) => format!("integer tensors are not averaged, and those of {path} alone: {names}"),
                None => format!("integer tensors are not averaged, but taken whole: {names}"),
            };
            lines.push(sentence(&told, columns));
        }
        if !self.unaveraged.is_empty() {
            lines.push(sentence("(--param integers=mean averages and rounds them)", columns));
        }
        if !self.turned_negative.is_empty() {
            let told = format!("turned negative, though no input is: {}", some_names(&self.turned_negative));
            lines.push(sentence(&told, columns));
        }
        lines.push(sentence(&told, columns));
        if !self.metadata_left_out.is_empty() {
            // Names are the files' authors' to choose.
            let names = self.metadata_left_out.iter().map(|name| name.escape_debug().to_string());
            let names = names.collect::<Vec<_>>().join(", ");
            lines.push(sentence(&format!("metadata that not all inputs have alike is left out: {names}"), columns));
        }
        lines.join("\n") + "\n"
    }
}
