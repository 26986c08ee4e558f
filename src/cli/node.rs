//! `peerfold node`: from settings to a node that trains.

use super::{
    events::EventOutput,
    init_file,
    run::{self, Saving, Until},
    settings::{NodeFlags, SettingsError, default_home, environment},
    suggest,
};
use crate::{
    bucket::{BucketOptions, BucketUrl, check_endpoint},
    cache::DEFAULT_QUOTA,
    experiment::{DataSet, LabelSkew, PartitionError, digits, mnist},
    folder::{FolderUrl, FolderUrlError},
    home::Home,
    node::{AsyncOptions, BelowQuorum, Checks, Event, NodeConfig, Origin, Pace, StartOptions, Stop, SyncOptions},
    p2p::{NetworkOptions, PeerList, listen_address},
    program::{did_you_mean, end_with_stdin, one_line, stop_on_signals},
    run::{Recipe, RunOptions},
    strategy::{StrategyError, StrategySpec},
    train::{
        Device, Draws, EpochLength, MAX_BATCH, MAX_THREADS, Model, ModelLearner, ParseModelError, SavedLayout,
        TrainOptions, trainer,
    },
    weights::Annotations,
};
use anyhow::Context;
use bytesize::ByteSize;
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZero,
    path::Path,
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Longest time that a number of seconds may mean: a hundred years.
pub(crate) const MAX_SECONDS: f64 = 3.2e9;

/// What a node that was started by a program obeys, a line on its standard input: to be as without a network, and to
/// have one again.
pub(crate) const NETWORK_DOWN: &str = "network down";
pub(crate) const NETWORK_UP: &str = "network up";

/// The defaults of what is not set, given what is.
pub(super) fn default_settings(set: &NodeFlags) -> Result<NodeFlags, SettingsError> {
    let dataset = set.dataset.clone().unwrap_or_else(|| Model::Digits.name().to_owned());
    let is_mnist = dataset == Model::Mnist.name();
    let sync = set.sync.unwrap_or(false);
    let (index, parts) = parse_partition(set.partition.as_deref())?;
    let members = if sync { sync_members(set, parts)? } else { None };
    let seed = set.seed.unwrap_or(0);
    let (checks, bucket) = (Checks::default(), BucketOptions::default());
    let whole = AsyncOptions::default();
    Ok(NodeFlags {
        run: Some("1".to_owned()),
        folder: Some(FolderUrl::P2p.to_string()),
        home: Some(default_home()?),
        no_mdns: Some(false),
        cache_quota: Some(ByteSize::b(DEFAULT_QUOTA).to_string().replace(".0 ", " ")),
        linger: Some(10.0),
        fallback_after: Some(bucket.after.as_secs_f64()),
        s3_allow_http: Some(bucket.allow_http),
        s3_poll: Some(bucket.poll.start().as_secs_f64()),
        s3_poll_idle: Some(bucket.poll.end().as_secs_f64()),
        s3_grace: Some(bucket.grace.as_secs_f64()),
        stay: Some(false),
        partition: Some("0/1".to_owned()),
        skew: Some(0.0),
        epochs: Some(if is_mnist { 3 } else { 8 }),
        steps_per_epoch: set.period.is_none().then_some(if is_mnist { 1200 } else { 60 }),
        batch_size: Some(32),
        lr: Some(if is_mnist { 1e-3 } else { 3e-3 }),
        seed: Some(seed),
        // Below 2^63, because TOML has no larger integers.
        data_seed: Some(Draws::new("data seed", seed, &(index as u64).to_le_bytes()).below(1 << 63)),
        device: Some(Device::Cpu.to_string()),
        threads: Some(available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS)),
        strategy: Some("fedavg".to_owned()),
        participation: Some(whole.participation),
        epochs_between_folds: Some(whole.epochs_between_folds),
        ignore_seen: Some(whole.ignore_seen),
        upload_only: Some(whole.upload_only),
        max_staleness: Some(10),
        max_num_examples: Some(checks.max_num_examples),
        sync: Some(sync),
        nodes: members,
        quorum: members,
        deadline: sync.then_some(60.0),
        below_quorum: sync.then(BelowQuorum::default),
        min_peers: Some(members.map_or(0, |members| members.saturating_sub(1))),
        start_deadline: Some(60.0),
        json: Some(false),
        layout: Some(SavedLayout::default().to_string()),
        publish_folded: Some(false),
        dataset: Some(dataset),
        ..NodeFlags::default()
    })
}

