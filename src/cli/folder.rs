//! `peerfold folder`: what lies in a shared folder, for people and scripts.

use super::{
    flags::WayFlags,
    layers::values,
    node::{network_of, secret_of},
    say_new_home,
    settings::{SettingsError, default_home, wrong},
    writable::check_writable,
};
use crate::{
    bucket::{BucketOptions, BucketSettings},
    durable_file,
    entries::Membership,
    folder::{Author, CachedOptions, FolderUrl, SharedFolder},
    home::Home,
    node::TrustSettings,
    p2p::{self, NetworkOptions, Surroundings},
    program::{Column, Sheet, columns, print, short_peer},
    settings::{Settings, Value, Values, Written},
    train::{SavedLayout, for_file},
    weights::{Content, FederationId, Key, Metadata, SignedEntry, Weights, read_all},
};
use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::{Args, Subcommand, ValueHint};
use indicatif::{HumanBytes, HumanDuration};
use libp2p_identity::Keypair;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use tokio::runtime::Builder;

/// How long to look for peers before giving up on the network.
const LOOK_AROUND: Duration = Duration::from_secs(10);
/// How long to wait for a put to reach somewhere that outlives this program.
const HAND_OVER: Duration = Duration::from_secs(600);
/// The ending of files that hold tensors.
const SAFETENSORS: &str = "safetensors";

#[derive(Subcommand)]
pub(super) enum FolderCommand {
    /// List the entries: key, number, epoch, examples, size, age, metrics; of weights, whether they are folded.
    Ls {
        #[command(flatten)]
        place: Place,
        /// Only keys that begin so: an author's peer id, and a name after a slash.
        #[arg(long, value_name = "PREFIX", default_value = "")]
        prefix: String,
        /// Write a JSON array of objects.
        #[arg(long)]
        json: bool,
    },
    /// Save a value: tensors as safetensors, a plain artifact as the bytes it is. AUTHOR/update/E are weights as they were
    /// trained in epoch E, before the fold; AUTHOR/model are folded ones, of nodes with --publish-folded.
    Get {
        #[command(flatten)]
        place: Place,
        /// The entry's key: AUTHOR/NAME. The author may be the end of a peer id, as `ls` shows it.
        key: String,
        /// Where to.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: PathBuf,
        /// How linear layers of a built-in model lie in the file: torch is [out, in], burn [in, out], as nodes exchange
        /// them. [default: torch, or what the value says of itself]
        #[arg(long, value_name = "NAME")]
        layout: Option<SavedLayout>,
    },
    /// Publish a file under a name of this node's: tensors if it ends in .safetensors, else a plain artifact.
    Put {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        own: Own,
        /// The name: start, update/3, …
        name: String,
        /// The file.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The epoch that it comes after. [default: that of an update's name, else 0]
        #[arg(long, value_name = "E")]
        epoch: Option<u64>,
        /// Examples that it was trained on.
        #[arg(long, value_name = "N", default_value_t = 0)]
        num_examples: u64,
        /// A figure; may be given several times.
        #[arg(long, value_name = "NAME=F", value_delimiter = ',')]
        metric: Vec<String>,
        /// Write the new entry as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Remove a name of this node's, and leave a tombstone.
    Rm {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        own: Own,
        /// The name.
        name: String,
    },
    /// Print one hash over all entries and tombstones: equal exactly for those who know the same.
    Digest {
        #[command(flatten)]
        place: Place,
    },
}

/// Which folder.
#[derive(Args)]
pub(super) struct Place {
    /// The folder: p2p:, s3://bucket/prefix, file:///directory.
    pub(super) url: String,
    /// Name of the federation.
    #[arg(long, env = "PEERFOLD_FEDERATION", value_name = "NAME")]
    pub(super) federation: String,
    /// Label of the run.
    #[arg(long, env = "PEERFOLD_RUN", value_name = "LABEL", default_value = "1")]
    pub(super) run: String,
    #[command(flatten)]
    pub(super) ways: WayFlags,
}

/// Who publishes.
#[derive(Args)]
pub(super) struct Own {
    /// The home of the node in whose name to publish; no node may run in it meanwhile. [default: ~/.peerfold]
    #[arg(long, env = "PEERFOLD_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
}

impl Own {
    /// Opens the home to publish from. If it doesn't exist, it is made, with a warning: with a mistyped path one would
    /// publish under a new identity.
    fn open(&self) -> anyhow::Result<Home> {
        let dir = self.dir()?;
        let is_new = Home::check_exists(&dir).is_err();
        let home = Home::open(&dir)?;
        if is_new {
            say_new_home(&dir, &home.keypair().public().to_peer_id());
        }
        Ok(home)
    }

