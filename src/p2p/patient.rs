//! A codec that gives up on a peer with which nothing gets on, and on no other: a line may be as slow as it is.

use futures::{AsyncRead, AsyncWrite};
use libp2p::{StreamProtocol, request_response::Codec};
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// What must be read or written in each [`Patience::stall`] at least, unless that ends it. A byte at a time would keep a
/// stream, and what is held for it, for as long as a peer likes. Less than a yamux window lets pass at once.
const LEAST: usize = 16 << 10;
/// How long a request may take however well it gets on.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// How long to wait for a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until an answer begins.
    pub(super) answer: Duration,
    /// For what must get on in this time.
    pub(super) stall: Duration,
}

/// Reads and writes as its inner codec does, but fails with [`io::ErrorKind::TimedOut`] once it has waited for too long.
#[derive(Debug, Clone)]
pub(super) struct Patient<C> {
    inner: C,
    patience: Patience,
}

impl<C> Patient<C> {
    pub(super) fn new(inner: C, patience: Patience) -> Self {
        Self { inner, patience }
    }
}

impl<C: Codec<Protocol = StreamProtocol> + Send> Codec for Patient<C> {
    type Protocol = StreamProtocol;
    type Request = C::Request;
    type Response = C::Response;

    async fn read_request<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<C::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let stall = self.patience.stall;
        let io = &mut Watched { io, wait: Wait::new(stall, stall, "the peer's request stops in the middle") };
        self.inner.read_request(protocol, io).await
    }

    async fn read_response<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<C::Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        let Patience { answer, stall } = self.patience;
        let io = &mut Watched { io, wait: Wait::new(answer, stall, "nothing more comes of the peer's answer") };
        self.inner.read_response(protocol, io).await
    }

    async fn write_request<T>(&mut self, protocol: &StreamProtocol, io: &mut T, request: C::Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let stall = self.patience.stall;
        let io = &mut Watched { io, wait: Wait::new(stall, stall, "the peer takes nothing") };
        self.inner.write_request(protocol, io, request).await
    }

    async fn write_response<T>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
        response: C::Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let stall = self.patience.stall;
        let io = &mut Watched { io, wait: Wait::new(stall, stall, "the peer takes nothing") };
        self.inner.write_response(protocol, io, response).await
    }
}

/// What has got on since when.
struct Wait {
    /// Until something is read or written.
    first: Duration,
    then: Duration,
    /// What is said when it has been too long.
    over: &'static str,
    has_begun: bool,
    /// Since the peer was first waited for; and how many bytes have passed since.
    window: Option<Pin<Box<Sleep>>>,
    passed: usize,
}

impl Wait {
    fn new(first: Duration, then: Duration, over: &'static str) -> Self {
        Self { first, then, over, has_begun: false, window: None, passed: 0 }
    }

    /// What was got, or an error if it has been waited for too long.
    fn within(&mut self, context: &mut Context<'_>, got: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(got) = got {
            let bytes = *got.as_ref().unwrap_or(&0);
            if bytes > 0 && !self.has_begun {
                (self.has_begun, self.window) = (true, None);
            }
            self.passed += bytes;
            return Poll::Ready(got);
        }
        loop {
            let long = if self.has_begun { self.then } else { self.first };
            let window = self.window.get_or_insert_with(|| {
                self.passed = 0;
                Box::pin(sleep(long))
            });
            if window.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if self.passed < LEAST {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, self.over)));
            }
            self.window = None;
        }
    }
}

/// A stream that fails when it has waited too long for its peer.
struct Watched<'a, T> {
    io: &'a mut T,
    wait: Wait,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<'_, T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let got = Pin::new(&mut *self.io).poll_read(context, into);
        self.wait.within(context, got)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let got = Pin::new(&mut *self.io).poll_write(context, bytes);
        self.wait.within(context, got)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let got = Pin::new(&mut *self.io).poll_flush(context).map_ok(|()| 0);
        self.wait.within(context, got).map_ok(|_| ())
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let got = Pin::new(&mut *self.io).poll_close(context).map_ok(|()| 0);
        self.wait.within(context, got).map_ok(|_| ())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, TryStreamExt, stream};
    use std::time::Instant;

    const SHORT: Duration = Duration::from_millis(300);
    /// A busy machine must not take so long.
    const LONG: Duration = Duration::from_secs(5);

    /// Reads all of these parts, each of which comes so long after the one before.
    async fn read(parts: Vec<(Duration, usize)>, first: Duration, then: Duration) -> io::Result<usize> {
        let total = parts.iter().map(|(_, bytes)| bytes).sum();
        let parts = stream::iter(parts).then(async |(after, bytes)| {
            sleep(after).await;
            Ok(vec![1; bytes])
        });
        // It stays open.
        let mut parts = Box::pin(parts.chain(stream::pending())).into_async_read();
        let mut io = Watched { io: &mut parts, wait: Wait::new(first, then, "too long") };
        io.read_exact(&mut vec![0; total]).await.map(|()| total)
    }

    #[tokio::test]
    async fn what_gets_on_is_waited_for_however_slow_it_is() {
        // Each comes in time, and all together don't.
        let slow = vec![(LONG / 20, LEAST); 25];
        assert_eq!(read(slow, LONG, LONG).await.unwrap(), 25 * LEAST);
        let late = vec![(2 * SHORT, 1), (Duration::ZERO, 1)];
        assert_eq!(read(late, LONG, SHORT).await.unwrap(), 2, "an answer may begin late");
    }

    #[tokio::test]
    async fn what_stops_or_drips_is_given_up() {
        let now = Duration::ZERO;
        for (parts, first) in [
            (vec![(LONG, 1)], SHORT),
            (vec![(now, LEAST), (LONG, 1)], LONG),
            (vec![(SHORT / 10, 1); 1000], LONG),
            (std::iter::once((now, 2 * LEAST)).chain(vec![(SHORT / 10, 1); 1000]).collect(), LONG),
        ] {
            let began = Instant::now();
            let error = read(parts.clone(), first, SHORT).await.unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::TimedOut, "too long"));
            assert!(began.elapsed() >= SHORT && began.elapsed() < LONG, "{:?} of {parts:?}", began.elapsed());
        }
    }

    /// Takes nothing.
    struct Full;

    impl AsyncWrite for Full {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn who_takes_nothing_is_given_up() {
        let mut io = Watched { io: &mut Full, wait: Wait::new(SHORT, SHORT, "too long") };
        assert_eq!(io.write_all(&[1]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut io = Watched { io: &mut Full, wait: Wait::new(SHORT, SHORT, "too long") };
        assert_eq!(io.flush().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
