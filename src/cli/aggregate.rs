//! `peerfold aggregate`: folds safetensors files, for scripts and programs in other languages.

pub(super) mod input;
mod report;

use self::{
    input::Input,
    report::{NotFolded, Rejected, Report, Share, Whole},
};
use super::writable::check_writable;
use crate::{
    durable_file,
    node::{Checks, Rejection},
    program::{columns, of_flag, print, strategy_error, strategy_spec},
    strategy::{FoldError, Folded, Round, Strategy, Unaveraged, Update},
    train::LAYOUT_ANNOTATION,
    weights::{Annotations, Layout, SafetensorsFile, TensorReader, Weights, read_all},
};
use anyhow::{Context, anyhow, bail, ensure};
use clap::{Args, ValueHint, error::ErrorKind};
use libp2p_identity::PeerId;
use rayon::prelude::*;
use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// The parameter under which Flower's own tests count failed clients.
const FAILURES_PARAM: &str = "n_failures";

/// How many names of omitted metadata are listed.
const MAX_LEFT_OUT: usize = 20;

/// Links to links that are followed.
const MAX_LINKS: usize = 16;

/// What follows the flags in `--help`.
pub(super) const HELP: &str = "\
Inputs:
  --input FILE=NUM_EXAMPLES[,OPTION]… names an update and the number of examples that it was trained on.
  Options, in any order:
    staleness=T   how old it is, in epochs [default: 0]
    loss=F        its training loss
    delta         the file holds a difference to x, not weights
    degree=D      how many peers its author knows
    author=NAME   whose it is, for rules that remember authors from call to call [default: its place]
    epoch=E       the epoch it comes after. Rules that remember authors take what they have seen of an
                  author's epoch for old; integer tensors are taken from the highest. [default: the round, or
                  more if the state knows of more folds, so that an input is new in each call]
  The first input that isn't rejected counts as the node's own. FILE may contain = and commas: if there
  are several ways to read an input, the first one whose file is there counts.

  All inputs and --initial must have the same tensors: names, dtypes, shapes. A file that isn't whole, has
  another layout or a dtype that can't be folded is an error, and nothing is written. An input with NaN or
  infinite values, or above --max-num-examples or --max-norm, is rejected: named on standard error and in
  the result, counted as a failure of the round, and left out. Inputs are read in pieces, twice: memory is
  needed for the result and what the strategy keeps, not for all inputs. The output has the __metadata__ that
  all of them have alike.

Tensors:
  Running statistics (running_mean, running_var, moving_variance, batch_stats, ...) are averaged and never
  stepped. --param average=GLOBS, step=GLOBS and local=GLOBS say it of others; local ones stay those of the
  first input. Integer tensors come from the newest input, and --param integers=mean averages and rounds
  them. Where all tensors are integers nothing can be averaged, which is an error without integers=mean.

State:
  Strategies with momentum, moments or a buffer keep them in the --state file, which is read if it is there
  and written anew after the fold; it is for the same strategy with the same reference only. --initial is x
  of the first call, of which later calls need none: x is in the state. A rule without memory leaves the
  file empty. Output and state are written in this order, each whole or not at all. If the output is new
  and the state is old, because the program was killed between them, the same call again puts it right, as
  long as --initial and the inputs are still what they were.

Result:
  --json writes one object: folded (true), strategy, round, output, bytes (of the file), root (the hash of
  the output), inputs [{path, num_examples, share}], unaveraged [{path, tensors}] (integer tensors, by the
  input whose they are, or null), turned_negative [tensor] (nowhere negative in the inputs),
  rejected [{path, reason}]; if there is any, metadata {name: text} of the output and metadata_left_out [name],
  not alike in all inputs.
  Exit code 0: the output is written. 1: it isn't, and standard error says why in one line; with --json
  also {folded (false), strategy, round, reason, rejected}. 2: the arguments can't be.

Examples:
  peerfold aggregate --strategy fedavg --input a.safetensors=600 --input b.safetensors=200 --output x.safetensors
  peerfold aggregate --strategy fedadam --param eta=0.05 --initial x0.safetensors --state adam.state --round 1 \\
      --input a.safetensors=600,loss=0.3 --input b.safetensors=200,staleness=2 --output x1.safetensors --json";

