//! Settings of a bucket.

use super::{BucketUrl, url::check_endpoint};
use crate::{
    secret::Secret,
    settings::{Form, Range, Unfit, Value, Written, settings},
};
use std::{fmt, time::Duration};

settings! {
    /// How to use a bucket, alone or behind a network.
    pub struct BucketSettings under "Bucket" {
        /// A bucket behind the network, s3://bucket/prefix: what is published goes there too, and what no peer gives
        /// comes from there.
        pub fallback as "fallback": Option<BucketUrl> = None, "URL";
        /// Seconds to wait for peers to give a value before the fallback is asked.
        pub after as "fallback-after": Duration = Duration::from_secs(3), "SECONDS";
        /// Seconds, and one more for each MiB, that an author who has published, by the network, nothing new in the
        /// fallback is waited for until its newest update is relayed there.
        pub relay_after as "relay-after": Duration = Duration::from_secs(10), "SECONDS";
        /// The store's server, for stores other than AWS. [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the
        /// profile's, AWS]
        pub endpoint as "s3-endpoint": Option<Endpoint> = None, "URL";
        /// Let the endpoint be plain HTTP, which hides nothing.
        pub allow_http as "s3-allow-http": bool = false, "BOOL";
        /// Seconds between two listings of the bucket while there is news.
        pub poll as "s3-poll": Duration = Duration::from_secs(1), "SECONDS", Range::above(0.0);
        /// Seconds up to which the time between two listings grows while there is none.
        ///
        /// By a quarter each time. Below [`poll`](Self::poll) it is that.
        pub poll_idle as "s3-poll-idle": Duration = Duration::from_secs(30), "SECONDS";
        /// Seconds, by the store's clock, for which this node's objects are kept when nothing needs them any more.
        ///
        /// So who has just listed them can still read them.
        pub grace as "s3-grace": Duration = Duration::from_secs(300), "SECONDS";
    }
}

/// The address of a store's server: an `http://` or `https://` URL without keys in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(pub String);

impl Value for Endpoint {
    const FORM: Form = Form::Text;

    fn read(written: &Written) -> Result<Self, Unfit> {
        let text = written.to_string();
        check_endpoint(&text).map_err(Unfit::new)?;
        Ok(Self(text))
    }

    fn write(&self) -> Option<Written> {
        Some(Written::Text(self.0.clone()))
    }
}

/// What a bucket is used with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BucketOptions {
    /// How.
    pub settings: BucketSettings,
    /// The keys; otherwise those from variables, shared files and profiles, or the machine's role.
    pub keys: Option<BucketKeys>,
    /// What hides all that lies there from who doesn't have it.
    pub secret: Option<Secret>,
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
