//! Which routes to other nodes work: the network, the bucket, both or neither.

use super::Health;
use tokio::sync::watch;

/// Which of the ways to others work, for a node that has a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    /// Whether a member of the federation is connected; `None` without a network.
    pub network: Option<bool>,
    /// Whether the bucket can be read and written.
    pub bucket: bool,
    /// Why the bucket can't be.
    pub reason: Option<String>,
}

impl Routes {
    pub(super) fn of(health: &Health, members: Option<&watch::Receiver<usize>>) -> Self {
        let trouble = health.trouble();
        Self {
            network: members.map(|members| *members.borrow() > 0),
            bucket: trouble.is_none(),
            reason: trouble.map(ToString::to_string),
        }
    }

    /// In words: `network and bucket`, `network only`, `bucket only`, `neither`.
    pub fn words(&self) -> &'static str {
        match (self.network, self.bucket) {
            (Some(true), true) => "network and bucket",
            (Some(true), false) => "network only",
            (Some(false), true) => "bucket only",
            (None, true) => "bucket",
            (_, false) => "neither",
        }
    }
}

/// Reports every change, until nobody listens or the bucket is dropped.
pub(super) async fn run(
    mut health: watch::Receiver<Health>,
    mut members: Option<watch::Receiver<usize>>,
    routes: watch::Sender<Routes>,
) {
    let mut kind = health.borrow().trouble().map(|error| error.trouble);
    loop {
        let (now, trouble) = {
            let health = health.borrow_and_update();
            (Routes::of(&health, members.as_ref()), health.trouble().map(|error| error.trouble))
        };
        // A different request failing in the same way isn't news.
        let is_news = std::mem::replace(&mut kind, trouble) != trouble;
        routes.send_if_modified(|before| {
            if (before.network, before.bucket) == (now.network, now.bucket) && !is_news {
                return false;
            }
            if (before.network, before.bucket) != (now.network, now.bucket) {
                tracing::info!("the others are reached by: {}", now.words());
            }
            before.clone_from(&now);
            true
        });
        let connected = async {
            match &mut members {
                Some(members) => members.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let goes_on = tokio::select! {
            changed = health.changed() => changed.is_ok(),
            changed = connected => changed,
        };
        if !goes_on {
            return;
        }
    }
}
