//! How a node without a checkpoint begins, and what it publishes about that.

use super::{
    Event, NodeError, Origin, Participant, Standpoint, Stop,
    background::off_runtime,
    fold::{Input, fold_readable},
    suspects::{all_suspect, find_suspects},
};
use crate::{
    folder::Value,
    printable::printable,
    settings::settings,
    strategy::StrategySpec,
    weights::{Key, Metadata, Root, TensorReader, Weights, read_all},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long a node that begins waits at most for the answers of peers that may be there. Unreachable peers get ten
/// seconds; this limit is for connected peers that are too busy to say what they know.
pub(super) const LOOK_AROUND: Duration = Duration::from_secs(30);
/// The longest description of a peer's start that is read, in bytes.
const MAX_BEGINNING_BYTES: u64 = 64 * 1024;
/// Most differences from a peer's start that are reported, and most characters of each: a peer wrote them.
const MAX_DIFFERENCES: usize = 20;
const MAX_DIFFERENCE_CHARS: usize = 200;

settings! {
    /// How a node without a checkpoint begins.
    pub struct StartOptions under "Waiting" {
        /// Wait at the start until so many peers are there. [default: 0; with --sync all]
        pub min_peers as "min-peers": usize = 0, "N";
        /// Seconds to wait for them; then the node begins with those who are there.
        pub deadline as "start-deadline": Duration = Duration::from_secs(60), "SECONDS";
    }
}

/// What a node began from and how it trains: its first entry in a federation, as JSON, under `<author>/start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// Where the first weights came from.
    pub origin: Origin,
    /// Their root hash.
    pub weights: String,
    /// The epoch they come after.
    pub epoch: u64,
    /// What should be the same on all nodes of a federation, by name.
    pub hyperparameters: BTreeMap<String, String>,
    /// What should differ between nodes, by name. Nodes of older versions don't publish it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub distinct: BTreeMap<String, String>,
}

impl Beginning {
    /// Reads what a peer published. Bounded. Blocks.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let length = value.layout().bytes();
        if length > MAX_BEGINNING_BYTES {
            return Err(format!("it has {length} bytes"));
        }
        let artifact = read_all(value).map_err(|error| error.to_string())?;
        let bytes = artifact.artifact_bytes().ok_or("it is no plain artifact")?;
        Self::parse(bytes)
    }

    /// What the bytes of a peer's artifact say.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| printable(&error.to_string()).into_owned())
    }

    /// How another node's beginning differs, in words. Weights are compared where both are first weights: a node that
    /// joined later began from a fold.
    pub(super) fn differences(&self, theirs: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let first = |beginning: &Self| matches!(beginning.origin, Origin::Seed | Origin::Init);
        if first(self) && first(theirs) && self.weights != theirs.weights {
            differences.push(format!("first weights: {:.8}, here {:.8}", theirs.weights, self.weights));
        }
        let names: std::collections::BTreeSet<&String> =
            self.hyperparameters.keys().chain(theirs.hyperparameters.keys()).collect();
        for name in names {
            let (ours, theirs) = (self.hyperparameters.get(name), theirs.hyperparameters.get(name));
            if ours != theirs {
                let show = |value: Option<&String>| value.map_or("not set", String::as_str).to_owned();
                differences.push(format!("{name}: {}, here {}", show(theirs), show(ours)));
            }
        }
        for (name, ours) in &self.distinct {
            if theirs.distinct.get(name) == Some(ours) {
                differences.push(format!("{name}: {ours}, here the same, but each node should have its own"));
            }
        }
        told(differences)
    }

    /// What this node does differently now, going on from a checkpoint that says `before`, in words.
    pub(super) fn changes(&self, before: &Self) -> Vec<String> {
        let both = [(&self.hyperparameters, &before.hyperparameters), (&self.distinct, &before.distinct)];
        let changed = both.into_iter().flat_map(|(now, before)| {
            let changed = now.iter().filter_map(|(name, now)| Some((name, before.get(name)?, now)));
            changed.filter(|(_, old, new)| old != new)
        });
        told(changed.map(|(name, old, new)| format!("{name}: {new}, until this start {old}")).collect())
    }
}

/// At most as many as are reported, each without control characters: a peer may have written them.
fn told(mut differences: Vec<String>) -> Vec<String> {
    let more = differences.len().saturating_sub(MAX_DIFFERENCES);
    differences.truncate(MAX_DIFFERENCES);
    if more > 0 {
        differences.push(format!("and {more} more"));
    }
    let printable = |line: &String| line.chars().filter(|c| !c.is_control()).take(MAX_DIFFERENCE_CHARS).collect();
    differences.iter().map(printable).collect()
}

/// The weights and the epoch that a new node begins with.
pub(super) struct First {
    pub(super) weights: Weights,
    pub(super) epoch: u64,
    pub(super) origin: Origin,
    pub(super) authors: Vec<String>,
}

/// The moment this long from now, or years ahead if that can't be represented.
pub(super) fn deadline_in(wait: Duration) -> Instant {
    const YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    Instant::now() + wait.min(YEARS)
}

