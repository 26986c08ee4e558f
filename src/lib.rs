//! Peerfold
mod durable_file;
pub mod folder;
pub mod home;
pub mod node;
pub mod strategy;
pub mod weights;
