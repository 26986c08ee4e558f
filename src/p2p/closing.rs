//! Connections that are closed within some time, whatever the other end does.
//!
//! Before a connection closes, what is under way on it is sent. If the other end has vanished, that waits until the
//! system gives up, for a quarter of an hour, and all the while the peer counts as connected.

use libp2p::core::{StreamMuxer, muxing::StreamMuxerEvent};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// How long what is under way may take to be sent.
const PATIENCE: Duration = Duration::from_secs(3);

/// A connection whose end doesn't wait for the other side.
pub(super) struct Closing<M> {
    inner: Pin<Box<M>>,
    patience: Duration,
    /// Since it is being closed.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<M> Closing<M> {
    pub(super) fn new(inner: M) -> Self {
        Self { inner: Box::pin(inner), patience: PATIENCE, waits: None }
    }
}

impl<M: StreamMuxer> StreamMuxer for Closing<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        self.inner.as_mut().poll_inbound(context)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        self.inner.as_mut().poll_outbound(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        if let Poll::Ready(closed) = self.inner.as_mut().poll_close(context) {
            return Poll::Ready(closed);
        }
        let patience = self.patience;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(patience)));
        waits.as_mut().poll(context).map(Ok)
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        self.inner.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::io::Cursor;
    use libp2p::core::muxing::StreamMuxerExt;
    use std::{convert::Infallible, time::Instant};

    /// One whose other end takes nothing.
    struct Stuck;

    impl StreamMuxer for Stuck {
        type Substream = Cursor<Vec<u8>>;
        type Error = Infallible;

        fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<Self::Substream, Infallible>> {
            Poll::Pending
        }

        fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<Self::Substream, Infallible>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Infallible>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn one_that_is_stuck_closes_in_time() {
        let began = Instant::now();
        let closing = Closing { patience: Duration::from_millis(50), ..Closing::new(Stuck) };
        closing.close().await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(50));
    }
}
