//! `peerfold node`: from settings to a node that trains.

use super::{
    derived::allowed_members,
    events::EventOutput,
    planned::Planned,
    run::{self, Saving, Until},
    settings::{FoldSettings, NodeIdentity, SaveSettings, SettingsError, TurnSettings, missing, read, wrong},
    training::Training,
    writable::check_writable,
};
use crate::{
    experiment::DataSettings,
    folder::FolderUrl,
    home::Home,
    node::{AsyncOptions, Event, NodeConfig, Pace, Stop, SyncOptions, TrustSettings},
    p2p::NetworkSettings,
    program::{NETWORK_DOWN, NETWORK_UP, end_with_stdin, one_line, stop_on_signals, strategy_error, strategy_of},
    run::{Recipe, RunOptions},
    secret::{Secret, SecretSettings},
    settings::Values,
    strategy::StrategySpec,
    train::{RunSettings, TrainOptions},
};
use std::{num::ParseFloatError, path::Path, time::Instant};
use tokio::sync::watch;

/// The μ of the proximal term with which nodes of this strategy train; 0 for a strategy that has no such parameter.
fn proximal_mu(strategy: &StrategySpec) -> Result<f64, SettingsError> {
    let info = strategy.info().map_err(|error| strategy_error(strategy, &error))?;
    let Some(parameter) = info.parameters.iter().find(|parameter| parameter.name == "proximal_mu") else {
        return Ok(0.0);
    };
    let mu = strategy.params.get(parameter.name).map_or(parameter.default, |value| value.trim());
    mu.parse().map_err(|error: ParseFloatError| wrong("param", mu, error))
}

fn pace_of(values: &Values, trust: &TrustSettings, home: &Path, seed: u64) -> Result<Pace, SettingsError> {
    if !read::<TurnSettings>(values)?.sync {
        return Ok(Pace::Async(AsyncOptions { seed, ..read(values)? }));
    }
    if let Some(key) = ["nodes", "quorum"].into_iter().find(|key| !values.contains_key(*key)) {
        return Err(missing(key));
    }
    let options: SyncOptions = read(values)?;
    let SyncOptions { nodes, quorum, .. } = options;
    if let Some(allowed) = allowed_members(trust, home)?.filter(|all| all.len() != nodes) {
        let what = format!("--allow makes {} members with this node, and they are all there are", allowed.len());
        return Err(wrong("nodes", nodes, what));
    }
    if quorum > nodes {
        return Err(wrong("quorum", quorum, format!("there are only {nodes} nodes (--nodes)")));
    }
    Ok(Pace::Sync(options))
}

/// The federation's secret, if it has one. Errors where it would hide nothing.
pub(super) fn secret_of(values: &Values, folder: &FolderUrl) -> Result<Option<Secret>, SettingsError> {
    let Some(file) = read::<SecretSettings>(values)?.secret else { return Ok(None) };
    if matches!(folder, FolderUrl::Memory | FolderUrl::Local(_)) {
        let what = format!("--folder {folder} is not encrypted; only p2p: and s3:// can be, so leave this away");
        return Err(wrong("secret", file.path.display(), what));
    }
    if *folder == FolderUrl::P2p {
        read::<NetworkSettings>(values)?.check_private()?;
    }
    Ok(Some(file.secret))
}

/// How to take part in the network. Errors for what says that a network is meant, where the folder is none.
pub(super) fn network_of(values: &Values, folder: &FolderUrl) -> Result<NetworkSettings, SettingsError> {
    if *folder != FolderUrl::P2p {
        let set = |key: &&str| values.get(*key).is_some_and(|value| value.to_string() != "false");
        if let Some(key) = ["bootstrap", "listen", "stay"].into_iter().find(set) {
            let what = format!("--folder {folder} is no network; write --folder p2p:, or leave this away");
            return Err(wrong(key, &values[key], what));
        }
        if let Some(url) = values.get("fallback") {
            return Err(wrong("fallback", url, format!("--folder {folder} is no network for it to be behind")));
        }
    }
    read(values)
}

/// Reports how a node ended. If it failed, the last event says so. Events that could not be written count as a failure.
pub(super) fn ended(ended: anyhow::Result<()>, events: &EventOutput) -> anyhow::Result<()> {
    match ended {
        Ok(()) => events.check(),
        Err(error) => {
            events.event(&Event::Failed { reason: one_line(&error) });
            Err(error)
        }
    }
}

