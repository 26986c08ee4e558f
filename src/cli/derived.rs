//! Defaults that depend on other settings.

#[cfg(unix)]
use super::commanded::{OF_BUILT_IN, is_commanded};
use super::settings::{NodeIdentity, SettingsError, TurnSettings, default_home, node_settings, read, wrong};
use crate::{
    experiment::DataSettings,
    home::Home,
    node::TrustSettings,
    settings::{Values, Written},
    train::{Draws, Model, STEPS_PER_EPOCH, TrainOptions},
};
use libp2p_identity::PeerId;
use std::{collections::BTreeSet, path::Path};

/// The defaults of all settings, given what is set: each layer's own, but for those that follow from others.
pub(super) fn defaults(set: &Values) -> Result<Values, SettingsError> {
    let layers = node_settings().into_iter().filter_map(|field| Some((field.key.to_owned(), (field.default)()?)));
    let mut defaults: Values = layers.collect();
    let mut put = |key: &str, value: Option<Written>| match value {
        Some(value) => _ = defaults.insert(key.to_owned(), value),
        None => _ = defaults.remove(key),
    };
    if !set.contains_key("home") {
        put("home", Some(Written::Text(default_home()?.display().to_string())));
    }
    let DataSettings { dataset, partition, .. } = read(set)?;
    if !set.contains_key("period") {
        let steps = if dataset == Model::Mnist { 1200 } else { STEPS_PER_EPOCH };
        put("steps-per-epoch", Some(Written::Whole(steps)));
    }
    if dataset == Model::Mnist {
        put("epochs", Some(Written::Whole(3)));
        put("lr", Some(Written::Number(1e-3)));
    }
    #[cfg(unix)]
    if is_commanded(set)? {
        OF_BUILT_IN.iter().for_each(|key| put(key, None));
    }
    let seed = read::<TrainOptions>(set)?.model_seed;
    // Below 2^63, because TOML has no larger integers.
    let data_seed = Draws::new("data seed", seed, &(partition.index as u64).to_le_bytes()).below(1 << 63);
    put("data-seed", Some(Written::Whole(data_seed)));
    if read::<TurnSettings>(set)?.sync {
        let members = sync_members(set, partition.of)?.map(|members| members as u64);
        put("nodes", members.map(Written::Whole));
        put("quorum", members.map(Written::Whole));
        put("min-peers", Some(Written::Whole(members.map_or(0, |members| members.saturating_sub(1)))));
    } else {
        ["nodes", "quorum", "deadline", "below-quorum"].iter().for_each(|key| put(key, None));
    }
    Ok(defaults)
}

/// How many members a synchronous federation has: the number given, or the number allowed, or the number of parts of
/// the data. `None` if none of these is set: that is no reason to train alone.
fn sync_members(set: &Values, parts: usize) -> Result<Option<usize>, SettingsError> {
    match set.get("nodes") {
        Some(Written::Whole(nodes)) => return Ok(Some(usize::try_from(*nodes).unwrap_or(usize::MAX))),
        _ if set.contains_key("allow") => {}
        _ => return Ok(set.contains_key("partition").then_some(parts)),
    }
    let home = read::<NodeIdentity>(set)?.home.map_or_else(default_home, Ok)?;
    Ok(allowed_members(&read(set)?, &home)?.map(|members| members.len()))
}

/// The allowed peers and this node, whether or not it is among them. If the home doesn't exist yet, nobody can have
/// named its id.
pub(super) fn allowed_members(trust: &TrustSettings, home: &Path) -> Result<Option<BTreeSet<PeerId>>, SettingsError> {
    let Some(allowed) = trust.members().map_err(|error| wrong("allow", "FILE", error))? else { return Ok(None) };
    let own = Home::existing_peer_id(home).map_err(|error| wrong("home", home.display(), error))?;
    Ok(Some(allowed.peers().chain([own.unwrap_or_else(PeerId::random)]).collect()))
}
