//! The program as users see it: the real binary, its output, exit codes and signals.
#![cfg(all(target_os = "linux", feature = "cli"))]
#![allow(clippy::unwrap_used)]

mod admission;
mod aggregate;
mod alone;
mod bad_lines;
mod bootstrap;
#[cfg(feature = "s3")]
mod bucket;
#[cfg(feature = "s3")]
#[path = "../support/buckets/mod.rs"]
mod buckets;
mod check;
mod churn;
mod clocks;
mod config;
mod demo;
mod demo_ends;
mod descriptors;
mod exec;
mod files;
#[path = "../support/golden/mod.rs"]
mod golden;
mod identity;
mod members;
mod mistakes;
mod moved;
mod names;
mod nat;
mod network;
mod node;
mod pauses;
mod period;
#[path = "../support/process/mod.rs"]
mod process;
#[path = "../support/python/mod.rs"]
mod python;
mod readme;
mod restart;
mod runs;
mod secret;
mod signals;
#[path = "../support/sites/mod.rs"]
mod sites;
mod strategies;
mod terminal;
mod threads;
mod upnp;
mod wire;
