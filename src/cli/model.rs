//! `peerfold model`: the newest folded weights of a home, whether its node runs or not.

use super::{init_file, run::write_model, settings::default_home, writable::check_writable};
use crate::{
    home::{Home, Run},
    node::{Checkpoint, FoldedFrom, Origin},
    program::{print, short_peer},
    train::for_file,
    weights::{Annotations, FederationId},
};
use anyhow::{Context, bail};
use clap::{Args, ValueHint};
use indicatif::HumanBytes;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Which home, and where to.
#[derive(Args)]
pub(super) struct ModelFlags {
    /// The node's own directory. [default: ~/.peerfold]
    #[arg(long, env = "PEERFOLD_HOME", value_name = "DIR", value_hint = ValueHint::DirPath)]
    home: Option<PathBuf>,
    /// Name of the federation, if the home has been in several.
    #[arg(long, env = "PEERFOLD_FEDERATION", value_name = "NAME")]
    federation: Option<String>,
    /// Label of the run, if there were several. [default: 1 where --federation is given]
    #[arg(long, env = "PEERFOLD_RUN", value_name = "LABEL")]
    run: Option<String>,
    /// Where to, as safetensors.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: PathBuf,
    /// Write what was saved as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was saved, as `--json` shows it.
#[derive(Serialize)]
struct Saved {
    /// Name of the federation and label of the run, unless an older version made the checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    federation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// The last complete epoch.
    epoch: u64,
    root: String,
    bytes: u64,
    /// What was folded in that epoch: this node's own update alone if there was nothing else; nothing if it has only begun.
    folded_from: Vec<FoldedFrom>,
    /// False if there is no folded model yet, only what was trained.
    complete: bool,
    out: PathBuf,
}

pub(super) fn run(flags: &ModelFlags) -> anyhow::Result<()> {
    check_writable("out", &flags.out)?;
    let home = flags.home.clone().map_or_else(default_home, Ok)?;
    let run = choose(&home, flags)?;
    let checkpoint = Checkpoint::newest_complete(&run.dir)?.with_context(|| nothing(&home))?;
    let annotations = init_file::kept(&run.dir, Origin::Checkpoint, &Annotations::default())?;
    let weights = for_file(checkpoint.weights.clone().with_annotations(annotations), None)?;
    write_model(&flags.out, &weights)?;
    let (federation, label) = run.name.unzip();
    let saved = Saved {
        federation,
        run: label,
        epoch: checkpoint.epoch,
        root: checkpoint.weights.manifest().root().to_string(),
        bytes: checkpoint.weights.layout().bytes(),
        folded_from: checkpoint.folded_from,
        complete: checkpoint.phase.is_complete(),
        out: flags.out.clone(),
    };
    print(&if flags.json {
        serde_json::to_string(&saved)? + "\n"
    } else {
        text(&saved, checkpoint.beginning.origin, &Home::peer_id(&home)?.to_string())
    })
}

/// The federation that was asked for, or the only one.
fn choose(home: &Path, flags: &ModelFlags) -> anyhow::Result<Run> {
    let mut runs = Home::runs(home)?;
    runs.retain(|run| Checkpoint::path(&run.dir).exists());
    if runs.is_empty() {
        bail!(nothing(home));
    }
    let all: Vec<String> = runs.iter().map(named).collect();
    if let Some(federation) = &flags.federation {
        let id = FederationId::new(federation, flags.run.as_deref().unwrap_or("1")).to_string();
        runs.retain(|run| run.id == id);
    } else if let Some(label) = &flags.run {
        runs.retain(|run| run.name.as_ref().is_some_and(|(_, of)| of == label));
    }
    match runs.len() {
        1 => Ok(runs.swap_remove(0)),
        0 => bail!(
            "the home {} has no checkpoint of that federation and run; it has: {}",
            home.display(),
            all.join("; ")
        ),
        _ => bail!(
            "the home {} has several federations; choose with --federation and --run: {}",
            home.display(),
            runs.iter().map(named).collect::<Vec<_>>().join("; ")
        ),
    }
}

fn nothing(home: &Path) -> String {
    format!("the home {} has no checkpoint yet: its node writes the first one when it begins", home.display())
}

fn named(run: &Run) -> String {
    match &run.name {
        Some((federation, label)) => format!("federation {federation:?}, run {label:?}"),
        None => format!("a federation whose name an older version didn't note, id {:.8}", run.id),
    }
}

fn text(saved: &Saved, origin: Origin, me: &str) -> String {
    let peers = |from: &[FoldedFrom]| {
        let update = |from: &FoldedFrom| {
            format!("{} (epoch {}, weight {:.1} %)", short_peer(&from.author), from.epoch, 100.0 * from.weight)
        };
        from.iter().map(update).collect::<Vec<_>>().join(", ")
    };
    let what = match (saved.epoch, saved.folded_from.as_slice()) {
        _ if !saved.complete => "as trained: it isn't folded yet".to_owned(),
        (0, []) if origin == Origin::Init => "the first weights, those of --init: nothing is trained yet".to_owned(),
        (0, []) => "the first weights, from the seed: nothing is trained yet".to_owned(),
        (_, [only]) if only.author == me => "as this node trained it: there was nothing else to fold".to_owned(),
        (_, []) => "folded by an older version, which did not note of what".to_owned(),
        (_, from) => format!("folded from {}", peers(from)),
    };
    let federation = match (&saved.federation, &saved.run) {
        (Some(federation), Some(run)) => format!("federation {federation:?}, run {run:?}, "),
        _ => String::new(),
    };
    let (out, size) = (saved.out.display(), HumanBytes(saved.bytes));
    format!("{federation}epoch {}: {what}\nwrote {out}: {size}, root {}\n", saved.epoch, saved.root)
}
