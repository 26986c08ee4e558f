//! A session for programs that aren't async: it has a runtime of its own, and every call blocks until it is done.

use super::{Begun, Completed, Figures, LocalUpdate, NodeError, Origin, SavedState, Session};
use crate::{folder::HandedOver, weights::Weights};
use std::{future::Future, io::Write, pin::Pin, sync::mpsc, time::Duration};
use tokio::runtime::{Builder, Runtime};

type Operation<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A [`Session`] for programs that are not async: training loops.
///
/// It has a runtime of its own, whose thread answers the network while the caller trains. Every method blocks the
/// calling thread until it is done, and may be called inside and outside a tokio runtime. Inside one, call it from a
/// thread that may block.
pub struct BlockingSession {
    /// `None` only while an operation runs.
    session: Option<Session>,
    /// There until the drop.
    runtime: Option<Runtime>,
}

impl BlockingSession {
    /// Starts the runtime and makes the session in it.
    pub fn new(make: impl FnOnce() -> Result<Session, NodeError>) -> Result<Self, NodeError> {
        let built = Builder::new_multi_thread().worker_threads(1).thread_name("peerfold").enable_all().build();
        let runtime = built.map_err(|source| NodeError::Runtime { source })?;
        let session = {
            let _inside = runtime.enter();
            make()?
        };
        Ok(Self { session: Some(session), runtime: Some(runtime) })
    }

    /// See [`Session::begin`].
    pub fn begin(&mut self, initial: (Weights, Origin), trainer: SavedState) -> Result<Begun, NodeError> {
        self.wait(move |session| Box::pin(session.begin(initial, trainer)))?
    }

    /// See [`Session::write_state`].
    pub fn write_state<E: From<NodeError>>(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<SavedState, E> {
        self.session.as_ref().ok_or(NodeError::SessionLost)?.write_state(write)
    }

    /// See [`Session::epoch_trained`].
    pub fn epoch_trained(&mut self, local: LocalUpdate, trainer: SavedState) -> Result<Completed, NodeError> {
        self.wait(move |session| Box::pin(session.epoch_trained(local, trainer)))?
    }

    /// See [`Session::save_progress`].
    pub fn save_progress(&mut self, steps: u64, weights: Weights, trainer: SavedState) -> Result<bool, NodeError> {
        self.wait(move |session| Box::pin(session.save_progress(steps, weights, trainer)))?
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

    /// See [`Session::figures`].
    pub fn figures(&self) -> Figures {
        self.session.as_ref().map(Session::figures).unwrap_or_default()
    }

    fn wait<T: Send + 'static>(
        &mut self,
        operation: impl for<'a> FnOnce(&'a mut Session) -> Operation<'a, T> + Send + 'static,
    ) -> Result<T, NodeError> {
        let (Some(runtime), Some(mut session)) = (&self.runtime, self.session.take()) else {
            return Err(NodeError::SessionLost);
        };
        let (done, waiting) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            let result = operation(&mut session).await;
            // The receiver is the waiting caller.
            let _ = done.send((result, session));
        });
        let (result, session) = waiting.recv().map_err(|_| NodeError::SessionLost)?;
        self.session = Some(session);
        Ok(result)
    }
}

impl Drop for BlockingSession {
    fn drop(&mut self) {
        // Dropping a runtime blocks, which panics inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