/// Runs a node to its last epoch, or until the first signal. All mistakes that can be found are reported before it
/// begins.
pub(super) fn run(values: &Values, ends_with_stdin: bool, output: &EventOutput) -> anyhow::Result<()> {
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

    let NodeIdentity { federation, run, folder, home } = read(values)?;
    let federation = federation.ok_or_else(|| missing("federation"))?;
    if federation.is_empty() {
        return Err(wrong("federation", "\"\"", "a federation has a name").into());
    }
    let home = home.ok_or_else(|| missing("home"))?;
    let trust: TrustSettings = read(values)?;
    let fold: FoldSettings = read(values)?;
    let parameters: Vec<String> = fold.param.into_iter().map(|parameter| parameter.0).collect();
    let strategy = strategy_of(&fold.strategy, &parameters).map_err(SettingsError::from)?;
    let options = TrainOptions { proximal_mu: proximal_mu(&strategy)?, ..read(values)? };
    let config = NodeConfig {
        run,
        network: network_of(values, &folder)?,
        secret: secret_of(values, &folder)?,
        bucket: read(values)?,
        cache: read(values)?,
        strategy: strategy.clone().into(),
        pace: pace_of(values, &trust, &home, options.data_seed)?,
        start: read(values)?,
        checks: read(values)?,
        trust,
        end: read(values)?,
        publish: read(values)?,
        cut: Some(followed),
        events: output.sink(),
        stop: stop.clone(),
        ..NodeConfig::new(federation, folder)
    };
    let extent: RunSettings = read(values)?;
    let DataSettings { partition, .. } = read(values)?;
    let planned = Planned::of(values, options)?;
    let SaveSettings { out, .. } = read(values)?;
    let is_open = config.trust.allow.is_none() && config.trust.admin.is_none() && config.secret.is_none();
    if let (FolderUrl::Bucket(url), true) = (&config.folder, is_open) {
        tracing::warn!(
            "whoever can write into {url} can join; --secret keeps out who doesn't have it, and --allow names the peers whose \
             updates count"
        );
    }
    if config.folder == FolderUrl::P2p && is_open {
        tracing::warn!(
            "whoever knows this federation's name can join it; --secret keeps out who doesn't have it, and --allow names the \
             peers whose updates count"
        );
    }
    if let Some(path) = &out {
        check_writable("out", path)?;
    }
    if ends_with_stdin && !home.is_dir() {
        // The program that started this node has gone, and has removed the home.
        anyhow::bail!("the home {} isn't there", home.display());
    }
    let home = Home::open(home)?;
    let training = match planned.prepared(&home, &config) {
        Err(_) if stop.is_requested() => return Ok(()),
        training => training?,
    };
    let Training { mut learner, initial, annotations, recipe, mut hyperparameters, judge, steps_per_epoch, saved } =
        training;
    let common = [
        ("seed", options.model_seed.to_string()),
        ("partitions", partition.of.to_string()),
        ("strategy", strategy.name.clone()),
        ("pace", if matches!(config.pace, Pace::Sync(_)) { "sync" } else { "async" }.to_owned()),
    ];
    hyperparameters.extend(common.map(|(name, value)| (name.to_owned(), value)));
    hyperparameters.extend(strategy.params.iter().map(|(name, value)| (format!("param {name}"), value.clone())));
    let part_of_it = (partition.of > 1).then(|| ("partition".to_owned(), partition.to_string()));
    let distinct = part_of_it.into_iter().collect();
    let config = NodeConfig { hyperparameters, distinct, validation: judge, ..config };
    let run_dir = home.run_dir(&config.federation_id())?;
    let saving = Saving { out, saved, annotations, run_dir };
    let checkpoint_every = extent.checkpoint_every.map(|every| every.0);
    let recipe = Recipe::from(recipe);
    let options = RunOptions { checkpoint_every, recipe, steps_per_epoch, began, ..RunOptions::default() };
    let until = Until { epochs: extent.epochs, stay: config.end.stay };
    run::run((&config, home), learner.as_mut(), initial, options, &until, &saving, output)
}
