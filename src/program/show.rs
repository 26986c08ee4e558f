//! Events as text for people.

use crate::{
    bucket::{BucketFigures, Routes},
    node::{Event, FoldedUpdate, Origin, UnaveragedTensors},
    printable::printable,
};
use indicatif::{HumanBytes, HumanDuration};
use std::{collections::BTreeMap, time::Duration};

/// How many tensors are named before the rest is only counted.
const SHOWN_NAMES: usize = 5;

/// The end of a peer id: the beginning is the same for all.
pub(crate) fn short_peer(peer: &str) -> String {
    let skip = peer.chars().count().saturating_sub(6);
    format!("…{}", peer.chars().skip(skip).collect::<String>())
}

/// What was folded, without the node's own update: `…abc123 (epoch 4), …def456 (epoch 3, 1 stale)`.
fn folded_text(updates: &[FoldedUpdate], name: impl Fn(&str) -> String) -> String {
    let peers = updates.iter().filter(|update| !update.own).map(|update| match update.staleness {
        0 => format!("{} (epoch {})", name(&update.author), update.epoch),
        staleness => format!("{} (epoch {}, {staleness} stale)", name(&update.author), update.epoch),
    });
    let peers: Vec<String> = peers.collect();
    if peers.is_empty() { "nobody".to_owned() } else { peers.join(", ") }
}

/// Names of tensors; only the first few of many.
pub(crate) fn some_names(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN_NAMES).map(String::as_str).collect();
    let more = names.len().saturating_sub(SHOWN_NAMES);
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    shown.join(", ") + &rest
}

/// An event on one line, or nothing for events that people needn't see.
pub(crate) fn text(event: &Event) -> Option<String> {
    Some(match event {
        Event::Started { peer, epoch, origin, authors, .. } => {
            let from = match origin {
                Origin::Seed => "the seed's weights".to_owned(),
                Origin::Init => "the weights of --init".to_owned(),
                Origin::Checkpoint => "its checkpoint".to_owned(),
                Origin::Fold if authors.len() == 1 => "the update of one peer".to_owned(),
                Origin::Fold => format!("a fold of the updates of {} peers", authors.len()),
            };
            format!("{peer} begins at epoch {epoch} from {from}")
        }
        Event::Alone { reason, ended: false, .. } => reason.clone(),
        Event::Alone { reason, ended: true, .. } => {
            format!("trained alone: {reason}; the model has learned from this node's own data only")
        }
        Event::Waiting { epoch, present, needed, reason } => {
            format!("epoch {epoch}: waiting, {present} of {needed} ({reason})")
        }
        Event::Rejected { author, epoch, reason } => {
            format!("update of {} for epoch {epoch} rejected: {reason}", short_peer(author))
        }
        Event::LeftOut { author, epoch, staleness } => {
            format!("update of {} for epoch {epoch} left out: {staleness} stale", short_peer(author))
        }
        Event::ClaimCut { author, epoch, claimed, counted } => format!(
            "update of {} for epoch {epoch} claims {claimed} examples, of which {counted} count; \
             --max-examples-ratio says how many may",
            short_peer(author),
        ),
        Event::Suspect { author, epoch, reason, left_out } => {
            let done = if *left_out { "left out of the fold" } else { "folded all the same" };
            format!("update of {} for epoch {epoch} is suspect and {done}: {reason}", short_peer(author))
        }
        Event::Mismatch { author, differences } => {
            format!("settings of {} don't fit: {}", short_peer(author), differences.join("; "))
        }
        Event::Excluded { reason, .. } => format!("excluded: {reason}"),
        Event::FolderFailed { epoch, reason } => format!("epoch {epoch}: {reason}; training on"),
        Event::Folded { epoch, updates, unaveraged, turned_negative, .. } => {
            let mut line = format!("epoch {epoch}: folded with {}", folded_text(updates, short_peer));
            for UnaveragedTensors { author, tensors } in unaveraged {
                let whose = author.as_deref().map_or("an earlier fold".to_owned(), |author| {
                    let own = updates.iter().any(|update| update.own && update.author == author);
                    if own { "this node".to_owned() } else { short_peer(author) }
                });
                line += &format!("; not averaged but of {whose}: {}", some_names(tensors));
            }
            if !turned_negative.is_empty() {
                line += &format!("; turned negative: {}", some_names(turned_negative));
            }
            line
        }
        Event::NotFolded { epoch, reason } => format!("epoch {epoch}: not folded: {reason}"),
        Event::Routes { network, bucket, reason } => routes_text(*network, *bucket, reason.as_deref()),
        Event::PeerDropped { peer, reason, seconds } => {
            format!("dropped {} for {}: {reason}", short_peer(peer), HumanDuration(Duration::from_secs(*seconds)))
        }
        Event::PeerReached { peer, way, reason } => {
            let why = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            format!("{} is reached: {way}{why}", short_peer(peer))
        }
        Event::PeerNotReached { peer, reason } => format!("{} can't be reached: {reason}", short_peer(peer)),
        Event::CaughtUp { from, epoch } => format!("caught up from epoch {from} with epoch {epoch} of the others"),
        Event::EpochDone { epoch, epochs, metrics, steps, seconds, written, read, peers, sent, received, bucket } => {
            let moved = match (peers, sent, received) {
                (Some(peers), Some(sent), Some(received)) => moved_text(*peers, *sent, *received),
                _ => format!("wrote {}, read {}", HumanBytes(*written), HumanBytes(*read)),
            };
            let cost =
                bucket.as_ref().map_or(String::new(), |figures| format!("; bucket this epoch: {}", cost_text(figures)));
            let mut parts = measures(metrics);
            parts.extend([steps_text(*steps, None), format!("{seconds:.1} s"), format!("{moved} so far{cost}")]);
            format!("epoch {epoch} of {epochs}: {}", parts.join(", "))
        }
        Event::Finished { epoch, metrics, stopped, .. } => {
            let how = if *stopped { "stopped on request" } else { "finished" };
            let measured: Vec<String> = measures(metrics).into_iter().map(|measured| format!(": {measured}")).collect();
            format!("{how} at epoch {epoch}{}", measured.join(""))
        }
        Event::ProgressSaved { epoch, steps, steps_per_epoch, stopping: true } => {
            let steps = steps_text(*steps, *steps_per_epoch);
            format!("stopped in epoch {epoch} after {steps}; started again it goes on there")
        }
        Event::ProgressResumed { epoch, steps, steps_per_epoch } => {
            format!("goes on in epoch {epoch} after {}", steps_text(*steps, *steps_per_epoch))
        }
        Event::ProgressDropped { epoch: Some(epoch), steps: Some(steps), reason } => {
            let steps = steps_text(*steps, None);
            format!("trains epoch {epoch} anew and not from what was saved of it after {steps}: {reason}")
        }
        Event::ProgressDropped { reason, .. } => {
            format!("trains its epoch anew and not from what was saved in the middle of one: {reason}")
        }
        // The error itself goes to standard error.
        Event::Published { .. } | Event::Received { .. } | Event::ProgressSaved { .. } | Event::Failed { .. } => {
            return None;
        }
    })
}

