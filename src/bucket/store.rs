//! One federation's objects in a store, by name: listing, reading, writing and deleting, each with a time limit.

use super::{
    mirror::{Listed, Mark, plain},
    names::{Name, Place},
    seal::Seal,
    trouble::{BucketError, NotS3, Trouble, patience, trouble},
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryFutureExt, future::BoxFuture, stream};
use libp2p_identity::PeerId;
use object_store::{
    Attribute, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, PutMode, PutOptions, PutPayload, path::Path,
};
use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Most objects in a listing, so that somebody who fills a bucket doesn't fill its readers' memory. A federation of ten
/// thousand nodes has a tenth of that.
const MAX_OBJECTS: usize = 1 << 20;
/// The size assumed for an entry's object if its size isn't known: larger ones get no more time.
const USUAL_RECORD_BYTES: u64 = 4 << 20;
/// More than the object that shows with which secret a prefix is sealed.
const MARK_BYTES: u64 = 1024;
/// As many objects at a prefix are looked at for some of the same federation that aren't sealed.
const OPEN_OBJECTS: usize = 1000;
/// How many times the limit of one request a listing may take, page by page.
const MAX_PAGES_TIME: u32 = 20;

/// A connection to a bucket.
pub(crate) struct Connection {
    /// The bucket.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The same, but deleting one object at a time, for stores that can't delete several.
    pub(crate) one_by_one: Arc<dyn ObjectStore>,
    /// Asks for new credentials.
    pub(crate) renew: Box<dyn Fn() + Send + Sync>,
}

/// One federation's objects.
pub(crate) struct Store {
    connection: Connection,
    place: Place,
    /// As in `--folder`, for messages.
    bucket: String,
    patience: Duration,
    /// The store has said that it doesn't support this, and isn't asked again.
    no_conditional_writes: AtomicBool,
    no_bulk_deletes: AtomicBool,
}

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Put {
    /// Written, with the store's tag if it gives one.
    Written(Option<String>),
    /// There is an object of this name already.
    Exists,
}

/// What is found in the place of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The same content, with the store's tag if it gives one.
    Same(Option<String>),
    /// Something else.
    Other,
    /// Nothing, or something too large to be the same.
    Unread,
}

impl Store {
    pub(crate) fn new(connection: Connection, place: Place, bucket: String, patience: Duration) -> Self {
        let (no_conditional_writes, no_bulk_deletes) = Default::default();
        Self { connection, place, bucket, patience, no_conditional_writes, no_bulk_deletes }
    }

    /// Where an object lies, for messages.
    pub(crate) fn path(&self, name: &Name) -> Path {
        self.place.path(name)
    }

    /// What seals the objects, if there is a secret.
    pub(crate) fn seal(&self) -> Option<&Arc<Seal>> {
        self.place.seal()
    }

    /// What is to be written of a record, which is sealed if there is a secret.
    pub(crate) fn sealed(&self, name: &Name, record: Vec<u8>) -> Vec<u8> {
        match self.seal() {
            Some(seal) => seal.record(self.place.path(name).filename().unwrap_or_default(), &record),
            None => record,
        }
    }

