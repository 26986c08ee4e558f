//! Connecting to S3 and compatible stores: region, endpoint, and credentials where AWS users expect them.

use super::{
    client::Connector,
    figures::Counters,
    settings::{BucketKeys, BucketOptions, BucketSettings},
    store::Connection,
    trouble::{BucketError, CredentialError, Trouble},
    url::{BucketUrl, check_endpoint},
};
use async_trait::async_trait;
use aws_config::{BehaviorVersion, SdkConfig, meta::region::RegionProviderChain};
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError};
use object_store::{
    BackoffConfig, ClientOptions, CredentialProvider, RetryConfig,
    aws::{AmazonS3Builder, AwsCredential, S3ConditionalPut},
};
use std::{
    env, fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// The region of stores that have none.
const NO_REGION: &str = "us-east-1";
/// How long before they expire credentials are renewed.
const EARLY: Duration = Duration::from_secs(300);
/// How long to go on with old credentials that are still valid when new ones can't be obtained.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How long credentials without an expiry are trusted: files change.
const BELIEVED: Duration = Duration::from_secs(900);
/// How often, and for how long, a request is retried.
const RETRIES: usize = 4;
const RETRY_WITHIN: Duration = Duration::from_secs(15);

/// Connects: finds region, endpoint and credentials. Asks the store nothing.
pub(super) async fn connect(
    url: &BucketUrl,
    options: &BucketOptions,
    counters: Arc<Counters>,
) -> Result<Connection, BucketError> {
    let wrong = |trouble, detail: String| BucketError {
        bucket: url.to_string(),
        what: "connecting".to_owned(),
        trouble,
        detail,
    };
    let BucketSettings { endpoint, allow_http, .. } = &options.settings;
    let own = endpoint.as_ref().map(|endpoint| endpoint.0.clone());
    let own = own.or_else(|| env::var("AWS_ENDPOINT_URL_S3").ok().filter(|text| !text.is_empty()));
    let config = load(own.is_some()).await;
    let endpoint = own.or_else(|| config.endpoint_url().map(str::to_owned));
    let region = config.region().map_or(NO_REGION, |region| region.as_ref()).to_owned();
    let keys = options.keys.clone();
    let credentials = Arc::new(Credentials { keys, own_endpoint: endpoint.is_some(), held: Mutex::default() });
    credentials.remember(&config);
    let connector =
        Connector { bucket: url.bucket().to_owned(), endpoint: endpoint.clone(), allow_http: *allow_http, counters };
    let mut builder = AmazonS3Builder::new()
        .with_client_options(ClientOptions::new().with_allow_http(*allow_http))
        .with_bucket_name(url.bucket())
        .with_region(region)
        .with_credentials(credentials.clone())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_http_connector(connector)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(3),
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: RETRY_WITHIN,
        });
    if let Some(endpoint) = endpoint {
        let is_encrypted =
            check_endpoint(&endpoint).map_err(|reason| wrong(Trouble::Endpoint, format!("{endpoint} {reason}")))?;
        if !allow_http && !is_encrypted {
            let detail =
                format!("{endpoint} is plain HTTP, which shows the weights to everybody between: add --s3-allow-http");
            return Err(wrong(Trouble::Endpoint, detail));
        }
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    let build = |one_by_one: bool| {
        let built = builder.clone().with_disable_bulk_delete(one_by_one).build();
        built.map_err(|error| wrong(Trouble::Endpoint, error.to_string()))
    };
    Ok(Connection {
        store: Arc::new(build(false)?),
        one_by_one: Arc::new(build(true)?),
        renew: Box::new(move || credentials.forget()),
    })
}

/// What variables, shared files and, unless the store is another than AWS, the machine's own service say.
async fn load(other_store: bool) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    if !other_store {
        return loader.load().await;
    }
    let region = RegionProviderChain::first_try(aws_config::environment::EnvironmentVariableRegionProvider::new())
        .or_else(aws_config::profile::ProfileFileRegionProvider::new())
        .or_else(NO_REGION);
    let region = region.region().await;
    loader.region(region).load().await
}

