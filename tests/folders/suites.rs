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

/// What encryption may change, of the suite.
#[cfg(feature = "s3")]
mod sealed {
    use super::*;

    type Sealed = conformance::s3::S3<buckets::Server, false, true>;

    conformance::suite!(@cases Sealed,
        authors: [a_late_handle_goes_on_above_its_own_numbers],
        concurrency: [several_authors_write_at_once, readers_never_see_half_a_value],
        entries: [removing_leaves_a_tombstone, only_two_updates_stay, odd_keys],
        values: [every_dtype, empty_values, a_handle_outlives_overwrites, damage_is_an_error],
    );
}
