//! Weights and everything encoded about them: layouts, manifests, files, signed entries, messages between peers.
#![allow(clippy::unwrap_used, missing_docs)]

mod entry_sets;
mod known_answers;
mod properties;
mod safetensors;
mod strangers;
mod wire;
