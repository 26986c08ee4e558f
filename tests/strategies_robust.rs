//! The strategies against whoever wants them to fail: plain implementations, attackers, damaged states, odd layouts.
#![allow(missing_docs, clippy::unwrap_used)]

mod golden;

#[path = "strategies/alike.rs"]
mod alike;
#[path = "strategies/attackers.rs"]
mod attackers;
#[path = "strategies/buffers.rs"]
mod buffers;
#[path = "strategies/deltas.rs"]
mod deltas;
#[path = "strategies/equal.rs"]
mod equal;
#[path = "strategies/errors.rs"]
mod errors;
#[path = "strategies/large.rs"]
mod large;
#[path = "strategies/made.rs"]
mod made;
#[path = "strategies/order.rs"]
mod order;
#[path = "strategies/plain.rs"]
mod plain;
#[path = "strategies/rules.rs"]
mod rules;
#[path = "strategies/shares.rs"]
mod shares;
#[path = "strategies/states.rs"]
mod states;
