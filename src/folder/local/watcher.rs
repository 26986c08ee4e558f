//! The thread that looks for changes while somebody watches.

use super::DirectoryView;
use notify::{RecursiveMode, Watcher as _};
use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

/// How often the directory is looked at without a notification. Notifications don't cross a network share.
const LOOK_EVERY: Duration = Duration::from_secs(2);

enum Wake {
    Changed,
    Stop,
}

/// Looks for changes until it is dropped.
pub(super) struct Watcher {
    wake: SyncSender<Wake>,
    /// Sends `Wake::Changed`. `None` where the system has no notifications.
    notifications: Option<notify::RecommendedWatcher>,
}

impl Watcher {
    pub(super) fn start(shared: &Arc<DirectoryView>) -> Self {
        let (wake, woken) = mpsc::sync_channel(1);
        let changed = wake.clone();
        let notifications = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !matches!(event, Ok(event) if event.kind.is_access()) {
                // A full channel holds a wake-up already.
                let _ = changed.try_send(Wake::Changed);
            }
        });
        let notifications = notifications.and_then(|mut watcher| {
            watcher.watch(shared.root(), RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        let notifications = notifications
            .inspect_err(|error| tracing::debug!(%error, "no notifications; looking every two seconds"))
            .ok();
        let shared = Arc::downgrade(shared);
        thread::spawn(move || {
            loop {
                let Some(shared) = shared.upgrade() else { return };
                if let Err(error) = shared.refresh() {
                    tracing::warn!(%error, "looking for changes in the folder");
                }
                drop(shared);
                match woken.recv_timeout(LOOK_EVERY) {
                    Ok(Wake::Changed) | Err(RecvTimeoutError::Timeout) => {}
                    Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Self { wake, notifications }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.notifications.take());
        // When the channel is full the thread wakes anyway, and finds it disconnected.
        let _ = self.wake.try_send(Wake::Stop);
    }
}