#[derive(Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct AggregateFlags {
    /// How to fold: see `peerfold strategies`.
    #[arg(long, value_name = "NAME")]
    strategy: String,
    /// A parameter of the strategy; may be given several times.
    #[arg(long, value_name = "K=V", value_delimiter = ',')]
    param: Vec<String>,
    /// The weights that all began from (x), for rules that take a step from them.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    initial: Option<PathBuf>,
    /// Where the strategy keeps what it remembers from call to call; made if it isn't there.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    state: Option<PathBuf>,
    /// The number of the round, from 1 (Flower's server_round). Fedadam with a reference of Flower 1.41 counts it, and
    /// gossip pairs by it. [default: one more than the folds that --state knows of]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..))]
    round: Option<u64>,
    /// Updates of this round that are not here because they failed. [default: 0]
    #[arg(long, value_name = "N")]
    failures: Option<u64>,
    /// Reject inputs with more examples.
    #[arg(long, value_name = "N", default_value_t = Checks::default().max_num_examples)]
    max_num_examples: u64,
    /// Reject inputs with a larger Euclidean norm. [default: any]
    #[arg(long, value_name = "F", value_parser = positive)]
    max_norm: Option<f64>,
    /// An update, see below; may be given several times.
    #[arg(long, value_name = "FILE=N[,OPTION]", required = true, value_parser = input::parse,
        value_hint = ValueHint::FilePath)]
    input: Vec<Input>,
    /// Where to write the folded weights, as safetensors. May be one of the inputs.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,
    /// Write the result as one JSON object.
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "must be a number above 0".to_owned())
}

/// A mistake in the arguments: exit code 2.
fn argument(mistake: impl fmt::Display) -> anyhow::Error {
    clap::Error::raw(ErrorKind::ValueValidation, mistake).into()
}

/// An update whose file is open.
struct Opened<'a> {
    input: &'a Input,
    author: PeerId,
    file: SafetensorsFile,
    epoch: u64,
}

/// What is reported whether or not the fold succeeds.
struct Told {
    round: u64,
    rejected: Vec<Rejected>,
}

/// The result of a fold, and what went into it.
struct Done {
    folded: Folded,
    /// The inputs that were folded, by their places, in the order of the shares.
    kept: Vec<usize>,
    /// Bytes of the output.
    bytes: u64,
    /// Names of metadata on which the inputs don't agree.
    left_out: BTreeSet<String>,
}

pub(super) fn run(flags: &AggregateFlags) -> anyhow::Result<()> {
    let mut spec = strategy_spec(&flags.strategy, &flags.param).map_err(|mistake| argument(of_flag(&mistake)))?;
    let failures = match (flags.failures, spec.params.remove(FAILURES_PARAM)) {
        (failures, None) => failures.unwrap_or(0),
        (Some(_), Some(_)) => return Err(argument("--param n_failures is the same as --failures; give one of them")),
        (None, Some(text)) => {
            let number = text.parse::<u64>();
            number.map_err(|_| argument(format!("--param n_failures={text}: must be a whole number from 0")))?
        }
    };
    let wrong = |error| argument(of_flag(&strategy_error(&spec, &error)));
    let (strategy, name) = (spec.build().map_err(wrong)?, spec.info().map_err(wrong)?.name);
    let authors = input::authors(&flags.input).map_err(argument)?;
    if flags.state.as_deref().is_some_and(|state| real_path(state) == real_path(&flags.output)) {
        return Err(argument("--state and --output are the same file"));
    }
    let mut told = Told { round: flags.round.unwrap_or(1), rejected: Vec::new() };
    let result = aggregate(flags, strategy, authors, failures, &mut told);
    let Told { round, rejected } = told;
    match result {
        Ok(Done { folded, kept, bytes, left_out }) => {
            let inputs = kept.iter().zip(&folded.shares).map(|(&place, &share)| {
                let Input { path, num_examples, .. } = &flags.input[place];
                Share { path: path.display().to_string(), num_examples: *num_examples, share }
            });
            let unaveraged = folded.unaveraged.iter().map(|Unaveraged { update, tensors }| {
                let path = update.map(|number| flags.input[kept[number]].path.display().to_string());
                Whole { path, tensors: tensors.clone() }
            });
            for tensor in &folded.turned_negative {
                eprintln!(
                    "warning: {tensor} has turned negative, though no input is; --param average={tensor} averages it"
                );
            }
            let report = Report {
                folded: true,
                strategy: name,
                round,
                output: flags.output.display().to_string(),
                bytes,
                root: folded.weights.manifest().root().to_string(),
                inputs: inputs.collect(),
                unaveraged: unaveraged.collect(),
                turned_negative: folded.turned_negative.clone(),
                rejected,
                metadata: folded.weights.annotations().clone(),
                metadata_left_out: left_out,
            };
            print(&if flags.json { serde_json::to_string(&report)? + "\n" } else { report.text(columns()) })
        }
        Err(error) => {
            if flags.json {
                let reason = crate::program::one_line(&error);
                let report = NotFolded { folded: false, strategy: name, round, reason, rejected };
                print(&(serde_json::to_string(&report)? + "\n"))?;
            }
            Err(error)
        }
    }
}