/// Waits for the peers that are wanted, at most until the deadline; then folds the updates that are there by FedAvg,
/// whatever the strategy: a rule that takes steps has nothing yet to step from. Without any update, the weights are
/// `initial`.
///
/// The same goes for a synchronous node (`together`) that finds only updates of the first epoch: their authors wait for
/// its own update of that epoch. If it began with theirs, it would answer with its second, which they would fold into
/// their first.
pub(super) async fn first_weights(
    participant: &mut Participant,
    options: &StartOptions,
    initial: (Weights, Origin),
    together: bool,
    stop: &Stop,
) -> Result<First, NodeError> {
    let deadline = deadline_in(options.deadline);
    let mut watch = participant.folder().watch("");
    let mut told = None;
    loop {
        let present = participant.peers_present().await?;
        if present >= options.min_peers {
            break;
        }
        if told != Some(present) {
            let reason = "peers wanted at the start".to_owned();
            participant.emit(&Event::Waiting { epoch: 0, present, needed: options.min_peers, reason });
            told = Some(present);
        }
        tokio::select! {
            changed = timeout_at(deadline, watch.next()) => if changed.is_err() {
                tracing::warn!(present, wanted = options.min_peers, "the start deadline has passed; beginning");
                break;
            },
            () = stop.requested() => return Err(NodeError::Stopped),
        }
        // One look for everything that came at once.
        while watch.try_next().is_some() {}
    }
    drop(watch);
    if told.is_some() {
        // The first thing heard of a peer may be that it is there, while its updates are still on their way.
        tokio::select! {
            _ = participant.folder().look_around(LOOK_AROUND) => {}
            () = stop.requested() => return Err(NodeError::Stopped),
        }
    }
    let own = participant.own_newest_update().await?;
    let own_epoch = own.as_ref().and_then(|own| own.key.update_epoch());
    let from = Standpoint { epoch: own_epoch, ..participant.standpoint() };
    let mut stale = Vec::new();
    let sample = participant.sample.clone();
    let arrived = participant
        .take_in_to_begin(|updates, roster| {
            let fresh;
            (fresh, stale) = roster.split_by_staleness(updates.newest().cloned().chain(own.clone()), from);
            sample.draw(own_epoch.unwrap_or_default(), fresh)
        })
        .await?;
    if stop.is_requested() {
        // It may have ended the wait, and a node must not begin from less than is there.
        return Err(NodeError::Stopped);
    }
    participant.leave_out(stale);
    let fresh = participant.with_staleness(arrived, from);
    let (weights, origin) = initial;
    let epochs: Vec<_> = fresh.iter().map(|(arrived, _)| (arrived.author(), arrived.metadata.epoch)).collect();
    let me = participant.peer_id();
    // It stands at its own old update only if it begins with it.
    let from = Standpoint { epoch: own_epoch.filter(|_| epochs.iter().any(|&(author, _)| author == me)), ..from };
    let common = participant.roster.common_epoch(&epochs, from);
    let begins_with_them = together && own.is_none();
    let Some(epoch) = common.filter(|&epoch| !(begins_with_them && epoch <= 1)) else {
        return Ok(First { weights, epoch: 0, origin, authors: Vec::new() });
    };
    // Integers have a mean only if they are rounded; otherwise they come from the newest update, as in every fold.
    let only_integers = weights.layout().tensors().iter().all(|tensor| !tensor.dtype.is_float());
    let integers = if only_integers { "mean" } else { "newest" };
    let mut mean = StrategySpec::new("fedavg").with("integers", integers).build()?;
    let mut inputs: Vec<Input> = fresh.into_iter().map(|(arrived, staleness)| Input::of(arrived, staleness)).collect();
    participant.cut_claims(&mut inputs);
    let measures = participant.measures(Some(weights.clone()));
    let worked = off_runtime(move || {
        let mut unread = Vec::new();
        let suspects = find_suspects(&measures, &mut inputs, &mut unread);
        let folded = fold_readable(mean.as_mut(), &mut inputs, 1, 0, 1, &mut unread);
        (folded, inputs, unread, suspects)
    });
    let (folded, inputs, unread, suspects) = worked.await?;
    participant.tell_unread(unread);
    let left_out = participant.tell_suspects(&suspects);
    let reason = match folded {
        Some(Ok(folded)) => {
            let from = || inputs.iter().zip(&folded.shares).map(|(input, share)| input.folded_from(*share));
            let authors = from().map(|update| update.author).collect();
            participant.folded = Some((epoch, from().collect()));
            return Ok(First { weights: folded.weights, epoch, origin: Origin::Fold, authors });
        }
        Some(Err(error)) => error.to_string(),
        None if left_out > 0 => all_suspect(left_out),
        None => "no peer's update could be read".to_owned(),
    };
    participant.emit(&Event::NotFolded { epoch: 0, reason });
    Ok(First { weights, epoch: 0, origin, authors: Vec::new() })
}

/// Publishes what the node begins from, as its first entry, which also tells the others that it is there. Published
/// again if it then begins from something else.
pub(super) async fn publish_beginning(participant: &Participant, beginning: &Beginning) -> Result<(), NodeError> {
    let json = serde_json::to_vec(beginning).expect("it is of texts and numbers, and written to memory");
    let artifact = Weights::artifact(json).map_err(NodeError::Beginning)?;
    participant.folder().put(&Key::start(participant.peer_id()), &artifact, Metadata::default()).await?;
    Ok(())
}

/// The root of weights. Hashes them on a blocking thread.
pub(super) async fn root_of(weights: &Weights) -> Result<Root, NodeError> {
    let weights = weights.clone();
    off_runtime(move || weights.manifest().root()).await
}
