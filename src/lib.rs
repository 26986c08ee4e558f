//! Peerfold
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod demo;
mod durable_file;
#[cfg(feature = "train")]
pub mod experiment;
pub mod folder;
pub mod home;
pub mod node;
pub mod strategy;
#[cfg(feature = "train")]
pub mod train;
pub mod weights;
