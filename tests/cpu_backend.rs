//! The backend of Peerfold's kernels against burn's flex backend: the same results and gradients, however tensors lie.
#![cfg(feature = "train")]
#![allow(missing_docs, clippy::single_range_in_vec_init, clippy::unwrap_used)]

#[path = "cpu_backend/adam.rs"]
mod adam;
#[path = "cpu_backend/alike.rs"]
mod alike;
#[path = "cpu_backend/convolution.rs"]
mod convolution;
#[path = "cpu_backend/edges.rs"]
mod edges;
#[path = "cpu_backend/linear.rs"]
mod linear;
#[path = "cpu_backend/operations.rs"]
mod operations;
#[path = "cpu_backend/other_types.rs"]
mod other_types;
#[path = "cpu_backend/pooling.rs"]
mod pooling;
#[path = "cpu_backend/training.rs"]
mod training;
