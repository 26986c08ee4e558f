//! A bucket in which a federation's nodes leave entries and values for each other.
//!
//! A put goes into the node's own cache first and is uploaded from there. What others have uploaded is fetched into the
//! cache when it is wanted. So an unreachable bucket holds up nobody, and what was put in the meantime is uploaded when
//! it is back. `mirror` decides what is to be read, written and deleted, without I/O; `poller`, `uploader` and
//! `fetcher` do it, on threads of their own, and never wait for each other.
//!
//! # What lies in a bucket
//!
//! See `names` for the names and `record` for the two kinds of objects: an entry with the head of its value, and packs
//! of up to 16 MiB of chunks. A chunk that is already in one of the author's packs isn't written again. Objects never
//! change; entries are signed, packs have the hash of their content as a name, and nothing is believed that doesn't
//! verify. Only the author deletes its objects: those replaced by two newer updates, or by a newer entry of the same
//! key, after a grace period by the store's own clock. Nothing is locked and conditional writes aren't needed; where
//! the store has them, an entry never overwrites another object unseen.
//!
//! The order of the writes makes what is in a bucket visible whole or not at all: packs first, then the entry.
//!
//! # Secrets
//!
//! With a federation's secret, the objects' names and contents are encrypted (`seal`), and the prefix says that they are
//! (`sealed`): one secret for a prefix. All else stays as it is. A chunk in a pack is 16 bytes longer.
//!
//! # Relays
//!
//! Behind a network, if an author publishes over the network and brings nothing new to the bucket, one member writes
//! that author's newest entries there: in its own directory, as its own objects, with the author's signature. `mirror`
//! decides who.

#[cfg(feature = "s3")]
mod answers;
#[cfg(feature = "s3")]
mod client;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod fetcher;
mod figures;
#[cfg(feature = "s3")]
mod listing;
mod mirror;
mod names;
mod poll_interval;
mod poller;
mod record;
mod routes;
#[cfg(feature = "s3")]
mod s3;
mod seal;
mod sealed;
mod settings;
mod store;
mod trouble;
mod uploader;
mod url;
mod url_path;

pub(crate) use self::{fetcher::Unfetched, url_path::parts as url_parts};
pub use self::{
    figures::BucketFigures,
    routes::Routes,
    settings::{BucketKeys, BucketOptions, BucketSettings, Endpoint},
    trouble::{BucketError, Trouble},
    url::{BucketUrl, BucketUrlError},
};

use self::{
    fetcher::Fetches,
    figures::Counters,
    mirror::Mirror,
    names::Place,
    seal::{Seal, TAG_BYTES},
    store::{Connection, Store},
};
use crate::{
    cache::Cache,
    entries::{Board, MemberList, Membership},
    weights::{FederationId, SignedEntry},
};
use futures::future::BoxFuture;
use libp2p_identity::PeerId;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc as std_mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, Semaphore, watch},
};

/// Threads that read and write the cache.
const BLOCKING_THREADS: usize = 4;
/// Entry requests in flight, and as many again for parts of packs.
const REQUESTS: usize = 6;

/// How long a request may go without an answer, on top of the time its bytes take on a slow line.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long closing waits for reads and writes of the cache.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where entries found in the bucket go: into the network, if there is one.
pub(crate) type Learned = Box<dyn Fn(Vec<Arc<SignedEntry>>) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a node needs to use a bucket.
pub(crate) struct Setup {
    pub(crate) url: BucketUrl,
    pub(crate) options: BucketOptions,
    pub(crate) me: PeerId,
    pub(crate) federation: FederationId,
    /// Who may take part: nothing of anybody else's is read, taken in or relayed.
    pub(crate) membership: Arc<Membership>,
    /// Its changes since the board was filled.
    pub(crate) membership_changes: watch::Receiver<Option<Arc<MemberList>>>,
    pub(crate) board: Arc<Board>,
    pub(crate) cache: Cache,
    /// Called with sequence numbers of our own entries that the bucket shows, so that we continue above them.
    pub(crate) raise_above: Box<dyn Fn(u64) + Send + Sync>,
    /// `None` if entries are taken in here.
    pub(crate) learned: Option<Learned>,
}

/// What doesn't work now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Health {
    pub(crate) reading: Option<BucketError>,
    pub(crate) writing: Option<BucketError>,
    /// How often reading has worked again.
    pub(crate) recovered: u64,
}

impl Health {
    /// What is wrong, if anything is.
    pub(crate) fn trouble(&self) -> Option<&BucketError> {
        self.reading.as_ref().or(self.writing.as_ref())
    }
}

