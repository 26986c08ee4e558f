//! A bucket as a place where a federation's nodes leave entries and values for each other.
//!
//! What a node puts lies in its own cache first; from there it is uploaded, and what others have uploaded comes from the
//! bucket into the cache when it is wanted. So a bucket that is away holds up nobody, and what was put while it was comes
//! there when it is back. `mirror` decides what is to be read, written and deleted, without I/O; `poller`, `uploader` and
//! `fetcher` do it, on threads of their own, and never wait for each other.
//!
//! # What lies in a bucket
//!
//! See `names` for the names and `record` for the two kinds of objects: an entry with the head of its value, and packs
//! of up to 16 MiB of chunks. A chunk that is in one of the author's packs already is not written again. Objects never
//! change; entries are signed, packs have the hash of their content as a name, and nothing is believed that doesn't
//! verify. Only the author deletes its objects: what two newer updates, or a newer entry of the same key, have taken the
//! place of, after a time of grace by the store's own clock. Nothing is locked, and no store's conditional writes are
//! needed; where there are some, an entry is never written over another object unseen.
//!
//! The order of the writes makes what is in a bucket visible whole or not at all: packs first, then the entry.
//!
//! # Relays
//!
//! Behind a network, one member leaves there the newest entries of an author who publishes by the network and brings
//! nothing new to the bucket: in its own directory, as its own objects, with the author's signature. `mirror` decides who.

#[cfg(feature = "s3")]
mod answers;
#[cfg(feature = "s3")]
mod client;
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
    store::{Connection, Store},
};
use crate::{
    cache::Cache,
    entries::{Board, Membership},
    weights::{FederationId, SignedEntry},
};
use futures::future::BoxFuture;
use libp2p_identity::PeerId;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
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
/// Requests for entries that are under way at once, and as many for parts of packs.
const REQUESTS: usize = 6;

/// How long a request may go without an answer, besides the time that its bytes take on a slow line.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the end waits for what is being read or written in the cache.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where entries go that the bucket holds: into the network, if there is one.
pub(crate) type Learned = Box<dyn Fn(Vec<Arc<SignedEntry>>) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a node needs to use a bucket.
pub(crate) struct Setup {
    pub(crate) url: BucketUrl,
    pub(crate) options: BucketOptions,
    pub(crate) me: PeerId,
    pub(crate) federation: FederationId,
    /// Whose updates are relayed.
    pub(crate) membership: Arc<Membership>,
    pub(crate) board: Arc<Board>,
    pub(crate) cache: Cache,
    /// Called with numbers of own entries that the bucket shows: to go on above them.
    pub(crate) raise_above: Box<dyn Fn(u64) + Send + Sync>,
    /// `None` if entries are taken in here.
    pub(crate) learned: Option<Learned>,
}

/// What doesn't work now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Health {
    pub(crate) reading: Option<BucketError>,
    pub(crate) writing: Option<BucketError>,
}

impl Health {
    /// What is wrong, if anything is.
    pub(crate) fn trouble(&self) -> Option<&BucketError> {
        self.reading.as_ref().or(self.writing.as_ref())
    }
}

/// A bucket that is connected, and what is known of it: what its tasks share.
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
    health: watch::Sender<Health>,
    /// The number of the newest wish for a look at the bucket, of the newest that was fulfilled, and of the newest whose
    /// look has shown all that is there.
    wished: watch::Sender<u64>,
    fulfilled: watch::Sender<u64>,
    seen: watch::Sender<u64>,
    /// The number of the newest wish that somebody has waited for too long.
    given_up: AtomicU64,
    /// There may be something to upload.
    uploads: Notify,
    /// Something own was published.
    published: Notify,
    /// Changes whenever an own entry is in the bucket, or was found not to be.
    settled: watch::Sender<()>,
}

/// A node's part in a bucket. Dropping it ends its tasks; what is not uploaded yet is when the cache is opened again.
pub(crate) struct Bucket {
    shared: Arc<OpenBucket>,
    runtime: Option<Runtime>,
}

impl OpenBucket {
    /// Not to be held across an await, nor taken with the board's set held.
    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_health(&self, change: impl FnOnce(&mut Health)) {
        self.health.send_if_modified(|health| {
            let before = health.clone();
            change(health);
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
    /// Errors for what stays so until somebody mends it: no such bucket, wrong or expired keys, no permission. A bucket that doesn't
    /// answer is none: it is tried again and again, and the [routes](Self::spawn_routes) say so.
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
        // The caller may be on a runtime of its own, where blocking on this one would be a panic.
        let (ready, started) = std_mpsc::sync_channel(1);
        runtime.spawn(async move {
            let _ = ready.send(begin(setup).await);
        });
        match started.recv().map_err(|_| broken("its task ended early".to_owned())).flatten() {
            Ok(shared) => {
                runtime.spawn(poller::run(shared.clone()));
                runtime.spawn(uploader::run(shared.clone()));
                Ok(Self { shared, runtime: Some(runtime) })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// An own entry, with its value, is on the board and in the cache.
    pub(crate) fn published(&self) {
        self.shared.uploads.notify_one();
        self.shared.published.notify_one();
    }

    /// Takes a look at the bucket. Comes back when it is done or the time is over; at once if the bucket is known not to
    /// answer, or somebody else has waited too long for a look that isn't done yet.
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

    /// Waits until a look that begins from now on has shown all that is there; at most as long as `patience`. A bucket that
    /// has not answered, or of which a part could not be read, is waited for: it isn't empty. Says so where the time is
    /// over first.
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

    /// Waits until everything own that stands is in the bucket.
    pub(crate) async fn settle(&self) {
        let mut settled = self.shared.settled.subscribe();
        while !self.shared.has_uploaded_all() {
            let _ = settled.changed().await;
        }
    }

    /// Follows which ways to others work: the bucket, and the network by the number of members that are connected.
    pub(crate) fn spawn_routes(&self, members: Option<watch::Receiver<usize>>) -> watch::Receiver<Routes> {
        let health = self.shared.health.subscribe();
        let (routes, followed) = watch::channel(Routes::of(&health.borrow(), members.as_ref()));
        if let Some(runtime) = &self.runtime {
            runtime.spawn(routes::run(health, members, routes));
        }
        followed
    }

    /// What stays wrong until somebody mends it.
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

    /// Reads every entry anew: an author is trusted again.
    pub(crate) fn forget(&self) {
        self.shared.mirror().forget();
        self.shared.wished.send_modify(|wished| *wished += 1);
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waits until the tasks no longer use the cache; from inside of another runtime that would be a panic.
            let _ = thread::spawn(move || runtime.shutdown_timeout(FAREWELL)).join();
        }
    }
}

async fn begin(setup: Setup) -> Result<Arc<OpenBucket>, BucketError> {
    let Setup { url, options, me, federation, membership, board, cache, raise_above, learned } = setup;
    let counters = Arc::<Counters>::default();
    let connection = connect(&url, &options, counters.clone()).await?;
    let store = Store::new(connection, Place::new(url.prefix(), federation), url.to_string(), PATIENCE);
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
        mirror: Mutex::new(Mirror::new(me, noted)),
        fetches: Mutex::default(),
        requests: Semaphore::new(REQUESTS),
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
        // New credentials were asked for already: at the start there is nobody to wait for.
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
