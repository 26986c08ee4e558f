//! What a folder tells by itself while a session lives, as events: which routes to others work, how peers are reached, and
//! which are dropped.

use super::{Event, EventSink, background::AbortOnDrop, told_singly::ToldSingly};
use crate::{
    bucket::Routes,
    folder::SharedFolder,
    p2p::{DroppedPeer, ReachedPeer},
};
use std::time::Instant;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};

/// The tasks; they end with this.
#[derive(Default)]
pub(super) struct ToldByFolder {
    _routes: Option<AbortOnDrop>,
    _dropped: Option<AbortOnDrop>,
    _reached: Option<AbortOnDrop>,
}

impl ToldByFolder {
    /// From now on. A folder that knows none of it costs nothing.
    pub(super) fn follow(folder: &dyn SharedFolder, events: &EventSink) -> Self {
        let dropped = folder.dropped_peers().map(|dropped| tokio::spawn(tell_dropped(dropped, events.clone())));
        let routes = folder.routes().map(|routes| tokio::spawn(tell_routes(routes, events.clone())));
        let reached = folder.reached_peers().map(|(early, reached)| {
            let events = events.clone();
            tokio::spawn(tell_reached(early, reached, events))
        });
        let [_routes, _dropped, _reached] = [routes, dropped, reached].map(|task| task.map(AbortOnDrop));
        Self { _routes, _dropped, _reached }
    }
}

/// Now, and whenever they change.
async fn tell_routes(mut routes: watch::Receiver<Routes>, events: EventSink) {
    loop {
        let Routes { network, bucket, reason } = routes.borrow_and_update().clone();
        events(&Event::Routes { network, bucket, reason });
        if routes.changed().await.is_err() {
            return;
        }
    }
}

/// So many a minute; the figures count all.
async fn tell_dropped(mut dropped: broadcast::Receiver<DroppedPeer>, events: EventSink) {
    let mut told = ToldSingly::new(Instant::now());
    loop {
        match dropped.recv().await {
            Ok(DroppedPeer { peer, reason, length }) => {
                if told.one_more(Instant::now()).0 {
                    events(&Event::PeerDropped { peer: peer.to_string(), reason, seconds: length.as_secs() });
                }
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// So many a minute.
async fn tell_reached(early: Vec<ReachedPeer>, mut reached: broadcast::Receiver<ReachedPeer>, events: EventSink) {
    let [mut told, mut told_not] = [ToldSingly::new(Instant::now()), ToldSingly::new(Instant::now())];
    let mut early = early.into_iter();
    loop {
        let next = match early.next() {
            Some(early) => Ok(early),
            None => reached.recv().await,
        };
        match next {
            Ok(ReachedPeer { peer, way: Some(way), reason }) => {
                if told.one_more(Instant::now()).0 {
                    events(&Event::PeerReached { peer: peer.to_string(), way, reason });
                }
            }
            Ok(ReachedPeer { peer, way: None, reason }) => {
                if told_not.one_more(Instant::now()).0 {
                    let reason = reason.unwrap_or_default();
                    events(&Event::PeerNotReached { peer: peer.to_string(), reason });
                }
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use libp2p_identity::PeerId;
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    #[tokio::test]
    async fn dropped_peers_are_told_even_if_some_were_missed() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let events: EventSink = {
            let told = told.clone();
            Arc::new(move |event: &Event| told.lock().unwrap().push(event.clone()))
        };
        let (dropped, taken) = broadcast::channel(2);
        let peers: Vec<PeerId> = (0..5).map(|_| PeerId::random()).collect();
        for peer in &peers {
            let (reason, length) = ("wrong bytes".to_owned(), Duration::from_secs(600));
            dropped.send(DroppedPeer { peer: *peer, reason, length }).unwrap();
        }
        drop(dropped);
        tell_dropped(taken, events).await;
        let event = |peer: &PeerId| Event::PeerDropped {
            peer: peer.to_string(),
            reason: "wrong bytes".to_owned(),
            seconds: 600,
        };
        assert_eq!(*told.lock().unwrap(), [event(&peers[3]), event(&peers[4])]);
    }
}
