//! The kernels of training against plain loops: the same results for every shape, instruction set and number of threads.
#![allow(missing_docs, clippy::unwrap_used)]

mod adam;
mod convolution;
mod differences;
mod elementwise;
mod instruction_sets;
mod matrix;
mod plain;
mod pooling;
mod rectifier;
mod sums;
mod threads;
mod transpose;
