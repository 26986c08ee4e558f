//! The backend of Peerfold's kernels against burn's flex backend: the same results and gradients, however tensors lie.

mod adam;
mod alike;
mod convolution;
mod edges;
mod linear;
mod operations;
mod other_types;
mod pooling;
mod training;
