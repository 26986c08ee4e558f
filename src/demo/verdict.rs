//! Decides whether the nodes of a demo have learned from each other, and if not, why.

use crate::node::Event;

/// What a node got from the others, over all its starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dealings {
    /// Whether it ever folded an update of another, or began from one.
    folded: bool,
    /// Whether an update of another ever came.
    received: bool,
    /// Whether it ever got anything from the bucket while the bucket was up.
    used_bucket: bool,
    /// Whether the bucket is up, as far as it has been told.
    has_bucket: bool,
    /// Why the bucket or the folder failed last.
    failure: Option<String>,
    /// Why an update of another did not count.
    rejected: Option<String>,
    /// Why there was no fold, before an update of another came and since then.
    alone: Option<String>,
    refused: Option<String>,
}

impl Dealings {
    /// Records what happened in the node.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Started { authors, .. } => self.folded |= !authors.is_empty(),
            Event::Folded { updates, .. } => self.folded |= updates.iter().any(|update| !update.own),
            Event::Received { .. } => self.received = true,
            Event::Rejected { reason, .. } => self.rejected = Some(reason.clone()),
            Event::NotFolded { reason, .. } if self.received => self.refused = Some(reason.clone()),
            Event::NotFolded { reason, .. } => self.alone = Some(reason.clone()),
            Event::FolderFailed { reason, .. } => self.failure = Some(reason.clone()),
            Event::Routes { bucket, reason, .. } => {
                self.has_bucket = *bucket;
                if reason.is_some() {
                    self.failure.clone_from(reason);
                }
            }
            Event::EpochDone { bucket: Some(figures), .. } | Event::Finished { bucket: Some(figures), .. } => {
                self.used_bucket |= self.has_bucket && figures.received > 0;
            }
            _ => {}
        }
    }

    /// Whether an update of another ever came.
    pub(super) fn has_received(&self) -> bool {
        self.received
    }

    /// Why it never folded.
    fn reason(&self) -> &str {
        let known = self.failure.as_ref().or(self.rejected.as_ref()).or(self.refused.as_ref());
        match known.or(self.alone.as_ref().filter(|_| !self.received)) {
            Some(reason) => reason,
            None if self.received => {
                "it was through with its epochs before one came; give more --epochs, or --sync, which waits"
            }
            None => "it heard of nobody",
        }
    }
}

/// Why a demo has failed though every node came to its end; `None` if each has folded what others have learned. A single
/// node has nobody to fold with.
pub(super) fn failure(nodes: &[Dealings]) -> Option<String> {
    let those = |is: fn(&Dealings) -> bool| -> Vec<usize> {
        nodes.iter().enumerate().filter(|(_, node)| is(node)).map(|(number, _)| number).collect()
    };
    let told = |what: String, numbers: &[usize]| {
        let first = *numbers.first()?;
        Some(format!("{what}: {}", nodes[first].reason()))
    };
    let without = those(|node| !node.folded);
    if nodes.len() > 1 && without.len() == nodes.len() {
        let met = nodes.iter().any(|node| node.received);
        let what = if met { "folded an update of another" } else { "met another" };
        return told(format!("no node ever {what}, so nothing was averaged"), &without);
    }
    if nodes.len() > 1 && !without.is_empty() {
        return told(format!("{} never folded an update of another", names(&without)), &without);
    }
    let without_bucket = those(|node| !node.used_bucket && !node.has_bucket && node.failure.is_some());
    told(format!("{} never reached the bucket", names(&without_bucket)), &without_bucket)
}

