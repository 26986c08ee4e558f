//! Training with burn: the callback, the backend of Peerfold's kernels, and data sets.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init, missing_docs)]

mod callback;
mod cpu_backend;
mod data_sets;
mod robust_rules;
