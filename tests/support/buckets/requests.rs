//! A record of the requests that clients made.

use std::mem;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use hyper::header::IF_NONE_MATCH;
use hyper::{Method, Request, StatusCode, Uri};

/// One request, and what has become of it so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// As it was sent, percent-encoded.
    pub path: String,
    pub query: String,
    pub class: Class,
    pub request_bytes: u64,
    /// The bytes of the body that were handed to the connection. When the client goes away in the middle, the last
    /// of them may not have reached it.
    pub response_bytes: u64,
    /// 0 as long as there is no answer, and for good when the connection was cut instead.
    pub status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// `ListObjectsV2`, and any other GET of a bucket.
    List,
    /// `GetObject`, ranges included.
    Get,
    Head,
    /// `PutObject` and `UploadPart`.
    Put,
    Delete,
    /// `DeleteObjects`.
    BulkDelete,
    Other,
}

impl Class {
    fn of(method: &Method, uri: &Uri) -> Self {
        let object = uri.path().trim_matches('/').contains('/');
        match *method {
            Method::GET if object => Self::Get,
            Method::GET => Self::List,
            Method::HEAD => Self::Head,
            Method::PUT if object => Self::Put,
            Method::DELETE if object => Self::Delete,
            Method::POST if parameter(uri.query().unwrap_or_default(), "delete").is_some() => Self::BulkDelete,
            _ => Self::Other,
        }
    }
}

impl Seen {
    /// The object's key, or the prefix that a listing asks for.
    pub fn key(&self) -> String {
        key_of(self.class, &self.path, &self.query)
    }
}

/// A request that may still be under way.
pub struct Entry {
    method: Method,
    uri: Uri,
    pub class: Class,
    /// Whether it has the header `If-None-Match`.
    pub conditional: bool,
    pub request_bytes: AtomicU64,
    pub response_bytes: AtomicU64,
    status: AtomicU16,
}

impl Entry {
    pub fn answered(&self, status: StatusCode) {
        self.status.store(status.as_u16(), Relaxed);
    }

    pub fn key(&self) -> String {
        key_of(self.class, self.uri.path(), self.uri.query().unwrap_or_default())
    }

    fn seen(&self) -> Seen {
        Seen {
            method: self.method.to_string(),
            path: self.uri.path().to_owned(),
            query: self.uri.query().unwrap_or_default().to_owned(),
            class: self.class,
            request_bytes: self.request_bytes.load(Relaxed),
            response_bytes: self.response_bytes.load(Relaxed),
            status: self.status.load(Relaxed),
        }
    }
}

#[derive(Default)]
pub struct Log(Mutex<Vec<Arc<Entry>>>);

impl Log {
    pub fn open<B>(&self, request: &Request<B>) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            method: request.method().clone(),
            uri: request.uri().clone(),
            class: Class::of(request.method(), request.uri()),
            conditional: request.headers().contains_key(IF_NONE_MATCH),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            status: AtomicU16::new(0),
        });
        self.0.lock().unwrap().push(Arc::clone(&entry));
        entry
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().iter().map(|entry| entry.seen()).collect()
    }

    pub fn forget(&self) {
        drop(mem::take(&mut *self.0.lock().unwrap()));
    }
}

fn key_of(class: Class, path: &str, query: &str) -> String {
    match class {
        Class::List => decoded(parameter(query, "prefix").unwrap_or_default()),
        _ => decoded(path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key)),
    }
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (found == name).then_some(value)
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|pair| str::from_utf8(pair).ok());
        match hex.filter(|_| *first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
