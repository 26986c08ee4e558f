//! A connection that can be reset, and that reports when written bytes have been sent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::{error, fmt};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What a fault and the connection that it breaks have to tell each other.
#[derive(Default)]
pub struct Line {
    reset: AtomicBool,
    flush: Mutex<Flush>,
}

#[derive(Default)]
enum Flush {
    #[default]
    Unasked,
    Asked(Waker),
    Done,
}

#[derive(Clone, Copy)]
pub enum End {
    /// As when the peer crashed: RST.
    Reset,
    /// As when the peer closed the connection: FIN.
    Close,
}

/// Given to hyper in place of an answer or a frame, upon which it drops the connection.
#[derive(Debug)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl error::Error for Cut {}

impl Line {
    pub fn cut(&self, end: End) -> Cut {
        self.reset.store(matches!(end, End::Reset), Relaxed);
        Cut
    }

    /// Waits until all that hyper has buffered is written, for it drops its buffer along with the connection.
    pub fn poll_flushed(&self, context: &Context<'_>) -> Poll<()> {
        let mut flush = self.flush.lock().unwrap();
        if matches!(*flush, Flush::Done) {
            return Poll::Ready(());
        }
        *flush = Flush::Asked(context.waker().clone());
        Poll::Pending
    }

    fn flushed(&self) {
        let mut flush = self.flush.lock().unwrap();
        if let Flush::Asked(waker) = &*flush {
            waker.wake_by_ref();
            *flush = Flush::Done;
        }
    }
}

pub struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Wire {
    pub fn new(stream: TcpStream, line: &Arc<Line>) -> Self {
        Self { stream, line: Arc::clone(line) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.reset.load(Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.line.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
