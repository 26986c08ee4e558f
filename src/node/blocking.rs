//! A session for programs that are not async.

use super::{Begun, Completed, LocalUpdate, NodeError, Origin, Session};
use crate::{
    bucket::BucketFigures,
    folder::{HandedOver, NetworkFigures, Traffic},
    weights::Weights,
};
use bytes::Bytes;
use std::{future::Future, pin::Pin, sync::mpsc, time::Duration};
use tokio::runtime::{Builder, Runtime};

type Operation<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A [`Session`] for programs that are not async: training loops.
///
/// It has a runtime of its own, whose thread answers the network while the caller trains. Every method blocks the
/// calling thread until it is done, and may be called inside and outside a tokio runtime. Inside one, call it from a
/// thread that may block.
pub struct BlockingSession {
    /// Away only while an operation runs.
    session: Option<Session>,
    /// There until the drop.
    runtime: Option<Runtime>,
}

impl BlockingSession {
    /// Starts the runtime and makes the session in it.
    pub fn new(make: impl FnOnce() -> Result<Session, NodeError>) -> Result<Self, NodeError> {
        let built = Builder::new_multi_thread().worker_threads(1).thread_name("peerfold").enable_all().build();
        let runtime = built.map_err(|error| NodeError::Worker(error.to_string()))?;
        let session = {
            let _inside = runtime.enter();
            make()?
        };
        Ok(Self { session: Some(session), runtime: Some(runtime) })
    }

    /// See [`Session::begin`].
    pub fn begin(&mut self, initial: (Weights, Origin), trainer: Bytes) -> Result<Begun, NodeError> {
        self.wait(move |session| Box::pin(session.begin(initial, trainer)))?
    }

    /// See [`Session::epoch_trained`].
    pub fn epoch_trained(&mut self, local: LocalUpdate, trainer: Bytes) -> Result<Completed, NodeError> {
        self.wait(move |session| Box::pin(session.epoch_trained(local, trainer)))?
    }

    /// See [`Session::save_progress`].
    pub fn save_progress(&mut self, steps: u64, trainer: Bytes) -> Result<(), NodeError> {
        self.wait(move |session| Box::pin(session.save_progress(steps, trainer)))?
    }

    /// See [`Session::finish`].
    pub fn finish(&mut self) -> Result<(), NodeError> {
        self.wait(|session| Box::pin(session.finish()))?
    }

    /// See [`Session::hand_over`].
    pub fn hand_over(&mut self, patience: Duration) -> Result<Option<HandedOver>, NodeError> {
        self.wait(move |session| Box::pin(session.hand_over(patience)))
    }

    /// See [`Session::stay`].
    pub fn stay(&mut self) -> Result<(), NodeError> {
        self.wait(|session| Box::pin(session.stay()))
    }

    /// How the network stands, if the folder is one.
    pub fn network(&self) -> Option<NetworkFigures> {
        self.session.as_ref().and_then(Session::network)
    }

    /// What the bucket has cost so far, if the folder has one.
    pub fn bucket(&self) -> Option<BucketFigures> {
        self.session.as_ref().and_then(Session::bucket)
    }

    /// What the folder has moved so far.
    pub fn traffic(&self) -> Traffic {
        self.session.as_ref().map(Session::traffic).unwrap_or_default()
    }

    fn wait<T: Send + 'static>(
        &mut self,
        operation: impl for<'a> FnOnce(&'a mut Session) -> Operation<'a, T> + Send + 'static,
    ) -> Result<T, NodeError> {
        let lost = || NodeError::Worker("the node's task ended early".to_owned());
        let (Some(runtime), Some(mut session)) = (&self.runtime, self.session.take()) else { return Err(lost()) };
        let (done, waiting) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            let result = operation(&mut session).await;
            // The receiver is the caller, which waits.
            let _ = done.send((result, session));
        });
        let (result, session) = waiting.recv().map_err(|_| lost())?;
        self.session = Some(session);
        Ok(result)
    }
}

impl Drop for BlockingSession {
    fn drop(&mut self) {
        // Dropping a runtime blocks, which inside another runtime is a panic.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