/// A connected bucket and what is known of it, shared by its tasks.
struct OpenBucket {
    store: Store,
    options: BucketOptions,
    me: PeerId,
    federation: FederationId,
    membership: Arc<Membership>,
    board: Arc<Board>,
    cache: Cache,
    raise_above: Box<dyn Fn(u64) + Send + Sync>,
    learned: Option<Learned>,
    counters: Arc<Counters>,
    began: Instant,
    mirror: Mutex<Mirror>,
    fetches: Mutex<Fetches>,
    requests: Semaphore,
    /// Whether it is known that the prefix is sealed as it should be.
    is_marked: AtomicBool,
    health: watch::Sender<Health>,
    /// The number of the newest request for a look at the bucket, of the newest that was served, and of the newest
    /// whose look showed everything that is there.
    wished: watch::Sender<u64>,
    fulfilled: watch::Sender<u64>,
    seen: watch::Sender<u64>,
    /// The number of the newest request that somebody has waited too long for.
    given_up: AtomicU64,
    /// There may be something to upload.
    uploads: Notify,
    /// This node has published something.
    published: Notify,
    /// Changes whenever one of our entries reaches the bucket, or turns out not to be there.
    settled: watch::Sender<()>,
}

/// A node's side of a bucket. Dropping it ends its tasks; what isn't uploaded yet will be when the cache is opened
/// again.
pub(crate) struct Bucket {
    shared: Arc<OpenBucket>,
    runtime: Option<Runtime>,
}

impl OpenBucket {
    /// Whether what this author has left counts.
    fn admits(&self, author: PeerId) -> bool {
        author == self.me || self.membership.allows(author)
    }

    /// Not to be held across an await, nor taken with the board's set held.
    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_health(&self, change: impl FnOnce(&mut Health)) {
        self.health.send_if_modified(|health| {
            let before = health.clone();
            change(health);
            health.recovered += u64::from(before.reading.is_some() && health.reading.is_none());
            let changed = *health != before;
            if changed {
                match (before.trouble(), health.trouble()) {
                    (None, Some(error)) => tracing::warn!("{error}"),
                    (Some(_), None) => tracing::info!("the bucket answers again"),
                    (Some(before), Some(error)) if before.trouble != error.trouble => tracing::warn!("{error}"),
                    _ => {}
                }
            }
            changed
        });
    }

    fn has_uploaded_all(&self) -> bool {
        let mirror = self.mirror();
        mirror.is_known() && mirror.wanting(&self.board.set()).is_empty()
    }
}

