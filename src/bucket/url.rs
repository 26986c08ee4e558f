//! The URL of a bucket.

use super::url_path;
use crate::settings::named;
use object_store::path::Path;
use std::{fmt, str::FromStr};
use url::Url;

/// How a bucket's URL begins.
const SCHEME: &str = "s3://";

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

/// The URL is taken as written: percent-encoded characters are decoded, and nothing is normalised.
impl FromStr for BucketUrl {
    type Err = BucketUrlError;

    fn from_str(text: &str) -> Result<Self, BucketUrlError> {
        let wrong = |reason| BucketUrlError { text: text.to_owned(), reason };
        let begins = text.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME));
        let rest = text.get(SCHEME.len()..).filter(|_| begins).ok_or_else(|| wrong("it doesn't begin with s3://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains(['@', ':']) {
            return Err(wrong("keys and ports don't belong there; --s3-endpoint names a server"));
        }
        if bucket.is_empty() {
            return Err(wrong("it names no bucket"));
        }
        if bucket.contains(['?', '#']) {
            return Err(wrong("something follows the bucket"));
        }
        if !bucket.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            return Err(wrong("a bucket's name has letters, digits, dots and hyphens"));
        }
        let mut parts = url_path::parts(prefix).map_err(wrong)?;
        parts.pop_if(|last| last.is_empty());
        if parts.iter().any(String::is_empty) {
            return Err(wrong("two slashes follow each other in its prefix"));
        }
        let prefix = Path::parse(parts.join("/")).map_err(|_| wrong("its prefix can't be"))?;
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        let prefix = url_path::encoded(self.prefix.as_ref());
        if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
    }
}

named!(BucketUrl);

/// Whether a store's address is HTTPS; an error if it isn't HTTP either.
pub(crate) fn check_endpoint(endpoint: &str) -> Result<bool, String> {
    let url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    let url = url.ok_or("is no http:// or https:// URL of a server")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a name or password in it: keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or fragment in it, where there are only a server and perhaps a path".to_owned());
    }
    // A normalised URL would differ from the one that requests are signed for.
    let is_clean = !endpoint.contains(|c: char| c == '\\' || c.is_whitespace() || c.is_control());
    let path = endpoint.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let is_kept = url.path().trim_matches('/') == path.trim_matches('/');
    if !is_clean || !is_kept || url_path::parts(path).is_err() {
        return Err(format!("is not written as it is meant; is it {url}?"));
    }
    Ok(url.scheme() == "https")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_are_read_and_shown() {
        for (text, shown) in [
            ("s3://weights", "s3://weights"),
            ("S3://weights/", "s3://weights"),
            ("s3://weights/a/b/", "s3://weights/a/b"),
            ("s3://my.weights-1/a%20b", "s3://my.weights-1/a b"),
            ("s3://weights/run%231/100%25/%3f", "s3://weights/run%231/100%25/%3F"),
            ("s3://weights/a%252Fb", "s3://weights/a%252Fb"),
            ("s3://weights/..a/b..", "s3://weights/..a/b.."),
        ] {
            let url: BucketUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.to_string().parse::<BucketUrl>().unwrap(), url);
        }
        let url: BucketUrl = "s3://weights/a%252Fb/c%23".parse().unwrap();
        assert_eq!(url.prefix().as_ref(), "a%2Fb/c#");
    }

    #[test]
    fn what_would_become_another_prefix_is_an_error() {
        for (text, part) in [
            ("s3:", "s3://"),
            ("s3:weights", "s3://"),
            ("https://w", "s3://"),
            (" s3://weights", "s3://"),
            ("s3://", "no bucket"),
            ("s3:///prefix", "no bucket"),
            ("s3://key:secret@weights", "--s3-endpoint"),
            ("s3://weights:9000", "--s3-endpoint"),
            ("s3://weights?x", "follows the bucket"),
            ("s3://weights#x", "follows the bucket"),
            ("s3://wei ghts", "letters"),
            ("s3://wei%67hts", "letters"),
            ("s3://w/x?y", "%3F"),
            ("s3://w/x#y", "%23"),
            ("s3://w/a/../x", ".."),
            ("s3://w/..", ".."),
            ("s3://w/a/./x", ".."),
            ("s3://w/a/%2e%2E/x", ".."),
            ("s3://w/a%2fx", "slash"),
            ("s3://w/a//b", "two slashes"),
            ("s3://w//b", "two slashes"),
            ("s3://w/a//", "two slashes"),
            ("s3://w/100%", "%25"),
            ("s3://w/a%00", "control"),
            ("s3://w/a\n", "control"),
        ] {
            let error = text.parse::<BucketUrl>().unwrap_err().to_string();
            assert!(error.contains("s3://BUCKET") && error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_server_is_named_as_it_is_meant() {
        for (endpoint, is_encrypted) in [
            ("https://minio.example:9000", true),
            ("http://127.0.0.1:9000/", false),
            ("http://[::1]:9000", false),
            ("HTTPS://Minio.example:443", true),
            ("https://gateway.example/s3/", true),
        ] {
            assert_eq!(check_endpoint(endpoint), Ok(is_encrypted), "{endpoint}");
        }
        for (endpoint, part) in [
            ("", "URL of a server"),
            ("minio.example:9000", "URL of a server"),
            ("ftp://minio.example", "URL of a server"),
            ("http://", "URL of a server"),
            ("http://key:secret@minio.example", "AWS_SECRET_ACCESS_KEY"),
            ("http://minio.example/?x", "query"),
            ("http://minio.example/#x", "query"),
            ("http://minio.example/a/../b", "http://minio.example/b"),
            ("http://minio.example/a/%2e%2e/b", "http://minio.example/b"),
            ("http://minio.example/a%2Fb", "as it is meant"),
            ("http://minio.example\\b c", "as it is meant"),
            (" http://minio.example", "as it is meant"),
            ("http://minio.example/a\tb", "as it is meant"),
        ] {
            let error = check_endpoint(endpoint).unwrap_err();
            assert!(error.contains(part) && !error.contains("secret@"), "{endpoint}: {error}");
        }
    }
}