/// Credentials of the default chain: variables, shared files and profiles, web identity, container, instance.
struct Credentials {
    /// The keys given to the program.
    keys: Option<BucketKeys>,
    own_endpoint: bool,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    provider: Option<aws_credential_types::provider::SharedCredentialsProvider>,
    credential: Option<HeldCredential>,
    /// Whether there have been any yet. If so, losing them is waited out; if not, the user is told what to set.
    ever: bool,
}

struct HeldCredential {
    credential: Arc<AwsCredential>,
    /// When to ask for new ones.
    until: SystemTime,
    /// When they expire, if they do.
    expiry: Option<SystemTime>,
}

impl Credentials {
    fn remember(&self, config: &SdkConfig) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).provider = config.credentials_provider();
    }

    /// The next request asks for new ones, and rereads shared files.
    fn forget(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Held { ever: held.ever, ..Held::default() };
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        if let Some(BucketKeys { id, secret }) = self.keys.clone() {
            return Ok(Arc::new(AwsCredential { key_id: id, secret_key: secret, token: None }));
        }
        let held = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        if let Some(held) = held().credential.as_ref().filter(|held| held.until > now) {
            return Ok(held.credential.clone());
        }
        let known = held().provider.clone();
        let provider = match known {
            Some(provider) => provider,
            None => {
                let config = load(self.own_endpoint).await;
                self.remember(&config);
                let none = || credential_error("nothing provides any", Trouble::NoCredentials);
                config.credentials_provider().ok_or_else(none)?
            }
        };
        let provided = match provider.provide_credentials().await {
            Ok(provided) => provided,
            Err(error) => {
                let mut held = held();
                if let Some(old) = held.credential.as_mut().filter(|old| old.expiry.is_some_and(|end| end > now)) {
                    tracing::warn!(%error, "there are no new credentials; the old ones are still good");
                    old.until = now + ASK_AGAIN;
                    return Ok(old.credential.clone());
                }
                return Err(not_provided(&error, held.ever));
            }
        };
        let credential = Arc::new(AwsCredential {
            key_id: provided.access_key_id().to_owned(),
            secret_key: provided.secret_access_key().to_owned(),
            token: provided.session_token().map(str::to_owned),
        });
        let expiry = provided.expiry();
        let until = expiry.map_or(now + BELIEVED, |expiry| {
            let left = expiry.duration_since(now).unwrap_or_default();
            now + left - EARLY.min(left / 2)
        });
        let mut held = held();
        held.credential = Some(HeldCredential { credential: credential.clone(), until, expiry });
        held.ever = true;
        Ok(credential)
    }
}

/// The error for missing credentials; `ever` is whether there have been any.
fn not_provided(error: &CredentialsError, ever: bool) -> object_store::Error {
    let reason = in_words(error);
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            credential_error(reason, Trouble::NoCredentials)
        }
        CredentialsError::ProviderTimedOut(_) => {
            credential_error(format!("who gives credentials doesn't: {reason}"), Trouble::Unreachable)
        }
        _ if ever => credential_error(format!("the credentials can't be had now: {reason}"), Trouble::Expired),
        _ => credential_error(reason, Trouble::NoCredentials),
    }
}

/// The source nearest to the cause that reads as words: some of the SDK's errors print as Rust data.
fn in_words(error: &CredentialsError) -> String {
    let is_data =
        |text: &str| text.contains(['{', '}']) || ["::", "Some(", "Error("].iter().any(|part| text.contains(part));
    let all = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let said = all.map(ToString::to_string).filter(|text| !text.is_empty() && !is_data(text)).last();
    said.unwrap_or_else(|| "no source gives any".to_owned())
}

/// An error of the store's client that says this of the credentials.
fn credential_error(reason: impl ToString, trouble: Trouble) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: Box::new(CredentialError(reason.to_string(), trouble)) }
}
