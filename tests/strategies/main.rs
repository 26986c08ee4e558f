//! The strategies against the references' results, and under stress: plain implementations, attackers, damaged states,
//! odd layouts.
#![allow(missing_docs, clippy::unwrap_used)]

mod alike;
mod attackers;
mod buffers;
mod deltas;
mod equal;
mod errors;
mod large;
mod made;
mod order;
mod plain;
mod properties;
mod references;
mod rules;
mod shares;
mod states;

#[path = "../support/golden/mod.rs"]
mod golden;
