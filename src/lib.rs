//! Federated learning without a server.
//!
//! Peerfold trains one model on data that stays where it is. After each epoch a node publishes its weights in a
//! [shared folder](folder), takes its peers' newest ones, folds them into its own by a [strategy], and trains on.
//!
//! Two processes that run this, each with its own home and heights, both learn the mean of all:
//!
//! ```
//! use peerfold::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (shared, home) = (dir.path().join("shared"), dir.path().join("home"));
//! # let heights = [1.62, 1.80, 1.75];
//! let config = NodeConfig::new("heights", FolderUrl::Local(shared));
//! let mut run = Run::join(&config, home, Weights::from_f32s(&[("mean", &[1], &[1.5])])?)?;
//! while let Some(_epoch) = run.next_epoch(10) {
//!     let mut mean = run.weights().f32s("mean").unwrap_or_default();
//!     for height in heights {
//!         mean[0] += 0.1 * (height - mean[0]);
//!     }
//!     run.epoch_end(Weights::from_f32s(&[("mean", &[1], &mean)])?, Trained::on(3))?;
//! }
//! run.finish()?;
//! # assert_eq!(run.epoch(), 10);
//! # assert!((run.weights().f32s("mean").unwrap()[0] - 1.72).abs() < 0.02);
//! # Ok(()) }
//! ```
//!
//! It goes on where it was if it is killed, and trains on alone while nobody else is there. What has an optimizer, or
//! epochs too long to be trained again, is a [`Learner`](run::Learner): see `examples/own_weights.rs`. For burn modules
//! there is a callback: see the [`prelude`].
//!
//! | module | what it has |
//! | --- | --- |
//! | [`prelude`] | what most programs need |
//! | [`run`] | the loop of a federation's epochs, and what it drives |
//! | `exec` | any program that reads and writes safetensors as what trains (feature `exec`) |
//! | [`node`] | configuration, events, asynchronous and synchronous nodes, checkpoints |
//! | `train` | burn (feature `train`): the callback, built-in models, devices |
//! | [`strategy`] | folding: the rules, and how to write one |
//! | [`folder`] | the shared folder: memory, directory, network, bucket |
//! | [`p2p`], [`bucket`] | how to use the network, and a bucket |
//! | [`home`] | a node's identity and its sequence numbers |
//! | [`entries`] | what is known of a federation |
//! | [`weights`] | tensors, layouts, safetensors files, manifests, signed entries |
//! | [`secret`] | what hides a federation from who isn't in it |
//! | `logs` | what a node's program logs (feature `logs`) |
//! | [`settings`] | what each layer's settings are declared by |
//!
//! The layers below and above these, and the invariants, are in `ARCHITECTURE.md` in the repository.

#[cfg(feature = "bootstrap")]
#[doc(hidden)]
pub mod bootstrap;
pub mod bucket;
#[doc(hidden)]
pub mod cache;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod decoders;
#[cfg(feature = "cli")]
mod demo;
mod descriptors;
mod durable_file;
pub mod entries;
#[cfg(all(feature = "exec", unix))]
pub mod exec;
#[cfg(feature = "train")]
#[doc(hidden)]
pub mod experiment;
#[doc(hidden)]
pub mod file_format;
pub mod folder;
pub mod home;
#[cfg(feature = "logs")]
pub mod logs;
pub mod node;
pub mod p2p;
mod pasted;
pub mod prelude;
mod printable;
#[cfg(feature = "bootstrap")]
mod program;
pub mod run;
pub mod secret;
pub mod settings;
pub mod strategy;
#[cfg(feature = "train")]
pub mod train;
#[cfg(any(test, feature = "fuzzing"))]
mod untrusted;
pub mod weights;