/// `node 1`, `nodes 0, 1 and 2`.
fn names(numbers: &[usize]) -> String {
    let words: Vec<String> = numbers.iter().map(usize::to_string).collect();
    match words.as_slice() {
        [one] => format!("node {one}"),
        [first @ .., last] => format!("nodes {} and {last}", first.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bucket::BucketFigures,
        node::{FoldedUpdate, Origin},
    };
    use std::collections::BTreeMap;

    fn dealings(events: &[Event]) -> Dealings {
        let mut dealings = Dealings::default();
        events.iter().for_each(|event| dealings.note(event));
        dealings
    }

    fn folded(own: &[bool]) -> Event {
        let update = |&own| {
            let author = String::new();
            FoldedUpdate { author, epoch: 1, num_examples: 1, weight: 0.5, staleness: 0, own }
        };
        Event::Folded {
            epoch: 1,
            round: 1,
            updates: own.iter().map(update).collect(),
            unaveraged: Vec::new(),
            turned_negative: Vec::new(),
        }
    }

    fn started(authors: &[&str]) -> Event {
        let (federation, layout, root) = (String::new(), String::new(), String::new());
        let authors = authors.iter().map(|&author| author.to_owned()).collect();
        Event::Started { peer: String::new(), federation, layout, epoch: 0, origin: Origin::Seed, root, authors }
    }

    fn received() -> Event {
        let (author, root) = (String::new(), String::new());
        Event::Received { author, epoch: 1, root, bytes: 1, num_examples: 1 }
    }

    fn not_folded(reason: &str) -> Event {
        Event::NotFolded { epoch: 1, reason: reason.to_owned() }
    }

    fn routes(network: Option<bool>, bucket: bool) -> Event {
        Event::Routes { network, bucket, reason: (!bucket).then(|| "the bucket is away".to_owned()) }
    }

    fn done(received: u64) -> Event {
        Event::EpochDone {
            epoch: 1,
            epochs: 2,
            metrics: BTreeMap::new(),
            steps: 1,
            seconds: 1.0,
            written: 0,
            read: 0,
            peers: None,
            sent: None,
            received: None,
            bucket: Some(BucketFigures { received, ..BucketFigures::default() }),
        }
    }

    #[test]
    fn nobody_who_folded_with_another_is_blamed() {
        let met = dealings(&[started(&[]), not_folded("nobody"), received(), folded(&[true, false])]);
        let joined = dealings(&[started(&["somebody"])]);
        assert_eq!(failure(&[met.clone(), joined, met]), None);
        // A single node has nobody.
        assert_eq!(failure(&[dealings(&[started(&[]), not_folded("nobody")])]), None);
        assert_eq!(failure(&[]), None);
    }

    #[test]
    fn a_demo_in_which_nobody_met_has_failed() {
        let alone = dealings(&[started(&[]), not_folded("no peer has anything to fold"), folded(&[true])]);
        let expected = "no node ever met another, so nothing was averaged: no peer has anything to fold";
        assert_eq!(failure(&[alone.clone(), alone.clone()]).as_deref(), Some(expected));
        // Report the cause, not its consequence.
        let cut_off = dealings(&[routes(None, false), not_folded("no peer has anything to fold"), done(7)]);
        let expected = "no node ever met another, so nothing was averaged: the bucket is away";
        assert_eq!(failure(&[cut_off.clone(), cut_off]).as_deref(), Some(expected));
    }

    #[test]
    fn a_demo_in_which_nothing_was_folded_has_failed() {
        let refused = dealings(&[started(&[]), received(), not_folded("krum needs 5")]);
        let expected = "no node ever folded an update of another, so nothing was averaged: krum needs 5";
        assert_eq!(failure(&[refused.clone(), refused]).as_deref(), Some(expected));
    }

    #[test]
    fn one_of_several_is_named_with_its_own_reason() {
        let met = dealings(&[folded(&[false, true])]);
        for (events, reason) in [
            (&[][..], "it heard of nobody"),
            (&[not_folded("alone"), received()], "it was through with its epochs before one came"),
            (&[not_folded("alone"), received(), not_folded("krum needs 5")], "krum needs 5"),
        ] {
            let told = failure(&[met.clone(), dealings(events), met.clone()]).unwrap_or_default();
            assert!(told.starts_with(&format!("node 1 never folded an update of another: {reason}")), "{told}");
        }
        let several = failure(&[Dealings::default(), met, Dealings::default()]).unwrap_or_default();
        assert!(several.starts_with("nodes 0 and 2 never folded"), "{several}");
    }

    #[test]
    fn a_bucket_that_was_never_there_is_no_fallback() {
        let met = folded(&[false, true]);
        let cut = dealings(&[routes(Some(true), true), done(9), met.clone(), routes(Some(true), false), done(0)]);
        assert_eq!(failure(&[cut.clone(), cut.clone()]), None);
        // At the start it counts as up.
        let never = dealings(&[routes(Some(true), true), met, routes(Some(true), false), done(9)]);
        let expected = "node 1 never reached the bucket: the bucket is away";
        assert_eq!(failure(&[cut, never]).as_deref(), Some(expected));
    }
}
