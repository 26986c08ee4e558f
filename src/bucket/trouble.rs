//! What can go wrong with a bucket, and what to do about it.

use std::{error::Error, fmt, io, time::Duration};

/// What kind of trouble a bucket gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such bucket.
    NoBucket,
    /// No credentials were found.
    NoCredentials,
    /// The store doesn't know the access key.
    UnknownKey,
    /// The secret key doesn't belong to the access key.
    WrongSecret,
    /// The credentials don't allow it.
    NoPermission,
    /// The bucket is in another region than was asked.
    WrongRegion,
    /// What lies there is sealed with a secret, and this node has none.
    NeedsSecret,
    /// What lies there is sealed with another secret.
    OtherSecret,
    /// This node has a secret, and others of its federation have left things there without one.
    NotSealed,
    /// The endpoint isn't a URL, or plain HTTP hasn't been allowed.
    Endpoint,
    /// This program was built without the feature `s3`.
    NotBuilt,
    /// The system gives no threads for the bucket, or they ended at once.
    Threads,
    /// What was written disappears as soon as it is there.
    Vanishes,
    /// The credentials have expired.
    Expired,
    /// This machine's clock differs too much from the store's.
    ClockSkew,
    /// The store asks us to slow down, or has an internal error.
    Busy,
    /// No connection, or no answer in time.
    Unreachable,
    /// What answers isn't S3: a login page, a proxy, or another server.
    NotS3,
    /// Anything else that the store answers.
    Other,
}

/// Why something could not be done with a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketError {
    /// The bucket, as in `--folder`.
    pub bucket: String,
    /// What was tried: `listing`, or `writing` with the object's name.
    pub what: String,
    /// What kind of trouble it is.
    pub trouble: Trouble,
    /// What the store said.
    pub detail: String,
}

impl Trouble {
    /// Whether it stays until somebody fixes something.
    pub fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Expired
                | Self::ClockSkew
                | Self::Busy
                | Self::Unreachable
                | Self::NotS3
                | Self::Vanishes
                | Self::Other
        )
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::NoBucket => "there is no such bucket: create it, or mend the URL",
            Self::NoCredentials => {
                "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a \
                 profile in ~/.aws, or give the machine a role"
            }
            Self::UnknownKey => "the store doesn't know the access key: check AWS_ACCESS_KEY_ID or the profile",
            Self::WrongSecret => {
                "the secret key doesn't belong to the access key: check AWS_SECRET_ACCESS_KEY or the profile"
            }
            Self::NoPermission => {
                "the credentials don't allow it: their policy must allow s3:ListBucket on the bucket, and s3:GetObject, \
                 s3:PutObject and s3:DeleteObject on what is under the prefix"
            }
            Self::WrongRegion => "the bucket is in another region: set AWS_REGION to the one that it was made in",
            Self::NeedsSecret => {
                "what lies there is encrypted with a federation's secret: give its file with --secret, or take another \
                 prefix of the bucket"
            }
            Self::OtherSecret => {
                "what lies there is encrypted with another secret than that of --secret: is it the right file? Each secret \
                 needs a prefix of its own, also a new secret of the same federation"
            }
            Self::NotSealed => {
                "others of this federation have left things there without a secret: all of them need it; with a new \
                 secret take a new prefix of the bucket"
            }
            Self::Endpoint => "the endpoint can't be used",
            Self::NotBuilt => "this program was built without the feature s3: build it with it",
            Self::Threads => {
                "the threads that work with it can't be started: raise the limits of this machine's threads"
            }
            Self::Vanishes => {
                "what is written vanishes at once: something else deletes in it, perhaps a rule for old objects; let it \
                 leave the prefix alone"
            }
            Self::Expired => "the credentials have expired: renew them; a running node asks for them anew",
            Self::ClockSkew => "this machine's clock differs too much from the store's: set it",
            Self::Busy => "the store is busy or fails inside",
            Self::Unreachable => "the store doesn't answer",
            Self::NotS3 => {
                "what answers there isn't S3, but a login page, a proxy or another server: check the endpoint (a store's \
                 console has a port of its own) and the way to it"
            }
            Self::Other => "the store refuses",
        }
    }
}

impl fmt::Display for BucketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, what, trouble, detail } = self;
        write!(f, "{what} in {bucket} failed: {}", trouble.remedy())?;
        if detail.is_empty() { Ok(()) } else { write!(f, " ({detail})") }
    }
}

impl Error for BucketError {}

/// There are no credentials, or they can't be obtained. Used as the source of an error from the store's client.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CredentialError(pub(crate) String, pub(crate) Trouble);

/// What came instead of one of S3's answers, in words. Used as the source of an error from the store's client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotS3(pub(crate) String);

/// The failed request went through a proxy. Used as the source of an error from the store's client.
#[derive(Debug, thiserror::Error)]
#[error("through the proxy {proxy}: {source}")]
pub(crate) struct ThroughProxy {
    /// Its URL, without name and password.
    pub(crate) proxy: String,
    pub(crate) source: Box<dyn Error + Send + Sync>,
}

