//! Background work: blocking work on a separate thread, and tasks that end with their owner.

use super::NodeError;
use tokio::task::JoinHandle;

/// Runs blocking work on a separate thread. If the caller is cancelled, the work still completes.
pub(super) async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| NodeError::Worker(error.to_string()))
}

/// A task that ends with its owner.
pub(super) struct AbortOnDrop(pub(super) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
