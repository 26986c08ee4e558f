//! Peerfold
pub mod strategy;
pub mod weights;