impl Bucket {
    /// Connects and takes a first look. Blocks for that long.
    ///
    /// Errors for what won't go away by itself: no such bucket, wrong or expired keys, no permission. A bucket that
    /// doesn't answer isn't an error: it is retried, and the [routes](Self::spawn_routes) say so.
    pub(crate) fn start(setup: Setup) -> Result<Self, BucketError> {
        let name = setup.url.to_string();
        let broken = |detail: String| BucketError {
            bucket: name.clone(),
            what: "starting".to_owned(),
            trouble: Trouble::Threads,
            detail,
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("peerfold-bucket")
            .enable_all()
            .build()
            .map_err(|error| broken(error.to_string()))?;
        // The caller may be on another runtime, where blocking on this one would panic.
        let (ready, started) = std_mpsc::sync_channel(1);
        let membership_changes = setup.membership_changes.clone();
        runtime.spawn(async move {
            let _ = ready.send(begin(setup).await);
        });
        match started.recv().map_err(|_| broken("its task ended early".to_owned())).flatten() {
            Ok(shared) => {
                runtime.spawn(poller::run(shared.clone(), membership_changes));
                runtime.spawn(uploader::run(shared.clone()));
                Ok(Self { shared, runtime: Some(runtime) })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// One of our own entries is on the board and, with its value, in the cache.
    pub(crate) fn published(&self) {
        self.shared.uploads.notify_one();
        self.shared.published.notify_one();
    }

    /// Looks at the bucket. Returns when that is done or the time is up; at once if the bucket is known not to answer,
    /// or if somebody else has already waited too long for a look that isn't done yet.
    pub(crate) async fn look(&self, patience: Duration) {
        let given_up = self.shared.given_up.load(Ordering::Relaxed);
        if self.shared.health.borrow().reading.is_some() || *self.shared.fulfilled.borrow() < given_up {
            return;
        }
        let mine = self.wish();
        let mut fulfilled = self.shared.fulfilled.subscribe();
        let fulfilled = fulfilled.wait_for(|fulfilled| *fulfilled >= mine);
        if tokio::time::timeout(patience, fulfilled).await.is_err() {
            self.shared.given_up.fetch_max(mine, Ordering::Relaxed);
        }
    }

    fn wish(&self) -> u64 {
        let mut mine = 0;
        self.shared.wished.send_modify(|wished| {
            *wished += 1;
            mine = *wished;
        });
        mine
    }

    /// Waits until a look that begins from now on has shown everything that is there; at most `patience`. A bucket that
    /// hasn't answered, or part of which could not be read, isn't taken for empty: it is waited for. Says so if the
    /// time is up first.
    pub(crate) async fn look_around(&self, patience: Duration) {
        let mine = self.wish();
        let mut seen = self.shared.seen.subscribe();
        let seen = seen.wait_for(|seen| *seen >= mine);
        if tokio::time::timeout(patience, seen).await.is_err() {
            tracing::warn!(
                "what others have left in the bucket is not known: it has not shown all that is there in {} s. Going on \
                 without; it is looked at again",
                patience.as_secs()
            );
        }
    }

    /// Fetches an entry's value into the cache. Goes on when the future is dropped.
    pub(crate) async fn fetch(&self, entry: Arc<SignedEntry>) -> Result<(), Unfetched> {
        match &self.runtime {
            Some(runtime) => fetcher::fetch(&self.shared, runtime.handle(), entry).await,
            None => Err(Unfetched::Gone),
        }
    }

    /// Waits until all of this node's current entries are in the bucket.
    pub(crate) async fn settle(&self) {
        let mut settled = self.shared.settled.subscribe();
        while !self.shared.has_uploaded_all() {
            let _ = settled.changed().await;
        }
    }

    /// Follows which routes to others work: the bucket, and the network, judged by the number of connected members.
    pub(crate) fn spawn_routes(&self, members: Option<watch::Receiver<usize>>) -> watch::Receiver<Routes> {
        let health = self.shared.health.subscribe();
        let (routes, followed) = watch::channel(Routes::of(&health.borrow(), members.as_ref()));
        if let Some(runtime) = &self.runtime {
            runtime.spawn(routes::run(health, members, routes));
        }
        followed
    }

    /// What is wrong and won't go away by itself.
    pub(crate) fn final_trouble(&self) -> Option<BucketError> {
        self.shared.health.borrow().trouble().filter(|error| error.trouble.is_final()).cloned()
    }

    /// How long peers are waited for before the bucket is asked.
    pub(crate) fn after(&self) -> Duration {
        self.shared.options.settings.after
    }

    /// When an entry's object was written, by the store's clock.
    pub(crate) fn written_at(&self, entry: &SignedEntry) -> Option<SystemTime> {
        let modified = self.shared.mirror().written(entry)?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(modified.try_into().ok()?))
    }

    /// What it has cost.
    pub(crate) fn figures(&self) -> BucketFigures {
        self.shared.counters.figures()
    }

    /// Reads every entry again, because an author was readmitted.
    pub(crate) fn forget(&self) {
        self.shared.mirror().forget();
        self.shared.wished.send_modify(|wished| *wished += 1);
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waits until the tasks no longer use the cache, which would panic inside another runtime.
            let _ = thread::spawn(move || runtime.shutdown_timeout(FAREWELL)).join();
        }
    }
}

async fn begin(setup: Setup) -> Result<Arc<OpenBucket>, BucketError> {
    let Setup { url, options, me, federation, membership, board, cache, raise_above, learned, .. } = setup;
    let counters = Arc::<Counters>::default();
    let connection = connect(&url, &options, counters.clone()).await?;
    let place = match &options.secret {
        Some(secret) => Place::sealed(url.prefix(), federation, Arc::new(Seal::new(secret, federation))),
        None => Place::new(url.prefix(), federation),
    };
    let overhead = place.seal().map_or(0, |_| TAG_BYTES);
    let store = Store::new(connection, place, url.to_string(), PATIENCE);
    let noted = poller::noted(&store, &cache).await;
    let shared = Arc::new(OpenBucket {
        store,
        options,
        me,
        federation,
        membership,
        board,
        cache,
        raise_above,
        learned,
        counters,
        began: Instant::now(),
        mirror: Mutex::new(Mirror::new(me, noted).with_overhead(overhead)),
        fetches: Mutex::default(),
        requests: Semaphore::new(REQUESTS),
        is_marked: AtomicBool::new(false),
        health: watch::Sender::default(),
        wished: watch::Sender::new(0),
        fulfilled: watch::Sender::new(0),
        seen: watch::Sender::new(0),
        given_up: AtomicU64::new(0),
        uploads: Notify::new(),
        published: Notify::new(),
        settled: watch::Sender::default(),
    });
    match poller::look_once(&shared).await {
        // New credentials were already asked for; at the start there is nothing to wait for.
        Err(error) if error.trouble.is_final() || error.trouble == Trouble::Expired => Err(error),
        looked => {
            poller::note(&shared, &looked);
            Ok(shared)
        }
    }
}

#[cfg(feature = "s3")]
async fn connect(url: &BucketUrl, options: &BucketOptions, counters: Arc<Counters>) -> Result<Connection, BucketError> {
    s3::connect(url, options, counters).await
}

#[cfg(not(feature = "s3"))]
async fn connect(url: &BucketUrl, _: &BucketOptions, _: Arc<Counters>) -> Result<Connection, BucketError> {
    let (what, detail) = ("connecting".to_owned(), String::new());
    Err(BucketError { bucket: url.to_string(), what, trouble: Trouble::NotBuilt, detail })
}

/// Time since a fixed moment, for the mirror.
impl OpenBucket {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}
