//! The program as its users have it: the real binary, its output, its exit codes, its signals.
#![cfg(all(target_os = "linux", feature = "cli"))]
#![allow(clippy::unwrap_used)]

mod aggregate;
mod bootstrap;
#[cfg(feature = "s3")]
mod bucket;
#[cfg(feature = "s3")]
#[path = "../buckets/mod.rs"]
mod buckets;
mod config;
mod demo;
mod demo_ends;
#[path = "../golden/mod.rs"]
mod golden;
mod mistakes;
mod network;
mod node;
mod period;
mod process;
mod readme;
mod restart;
mod signals;
mod strategies;
mod terminal;
mod threads;
