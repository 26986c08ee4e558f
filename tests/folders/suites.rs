//! One suite that every shared folder passes. To plug an implementation in: a `Harness` for it, and one line here.

#[cfg(feature = "s3")]
use crate::buckets;
use crate::conformance;
use conformance::{
    harnesses::{Local, Memory},
    p2p::P2p,
};

conformance::suite!(memory, Memory);
conformance::suite!(local, Local);
conformance::suite!(p2p, P2p);
#[cfg(feature = "s3")]
conformance::suite!(s3, conformance::s3::S3<buckets::Server, false>);
#[cfg(feature = "s3")]
conformance::suite!(s3_moto, conformance::s3::S3<std::sync::Arc<buckets::Moto>, false>);
#[cfg(feature = "s3")]
conformance::suite!(s3_named, conformance::s3::S3<conformance::s3::Named, false>);
#[cfg(feature = "s3")]
conformance::suite!(tiered, conformance::s3::S3<buckets::Server, true>);