/// What an error of the store's client means. A missing object is [`Trouble::Other`], and the caller's to look for.
pub(super) fn trouble(error: &object_store::Error) -> (Trouble, String) {
    let (found, said) = meaning(error);
    match sources(error).find_map(|source| source.downcast_ref::<ThroughProxy>()) {
        Some(ThroughProxy { proxy, .. }) => (found, format!("{said}, through the proxy {}", clean(proxy))),
        None => (found, said),
    }
}

/// An error's sources, from the nearest to the last.
fn sources<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&inner| inner.source())
}

fn meaning(error: &object_store::Error) -> (Trouble, String) {
    if let Some(NotS3(what)) = sources(error).find_map(|source| source.downcast_ref::<NotS3>()) {
        return (Trouble::NotS3, clean(what));
    }
    let credentials = sources(error).find_map(|source| source.downcast_ref::<CredentialError>());
    if let Some(CredentialError(reason, trouble)) = credentials {
        return (*trouble, clean(reason));
    }
    let text = error.to_string();
    let code = between(&text, "<Code>", "</Code>").unwrap_or_default();
    let status = between(&text, "non-2xx status code: ", " ").unwrap_or_default();
    let found = match (code, status) {
        ("NoSuchBucket" | "InvalidBucketName", _) => Trouble::NoBucket,
        ("InvalidAccessKeyId" | "NotSignedUp" | "InvalidToken", _) => Trouble::UnknownKey,
        ("SignatureDoesNotMatch", _) => Trouble::WrongSecret,
        ("ExpiredToken" | "TokenRefreshRequired" | "ExpiredTokenException", _) => Trouble::Expired,
        ("RequestTimeTooSkewed" | "RequestExpired", _) => Trouble::ClockSkew,
        ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _) => {
            Trouble::WrongRegion
        }
        ("SlowDown" | "InternalError" | "ServiceUnavailable" | "RequestTimeout" | "OperationAborted", _) => {
            Trouble::Busy
        }
        ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, "401" | "403") => Trouble::NoPermission,
        (_, "429" | "408") => Trouble::Busy,
        (_, status) if status.len() == 3 && status.starts_with('5') => Trouble::Busy,
        _ if text.contains("redirect without LOCATION") => Trouble::WrongRegion,
        _ if text.contains("Got invalid list response") => Trouble::NotS3,
        _ => return of_sources(error),
    };
    let message = between(&text, "<Message>", "</Message>").unwrap_or_default();
    let said: Vec<&str> = [status, code, message].into_iter().filter(|part| !part.is_empty()).collect();
    (found, clean(&said.join(" ")))
}

/// An error without an answer from the store. The last of its sources describes it best.
fn of_sources(error: &object_store::Error) -> (Trouble, String) {
    let mut found = Trouble::Other;
    let mut last = error.to_string();
    for inner in sources(error) {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            let connection = [
                io::ErrorKind::ConnectionRefused,
                io::ErrorKind::ConnectionReset,
                io::ErrorKind::ConnectionAborted,
                io::ErrorKind::BrokenPipe,
                io::ErrorKind::UnexpectedEof,
                io::ErrorKind::TimedOut,
                io::ErrorKind::NotConnected,
                io::ErrorKind::HostUnreachable,
                io::ErrorKind::NetworkUnreachable,
            ];
            found = if connection.contains(&inner.kind()) { Trouble::Unreachable } else { found };
        }
        let text = inner.to_string();
        if ["HTTP error", "error sending request", "dns error", "timed out", "connection"]
            .iter()
            .any(|part| text.contains(part))
        {
            found = Trouble::Unreachable;
        }
        last = text;
    }
    (found, clean(&last))
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inside, _)| inside)
}

/// A store's text goes to terminals and logs.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// How long a request with this many bytes may take. An unanswered request must not hold up the others, but a slow line
/// isn't a dead one, so the time that the bytes take at 64 KiB a second is added.
pub(super) fn patience(least: Duration, bytes: u64) -> Duration {
    least.saturating_add(Duration::from_secs(bytes / (64 << 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn answers_are_understood() {
        let answer = |status: &str, code: &str| {
            generic(&format!(
                "Error performing GET http://x in 1ms - Server returned non-2xx status code: {status} X: \
                 <?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>so it is</Message></Error>"
            ))
        };
        for (status, code, expected) in [
            ("404", "NoSuchBucket", Trouble::NoBucket),
            ("400", "InvalidBucketName", Trouble::NoBucket),
            ("403", "SignatureDoesNotMatch", Trouble::WrongSecret),
            ("403", "InvalidAccessKeyId", Trouble::UnknownKey),
            ("403", "AccessDenied", Trouble::NoPermission),
            ("403", "Whatever", Trouble::NoPermission),
            ("403", "RequestTimeTooSkewed", Trouble::ClockSkew),
            ("400", "ExpiredToken", Trouble::Expired),
            ("503", "SlowDown", Trouble::Busy),
            ("502", "Whatever", Trouble::Busy),
            ("301", "PermanentRedirect", Trouble::WrongRegion),
            ("400", "Whatever", Trouble::Other),
        ] {
            let (found, said) = trouble(&answer(status, code));
            assert_eq!(found, expected, "{status} {code}");
            assert!(expected == Trouble::Other || said.contains(code) && said.contains("so it is"), "{said}");
        }
    }
}
