//! A codec that gives up on a peer that takes nothing.

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

/// Reads and writes as its inner codec does, but fails with [`io::ErrorKind::TimedOut`] once nothing of what is written
/// has been taken for so long.
#[derive(Debug, Clone)]
pub(super) struct Patient<C> {
    inner: C,
    patience: Duration,
}

impl<C> Patient<C> {
    pub(super) fn new(inner: C, patience: Duration) -> Self {
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
        self.inner.read_request(protocol, io).await
    }

    async fn read_response<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<C::Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.inner.read_response(protocol, io).await
    }

    async fn write_request<T>(&mut self, protocol: &StreamProtocol, io: &mut T, request: C::Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let io = &mut Writer { io, patience: self.patience, waits: None };
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
        let io = &mut Writer { io, patience: self.patience, waits: None };
        self.inner.write_response(protocol, io, response).await
    }
}

/// Fails when it has waited too long for a write to get on.
struct Writer<'a, T> {
    io: &'a mut T,
    patience: Duration,
    /// Since the last write that got on, if one waits.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncWrite + Unpin> Writer<'_, T> {
    fn within<O>(&mut self, context: &mut Context<'_>, got: Poll<io::Result<O>>) -> Poll<io::Result<O>> {
        if got.is_ready() {
            self.waits = None;
            return got;
        }
        let patience = self.patience;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(patience)));
        waits.as_mut().poll(context).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Writer<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let got = Pin::new(&mut *self.io).poll_write(context, bytes);
        self.within(context, got)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let got = Pin::new(&mut *self.io).poll_flush(context);
        self.within(context, got)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let got = Pin::new(&mut *self.io).poll_close(context);
        self.within(context, got)
    }
}
