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
//! | `bootstrap` | the bootstrap node as a program |
//! | `program` | what both programs have in common |
//! | `experiment` | data sets and how they are split |
//! | `train` | burn: models, devices, the callback for modules of one's own |
//! | `kernels` | convolution, pooling, Adam on the processor |
//! | [`node`] | asynchronous and synchronous nodes, checkpoints |
//! | [`strategy`] | folding |
//! | [`folder`] | the shared folder: memory, directory, network, bucket |
//! | [`p2p`] | the network: gossip, sync, fetching, finding peers |
//! | [`bucket`] | S3: what nodes leave for each other in a bucket |
//! | [`cache`] | what a node keeps of a federation on its disk |
//! | [`home`] | a node's identity and its sequence numbers |
//! | [`entries`] | what is known of a federation |
//! | [`settings`] | what each layer's settings are declared by |
//! | [`weights`] | tensors, layouts, manifests, signed entries |
//! | [`file_format`] | what a file is that isn't what was expected |
//!
//! `ARCHITECTURE.md` in the repository is the map with the invariants. Who federates a burn module begins with the
//! `prelude`.

#[cfg(feature = "bootstrap")]
pub mod bootstrap;
pub mod bucket;
pub mod cache;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod demo;
mod descriptors;
mod durable_file;
pub mod entries;
#[cfg(feature = "train")]
pub mod experiment;
pub mod file_format;
pub mod folder;
pub mod home;
#[cfg(feature = "train")]
pub mod kernels;
pub mod node;
pub mod p2p;
#[cfg(feature = "train")]
pub mod prelude;
#[cfg(feature = "bootstrap")]
mod program;
pub mod settings;
pub mod strategy;
#[cfg(feature = "train")]
pub mod train;
pub mod weights;
