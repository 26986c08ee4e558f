//! Peerfold
#[cfg(feature = "train")]
pub mod experiment;
pub mod strategy;
#[cfg(feature = "train")]
pub mod train;
pub mod weights;
