//! Settings of a command that trains.

use crate::settings::{Range, settings};
use std::time::Duration;

settings! {
    /// A command that trains instead of a built-in model.
    pub struct ExecSettings under "Training" {
        /// Train by this command instead of a built-in model: any program that reads and writes safetensors files.
        ///
        /// Run by sh once an epoch. Its environment says what to do, from EXEC_EPOCH on: see the README.
        pub exec as "exec": Option<String> = None, "COMMAND";
        /// Stop the command if an epoch takes longer than this, and run it again. [default: a day]
        pub timeout as "exec-timeout": Duration = Duration::from_secs(24 * 60 * 60), "SECONDS", Range::above(0.0);
        /// Run a command that fails again, so many times in an epoch, before the node ends.
        ///
        /// Started again, the node repeats the epoch.
        pub retries as "exec-retries": u64 = 2, "N", Range::between(0.0, 1000.0);
    }
}