    /// Opens the home to remove from, which must already exist.
    fn open_existing(&self) -> anyhow::Result<Home> {
        Ok(Home::open_existing(self.dir()?)?)
    }

    fn dir(&self) -> Result<PathBuf, SettingsError> {
        self.home.clone().map_or_else(default_home, Ok)
    }
}

/// An entry as `--json` shows it.
#[derive(Debug, Serialize)]
struct Row {
    author: String,
    /// As `get` takes it.
    key: String,
    /// The key without its author.
    name: String,
    /// What lies there, by its name; its author may have put something else.
    kind: Kind,
    sequence: u64,
    epoch: u64,
    num_examples: u64,
    bytes: u64,
    root: String,
    /// Seconds since it was written, where the folder knows: a directory, or a bucket's store.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
    metrics: BTreeMap<String, f64>,
    /// Peers that hold the value whole, of what was put in a network.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_by: Option<usize>,
}

/// What a key's name says of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// What a node trained in an epoch, before any fold.
    LocalUpdate,
    /// What a node goes on with, after its newest fold.
    FoldedModel,
    /// What a node began from.
    Start,
    /// What was put there by hand or by a program.
    Other,
}

impl Kind {
    fn of(key: &Key) -> Self {
        match key.update_epoch() {
            Some(_) => Self::LocalUpdate,
            None if *key == Key::model(key.author()) => Self::FoldedModel,
            None if *key == Key::start(key.author()) => Self::Start,
            None => Self::Other,
        }
    }

    /// A word for the table.
    fn word(self) -> &'static str {
        match self {
            Self::LocalUpdate => "unfolded",
            Self::FoldedModel => "folded",
            Self::Start => "start",
            Self::Other => "",
        }
    }
}

/// An open folder, and what must live as long as it does.
pub(super) struct Opened {
    pub(super) folder: Arc<dyn SharedFolder>,
    /// The federation's name.
    federation: String,
    _cache: Option<TempDir>,
    _home: Option<Home>,
}

pub(super) fn run(command: &FolderCommand) -> anyhow::Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    match command {
        FolderCommand::Ls { place, prefix, json } => {
            let opened = place.open(None)?;
            let rows = runtime.block_on(rows(&opened, prefix))?;
            print(&if *json { serde_json::to_string_pretty(&rows)? + "\n" } else { text(&rows) })
        }
        FolderCommand::Get { place, key, output, layout } => {
            check_writable("output", output)?;
            let opened = place.open(None)?;
            runtime.block_on(get(&opened, key, output, *layout))
        }
        FolderCommand::Put { place, own, name, file, epoch, num_examples, metric, json } => {
            let metrics = metric.iter().map(|text| figure(text)).collect::<Result<Vec<_>, _>>()?;
            let value = read(file)?;
            let opened = place.open(Some(&|| own.open()))?;
            let key = Key::new(opened.folder.author(), name.as_str())?;
            let epoch = epoch.or(key.update_epoch()).unwrap_or(0);
            let metadata = Metadata { epoch, num_examples: *num_examples, ..Metadata::default() };
            let metadata = metadata.with_metrics(metrics.iter().map(|(name, value)| (name.as_str(), *value)));
            let (entry, held_by) = runtime.block_on(async {
                let around = opened.look_around().await?;
                let entry = opened.folder.put(&key, &value, metadata).await?;
                let handed_over = opened.hand_over(&format!("has {name}"), around).await?;
                anyhow::Ok((entry, handed_over.map(|network| network.holding)))
            })?;
            let row = Row { held_by, ..Row::of(&entry, None) };
            print(&if *json { serde_json::to_string(&row)? + "\n" } else { text(&[row]) })?;
            reached(held_by.map(|peers| format!("{} it", people(peers, "holds", "hold"))).as_deref());
            Ok(())
        }
        FolderCommand::Rm { place, own, name } => {
            let opened = place.open(Some(&|| own.open_existing()))?;
            let key = Key::new(opened.folder.author(), name.as_str())?;
            let known_by = runtime.block_on(async {
                let around = opened.look_around().await?;
                let listed = opened.folder.list(&key.to_string()).await?;
                if !listed.iter().any(|entry| entry.key == key) {
                    bail!("there is no {key} in {}", place.url);
                }
                opened.folder.remove(&key).await?;
                let handed_over = opened.hand_over(&format!("knows that {name} is gone"), around).await?;
                anyhow::Ok(handed_over.map(|network| network.holding))
            })?;
            reached(known_by.map(|peers| format!("{} that it is gone", people(peers, "knows", "know"))).as_deref());
            Ok(())
        }
        FolderCommand::Digest { place } => {
            let opened = place.open(None)?;
            let digest = runtime.block_on(async {
                opened.ask().await?;
                anyhow::Ok(opened.folder.digest().await?)
            })?;
            print(&format!("{digest}\n"))
        }
    }
}

