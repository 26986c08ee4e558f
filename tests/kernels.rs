//! The kernels of training against plain loops: the same results for every shape, instruction set and number of threads.
#![cfg(feature = "train")]
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "kernels/adam.rs"]
mod adam;
#[path = "kernels/convolution.rs"]
mod convolution;
#[path = "kernels/differences.rs"]
mod differences;
#[path = "kernels/elementwise.rs"]
mod elementwise;
#[path = "kernels/instruction_sets.rs"]
mod instruction_sets;
#[path = "kernels/matrix.rs"]
mod matrix;
#[path = "kernels/plain.rs"]
mod plain;
#[path = "kernels/pooling.rs"]
mod pooling;
#[path = "kernels/rectifier.rs"]
mod rectifier;
#[path = "kernels/sums.rs"]
mod sums;
#[path = "kernels/threads.rs"]
mod threads;
#[path = "kernels/transpose.rs"]
mod transpose;
