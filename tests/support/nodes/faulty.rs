//! A folder that fails when told to.

use async_trait::async_trait;
use libp2p_identity::PeerId;
use peerfold::{
    entries::{Conflict, Watch},
    folder::{FolderError, FolderFigures, SharedFolder, Value},
    weights::{Digest, Entry, Key, Metadata, SignedEntry, Weights},
};
use std::{
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
};
use tokio::sync::{Barrier, Notify};

type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

#[derive(Default)]
pub struct Faults {
    pub put: bool,
    pub list: bool,
    /// Authors whose values can't be opened.
    pub get: Vec<PeerId>,
    /// Authors whose entries are there, but not their values.
    pub gone: Vec<PeerId>,
    /// Runs once, between a listing and the first value that is opened after it.
    pub before_get: Option<Hook>,
    /// Authors whose values never come.
    pub dead: Vec<PeerId>,
    /// Authors whose values have to be fetched from others first.
    pub away: Vec<PeerId>,
    /// It is known whose those are.
    pub shows_parts: bool,
    /// Fetches of those that are away go on only when this is told.
    pub fetches_wait: Option<Arc<Notify>>,
    /// Values come when so many are asked for at once.
    pub together: Option<Arc<Barrier>>,
    /// What authors say of their starts comes only while this node publishes an update.
    pub starts_wait: Option<Arc<Notify>>,
    /// Values that were asked for.
    pub opened: Vec<Key>,
    /// Those for which a fetch has waited.
    pub came: Vec<Key>,
}

/// Another folder, with faults.
#[derive(Clone)]
pub struct FaultyFolder {
    inner: Arc<dyn SharedFolder>,
    pub faults: Arc<Mutex<Faults>>,
    /// Entries that stood when a `put` returned.
    pub published: Arc<Mutex<Vec<Arc<SignedEntry>>>>,
}

impl FaultyFolder {
    pub fn new(inner: Arc<dyn SharedFolder>) -> Self {
        Self { inner, faults: Arc::default(), published: Arc::default() }
    }

    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults.lock().unwrap());
    }

    pub fn before_get<F: Future<Output = ()> + Send + 'static>(&self, hook: impl FnOnce() -> F + Send + 'static) {
        self.set(|faults| faults.before_get = Some(Box::new(|| Box::pin(hook()))));
    }

    fn is_away(&self, entry: &Entry) -> bool {
        self.held(|faults| faults.away.contains(&entry.key.author()))
    }

    fn held<T>(&self, what: impl FnOnce(&Faults) -> T) -> T {
        what(&self.faults.lock().unwrap())
    }

    fn fail(&self, what: &'static str, wanted: impl Fn(&Faults) -> bool) -> Result<(), FolderError> {
        if !wanted(&self.faults.lock().unwrap()) {
            return Ok(());
        }
        let source = io::Error::from(io::ErrorKind::NetworkUnreachable);
        Err(FolderError::Io { what, path: PathBuf::from("the share"), source })
    }
}

#[async_trait]
impl SharedFolder for FaultyFolder {
    fn author(&self) -> PeerId {
        self.inner.author()
    }

    async fn put(&self, key: &Key, value: &Weights, metadata: Metadata) -> Result<Arc<SignedEntry>, FolderError> {
        self.fail("writing", |faults| faults.put)?;
        if let Some(starts) = self.held(|faults| faults.starts_wait.clone()).filter(|_| key.update_epoch().is_some()) {
            starts.notify_waiters();
        }
        let entry = self.inner.put(key, value, metadata).await?;
        self.published.lock().unwrap().push(entry.clone());
        Ok(entry)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Arc<SignedEntry>>, FolderError> {
        self.fail("listing", |faults| faults.list)?;
        self.inner.list(prefix).await
    }

    async fn get(&self, entry: &Entry) -> Result<Value, FolderError> {
        self.set(|faults| faults.opened.push(entry.key.clone()));
        self.fail("reading", |faults| faults.get.contains(&entry.key.author()))?;
        if self.faults.lock().unwrap().gone.contains(&entry.key.author()) {
            return Err(FolderError::Gone { key: entry.key.clone(), sequence: entry.sequence });
        }
        if self.held(|faults| faults.dead.contains(&entry.key.author())) {
            std::future::pending::<()>().await;
        }
        if let Some(fetches) = self.held(|faults| faults.fetches_wait.clone()).filter(|_| self.is_away(entry)) {
            // Its author gives it to the end once it has begun.
            let value = self.inner.get(entry).await;
            fetches.notified().await;
            self.set(|faults| faults.came.push(entry.key.clone()));
            return value;
        }
        if let Some(starts) = self.held(|faults| faults.starts_wait.clone()).filter(|_| entry.key.name() == "start") {
            starts.notified().await;
        }
        if let Some(together) = self.held(|faults| faults.together.clone()) {
            together.wait().await;
        }
        let hook = self.faults.lock().unwrap().before_get.take();
        if let Some(hook) = hook {
            hook().await;
        }
        self.inner.get(entry).await
    }

    async fn get_here(&self, entry: &Entry) -> Result<Option<Value>, FolderError> {
        if self.is_away(entry) { Ok(None) } else { self.get(entry).await.map(Some) }
    }

    fn has_part(&self, entry: &Entry) -> bool {
        !(self.held(|faults| faults.shows_parts) && self.is_away(entry))
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.inner.watch(prefix)
    }

    async fn remove(&self, key: &Key) -> Result<Arc<SignedEntry>, FolderError> {
        self.inner.remove(key).await
    }

    async fn digest(&self) -> Result<Digest, FolderError> {
        self.inner.digest().await
    }

    async fn conflicts(&self) -> Result<Vec<Conflict>, FolderError> {
        self.inner.conflicts().await
    }

    fn figures(&self) -> FolderFigures {
        self.inner.figures()
    }
}