/// How many members a synchronous federation has: as many as are said, or allowed, or have a part of the data. Nothing of
/// that said is no reason to train alone.
fn sync_members(set: &NodeFlags, parts: usize) -> Result<Option<usize>, SettingsError> {
    if set.nodes.is_some() || set.allow.is_none() {
        return Ok(set.nodes.or(set.partition.as_ref().map(|_| parts)));
    }
    let home = set.home.clone().map_or_else(default_home, Ok)?;
    Ok(allowed_members(set, &home)?.map(|members| members.len()))
}

/// The allowed peers with this node, whether it is named among them or not. A home that is still to be made has an id
/// that nobody can have named.
fn allowed_members(set: &NodeFlags, home: &Path) -> Result<Option<BTreeSet<PeerId>>, SettingsError> {
    let Some(allowed) = peers(&set.allow, "allow")? else { return Ok(None) };
    let own = Home::existing_peer_id(home).map_err(|error| wrong("home", home.display(), error))?;
    Ok(Some(allowed.into_iter().chain([own.unwrap_or_else(PeerId::random)]).collect()))
}

/// `I/N` as two numbers; what is not set is the one part of one.
pub(super) fn parse_partition(text: Option<&str>) -> Result<(usize, usize), SettingsError> {
    let Some(text) = text else { return Ok((0, 1)) };
    let parsed = text
        .split_once('/')
        .and_then(|(index, nodes)| Some((index.parse::<usize>().ok()?, nodes.parse::<usize>().ok()?)));
    let wrong = |what: String| SettingsError::Value { key: "partition", value: text.to_owned(), what };
    let (index, nodes) = parsed.ok_or_else(|| wrong("write I/N: 0/2 is the first of two parts".to_owned()))?;
    if index >= nodes {
        return Err(wrong(format!("parts are numbered from 0 to {}", nodes.saturating_sub(1))));
    }
    Ok((index, nodes))
}

fn missing(key: &'static str) -> SettingsError {
    SettingsError::Missing { key, environment: environment(key) }
}

fn need<T: Clone>(value: &Option<T>, key: &'static str) -> Result<T, SettingsError> {
    value.clone().ok_or_else(|| missing(key))
}

fn wrong(key: &'static str, value: impl ToString, what: impl ToString) -> SettingsError {
    SettingsError::Value { key, value: value.to_string(), what: what.to_string() }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, key: &'static str) -> Result<T, SettingsError> {
    text.parse().map_err(|error: T::Err| wrong(key, text, error))
}

fn seconds(value: Option<f64>, key: &'static str) -> Result<Duration, SettingsError> {
    let value = need(&value, key)?;
    if !(0.0..=MAX_SECONDS).contains(&value) {
        return Err(wrong(key, value, "must be a number of seconds, from 0 to a hundred years"));
    }
    Ok(Duration::from_secs_f64(value))
}

pub(super) fn peers(ids: &Option<Vec<String>>, key: &'static str) -> Result<Option<Vec<PeerId>>, SettingsError> {
    let parse = |id: &String| id.parse().map_err(|_| wrong(key, id, "is no peer id; `peerfold id` prints a node's"));
    ids.as_ref().map(|ids| ids.iter().map(parse).collect()).transpose()
}

fn at_least_one(value: Option<u64>, key: &'static str) -> Result<u64, SettingsError> {
    match need(&value, key)? {
        0 => Err(wrong(key, 0, "must be at least 1")),
        value => Ok(value),
    }
}

/// A strategy with parameters written as NAME=VALUE. Whether there are such is yet to be seen.
pub(super) fn strategy_spec(name: &str, params: &[String]) -> Result<StrategySpec, SettingsError> {
    let mut spec = StrategySpec::new(name);
    for param in params {
        let (key, value) = param.split_once('=').ok_or_else(|| wrong("param", param, "write NAME=VALUE"))?;
        if spec.params.contains_key(key.trim()) {
            return Err(wrong("param", param, "is given twice"));
        }
        spec = spec.with(key.trim(), value.trim());
    }
    Ok(spec)
}

