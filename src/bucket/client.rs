//! The HTTP client of a bucket: counts requests where they are sent, refuses answers that aren't S3's, and says which
//! proxy was in between.
//!
//! Proxies are those of `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`. A server on this machine's loopback is
//! never asked through one: no proxy elsewhere could reach it.

use super::{
    answers::{Asked, Head},
    figures::Counters,
    listing,
    trouble::{NotS3, ThroughProxy},
};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper_util::client::proxy::matcher::Matcher;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use url::{Host, Url};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Most bytes of a page of a listing: a thousand keys of a thousand bytes, each of which may be written as six.
const PAGE_BYTES: usize = 16 << 20;
/// Most bytes of any other answer that isn't an object: an error, or what became of a thousand keys.
const ANSWER_BYTES: usize = 16 << 20;

/// Makes clients for one bucket.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    /// The bucket's name.
    pub(super) bucket: String,
    /// The server, if one is given.
    pub(super) endpoint: Option<String>,
    /// Whether plain HTTP is allowed.
    pub(super) allow_http: bool,
    pub(super) counters: Arc<Counters>,
}

#[derive(Debug)]
struct Client {
    client: HttpClient,
    bucket: String,
    /// `None` if no proxy is used.
    proxies: Option<Matcher>,
    counters: Arc<Counters>,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let is_here = self.endpoint.as_deref().is_some_and(is_loopback);
        // The caller sets timeouts, because it knows how many bytes are on their way. A request is signed for one host,
        // so following a redirect would be pointless and would end at some other server's page.
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .https_only(!self.allow_http)
            .http1_only()
            // A body that was decompressed on the way would have a different length from the object.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .user_agent(concat!("peerfold/", env!("CARGO_PKG_VERSION")));
        if is_here {
            client = client.no_proxy();
        }
        let client =
            client.build().map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        Ok(HttpClient::new(Client {
            client: HttpClient::new(client),
            bucket: self.bucket.clone(),
            proxies: (!is_here).then(Matcher::from_system),
            counters: self.counters.clone(),
        }))
    }
}

/// Whether a server's address is one of this machine's own, which only this machine can reach.
fn is_loopback(endpoint: &str) -> bool {
    match Url::parse(endpoint).ok().as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Counters { lists, reads, writes, deletes, sent, .. } = &*self.counters;
        let asked = Asked::of(&request);
        let class: &AtomicU64 = match asked {
            Asked::List { .. } => lists,
            Asked::Read { .. } => reads,
            Asked::Write => writes,
            Asked::Delete | Asked::DeleteSeveral { .. } => deletes,
        };
        class.fetch_add(1, Ordering::Relaxed);
        sent.fetch_add(request.body().content_length() as u64, Ordering::Relaxed);
        let proxy = self.proxies.as_ref().and_then(|proxies| proxies.intercept(request.uri()));
        let answered = match self.client.execute(request).await {
            Ok(response) => self.checked(&asked, response).await,
            Err(error) => Err(error),
        };
        match proxy {
            // Its URI is without name and password.
            Some(proxy) => answered.map_err(|error| {
                HttpError::new(error.kind(), ThroughProxy { proxy: proxy.uri().to_string(), source: Box::new(error) })
            }),
            None => answered,
        }
    }
}

impl Client {
    /// The answer, if it is one of S3's.
    async fn checked(&self, asked: &Asked, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let counters = self.counters.clone();
        let response = response.map(|body| {
            HttpResponseBody::new(body.map_frame(move |frame| {
                if let Some(data) = frame.data_ref() {
                    counters.received.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                frame
            }))
        });
        // Not retried at once: a page in between stays there for a while.
        let refused = |error: NotS3| HttpError::new(HttpErrorKind::Decode, error);
        let head = Head::of(&response);
        if head.is_success() {
            asked.check_head(&head).map_err(refused)?;
        }
        if !asked.is_document(&head) {
            return Ok(response);
        }
        let is_listing = head.is_success() && matches!(asked, Asked::List { .. });
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, if is_listing { PAGE_BYTES } else { ANSWER_BYTES }).collect().await;
        // Cut off on the way: it is asked for again.
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, CutOff(error.to_string())))?;
        let mut body: Bytes = body.to_bytes();
        if is_listing {
            body = listing::readable(&String::from_utf8_lossy(&body)).into();
        }
        match head.is_success() {
            true => asked.check_body(&head, &body, &self.bucket),
            false => asked.check_refusal(&head, &body),
        }
        .map_err(refused)?;
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("connection lost in an answer: {0}")]
struct CutOff(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_machine_is_known() {
        for endpoint in [
            "http://127.0.0.1:9000",
            "http://127.8.9.1",
            "http://localhost:9000/",
            "http://LOCALHOST",
            "http://minio.localhost:1",
            "https://localhost.:9000",
            "http://[::1]:9000",
            "http://[::ffff:127.0.0.1]:9000",
        ] {
            assert!(is_loopback(endpoint), "{endpoint}");
        }
        for endpoint in
            ["http://192.0.2.1:9000", "http://localhost.example", "http://mylocalhost", "http://[2001:db8::1]", ""]
        {
            assert!(!is_loopback(endpoint), "{endpoint}");
        }
    }
}
