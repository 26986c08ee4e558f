//! Comparing what peers began from with what this node began from: beside the run, and for a few authors at a time.

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

/// Starts that one look reads: at most so many authors are new to it. In a large federation the others' turn comes at
/// later looks, by chance.
const AUTHORS_AT_A_LOOK: usize = 16;
/// How long a start may be on its way. One that isn't here then is another look's.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of a run waits for the look that is under way.
const FAREWELL: Duration = Duration::from_secs(5);

/// The task that compares, as long as this lives. What it finds are events; it holds up nobody.
pub(super) struct Comparison {
    /// The number of the newest look that was asked for.
    asked: watch::Sender<u64>,
    /// The newest that is done, and with it all before.
    done: watch::Receiver<u64>,
    _task: AbortOnDrop,
}

impl Comparison {
    /// Starts the task, which takes no look before it is [asked](Self::look). Of interest are members' starts.
    pub(super) fn start(
        folder: Arc<dyn SharedFolder>,
        membership: Arc<Membership>,
        events: EventSink,
        own: Beginning,
    ) -> Self {
        let (asked, mut asks) = watch::channel(0);
        let (finished, done) = watch::channel(0);
        // Each node has a sample of its own, and the same one at each try.
        let random = ChaCha8Rng::from_seed(*blake3::hash(&folder.author().to_bytes()).as_bytes());
        let mut comparer = Comparer { folder, membership, events, own, random, compared: BTreeMap::new() };
        let task = tokio::spawn(async move {
            while asks.changed().await.is_ok() {
                let look = *asks.borrow_and_update();
                // What peers say of their starts is a warning; that it can't be read is no more than that.
                if let Err(error) = comparer.look(look).await {
                    tracing::debug!(%error, "comparing starts");
                }
                finished.send_replace(look);
            }
        });
        Self { asked, done, _task: AbortOnDrop(task) }
    }

    /// Asks for a look. Several that come while one is under way are one.
    pub(super) fn look(&self) {
        self.asked.send_modify(|look| *look += 1);
    }

    /// Waits until all that was asked for is done, at most a few seconds: a run of one epoch tells of its peers too.
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
    /// The root that was compared of each author that has a start in the folder, and the differences told.
    compared: BTreeMap<PeerId, (Root, Vec<String>)>,
}

impl Comparer {
    /// Reads the starts of a sample of those that were not compared yet, side by side, and tells each author's
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

    /// What a peer says of its start, or why that can't be read; `None` if it isn't here now.
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