    /// The record of which this was written. An error says why it can't be.
    pub(crate) fn opened(&self, name: &Name, bytes: &Bytes) -> Result<Bytes, &'static str> {
        match self.seal() {
            Some(seal) => {
                let opened = seal.open_record(self.place.path(name).filename().unwrap_or_default(), bytes);
                opened.map(Bytes::from).ok_or("it is not sealed with this federation's secret, or was changed")
            }
            None => Ok(bytes.clone()),
        }
    }

    /// What shows with which secret the prefix is sealed; `None` if there is nothing.
    pub(crate) async fn get_mark(&self) -> Result<Option<String>, BucketError> {
        let read = self.read(&self.place.mark(), None, None, MARK_BYTES, MARK_BYTES).await?;
        Ok(read.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Writes that, unless it is there already.
    pub(crate) async fn put_mark(&self, text: String) -> Result<Put, BucketError> {
        self.create_at(&self.place.mark(), PutPayload::from(Bytes::from(text))).await
    }

    /// Whether objects of this federation lie at the prefix that are not sealed. Few are looked at, and the store isn't
    /// asked for the federation's by its name, which would tell it.
    pub(crate) async fn has_open_objects(&self) -> Result<bool, BucketError> {
        let look = || {
            async move {
                let mut objects = self.connection.store.list(Some(self.place.prefix()));
                for _ in 0..OPEN_OBJECTS {
                    let Some(object) = self.in_time(objects.next()).await? else { break };
                    if object?.location.prefix_matches(self.place.open_root()) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            .boxed()
        };
        self.attempt("listing", 0, look).await
    }

    /// What the object at a path is.
    pub(crate) fn name(&self, path: &str) -> Option<Name> {
        self.place.name(&Path::parse(path).ok()?)
    }

    /// The name of a cache's note on the object at a path, or its beginning: of this federation in this bucket.
    pub(crate) fn note_name(&self, path: &str) -> String {
        format!("object {} {path}", self.bucket)
    }

    /// All entries, and this author's packs.
    pub(crate) async fn list(&self, author: PeerId) -> Result<Vec<Listed>, BucketError> {
        let listed = |meta: ObjectMeta| {
            let name = self.place.name(&meta.location)?;
            if matches!(name, Name::Pack { holder: whose, .. } if whose != author) {
                return None;
            }
            let modified = meta.last_modified.timestamp_millis();
            Some(Listed { name, mark: Mark { size: meta.size, modified, tag: meta.e_tag } })
        };
        let list = || {
            async move {
                let mut objects = self.connection.store.list(Some(self.place.root()));
                let (mut found, mut seen) = (Vec::new(), 0);
                // Each page has its time.
                while let Some(object) = self.in_time(objects.next()).await? {
                    found.extend(listed(object?));
                    seen += 1;
                    if seen > MAX_OBJECTS {
                        let reason = format!("more than {MAX_OBJECTS} objects are there: remove what isn't a node's");
                        return Err(object_store::Error::Generic { store: "S3", source: reason.into() });
                    }
                }
                Ok(found)
            }
            .boxed()
        };
        self.attempt_within(self.patience.saturating_mul(MAX_PAGES_TIME), "listing", list).await
    }

    async fn in_time<T>(&self, step: impl Future<Output = T>) -> object_store::Result<T> {
        let late = |_| {
            let reason = io::Error::new(io::ErrorKind::TimedOut, no_answer(self.patience));
            object_store::Error::Generic { store: "S3", source: reason.into() }
        };
        tokio::time::timeout(self.patience, step).await.map_err(late)
    }

    /// A whole object of at most this many bytes; `None` if it doesn't exist or is larger.
    pub(crate) async fn get_at_most(&self, name: &Name, most: u64) -> Result<Option<Bytes>, BucketError> {
        let read = self.read(&self.place.path(name), None, None, most, most.min(USUAL_RECORD_BYTES)).await?;
        Ok(read.map(|(bytes, _)| bytes))
    }

    /// What is there now, where these bytes should go.
    pub(crate) async fn standing(&self, name: &Name, bytes: &[u8]) -> Result<Standing, BucketError> {
        let length = bytes.len() as u64;
        let read = self.read(&self.place.path(name), None, None, length.saturating_add(1), length).await?;
        Ok(match read {
            Some((found, tag)) if found == bytes => Standing::Same(tag),
            Some(_) => Standing::Other,
            None => Standing::Unread,
        })
    }

    /// An object as a listing showed it; `None` if it is gone, or has a different size by now.
    pub(crate) async fn get(&self, name: &Name, mark: &Mark) -> Result<Option<Bytes>, BucketError> {
        let read = self.read(&self.place.path(name), None, Some(mark), mark.size, mark.size).await?;
        Ok(read.map(|(bytes, _)| bytes).filter(|bytes| bytes.len() as u64 == mark.size))
    }

    /// These bytes of an object; `None` if there is no such object, or it is too short.
    pub(crate) async fn get_part(&self, name: &Name, range: Range<u64>) -> Result<Option<Bytes>, BucketError> {
        let length = range.end - range.start;
        let read = self.read(&self.place.path(name), Some(range), None, length, length).await?;
        Ok(read.map(|(bytes, _)| bytes).filter(|bytes| bytes.len() as u64 == length))
    }

    /// At most `length` bytes and the object's tag, in the time that `expected` bytes take. `mark` is what a listing has
    /// shown of it.
    async fn read(
        &self,
        path: &Path,
        range: Option<Range<u64>>,
        mark: Option<&Mark>,
        length: u64,
        expected: u64,
    ) -> Result<Option<(Bytes, Option<String>)>, BucketError> {
        let what = format!("reading {path}");
        let read = || {
            let range = range.clone().map(GetRange::Bounded);
            let getting = self.connection.store.get_opts(path, GetOptions { range, ..GetOptions::default() });
            let mark = mark.cloned();
            getting
                .and_then(|got| async move {
                    if let Some(mark) = mark {
                        check_object(&got, &mark)?;
                    }
                    let given = got.range.end.saturating_sub(got.range.start);
                    // A store may send more than it was asked for, or its listing may lie.
                    if given > length {
                        return Ok(None);
                    }
                    let tag = got.meta.e_tag.clone();
                    let bytes = got.bytes().await?;
                    match bytes.len() as u64 == given {
                        true => Ok(Some((bytes, tag))),
                        false => Err(no_answer_of_s3("an object that breaks off")),
                    }
                })
                .boxed()
        };
        match self.attempt(&what, expected, read).await {
            Ok(read) => Ok(read),
            Err(error) if error.trouble == Trouble::Other && error.detail == MISSING => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an object, whatever is there already. Returns the store's tag for it.
    pub(crate) async fn put(&self, name: &Name, payload: PutPayload) -> Result<Option<String>, BucketError> {
        let path = self.place.path(name);
        match self.write(&path, payload, PutMode::Overwrite).await? {
            Put::Written(tag) => Ok(tag),
            // The write had no condition that could fail, so nothing was written.
            Put::Exists => {
                let refused = "it refuses to write because of what is there".to_owned();
                Err(self.error(&format!("writing {path}"), Trouble::Busy, refused))
            }
        }
    }

    /// Writes an object unless there is one already, if the store supports that; otherwise overwrites whatever is
    /// there.
    pub(crate) async fn create(&self, name: &Name, payload: PutPayload) -> Result<Put, BucketError> {
        self.create_at(&self.place.path(name), payload).await
    }

    async fn create_at(&self, path: &Path, payload: PutPayload) -> Result<Put, BucketError> {
        let conditional = !self.no_conditional_writes.load(Ordering::Relaxed);
        let mode = if conditional { PutMode::Create } else { PutMode::Overwrite };
        self.write(path, payload, mode).await
    }

    async fn write(&self, path: &Path, payload: PutPayload, mode: PutMode) -> Result<Put, BucketError> {
        let length = payload.content_length() as u64;
        let store = &self.connection.store;
        let write = |mode: PutMode| store.put_opts(path, payload.clone(), PutOptions { mode, ..PutOptions::default() });
        let write = || {
            let (first, mode) = (write(mode.clone()), mode.clone());
            async move {
                match first.await {
                    Ok(put) => Ok(Put::Written(put.e_tag)),
                    Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                        Ok(Put::Exists)
                    }
                    // A store without conditional writes.
                    Err(error) if mode == PutMode::Create && is_not_implemented(&error) => {
                        let put = write(PutMode::Overwrite).await?;
                        self.no_conditional_writes.store(true, Ordering::Relaxed);
                        Ok(Put::Written(put.e_tag))
                    }
                    Err(error) => Err(error),
                }
            }
            .boxed()
        };
        self.attempt(&format!("writing {path}"), length, write).await
    }

    /// Deletes objects. It is no error if one isn't there.
    pub(crate) async fn delete(&self, names: &[Name]) -> Result<(), BucketError> {
        let paths: Vec<Path> = names.iter().map(|name| self.place.path(name)).collect();
        let delete = |store: Arc<dyn ObjectStore>| {
            let locations = stream::iter(paths.clone().into_iter().map(Ok)).boxed();
            async move {
                let mut deleted = store.delete_stream(locations);
                let mut result = Ok(());
                while let Some(one) = deleted.next().await {
                    match one {
                        Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => result = Err(error),
                        _ => {}
                    }
                }
                result
            }
        };
        let both = || {
            let (together, one_by_one) = (self.connection.store.clone(), self.connection.one_by_one.clone());
            let (together, one_by_one) = (delete(together), delete(one_by_one));
            if self.no_bulk_deletes.load(Ordering::Relaxed) {
                return one_by_one.boxed();
            }
            // Not every store can delete several at once.
            let failed = |error| {
                self.no_bulk_deletes.fetch_or(is_not_implemented(&error), Ordering::Relaxed);
                one_by_one
            };
            together.or_else(failed).boxed()
        };
        self.attempt("deleting", 0, both).await
    }

    /// Tries within the time that this many bytes may take; once more with new credentials if the old ones had expired.
    async fn attempt<'a, T>(
        &self,
        what: &str,
        bytes: u64,
        operation: impl Fn() -> BoxFuture<'a, object_store::Result<T>>,
    ) -> Result<T, BucketError> {
        self.attempt_within(patience(self.patience, bytes), what, operation).await
    }

    async fn attempt_within<'a, T>(
        &self,
        time: Duration,
        what: &str,
        operation: impl Fn() -> BoxFuture<'a, object_store::Result<T>>,
    ) -> Result<T, BucketError> {
        let mut result = within(time, operation()).await;
        if matches!(result, Err((Trouble::Expired | Trouble::UnknownKey, _))) {
            (self.connection.renew)();
            result = within(time, operation()).await;
        }
        result.map_err(|(trouble, detail)| self.error(what, trouble, detail))
    }

    pub(crate) fn error(&self, what: &str, trouble: Trouble, detail: String) -> BucketError {
        BucketError { bucket: self.bucket.clone(), what: what.to_owned(), trouble, detail }
    }
}

/// Whether this may be the object that a listing showed. A web page has a different tag, and a type of its own.
/// Anything with the listed tag is the object, whatever type its writer gave it.
fn check_object(got: &GetResult, mark: &Mark) -> object_store::Result<()> {
    let listed = mark.tag.as_deref();
    let is_listed = listed.is_some() && got.meta.e_tag.as_deref().map(plain) == listed.map(plain);
    match got.attributes.get(&Attribute::ContentType).filter(|kind| is_page(kind)) {
        Some(kind) if !is_listed => Err(no_answer_of_s3(&format!("{} in place of an object", &**kind))),
        _ if is_listed && got.meta.size != mark.size => Err(no_answer_of_s3("an object that breaks off")),
        _ => Ok(()),
    }
}

/// Whether this is the type of a page for people or for another program. Nothing that this program writes to a bucket
/// has one of these.
fn is_page(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || matches!(kind.as_str(), "application/json" | "application/xhtml+xml" | "application/xml")
}

fn no_answer_of_s3(what: &str) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: Box::new(NotS3(what.to_owned())) }
}

