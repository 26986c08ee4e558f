//! The history of a run: what it remembers of its epochs.

use crate::{
    bucket::BucketFigures,
    node::{Event, EventSink, FoldedUpdate},
    run::Metrics,
};
use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

/// Most epochs remembered.
pub const MAX_EPOCHS: usize = 1000;
/// Most folded updates remembered over all epochs. With many peers, fewer epochs fit.
pub const MAX_FOLDED: usize = 100_000;

/// A complete epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochRecord {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Figures of its training, and of the weights after the fold; all finite.
    pub metrics: Metrics,
    /// Training steps.
    pub steps: u64,
    /// Examples trained on.
    pub num_examples: u64,
    /// What was folded after it, in the order of the sum, with its shares; nothing if there was no fold.
    pub folded: Vec<FoldedUpdate>,
    /// Seconds since the epoch began, without those between two lives.
    pub seconds: f64,
    /// Bytes written to the folder so far in this life.
    pub written: u64,
    /// Bytes read from the folder so far in this life.
    pub read: u64,
    /// Members that are connected, if the folder is a network.
    pub peers: Option<usize>,
    /// Bytes sent to peers so far in this life, if the folder is a network.
    pub sent: Option<u64>,
    /// Bytes received from peers so far in this life, if the folder is a network.
    pub received: Option<u64>,
    /// What the bucket has cost since the epoch before, if there is one.
    pub bucket: Option<BucketFigures>,
}

impl EpochRecord {
    /// As an event of a run of this many epochs.
    pub(super) fn event(&self, epochs: u64) -> Event {
        Event::EpochDone {
            epoch: self.epoch,
            epochs,
            metrics: self.metrics.clone(),
            steps: self.steps,
            seconds: self.seconds,
            written: self.written,
            read: self.read,
            peers: self.peers,
            sent: self.sent,
            received: self.received,
            bucket: self.bucket,
        }
    }
}

/// The newest epochs of a run, in order: at most [`MAX_EPOCHS`], and as many as have at most [`MAX_FOLDED`] folded
/// updates. It covers only this life of the process; an epoch that an earlier life trained and this one only folded, at
/// its start, isn't in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    epochs: VecDeque<EpochRecord>,
    folded: usize,
}

impl History {
    /// The epochs, the oldest first.
    pub fn epochs(&self) -> impl DoubleEndedIterator<Item = &EpochRecord> + ExactSizeIterator {
        self.epochs.iter()
    }

    /// The newest epoch.
    pub fn last(&self) -> Option<&EpochRecord> {
        self.epochs.back()
    }

    pub(super) fn push(&mut self, record: EpochRecord) {
        self.folded += record.folded.len();
        self.epochs.push_back(record);
        while self.epochs.len() > MAX_EPOCHS || self.folded > MAX_FOLDED && self.epochs.len() > 1 {
            let oldest = self.epochs.pop_front();
            self.folded -= oldest.map_or(0, |record| record.folded.len());
        }
    }
}

/// What the newest fold has folded, read off the events.
#[derive(Clone, Default)]
pub(super) struct LastFold(Arc<Mutex<Vec<FoldedUpdate>>>);

impl LastFold {
    /// The events as before, looked at on their way.
    pub(super) fn listening(&self, events: EventSink) -> EventSink {
        let last = self.0.clone();
        Arc::new(move |event| {
            if let Event::Folded { updates, .. } = event {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = updates.clone();
            }
            events(event);
        })
    }

    /// Takes it away.
    pub(super) fn take(&self) -> Vec<FoldedUpdate> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u64, folded: usize) -> EpochRecord {
        let update =
            FoldedUpdate { author: String::new(), epoch, num_examples: 1, weight: 1.0, staleness: 0, own: true };
        EpochRecord {
            epoch,
            metrics: Metrics::new(),
            steps: 0,
            num_examples: 0,
            folded: vec![update; folded],
            seconds: 0.0,
            written: 0,
            read: 0,
            peers: None,
            sent: None,
            received: None,
            bucket: None,
        }
    }

    #[test]
    fn it_is_bounded_and_keeps_the_newest() {
        let mut history = History::default();
        (1..=1500).for_each(|epoch| history.push(record(epoch, 2)));
        assert_eq!(history.epochs().len(), MAX_EPOCHS);
        assert_eq!(history.epochs().next().map(|record| record.epoch), Some(501));
        (1501..=1510).for_each(|epoch| history.push(record(epoch, MAX_FOLDED / 4)));
        let kept: Vec<u64> = history.epochs().map(|record| record.epoch).collect();
        assert_eq!(kept, [1507, 1508, 1509, 1510]);
        // An epoch that exceeds the limit on its own is kept all the same.
        history.push(record(1511, MAX_FOLDED + 1));
        assert_eq!(history.epochs().map(|record| record.epoch).collect::<Vec<_>>(), [1511]);
    }
}