/// What is wrong with a strategy or one of its parameters, with what may have been meant.
pub(super) fn strategy_error(spec: &StrategySpec, error: &StrategyError) -> SettingsError {
    let of_parameter = |name: &str| format!("{name}={}", spec.params.get(name).map_or("", String::as_str));
    let (key, value) = match error {
        StrategyError::Unknown { name, .. } => ("strategy", name.clone()),
        StrategyError::Parameter { parameter, .. } => ("param", of_parameter(parameter)),
        StrategyError::Value { parameter, .. } => ("param", of_parameter(parameter)),
    };
    wrong(key, value, suggest::for_strategy(error))
}

/// A strategy that a node can fold by, with parameters as `NAME=VALUE`.
pub(crate) fn strategy_of(name: &str, params: &[String]) -> Result<StrategySpec, SettingsError> {
    let spec = strategy_spec(name, params)?;
    spec.build().map_err(|error| strategy_error(&spec, &error))?;
    let differences = spec.params.get("send_gradients").map(|value| value.to_ascii_lowercase());
    if let Some("true" | "1") = differences.as_deref() {
        return Err(wrong("param", "send_gradients=true", "nodes publish weights, not differences"));
    }
    Ok(spec)
}

fn length_of(settings: &NodeFlags) -> Result<EpochLength, SettingsError> {
    let Some(period) = settings.period else {
        return Ok(EpochLength::Steps(at_least_one(settings.steps_per_epoch, "steps-per-epoch")?));
    };
    if let Some(steps) = settings.steps_per_epoch {
        let what = format!("--steps-per-epoch {steps} is given beside it; an epoch has a time or a number of steps");
        return Err(wrong("period", period, what));
    }
    match seconds(settings.period, "period")? {
        Duration::ZERO => Err(wrong("period", period, "must be above 0")),
        period => Ok(EpochLength::Period(period)),
    }
}

/// An epoch's length by the name of its setting.
fn length_setting(length: EpochLength) -> (&'static str, String) {
    match length {
        EpochLength::Steps(steps) => ("steps-per-epoch", steps.to_string()),
        EpochLength::Period(period) => ("period", period.as_secs_f64().to_string()),
    }
}

/// How often the middle of an epoch is saved, if it is.
fn checkpoint_every(settings: &NodeFlags) -> Result<Option<Duration>, SettingsError> {
    let Some(minutes) = settings.checkpoint_every else { return Ok(None) };
    match Duration::try_from_secs_f64(minutes * 60.0) {
        Ok(every) if !every.is_zero() && minutes * 60.0 <= MAX_SECONDS => Ok(Some(every)),
        _ => Err(wrong("checkpoint-every", minutes, "must be a number of minutes above 0, up to a hundred years")),
    }
}

/// The μ of the proximal term with which nodes of this strategy train; 0 for a strategy that has no such parameter.
fn proximal_mu(strategy: &StrategySpec) -> Result<f64, SettingsError> {
    let info = strategy.info().map_err(|error| strategy_error(strategy, &error))?;
    let Some(parameter) = info.parameters.iter().find(|parameter| parameter.name == "proximal_mu") else {
        return Ok(0.0);
    };
    parse(strategy.params.get(parameter.name).map_or(parameter.default, |value| value.trim()), "param")
}

fn pace_of(settings: &NodeFlags, data_seed: u64) -> Result<Pace, SettingsError> {
    if settings.sync != Some(true) {
        let participation = need(&settings.participation, "participation")?;
        if !(0.0..=1.0).contains(&participation) {
            return Err(wrong("participation", participation, "must be a probability, 0 to 1"));
        }
        return Ok(Pace::Async(AsyncOptions {
            ignore_seen: settings.ignore_seen.unwrap_or(false),
            participation,
            epochs_between_folds: at_least_one(settings.epochs_between_folds, "epochs-between-folds")?,
            upload_only: settings.upload_only.unwrap_or(false),
            max_peers: settings.max_peers,
            seed: data_seed,
        }));
    }
    let nodes = at_least_one(settings.nodes.map(|nodes| nodes as u64), "nodes")? as usize;
    let quorum = at_least_one(settings.quorum.map(|quorum| quorum as u64), "quorum")? as usize;
    if let Some(allowed) = allowed_members(settings, &need(&settings.home, "home")?)?.filter(|all| all.len() != nodes) {
        let what = format!("--allow makes {} members with this node, and they are all there are", allowed.len());
        return Err(wrong("nodes", nodes, what));
    }
    if quorum > nodes {
        return Err(wrong("quorum", quorum, format!("there are only {nodes} nodes (--nodes)")));
    }
    Ok(Pace::Sync(SyncOptions {
        nodes,
        quorum,
        deadline: seconds(settings.deadline, "deadline")?,
        below_quorum: need(&settings.below_quorum, "below-quorum")?,
    }))
}

