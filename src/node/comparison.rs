//! Compares what peers began from with what this node began from, in the background and a few authors at a time.

use super::{
    Beginning, Event, EventSink, NodeError,
    background::{AbortOnDrop, off_runtime},
    event::tell,
};
use crate::{
    entries::Membership,
    folder::{FolderError, SharedFolder},
    weights::{Key, Root, SignedEntry},
};
use futures::future::join_all;
use libp2p_identity::PeerId;
use rand::{SeedableRng, seq::IteratorRandom};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// The most new authors whose starts one look reads. In a large federation the others' turn comes at later looks, at
/// random.
const AUTHORS_AT_A_LOOK: usize = 16;
/// How long a start may take to arrive. One that isn't here by then is left to another look.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of a run waits for a look under way.
const FAREWELL: Duration = Duration::from_secs(5);

/// The task that compares, for as long as this lives. It reports its findings as events and holds up nobody.
pub(super) struct Comparison {
    /// The number of the newest look asked for.
    asked: watch::Sender<u64>,
    /// The newest look that is done; all earlier ones are done too.
    done: watch::Receiver<u64>,
    _task: AbortOnDrop,
}

impl Comparison {
    /// Starts the task, which does nothing until it is [asked](Self::look). Only members' starts matter.
    pub(super) fn start(
        folder: Arc<dyn SharedFolder>,
        membership: Arc<Membership>,
        events: EventSink,
        own: Beginning,
    ) -> Self {
        let (asked, mut asks) = watch::channel(0);
        let (finished, done) = watch::channel(0);
        // Each node has its own sample, and the same one at every attempt.
        let random = ChaCha8Rng::from_seed(*blake3::hash(&folder.author().to_bytes()).as_bytes());
        let mut comparer = Comparer { folder, membership, events, own, random, compared: BTreeMap::new() };
        let task = tokio::spawn(async move {
            while asks.changed().await.is_ok() {
                let look = *asks.borrow_and_update();
                // Differences between starts are only a warning, and so is failing to read them.
                if let Err(error) = comparer.look(look).await {
                    tracing::debug!(%error, "comparing starts");
                }
                finished.send_replace(look);
            }
        });
        Self { asked, done, _task: AbortOnDrop(task) }
    }

    /// Asks for a look. Several requests while one is under way become one.
    pub(super) fn look(&self) {
        self.asked.send_modify(|look| *look += 1);
    }

    /// Waits until everything asked for is done, at most a few seconds, so that even a run of one epoch reports its
    /// peers.
    pub(super) async fn settle(&self) {
        let asked = *self.asked.borrow();
        let mut done = self.done.clone();
        let _ = timeout(FAREWELL, done.wait_for(|&done| done >= asked)).await;
    }
}

struct Comparer {
    folder: Arc<dyn SharedFolder>,
    membership: Arc<Membership>,
    events: EventSink,
    own: Beginning,
    random: ChaCha8Rng,
    /// For each author with a start in the folder: the root that was compared, and the differences reported.
    compared: BTreeMap<PeerId, (Root, Vec<String>)>,
}

impl Comparer {
    /// Reads, side by side, the starts of a sample of authors that weren't compared yet, and reports each author's
    /// differences once, by author id.
    async fn look(&mut self, number: u64) -> Result<(), NodeError> {
        let me = self.folder.author();
        let mut starts = self.folder.list("").await?;
        starts.retain(|entry| {
            let author = entry.key.author();
            author != me && entry.key == Key::start(author) && self.membership.allows(author)
        });
        let present: BTreeSet<PeerId> = starts.iter().map(|entry| entry.key.author()).collect();
        self.compared.retain(|author, _| present.contains(author));
        let new = starts.into_iter().filter_map(|entry| Some((entry.root()?, entry))).filter(|(root, entry)| {
            self.compared.get(&entry.key.author()).is_none_or(|(compared, _)| compared != root)
        });
        self.random.set_stream(number);
        let mut sample = new.sample(&mut self.random, AUTHORS_AT_A_LOOK);
        sample.sort_by_key(|(_, entry)| entry.key.author());
        let read = join_all(sample.iter().map(|(_, entry)| self.read(entry))).await;
        for ((root, entry), theirs) in sample.iter().zip(read) {
            let author = entry.key.author();
            let Some(theirs) = theirs? else { continue };
            let differences = theirs.map(|theirs| self.own.differences(&theirs)).unwrap_or_else(|reason| {
                tracing::warn!(%author, reason, "what a peer says of its start can't be read");
                Vec::new()
            });
            // A node that began from a fold has put its start twice, and the second may differ in nothing new.
            let told = self.compared.insert(author, (*root, differences.clone()));
            if !differences.is_empty() && told.is_none_or(|(_, told)| told != differences) {
                tell(&self.events, &Event::Mismatch { author: author.to_string(), differences });
            }
        }
        Ok(())
    }

    /// A peer's start, or why it can't be read; `None` if it isn't here now.
    async fn read(&self, entry: &SignedEntry) -> Result<Option<Result<Beginning, String>>, NodeError> {
        let Ok(got) = timeout_at(Instant::now() + PATIENCE, self.folder.get(entry)).await else { return Ok(None) };
        match got {
            Ok(value) => off_runtime(move || Beginning::read(&value)).await.map(Some),
            Err(FolderError::Gone { .. } | FolderError::Damaged { .. }) => Ok(None),
            Err(error) if error.may_pass() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