/// Reads, checks, folds and writes. Rejected inputs are reported whether or not the fold succeeds.
fn aggregate(
    flags: &AggregateFlags,
    mut strategy: Box<dyn Strategy>,
    authors: Vec<PeerId>,
    failures: u64,
    told: &mut Told,
) -> anyhow::Result<Done> {
    let rejected = &mut told.rejected;
    check_writable("output", &flags.output)?;
    let initial = flags.initial.as_deref().map(read_initial).transpose()?;
    if let Some(initial) = &initial {
        strategy.begin(initial);
    }
    let known_state = match &flags.state {
        Some(path) => {
            check_writable("state", path)?;
            restore(&mut *strategy, path)?
        }
        None => false,
    };
    let folds = strategy.folds().saturating_add(1);
    told.round = flags.round.unwrap_or(folds);
    let opened = open(&flags.input, authors, initial.as_ref(), folds.max(told.round))?;
    drop(initial);

    let checks = Checks { max_num_examples: flags.max_num_examples, max_norm: flags.max_norm, ..Checks::default() };
    let mut kept = Vec::new();
    for (place, (update, found)) in opened.iter().zip(check(&checks, &opened)).enumerate() {
        match found {
            Ok(()) => kept.push(place),
            Err(Rejection::Damaged(what) | Rejection::OutOfReach(what)) => bail!("--input {what}"),
            Err(reason) => {
                let rejection = Rejected { path: update.input.path.display().to_string(), reason: reason.to_string() };
                eprintln!("warning: {} is left out: {}", rejection.path, rejection.reason);
                rejected.push(rejection);
            }
        }
    }
    ensure!(!kept.is_empty(), "nothing is left to fold: every input was rejected, the first because {}", {
        rejected.first().map_or("", |rejection| rejection.reason.as_str())
    });

    let updates: Vec<Update<'_>> = kept.iter().map(|&place| opened[place].update(place == kept[0])).collect();
    let failures = failures.saturating_add(rejected.len() as u64);
    let round = Round { number: told.round, updates: &updates, failures };
    let mut folded = strategy.fold(&round).map_err(|error| told_by_path(error, &opened, flags, known_state))?;
    let (common, left_out) = common_metadata(kept.iter().map(|&place| opened[place].file.annotations()));
    folded.weights = folded.weights.with_annotations(common);
    let bytes = write_output(&flags.output, &folded.weights)?;
    if let Some(path) = &flags.state {
        let state = strategy.save();
        durable_file::replace(&real_path(path), false, |out| out.write_all(&state)).with_context(|| {
            let output = flags.output.display();
            format!("{output} is written, but --state {} can't be; it is as before", path.display())
        })?;
    }
    Ok(Done { folded, kept, bytes, left_out })
}

fn read_initial(path: &Path) -> anyhow::Result<Weights> {
    let place = || format!("--initial {}", path.display());
    let file = SafetensorsFile::open(path).with_context(place)?;
    let weights = read_all(&file).map_err(|error| anyhow!("--initial {error}"))?;
    Checks::default().weights(&weights).with_context(place)?;
    Ok(weights)
}

/// Restores the state in this file. Returns whether there is one.
fn restore(strategy: &mut dyn Strategy, path: &Path) -> anyhow::Result<bool> {
    let state = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        state => state.with_context(|| format!("--state {} can't be read", path.display()))?,
    };
    let restored = strategy.restore(&state);
    restored.map_err(|error| anyhow!("--state {}: {error}; without the file it begins anew", path.display()))?;
    Ok(true)
}