/// Which folder a text names. Of a path the error says the URL that may have been meant.
pub(super) fn parse_folder(text: &str) -> Result<FolderUrl, SettingsError> {
    text.parse().map_err(|error: FolderUrlError| {
        let path = match &error {
            FolderUrlError::NotUrl { .. } => Some(text.to_owned()),
            // Of the two slashes one was meant to begin the path.
            FolderUrlError::Path { .. } => text.strip_prefix("file://").map(|path| format!("/{path}")),
            _ => None,
        };
        let path = path.or_else(|| text.strip_prefix("file:").map(str::to_owned)).filter(|path| !path.is_empty());
        let meant = path.and_then(|path| std::path::absolute(path).ok()).map(FolderUrl::Local);
        let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
        wrong("folder", text, format!("{error}{meant}"))
    })
}

/// The network's options. Errors for what says that a network is meant, where the folder is none.
pub(super) fn network_of(settings: &NodeFlags, folder: &FolderUrl) -> Result<NetworkOptions, SettingsError> {
    if *folder != FolderUrl::P2p {
        let without = || format!("--folder {folder} is no network; write --folder p2p:, or leave this away");
        let list = |items: &Option<Vec<String>>| items.as_ref().map(|items| items.join(","));
        if let Some(text) = list(&settings.bootstrap) {
            return Err(wrong("bootstrap", text, without()));
        }
        if let Some(text) = list(&settings.listen) {
            return Err(wrong("listen", text, without()));
        }
        if settings.stay == Some(true) {
            return Err(wrong("stay", true, without()));
        }
    }
    let mut bootstrap = Vec::new();
    for text in settings.bootstrap.iter().flatten() {
        let list = PeerList::of(text).map_err(|error| wrong("bootstrap", text, error))?;
        list.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        bootstrap.extend(list.peers);
    }
    let listen = settings.listen.iter().flatten();
    let listen = listen.map(|text| listen_address(text).map_err(|error| wrong("listen", text, error)));
    Ok(NetworkOptions {
        listen: listen.collect::<Result<_, _>>()?,
        bootstrap,
        mdns: settings.no_mdns != Some(true),
        ..NetworkOptions::default()
    })
}

fn quota_of(settings: &NodeFlags) -> Result<u64, SettingsError> {
    let quota = need(&settings.cache_quota, "cache-quota")?;
    let parsed = quota.parse::<ByteSize>();
    Ok(parsed.map_err(|_| wrong("cache-quota", &quota, "write a number of bytes like 8GiB or 500MB"))?.0)
}

/// The bucket behind the network, if there is one.
fn fallback_of(settings: &NodeFlags, folder: &FolderUrl) -> Result<Option<BucketUrl>, SettingsError> {
    let Some(text) = &settings.fallback else { return Ok(None) };
    if *folder != FolderUrl::P2p {
        return Err(wrong("fallback", text, format!("--folder {folder} is no network for it to be behind")));
    }
    parse(text, "fallback").map(Some)
}

/// How a bucket is used.
pub(super) fn bucket_of(settings: &NodeFlags) -> Result<BucketOptions, SettingsError> {
    let (poll, idle) = (seconds(settings.s3_poll, "s3-poll")?, seconds(settings.s3_poll_idle, "s3-poll-idle")?);
    if let Some(endpoint) = &settings.s3_endpoint {
        check_endpoint(endpoint).map_err(|reason| wrong("s3-endpoint", endpoint, reason))?;
    }
    if poll.is_zero() {
        return Err(wrong("s3-poll", 0, "must be above 0"));
    }
    Ok(BucketOptions {
        endpoint: settings.s3_endpoint.clone(),
        allow_http: settings.s3_allow_http == Some(true),
        poll: poll..=idle.max(poll),
        keys: None,
        grace: seconds(settings.s3_grace, "s3-grace")?,
        after: seconds(settings.fallback_after, "fallback-after")?,
        ..BucketOptions::default()
    })
}

fn model_of(settings: &NodeFlags) -> Result<Model, SettingsError> {
    let name = need(&settings.dataset, "dataset")?;
    let meant = || did_you_mean(&name, Model::ALL.map(Model::name));
    name.parse().map_err(|error: ParseModelError| wrong("dataset", &name, format!("{error}{}", meant())))
}

