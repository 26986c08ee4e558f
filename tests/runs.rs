//! The loop of a run, driven by learners that have no burn in them, and step by step.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "runs/bigrams.rs"]
mod bigrams;
#[path = "runs/interruptions.rs"]
mod interruptions;
#[path = "runs/language_model.rs"]
mod language_model;
#[path = "runs/outgoing.rs"]
mod outgoing;
#[allow(dead_code)]
#[path = "../examples/own_weights.rs"]
mod own_weights;
#[path = "runs/steps.rs"]
mod steps;
#[path = "runs/told.rs"]
mod told;
