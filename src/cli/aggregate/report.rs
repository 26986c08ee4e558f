//! What `peerfold aggregate` says when it is done.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::HumanBytes;
use serde::Serialize;

use super::super::show::some_names;

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
        let mut notes = String::new();
        for Whole { path, tensors } in &self.unaveraged {
            let whose = path.as_deref().unwrap_or("an earlier fold");
            notes +=
                &format!("integer tensors are not averaged, and those of {whose} alone: {}\n", some_names(tensors));
        }
        if !self.unaveraged.is_empty() {
            notes += "(--param integers=mean averages and rounds them)\n";
        }
        if !self.turned_negative.is_empty() {
            notes += &format!("turned negative, though no input is: {}\n", some_names(&self.turned_negative));
        }
        format!("{table}\n{notes}{strategy}, round {round}: {output}, {}, root {root}\n", HumanBytes(self.bytes))
    }
}
