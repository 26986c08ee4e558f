//! Nodes over a folder in memory: how they begin, whom they fold, and what they do when things fail.
#![allow(clippy::unwrap_used)]

mod asynchronous;
mod checks;
mod golden_runs;
mod simulation;
mod start;
mod suspects;
mod synchronous;

#[path = "../support/golden/mod.rs"]
mod golden;
#[path = "../support/nodes/mod.rs"]
mod nodes;