/// How to train, as far as a flag can say it wrongly.
fn check_training(options: &TrainOptions) -> Result<(), SettingsError> {
    if options.learning_rate <= 0.0 {
        return Err(wrong("lr", options.learning_rate, "the learning rate must be above 0"));
    }
    if !(1..=MAX_BATCH).contains(&options.batch) {
        return Err(wrong("batch-size", options.batch, format!("the batch size must be between 1 and {MAX_BATCH}")));
    }
    if !(1..=MAX_THREADS).contains(&options.threads) {
        return Err(wrong("threads", options.threads, format!("must be between 1 and {MAX_THREADS}")));
    }
    Ok(())
}

/// The split of the examples, of which this node has one part.
fn split_of(parts: usize, skew: f64, seed: u64) -> Result<LabelSkew, SettingsError> {
    LabelSkew::new(parts, skew, seed).map_err(|error| match error {
        PartitionError::Skew { skew } => wrong("skew", skew, error),
        _ => wrong("partition", format!("…/{parts}"), error),
    })
}

fn load(model: Model, data_dir: Option<&Path>) -> anyhow::Result<DataSet> {
    match model {
        Model::Digits => Ok(digits()),
        Model::Mnist => {
            let dir = data_dir.ok_or_else(|| missing("data-dir"))?;
            mnist(dir).context("the data set mnist can't be loaded")
        }
    }
}

/// A file that could not be written at the end is told at the beginning.
pub(super) fn check_writable(key: &'static str, path: &Path) -> Result<(), SettingsError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let writable = tempfile::tempfile_in(dir);
    writable.map_err(|error| wrong(key, path.display(), format!("{} can't be written: {error}", dir.display())))?;
    // It is renamed over what is there, which must not cost a device or a directory.
    if path.exists() && !path.is_file() {
        return Err(wrong(key, path.display(), "is there and is no regular file; name another one"));
    }
    Ok(())
}

/// Tells what has become of a node: if it failed, the last event says so. Events that couldn't be written make it fail.
pub(super) fn ended(ended: anyhow::Result<()>, events: &EventOutput) -> anyhow::Result<()> {
    match ended {
        Ok(()) => events.check(),
        Err(error) => {
            events.event(&Event::Failed { reason: one_line(&error) });
            Err(error)
        }
    }
}

