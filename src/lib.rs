//! Federated learning without a server.
//!
//! Peerfold trains one model on data that stays where it is. After each epoch a node publishes its weights in a
//! [shared folder](folder), takes its peers' newest ones, folds them into its own by a [strategy], and trains on.
//!
//! The layers, each of which uses only those below it:
//!
//! | module | what it does |
//! | --- | --- |
//! | `cli`, `demo` | the `peerfold` program |
//! | `experiment` | data sets and how they are split |
//! | `train` | burn: models, devices, the callback for modules of one's own |
//! | [`node`] | asynchronous and synchronous nodes, checkpoints |
//! | [`strategy`] | folding |
//! | [`folder`] | the shared folder, in memory and in a directory |
//! | [`home`] | a node's identity and its sequence numbers |
//! | [`weights`] | tensors, layouts, manifests, signed entries |
//!
//! `ARCHITECTURE.md` in the repository is the map with the invariants. Who federates a burn module begins with the
//! `prelude`.

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod demo;
mod durable_file;
#[cfg(feature = "train")]
pub mod experiment;
pub mod folder;
pub mod home;
pub mod node;
#[cfg(feature = "train")]
pub mod prelude;
pub mod strategy;
#[cfg(feature = "train")]
pub mod train;
pub mod weights;