impl Place {
    /// Opens the folder in the name of a home, which must exist, for members only.
    pub(super) fn open_in(&self, home: &Path, membership: &Arc<Membership>) -> anyhow::Result<Opened> {
        let values: Values = values(&self.ways.0);
        let url = FolderUrl::read(&Written::Text(self.url.clone()));
        let url = url.map_err(|unfit| wrong("folder", &self.url, unfit.what))?;
        let home = Home::open_existing(home)?;
        let run_dir = home.name_run(&self.federation, &self.run)?;
        let options = CachedOptions { membership: membership.clone(), ..options(&values, &url, &run_dir)? };
        let author = Author::from_home(&home, FederationId::new(&self.federation, &self.run));
        let folder = url.open(author, options)?;
        Ok(Opened { folder, federation: self.federation.clone(), _cache: None, _home: Some(home) })
    }

    /// Opens the folder, with the publisher's home, or read-only, so that nothing is written there.
    fn open(&self, home: Option<&dyn Fn() -> anyhow::Result<Home>>) -> anyhow::Result<Opened> {
        let values: Values = values(&self.ways.0);
        let url = FolderUrl::read(&Written::Text(self.url.clone()));
        let url = url.map_err(|unfit| wrong("folder", &self.url, unfit.what))?;
        let federation = FederationId::new(&self.federation, &self.run);
        let options = |run_dir: &Path| options(&values, &url, run_dir);
        if let Some(home) = home {
            // Report wrong settings before making a home.
            options(Path::new(""))?;
            let home = home()?;
            let folder = url.open(Author::from_home(&home, federation), options(&home.run_dir(&federation)?)?)?;
            let federation = self.federation.clone();
            return Ok(Opened { folder, federation, _cache: None, _home: Some(home) });
        }
        let cache = tempfile::tempdir().context("a temporary directory for what is read")?;
        let nobody = Author::in_memory(Keypair::generate_ed25519(), federation);
        let folder = url.open_to_read(nobody, options(cache.path())?)?;
        let federation = self.federation.clone();
        Ok(Opened { folder, federation, _cache: Some(cache), _home: None })
    }
}

/// How to open a folder of these settings.
fn options(values: &Values, url: &FolderUrl, run_dir: &Path) -> Result<CachedOptions, SettingsError> {
    let secret = secret_of(values, url)?;
    let settings = BucketSettings::read(values)?;
    let bucket = BucketOptions { settings, secret: secret.clone(), ..BucketOptions::default() };
    let network = NetworkOptions { secret, ..network_of(values, url)?.into() };
    let (network, bucket) = url.ways(network, bucket);
    let TrustSettings { readmit: readmitted, .. } = TrustSettings::read(values)?;
    Ok(CachedOptions { network, bucket, readmitted, ..CachedOptions::in_run(run_dir) })
}