/// Runs a node to its last epoch, or to the first signal. All mistakes that can be known are told before it begins.
pub(super) fn run(settings: &NodeFlags, ends_with_stdin: bool, output: &EventOutput) -> anyhow::Result<()> {
    let began = Instant::now();
    let (cut, followed) = watch::channel(false);
    if ends_with_stdin {
        end_with_stdin(move |line| match line {
            NETWORK_DOWN => _ = cut.send_replace(true),
            NETWORK_UP => _ = cut.send_replace(false),
            _ => tracing::warn!(line, "not understood"),
        });
    }
    let stop = Stop::new();
    stop_on_signals(stop.clone())?;

    let federation = need(&settings.federation, "federation")?;
    if federation.is_empty() {
        return Err(wrong("federation", "\"\"", "a federation has a name").into());
    }
    let folder = parse_folder(&need(&settings.folder, "folder")?)?;
    let network = NetworkOptions { cut: Some(followed), ..network_of(settings, &folder)? };
    let (fallback, bucket) = (fallback_of(settings, &folder)?, bucket_of(settings)?);
    let cache_quota = quota_of(settings)?;
    let linger = seconds(settings.linger, "linger")?;
    let model = model_of(settings)?;
    let device: Device = parse(&need(&settings.device, "device")?, "device")?;
    let (index, parts) = parse_partition(settings.partition.as_deref())?;
    let (seed, data_seed) = (need(&settings.seed, "seed")?, need(&settings.data_seed, "data-seed")?);
    let skew = need(&settings.skew, "skew")?;
    let parameters = settings.param.as_deref().unwrap_or_default();
    let strategy = strategy_of(&need(&settings.strategy, "strategy")?, parameters)?;
    let pace = pace_of(settings, data_seed)?;
    let length = length_of(settings)?;
    let epochs = at_least_one(settings.epochs, "epochs")?;
    let checkpoint_every = checkpoint_every(settings)?;
    let options = TrainOptions {
        learning_rate: need(&settings.lr, "lr")?,
        batch: need(&settings.batch_size, "batch-size")?,
        model_seed: seed,
        data_seed,
        threads: need(&settings.threads, "threads")?,
        proximal_mu: proximal_mu(&strategy)?,
    };
    let start = StartOptions {
        min_peers: need(&settings.min_peers, "min-peers")?,
        deadline: seconds(settings.start_deadline, "start-deadline")?,
    };
    let checks = Checks {
        max_num_examples: need(&settings.max_num_examples, "max-num-examples")?,
        max_norm: settings.max_norm,
        ..Checks::default()
    };
    if let Some(norm) = checks.max_norm.filter(|&norm| norm <= 0.0) {
        return Err(wrong("max-norm", norm, "must be above 0").into());
    }
    let (allow, readmit) = (peers(&settings.allow, "allow")?, peers(&settings.readmit, "readmit")?);
    if let (FolderUrl::Bucket(url), None) = (&folder, &allow) {
        tracing::warn!("whoever can write into {url} can join; --allow names the peers whose updates count");
    }
    if folder == FolderUrl::P2p && allow.is_none() {
        tracing::warn!("whoever knows this federation's name can join it; --allow names the peers whose updates count");
    }
    if let Some(path) = &settings.out {
        check_writable("out", path)?;
    }
    check_training(&options)?;
    let split = split_of(parts, skew, seed)?;
    let init = settings.init.as_deref().map(|path| init_file::read(path, model)).transpose()?;
    let saved: SavedLayout = parse(&need(&settings.layout, "layout")?, "layout")?;
    device.check()?;

    let home = need(&settings.home, "home")?;
    if ends_with_stdin && !home.is_dir() {
        // Who started this node is gone and has taken the home along.
        anyhow::bail!("the home {} isn't there", home.display());
    }
    let home = Home::open(home)?;
    let DataSet { train, test } = load(model, settings.data_dir.as_deref())?;
    let part = Arc::new(split.part(&train, index)?);
    drop(train);
    let trainer = trainer(model, device, options, part)?;
    let (initial, annotations) = match init {
        Some((weights, annotations)) => ((weights, Origin::Init), annotations),
        None => ((trainer.weights()?, Origin::Seed), Annotations::default()),
    };

    let recipe = Recipe::from(
        [
            ("batch-size", options.batch.to_string()),
            ("lr", options.learning_rate.to_string()),
            length_setting(length),
            ("data-seed", data_seed.to_string()),
            ("param proximal_mu", options.proximal_mu.to_string()),
            ("this node's examples (data set, partition, skew, seed)", trainer.examples().fingerprint()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let mut hyperparameters: BTreeMap<String, String> = [
        ("model", model.to_string()),
        ("batch-size", options.batch.to_string()),
        ("lr", options.learning_rate.to_string()),
        length_setting(length),
        ("seed", seed.to_string()),
        ("partitions", parts.to_string()),
        ("skew", skew.to_string()),
        ("strategy", strategy.name.clone()),
        ("pace", if matches!(pace, Pace::Sync(_)) { "sync" } else { "async" }.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    hyperparameters.extend(strategy.params.iter().map(|(name, value)| (format!("param {name}"), value.clone())));
    let part_of_it = (parts > 1).then(|| ("partition".to_owned(), format!("{index}/{parts}")));
    let distinct = part_of_it.into_iter().collect();
    let config = NodeConfig {
        run: need(&settings.run, "run")?,
        strategy: strategy.into(),
        pace,
        start,
        checks,
        max_staleness: need(&settings.max_staleness, "max-staleness")?,
        allow,
        readmit: readmit.unwrap_or_default(),
        network,
        bucket,
        fallback,
        cache_quota,
        linger,
        hyperparameters,
        distinct,
        publish_folded: settings.publish_folded == Some(true),
        events: output.sink(),
        stop,
        ..NodeConfig::new(federation, folder)
    };
    let run_dir = home.run_dir(&config.federation_id())?;
    let saving = Saving { out: settings.out.clone(), model, layout: saved, annotations, run_dir };
    let steps_per_epoch = match length {
        EpochLength::Steps(steps) => Some(steps),
        EpochLength::Period(_) => None,
    };
    let options = RunOptions { checkpoint_every, recipe, steps_per_epoch, began, ..RunOptions::default() };
    let mut learner = ModelLearner::new(trainer, length, test);
    let until = Until { epochs, stay: settings.stay == Some(true) };
    run::run((&config, home), &mut learner, initial, options, &until, &saving, output)
}
