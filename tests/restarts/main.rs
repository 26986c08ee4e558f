//! Nodes that are killed at a step and started again. A separate test program, because failpoints are set for the whole
//! process.
#![allow(missing_docs, clippy::unwrap_used)]

mod checkpoints;
mod damage;
mod full;
#[cfg(all(target_os = "linux", feature = "cli"))]
mod power;
mod runs;
mod strategies;

#[path = "../support/nodes/mod.rs"]
mod nodes;
#[cfg(all(target_os = "linux", feature = "cli"))]
#[allow(dead_code)]
#[path = "../support/process/mod.rs"]
mod process;
#[path = "../support/rules/mod.rs"]
mod rules;