impl Opened {
    /// Who is there, if the folder is a network. An error if it is a bucket that can't be used now: a user at a
    /// terminal won't wait for it to come back.
    pub(super) async fn look_around(&self) -> anyhow::Result<Option<Surroundings>> {
        if let Some(reason) = self.folder.routes().and_then(|routes| routes.borrow().reason.clone()) {
            bail!(reason);
        }
        let surroundings = self.folder.look_around(LOOK_AROUND).await;
        match self.folder.routes().and_then(|routes| routes.borrow().reason.clone()) {
            Some(reason) => Err(anyhow!(reason)),
            None => Ok(surroundings),
        }
    }

    /// Asks whoever is there what the folder has. An error if nobody could be asked, because then it isn't known.
    async fn ask(&self) -> anyhow::Result<()> {
        let Some(surroundings) = self.look_around().await? else { return Ok(()) };
        if surroundings.is_alone() {
            bail!("nobody in federation '{}' could be asked: {surroundings}", self.federation);
        }
        reached(Some(&format!("{} asked", people(surroundings.members, "was", "were"))));
        Ok(())
    }

    /// Waits until what was put or removed would outlive this program, if more than its own disk should have it.
    /// Returns how many peers have it, if the folder is a network; an error if nobody `has` it.
    pub(super) async fn hand_over(
        &self,
        has: &str,
        around: Option<Surroundings>,
    ) -> anyhow::Result<Option<p2p::HandedOver>> {
        let handed_over = self.folder.hand_over(HAND_OVER).await;
        if let Some(routes) = self.folder.routes().map(|routes| routes.borrow().clone())
            && !routes.bucket
        {
            return Err(anyhow!(routes.reason.unwrap_or_default()));
        }
        let (Some(network), false) = (handed_over.network, handed_over.outlives()) else {
            return Ok(handed_over.network);
        };
        let why = match around {
            Some(around) if network.members == 0 => around.to_string(),
            _ => format!("{} connected, and didn't take it", people(network.members, "was", "were")),
        };
        bail!(
            "nobody in federation '{}' {has}: {why}. It stands in the home only; a node that runs there tells it, and so does \
             the same command when somebody can be reached",
            self.federation
        )
    }

    async fn list(&self, prefix: &str) -> anyhow::Result<Vec<Arc<SignedEntry>>> {
        self.ask().await?;
        Ok(self.folder.list(prefix).await?)
    }
}

async fn rows(opened: &Opened, prefix: &str) -> anyhow::Result<Vec<Row>> {
    let now = SystemTime::now();
    let mut rows = Vec::new();
    for entry in opened.list(prefix).await? {
        let written = opened.folder.written_at(&entry).await;
        rows.push(Row::of(&entry, written.map(|written| now.duration_since(written).unwrap_or_default())));
    }
    for conflict in opened.folder.conflicts().await? {
        tracing::warn!("{conflict}; nothing of its author's is listed");
    }
    Ok(rows)
}

async fn get(opened: &Opened, key: &str, output: &Path, layout: Option<SavedLayout>) -> anyhow::Result<()> {
    let (author, name) = key.split_once('/').with_context(|| format!("{key:?} is no key: write AUTHOR/NAME"))?;
    let author = author.trim_start_matches('…');
    let entries = opened.list("").await?;
    let found: Vec<&Arc<SignedEntry>> = entries
        .iter()
        .filter(|entry| entry.key.name() == name && entry.key.author().to_string().ends_with(author))
        .collect();
    let entry = match found.as_slice() {
        [entry] => *entry,
        [] => bail!("there is no {key}; `peerfold folder ls` lists what there is"),
        several => bail!("{key} is the key of {} authors: write more of the peer id", several.len()),
    };
    let value = opened.folder.get(entry).await?;
    let weights = for_file(read_all(&value)?, layout)?;
    let write = |out: &mut dyn std::io::Write| match weights.artifact_bytes() {
        Some(bytes) => out.write_all(bytes),
        None => weights.write_safetensors(out),
    };
    durable_file::replace(output, false, write)
        .with_context(|| format!("--output {} can't be written", output.display()))?;
    print(&written_text(entry, &entries, output))
}

