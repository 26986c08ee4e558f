//! Shared folders: the conformance suite that all of them pass, the cache, and everything that can happen with a
//! bucket.
#![allow(clippy::unwrap_used, clippy::cloned_ref_to_slice_refs, clippy::type_complexity, missing_docs, unreachable_pub)]

#[cfg(feature = "s3")]
mod bucket_admission;
#[cfg(feature = "s3")]
mod bucket_cost;
#[cfg(feature = "s3")]
mod bucket_credentials;
#[cfg(feature = "s3")]
mod bucket_faults;
#[cfg(feature = "s3")]
mod bucket_relay;
#[cfg(feature = "s3")]
mod bucket_secret;
#[cfg(feature = "s3")]
mod bucket_tampering;
#[cfg(feature = "s3")]
mod bucket_tiered;
mod cache;
mod cache_crash;
mod cache_model;
mod conformance;
mod suites;
mod threat_model;
mod wire_nodes;
mod wire_vectors;

#[cfg(feature = "s3")]
#[path = "../support/bucket_nodes/mod.rs"]
mod bucket_nodes;
#[cfg(feature = "s3")]
#[path = "../support/buckets/mod.rs"]
mod buckets;
#[path = "../support/caches/mod.rs"]
mod caches;
#[path = "../support/hosts/mod.rs"]
mod hosts;
#[path = "../support/net/mod.rs"]
mod net;
#[path = "../support/python/mod.rs"]
mod python;
#[path = "../support/samples/mod.rs"]
mod samples;
