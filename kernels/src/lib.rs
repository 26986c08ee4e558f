//! The inner loops of training on a processor: slices in, slices out, without burn.
//!
//! Images lie **channels last**: [batch, height, width, channels], row-major. So a loop over channels runs over
//! neighbours whatever the sides of kernel and image, a row of a convolution's patch is one run of memory, and no
//! pooling window needs a shuffle.
//!
//! **Equal results.** Every loop is plain Rust, compiled once for each instruction set and chosen when the program runs
//! ([`instructions`]); none is allowed to contract a multiplication and an addition, so all of them give the same bits.
//! Only matrix products, which come from the `gemm` crate, round as the processor's own instructions do. Work is cut into
//! parts by its size, never by the number of threads, and partial sums are added in the parts' order: how many threads
//! there are makes no difference to any bit.
//!
//! **Threads** are those of the rayon pool in which a function is called. Small work is done on the calling thread.

pub mod adam;
pub mod buffer;
pub mod convolution;
mod depthwise;
pub mod elementwise;
pub mod instructions;
pub mod matrix;
mod parts;
mod patches;
pub mod pooling;
pub mod rectifier;
pub mod sums;
pub mod transpose;
pub mod window;
mod winograd;