/// The result of an operation, within the time that it may take.
async fn within<T>(time: Duration, operation: BoxFuture<'_, object_store::Result<T>>) -> Result<T, (Trouble, String)> {
    match tokio::time::timeout(time, operation).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(object_store::Error::NotFound { source, .. })) if !source.to_string().contains("NoSuchBucket") => {
            Err((Trouble::Other, MISSING.to_owned()))
        }
        Ok(Err(error)) if ends_before(&error) => Err((Trouble::Other, MISSING.to_owned())),
        Ok(Err(error)) => Err(trouble(&error)),
        Err(_) => Err((Trouble::Unreachable, no_answer(time))),
    }
}

fn no_answer(time: Duration) -> String {
    format!("no answer in {} s", time.as_secs_f32().ceil())
}

/// The detail of an error that says that there is no such object.
const MISSING: &str = "no such object";

/// Whether the store says, in one of the ways that stores do, that it doesn't support this.
fn is_not_implemented(error: &object_store::Error) -> bool {
    let text = error.to_string();
    matches!(error, object_store::Error::NotImplemented { .. })
        || ["NotImplemented", "MethodNotAllowed", "InvalidArgument", "InvalidRequest"]
            .iter()
            .any(|code| text.contains(&format!("<Code>{code}</Code>")))
        || ["status code: 501", "status code: 405"].iter().any(|status| text.contains(status))
}

/// Whether it says that an object ends before what was asked of it.
fn ends_before(error: &object_store::Error) -> bool {
    let text = error.to_string();
    text.contains("<Code>InvalidRange</Code>") || text.contains("status code: 416")
}