/// `17 of 60 steps`; in an epoch of a fixed time `17 steps`.
/// Figures of a model: of a built-in one its loss and its accuracy, of another what it tells, the loss first. What isn't
/// there isn't told.
fn measures(metrics: &BTreeMap<String, f64>) -> Vec<String> {
    let loss = metrics.get("loss").map(|loss| format!("loss {loss:.4}"));
    if let Some(accuracy) = metrics.get("accuracy") {
        return loss.into_iter().chain([format!("test accuracy {:.2} %", 100.0 * accuracy)]).collect();
    }
    let others = metrics.iter().filter(|(name, _)| *name != "loss").take(SHOWN_NAMES);
    loss.into_iter().chain(others.map(|(name, value)| format!("{} {value:.4}", printable(name)))).collect()
}

fn steps_text(steps: u64, of: Option<u64>) -> String {
    match of {
        Some(all) => format!("{steps} of {all} steps"),
        None if steps == 1 => "1 step".to_owned(),
        None => format!("{steps} steps"),
    }
}

/// Which ways to the others work: `reached by network and bucket`.
pub(crate) fn routes_text(network: Option<bool>, bucket: bool, reason: Option<&str>) -> String {
    let routes = Routes { network, bucket, reason: None };
    let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
    format!("the others are reached by {}{reason}", routes.words())
}

/// What a bucket has cost: `3 written, 0 deleted, 240 KiB; 2 listed, 4 read, 160 KiB`, with all that was sent and received.
fn cost_text(figures: &BucketFigures) -> String {
    let BucketFigures { lists, reads, writes, deletes, sent, received } = *figures;
    let (sent, received) = (HumanBytes(sent), HumanBytes(received));
    format!("{writes} written, {deletes} deleted, {sent}; {lists} listed, {reads} read, {received}")
}

/// How the network stands: `2 peers, sent 1.2 MiB, received 2.3 MiB`.
fn moved_text(peers: usize, sent: u64, received: u64) -> String {
    let ending = if peers == 1 { "" } else { "s" };
    format!("{peers} peer{ending}, sent {}, received {}", HumanBytes(sent), HumanBytes(received))
}
