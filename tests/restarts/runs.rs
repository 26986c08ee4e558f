//! The loop of a run, driven by learners that have no burn in them, and step by step.

mod bigrams;
mod interruptions;
mod language_model;
mod outgoing;
#[allow(dead_code)]
#[path = "../../examples/own_weights.rs"]
mod own_weights;
mod steps;
mod told;