/// Opens the inputs and compares their layouts with the first one's, or that of --initial.
fn open<'a>(
    inputs: &'a [Input],
    authors: Vec<PeerId>,
    initial: Option<&Weights>,
    now: u64,
) -> anyhow::Result<Vec<Opened<'a>>> {
    let mut opened: Vec<Opened<'a>> = Vec::new();
    for (input, author) in inputs.iter().zip(authors) {
        let place = || format!("--input {}", input.path.display());
        let file = SafetensorsFile::open(&input.path).with_context(place)?;
        let (layout, other): (&Layout, _) = match (initial, opened.first()) {
            (Some(initial), _) => (initial.layout(), "--initial".to_owned()),
            (None, Some(first)) => (first.file.layout(), first.input.path.display().to_string()),
            (None, None) => (file.layout(), String::new()),
        };
        if let Some(difference) = layout.difference(file.layout()) {
            bail!("{} has another layout than {other}: {difference}", place());
        }
        // A square matrix has the same shape both ways round.
        let says = |file: &SafetensorsFile| file.annotations().get(LAYOUT_ANNOTATION).map(str::to_owned);
        let other = opened.iter().find(|other| says(&other.file).is_some());
        if let (Some(said), Some(other)) = (says(&file), other)
            && let Some(others) = says(&other.file).filter(|others| *others != said)
        {
            let (other, key) = (other.input.path.display(), LAYOUT_ANNOTATION);
            bail!("{} says {key} = {said:?} in its metadata, but {other} says {others:?}: save both alike", place());
        }
        let epoch = input.epoch.unwrap_or(now);
        opened.push(Opened { input, author, file, epoch });
    }
    Ok(opened)
}

/// The metadata on which all inputs agree, and the names of the rest.
fn common_metadata(mut all: impl Iterator<Item = Annotations>) -> (Annotations, BTreeSet<String>) {
    let mut common = all.next().unwrap_or_default();
    let mut left_out = BTreeSet::new();
    for other in all {
        let both = common.common(&other);
        let lost = common.iter().chain(other.iter()).filter(|&(name, _)| both.get(name).is_none());
        left_out.extend(lost.map(|(name, _)| name.to_owned()));
        // Any number of inputs may have any number of names of their own.
        while left_out.len() > MAX_LEFT_OUT {
            left_out.pop_last();
        }
        common = both;
    }
    (common, left_out)
}

/// What was found about each input, which is read once.
fn check(checks: &Checks, opened: &[Opened<'_>]) -> Vec<Result<(), Rejection>> {
    let one = |update: &Opened<'_>| {
        checks.claim(update.epoch, update.input.num_examples)?;
        checks.weights(&update.file).map(drop)
    };
    opened.par_iter().map(one).collect()
}

impl Opened<'_> {
    fn update(&self, own: bool) -> Update<'_> {
        let Input { num_examples, delta, staleness, loss, degree, .. } = *self.input;
        let update = Update::new(self.author, &self.file, num_examples);
        Update { delta, epoch: self.epoch, staleness, loss, degree, own, ..update }
    }
}

/// Blames the file by its name, not by the id that it got here.
fn told_by_path(error: FoldError, opened: &[Opened<'_>], flags: &AggregateFlags, known_state: bool) -> anyhow::Error {
    let path = |author: PeerId| {
        let named = opened.iter().find(|update| update.author == author);
        named.map_or_else(|| author.to_string(), |update| update.input.path.display().to_string())
    };
    match error {
        FoldError::Layout { author, difference } => {
            let state = flags.state.as_ref().filter(|_| known_state);
            let other = state.map_or(String::new(), |state| format!(" than --state {}", state.display()));
            anyhow!("--input {} has another layout{other}: {difference}", path(author))
        }
        FoldError::Read { source, .. } => anyhow!("--input {source}"),
        FoldError::Figure { author, strategy, what } => {
            anyhow!("--input {} can't be folded by {strategy}: {what}", path(author))
        }
        FoldError::NotBegun { .. } => anyhow!("{error}; give --initial"),
        error => error.into(),
    }
}

/// Where a path leads, whether or not the file exists. Links are followed, so that their target is written.
fn real_path(path: &Path) -> PathBuf {
    let dir_of = |path: &Path| match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(whole) = fs::canonicalize(&path) {
            return whole;
        }
        // A link whose target doesn't exist yet.
        let Ok(target) = fs::read_link(&path) else { break };
        path = dir_of(&path).join(target);
    }
    let beside = || Some(fs::canonicalize(dir_of(&path)).ok()?.join(path.file_name()?));
    beside().unwrap_or(path)
}

/// Returns the length of the file.
fn write_output(path: &Path, weights: &Weights) -> anyhow::Result<u64> {
    let failed = || format!("--output {} can't be written", path.display());
    let path = &real_path(path);
    durable_file::replace(path, false, |out| weights.write_safetensors(out)).with_context(failed)?;
    Ok(fs::metadata(path).with_context(failed)?.len())
}
