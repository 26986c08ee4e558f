//! One suite that every shared folder passes. To plug an implementation in: a `Harness` for it, and one line here.
#![allow(clippy::unwrap_used, clippy::cloned_ref_to_slice_refs, missing_docs, unreachable_pub)]

mod conformance;

use conformance::harnesses::{Local, Memory};

conformance::suite!(memory, Memory);
conformance::suite!(local, Local);
