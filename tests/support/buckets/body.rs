//! HTTP bodies that count what passes, and bodies that corrupt it.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};

use super::requests::Entry;
use super::wire::{End, Line};

pub type Failure = Box<dyn Error + Send + Sync>;
pub type Payload = UnsyncBoxBody<Bytes, Failure>;

pub fn payload<B>(body: B) -> Payload
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Failure>,
{
    body.map_err(Into::into).boxed_unsync()
}

pub fn whole(bytes: impl Into<Bytes>) -> Payload {
    payload(Full::new(bytes.into()))
}

/// Adds what passes to the request's entry, before the receiver can have it.
pub struct Counted<B> {
    body: B,
    entry: Arc<Entry>,
    direction: Direction,
}

#[derive(Clone, Copy)]
pub enum Direction {
    Request,
    Response,
}

impl<B> Counted<B> {
    pub fn new(body: B, entry: &Arc<Entry>, direction: Direction) -> Self {
        Self { body, entry: Arc::clone(entry), direction }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(data) = next.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            let counter = match self.direction {
                Direction::Request => &self.entry.request_bytes,
                Direction::Response => &self.entry.response_bytes,
            };
            counter.fetch_add(data.len() as u64, Relaxed);
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, broken at one place.
pub struct Broken {
    body: Payload,
    passed: u64,
    damage: Damage,
}

pub enum Damage {
    Cut { after: u64, end: End, line: Arc<Line> },
    Flip { offset: u64 },
}

impl Broken {
    pub fn new(body: Payload, damage: Damage) -> Self {
        Self { body, passed: 0, damage }
    }
}

impl Body for Broken {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = &mut *self;
        if let Damage::Cut { after, end, line } = &this.damage
            && this.passed == *after
        {
            ready!(line.poll_flushed(context));
            return Poll::Ready(Some(Err(line.cut(*end).into())));
        }
        let data = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            },
            end => return Poll::Ready(end),
        };
        let length = data.len() as u64;
        let data = match this.damage {
            Damage::Cut { after, .. } => data.slice(..length.min(after - this.passed) as usize),
            Damage::Flip { offset } if (this.passed..this.passed + length).contains(&offset) => {
                let mut bytes = data.to_vec();
                bytes[(offset - this.passed) as usize] ^= 0xff;
                bytes.into()
            }
            Damage::Flip { .. } => data,
        };
        this.passed += data.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.damage, Damage::Flip { .. }) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
