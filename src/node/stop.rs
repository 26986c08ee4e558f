//! A request to stop that training loops can poll and nodes can wait for.

use tokio::sync::watch;

/// A request to stop that training loops can look at and nodes can wait for. Clones share it; it can't be taken back.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    requested: watch::Sender<bool>,
}

impl Stop {
    /// Not requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests the stop.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    /// Whether it was requested.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Waits for the request.
    pub async fn requested(&self) {
        let mut receiver = self.requested.subscribe();
        // The sender lives as long as `self`, so this ends only when the value is true.
        let _ = receiver.wait_for(|requested| *requested).await;
    }
}
