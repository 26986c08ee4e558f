//! Faults to inject between a client and its bucket.

use std::sync::Mutex;

use tokio::sync::watch;
use tokio::time::timeout;

use super::PATIENCE;
use super::requests::{Class, Entry};

/// A rule: which requests it breaks, how many of them, and how.
#[derive(Clone, Debug)]
pub struct Fault {
    /// All, unless a class is named.
    pub class: Option<Class>,
    /// What the object's key, or the prefix of a listing, must contain. Bulk deletes have no key.
    pub key: Option<String>,
    /// Only writes that must not replace anything.
    pub conditional: bool,
    /// Until it is cleared, unless a number is given.
    pub times: Option<usize>,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// Answers with an S3 error.
    Status { status: u16, code: String },
    /// Reads the request and then does nothing until the client gives up. When the fault is cleared, the request goes
    /// on its way, as after a stall of the network.
    Hang,
    /// Resets the connection after so many bytes of the answer's body. A client that reads slowly gets fewer, because
    /// a reset drops what waits in the system's buffers.
    ResetInBody { after: u64 },
    /// Closes the connection after so many bytes of the answer's body, short of its Content-Length.
    Truncate { after: u64 },
    /// Resets the connection after a part of the request's body. The bucket never sees the request.
    CutRequest,
    /// Resets the connection instead of answering. The bucket has done what was asked.
    LoseAnswer,
    /// The same, but closes the connection, as a server does that is shut down. Clients tend to take that for a
    /// request which was never read, and send it again.
    HangUp,
    /// Leaves the objects whose key contains this out of listings, as an eventually consistent bucket would. Breaks
    /// listings only, whatever the class.
    HideFromListing { containing: String },
    /// Inverts a byte of the answer's body.
    Flip { offset: u64 },
    /// Answers in the bucket's place, as a login page, a proxy or another server does.
    Page(Page),
    /// Answers with so many bytes of the answer, and says that these are all.
    Shorten { to: u64 },
}

/// An answer that isn't the bucket's.
#[derive(Clone, Debug)]
pub struct Page {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Fault {
    /// Breaks every request until it is cleared.
    pub fn new(kind: Kind) -> Self {
        let class = matches!(kind, Kind::HideFromListing { .. }).then_some(Class::List);
        Self { class, key: None, conditional: false, times: None, kind }
    }

    /// Answers with an S3 error: 503 SlowDown, 500 InternalError, 403 AccessDenied, 403 RequestTimeTooSkewed…
    pub fn status(status: u16, code: &str) -> Self {
        Self::new(Kind::Status { status, code: code.to_owned() })
    }

    /// Answers with a page of this status and type.
    pub fn page(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type", kind.to_owned())];
        Self::new(Kind::Page(Page { status, headers, body: body.into() }))
    }

    /// A page with one header more.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Kind::Page(page) = &mut self.kind {
            page.headers.push((name, value.to_owned()));
        }
        self
    }

    pub fn on(self, class: Class) -> Self {
        Self { class: Some(class), ..self }
    }

    pub fn key(self, containing: &str) -> Self {
        Self { key: Some(containing.to_owned()), ..self }
    }

    pub fn conditional(self) -> Self {
        Self { conditional: true, ..self }
    }

    pub fn times(self, times: usize) -> Self {
        Self { times: Some(times), ..self }
    }

    fn matches(&self, request: &Entry) -> bool {
        self.class.is_none_or(|class| class == request.class)
            && (request.conditional || !self.conditional)
            && self.key.as_ref().is_none_or(|key| request.key().contains(key.as_str()))
            && (request.class == Class::List || !matches!(self.kind, Kind::HideFromListing { .. }))
    }
}

/// The rules in force.
#[derive(Default)]
pub struct Faults {
    rules: Mutex<Vec<Fault>>,
    hits: watch::Sender<usize>,
    cleared: watch::Sender<()>,
}

impl Faults {
    pub fn inject(&self, fault: Fault) {
        self.rules.lock().unwrap().push(fault);
    }

    pub fn clear(&self) {
        self.rules.lock().unwrap().clear();
        self.cleared.send_replace(());
    }

    pub fn hits(&self) -> usize {
        *self.hits.borrow()
    }

    pub async fn until_hit(&self, times: usize) {
        let mut hits = self.hits.subscribe();
        let hit = hits.wait_for(|hits| *hits >= times);
        timeout(PATIENCE, hit).await.expect("the fault is hit in time").expect("the sender lives");
    }

    /// Tells when the rules of now are cleared.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.cleared.subscribe()
    }

    /// Uses up one time of the first rule that matches.
    pub fn take(&self, request: &Entry) -> Option<Kind> {
        let mut rules = self.rules.lock().unwrap();
        let fault = rules.iter_mut().find(|fault| fault.times != Some(0) && fault.matches(request))?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        self.hits.send_modify(|hits| *hits += 1);
        Some(fault.kind.clone())
    }
}
