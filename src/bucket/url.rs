//! Which bucket, and how to use it.

use libp2p_identity::PeerId;
use object_store::path::Path;
use std::{collections::BTreeSet, fmt, ops::RangeInclusive, str::FromStr, time::Duration};
use url::Url;

/// A bucket and a prefix in it: `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    bucket: String,
    prefix: Path,
}

/// The text is no bucket's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no bucket's URL ({reason}); write s3://BUCKET or s3://BUCKET/PREFIX")]
pub struct BucketUrlError {
    text: String,
    reason: &'static str,
}

impl BucketUrl {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(super) fn prefix(&self) -> &Path {
        &self.prefix
    }
}

impl FromStr for BucketUrl {
    type Err = BucketUrlError;

    fn from_str(text: &str) -> Result<Self, BucketUrlError> {
        let wrong = |reason| BucketUrlError { text: text.to_owned(), reason };
        let url = Url::parse(text).map_err(|_| wrong("it is no URL"))?;
        if url.scheme() != "s3" {
            return Err(wrong("it doesn't begin with s3://"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.port().is_some() {
            return Err(wrong("keys and ports don't belong there; --s3-endpoint names a server"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("something follows the prefix"));
        }
        let bucket = url.host_str().filter(|bucket| !bucket.is_empty()).ok_or_else(|| wrong("it names no bucket"))?;
        let prefix = Path::from_url_path(url.path()).map_err(|_| wrong("its prefix can't be"))?;
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.as_ref().is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// Whether a store's address is one of HTTPS; an error if it is none of HTTP either.
#[cfg(any(feature = "cli", feature = "s3"))]
pub(crate) fn check_endpoint(endpoint: &str) -> Result<bool, String> {
    match Url::parse(endpoint) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => Ok(url.scheme() == "https"),
        _ => Err("is no http:// or https:// URL of a server".to_owned()),
    }
}

/// An access key and its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketKeys {
    pub(super) id: String,
    pub(super) secret: String,
}

impl BucketKeys {
    /// The access key's ID, and the secret.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: secret.into() }
    }
}

/// The secret doesn't go into logs.
impl fmt::Debug for BucketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketKeys({})", self.id)
    }
}

/// How to use a bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketOptions {
    /// The server, for stores other than AWS; else what `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or the profile say.
    pub endpoint: Option<String>,
    /// Whether the endpoint may be plain HTTP.
    pub allow_http: bool,
    /// The keys; else what variables, shared files and profiles, or the machine's role give.
    pub keys: Option<BucketKeys>,
    /// Shortest and longest time between two listings that nobody asked for. As long as they show nothing new the time
    /// grows, by a quarter each time.
    pub poll: RangeInclusive<Duration>,
    /// How long an own object that nothing needs any more is kept, by the store's clock, so that who has just listed it
    /// can still read it.
    pub grace: Duration,
    /// Behind a network: how long an author who has published, by the network, nothing new in the bucket is waited for,
    /// and a second for each MiB, until its newest update is relayed there.
    pub relay_after: Duration,
    /// Behind a network: whose updates may be relayed; `None` for anybody's.
    pub relayed: Option<BTreeSet<PeerId>>,
    /// Behind a network: how long to wait for peers to give a value before the bucket is asked.
    pub after: Duration,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            allow_http: false,
            keys: None,
            poll: Duration::from_secs(1)..=Duration::from_secs(30),
            grace: Duration::from_secs(300),
            relay_after: Duration::from_secs(10),
            relayed: None,
            after: Duration::from_secs(3),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_are_read_and_shown() {
        for (text, shown) in [
            ("s3://weights", "s3://weights"),
            ("s3://weights/", "s3://weights"),
            ("s3://weights/a/b/", "s3://weights/a/b"),
            ("s3://my.weights-1/a%20b", "s3://my.weights-1/a b"),
        ] {
            let url: BucketUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.to_string().parse::<BucketUrl>().unwrap(), url);
        }
        for text in
            ["s3:", "s3://", "s3:///prefix", "s3://key:secret@weights", "s3://weights:9000", "s3://w/x?y", "https://w"]
        {
            let error = text.parse::<BucketUrl>().unwrap_err().to_string();
            assert!(error.contains("s3://BUCKET"), "{text}: {error}");
        }
    }
}
