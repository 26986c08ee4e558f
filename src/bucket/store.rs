//! The objects of one federation in a store, by their names: listing, reading, writing, deleting, each with an end.

use super::{
    mirror::{Listed, Mark},
    names::{Name, Place},
    trouble::{BucketError, Trouble, patience, trouble},
};
use bytes::Bytes;
use futures::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::{BoxFuture, ready},
    stream,
};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, PutMode, PutOptions, PutPayload, path::Path};
use std::{ops::Range, sync::Arc};

/// A connection to a bucket.
pub(crate) struct Connection {
    /// The bucket.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The same, deleting one object at a time, for stores that can't several.
    pub(crate) one_by_one: Arc<dyn ObjectStore>,
    /// Asks for credentials anew.
    pub(crate) renew: Box<dyn Fn() + Send + Sync>,
}

/// One federation's objects.
pub(crate) struct Store {
    connection: Connection,
    place: Place,
    /// As in `--folder`, for messages.
    bucket: String,
}

/// What became of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Written,
    /// There is an object of this name already.
    Exists,
}

impl Store {
    pub(crate) fn new(connection: Connection, place: Place, bucket: String) -> Self {
        Self { connection, place, bucket }
    }

    /// Where an object lies, for messages.
    pub(crate) fn path(&self, name: &Name) -> Path {
        self.place.path(name)
    }

    /// All objects that are ours to understand.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, BucketError> {
        let listed = |meta: ObjectMeta| {
            let name = self.place.name(&meta.location)?;
            let modified = meta.last_modified.timestamp_millis();
            Some(Listed { name, mark: Mark { size: meta.size, modified, tag: meta.e_tag } })
        };
        self.attempt("listing", 0, || {
            let objects = self.connection.store.list(Some(self.place.root()));
            objects.try_filter_map(|meta| ready(Ok(listed(meta)))).try_collect().boxed()
        })
        .await
    }

    /// These bytes of an object, all of them without a range; `None` if there is no such object, or it ends before.
    pub(crate) async fn get(
        &self,
        name: &Name,
        range: Option<Range<u64>>,
        size: u64,
    ) -> Result<Option<Bytes>, BucketError> {
        let path = self.place.path(name);
        let what = format!("reading {path}");
        let length = range.as_ref().map_or(size, |range| range.end - range.start);
        let read = || {
            let range = range.clone().map(GetRange::Bounded);
            let getting = self.connection.store.get_opts(&path, GetOptions { range, ..GetOptions::default() });
            getting
                .and_then(|got| async move {
                    // A store may give more than it was asked for, or its listing may lie.
                    if got.range.end - got.range.start > length { Ok(None) } else { got.bytes().await.map(Some) }
                })
                .boxed()
        };
        let got = self.attempt(&what, length, read).await;
        match got {
            Ok(bytes) => Ok(bytes.filter(|bytes| bytes.len() as u64 == length)),
            Err(error) if error.trouble == Trouble::Other && error.detail == MISSING => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an object, whatever is there.
    pub(crate) async fn put(&self, name: &Name, payload: PutPayload) -> Result<(), BucketError> {
        self.write(&self.place.path(name), payload, PutMode::Overwrite).await.map(drop)
    }

    /// Writes an object unless there is one, where the store can tell; else whatever is there.
    pub(crate) async fn create(&self, name: &Name, payload: PutPayload) -> Result<Put, BucketError> {
        self.write(&self.place.path(name), payload, PutMode::Create).await
    }

    async fn write(&self, path: &Path, payload: PutPayload, mode: PutMode) -> Result<Put, BucketError> {
        let length = payload.content_length() as u64;
        let store = &self.connection.store;
        let write = |mode: PutMode| store.put_opts(path, payload.clone(), PutOptions { mode, ..PutOptions::default() });
        let write = || {
            let (first, mode) = (write(mode.clone()), mode.clone());
            async move {
                match first.await {
                    Ok(_) => Ok(Put::Written),
                    Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                        Ok(Put::Exists)
                    }
                    // A store without conditional writes.
                    Err(error) if mode == PutMode::Create && is_not_implemented(&error) => {
                        write(PutMode::Overwrite).await.map(|_| Put::Written)
                    }
                    Err(error) => Err(error),
                }
            }
            .boxed()
        };
        self.attempt(&format!("writing {path}"), length, write).await
    }

    /// Deletes objects. What is not there is no error.
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
            // Not every store can delete several at once.
            together.or_else(|_| one_by_one).boxed()
        };
        self.attempt("deleting", 0, both).await
    }

    /// Tries, within the time that so many bytes may take; once more with new credentials, if they had expired.
    async fn attempt<'a, T>(
        &self,
        what: &str,
        bytes: u64,
        operation: impl Fn() -> BoxFuture<'a, object_store::Result<T>>,
    ) -> Result<T, BucketError> {
        let mut result = within(bytes, operation()).await;
        if matches!(result, Err((Trouble::Expired | Trouble::UnknownKey, _))) {
            (self.connection.renew)();
            result = within(bytes, operation()).await;
        }
        result.map_err(|(trouble, detail)| self.error(what, trouble, detail))
    }

    pub(crate) fn error(&self, what: &str, trouble: Trouble, detail: String) -> BucketError {
        BucketError { bucket: self.bucket.clone(), what: what.to_owned(), trouble, detail }
    }
}

/// The result of an operation that moves so many bytes, within the time that it may take.
async fn within<T>(bytes: u64, operation: BoxFuture<'_, object_store::Result<T>>) -> Result<T, (Trouble, String)> {
    match tokio::time::timeout(patience(bytes), operation).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(object_store::Error::NotFound { source, .. })) if !source.to_string().contains("NoSuchBucket") => {
            Err((Trouble::Other, MISSING.to_owned()))
        }
        Ok(Err(error)) => Err(trouble(&error)),
        Err(_) => Err((Trouble::Unreachable, format!("no answer in {} s", patience(bytes).as_secs()))),
    }
}

/// The detail of an error that says that there is no such object.
const MISSING: &str = "no such object";

fn is_not_implemented(error: &object_store::Error) -> bool {
    let text = error.to_string();
    matches!(error, object_store::Error::NotImplemented { .. }) || text.contains("<Code>NotImplemented</Code>")
}
