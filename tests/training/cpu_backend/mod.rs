//! Peerfold's backend against burn's flex backend: the same results and gradients in every memory order.

mod adam;
mod alike;
mod convolution;
mod edges;
mod linear;
mod operations;
mod other_types;
mod pooling;
mod training;