/// What `get` has written, and which weights these are.
fn written_text(entry: &SignedEntry, entries: &[Arc<SignedEntry>], output: &Path) -> String {
    let row = Row::of(entry, None);
    let author = short_peer(&row.author);
    let what = match row.kind {
        Kind::LocalUpdate => format!(
            "the weights that {author} trained in epoch {} on {} examples, before the fold",
            row.epoch, row.num_examples
        ),
        Kind::FoldedModel => format!("the weights that {author} goes on with after epoch {}, folded", row.epoch),
        Kind::Start => format!("what {author} began from"),
        Kind::Other => format!("{} of {author}", shown(&row.name)),
    };
    let size = HumanBytes(row.bytes);
    let mut text = format!("wrote {}: {what}; {size}, root {:.16}\n", output.display(), row.root);
    if row.kind == Kind::LocalUpdate {
        let model = Key::model(entry.key.author());
        text += &if entries.iter().any(|entry| entry.key == model) {
            format!("its folded model is {model}\n")
        } else {
            "the folded model: `peerfold model` at its node, or AUTHOR/model of a node with --publish-folded\n"
                .to_owned()
        };
    }
    text
}

fn read(file: &Path) -> anyhow::Result<Weights> {
    let bytes = Bytes::from(fs::read(file).with_context(|| format!("{} can't be read", file.display()))?);
    if file.extension().is_some_and(|extension| extension == SAFETENSORS) {
        return Weights::from_safetensors(&bytes).with_context(|| file.display().to_string());
    }
    Weights::artifact(bytes).with_context(|| file.display().to_string())
}

fn figure(text: &str) -> Result<(String, f64), SettingsError> {
    let parsed =
        text.split_once('=').and_then(|(name, value)| Some((name.trim().to_owned(), value.trim().parse().ok()?)));
    let what = || "write NAME=NUMBER".to_owned();
    parsed.ok_or_else(|| SettingsError::Value { key: "metric", value: text.to_owned(), what: what() })
}

impl Row {
    fn of(entry: &SignedEntry, age: Option<Duration>) -> Self {
        let metadata = entry.metadata().cloned().unwrap_or_default();
        let (bytes, root) = match &entry.content {
            Content::Put { root, length, .. } => (*length, root.to_string()),
            Content::Tombstone => (0, String::new()),
        };
        Self {
            author: entry.key.author().to_string(),
            key: entry.key.to_string(),
            name: entry.key.name().to_owned(),
            kind: Kind::of(&entry.key),
            sequence: entry.sequence,
            epoch: metadata.epoch,
            num_examples: metadata.num_examples,
            bytes,
            root,
            age_seconds: age.map(|age| age.as_secs()),
            // JSON has no number for what isn't finite.
            held_by: None,
            metrics: metadata.metrics.into_iter().filter(|m| m.value.is_finite()).map(|m| (m.name, m.value)).collect(),
        }
    }
}

/// Reports who was reached, apart from the output that scripts read.
fn reached(what: Option<&str>) {
    if let Some(what) = what {
        eprintln!("{what}");
    }
}

pub(super) fn people(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 peer {one}") } else { format!("{count} peers {many}") }
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nothing is there\n".to_owned();
    }
    let column = |cell: &dyn Fn(&Row) -> String| rows.iter().map(cell).collect::<Vec<_>>();
    let metrics = |row: &Row| {
        let metrics = row.metrics.iter().map(|(name, value)| format!("{}={value:.4}", shown(name)));
        metrics.collect::<Vec<_>>().join(" ")
    };
    let age =
        |row: &Row| row.age_seconds.map_or(String::new(), |age| HumanDuration(Duration::from_secs(age)).to_string());
    let mut numbers = vec![
        Column::words("weights", column(&|row| row.kind.word().to_owned())),
        Column::numbers("number", column(&|row| row.sequence.to_string())),
        Column::numbers("epoch", column(&|row| row.epoch.to_string())),
        Column::numbers("examples", column(&|row| row.num_examples.to_string())),
        Column::numbers("size", column(&|row| HumanBytes(row.bytes).to_string())),
    ];
    // In a network it isn't known when something was written.
    if rows.iter().any(|row| row.age_seconds.is_some()) {
        numbers.push(Column::numbers("age", column(&age)));
    }
    let key = column(&|row| format!("{}/{}", short_peer(&row.author), shown(&row.name)));
    let table = Sheet::of(Column::words("key", key)).with(numbers).with([Column::words("metrics", column(&metrics))]);
    format!("{}\n", table.text(columns()))
}

/// Peers choose names, which go to a terminal.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
