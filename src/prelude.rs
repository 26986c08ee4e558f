//! What most programs that federate a model need. A program whose weights are plain arrays, or whose model lives
//! elsewhere, drives a [`Run`], or lets one drive its [`Learner`]: `examples/own_weights.rs` does.
//!
//! # With burn
//!
//! Needs the feature `train`. Train as ever, and call `FederatedCallback` before the first epoch and at the end of each.
//! Two processes that run this program with homes of their own learn together through a directory:
//!
#![cfg_attr(feature = "train", doc = "```")]
#![cfg_attr(not(feature = "train"), doc = "```ignore")]
//! use burn::{
//!     backend::Autodiff,
//!     nn::{Linear, LinearConfig},
//!     optim::{GradientsParams, Optimizer, SgdConfig},
//!     tensor::Tensor,
//! };
//! use peerfold::prelude::*;
//!
//! type B = Autodiff<Cpu>;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (shared, home) = (dir.path().join("shared"), dir.path().join("home"));
//! let device = Default::default();
//! // Equal first weights on all nodes.
//! let mut model: Linear<B> = init_seeded(LinearConfig::new(1, 1).init(&device), 42);
//! let mut optimizer = SgdConfig::new().init();
//!
//! let config = NodeConfig::new("lines", FolderUrl::Local(shared));
//! let mut federation = FederatedCallback::join(&config, home, &mut model, &mut optimizer)?;
//! while let Some(_epoch) = federation.next_epoch(3) {
//!     let x = Tensor::<B, 2>::from_floats([[1.0], [2.0], [3.0]], &device);
//!     let loss = (model.forward(x.clone()) - x * 2.0).powi_scalar(2).mean();
//!     let gradients = GradientsParams::from_grads(loss.backward(), &model);
//!     model = optimizer.step(0.05, model, gradients);
//!
//!     let report = Epoch::of(3).metric("loss", loss.into_scalar().into());
//!     federation.on_epoch_end(&mut model, &optimizer, report)?;
//! }
//! assert_eq!(federation.epoch(), 3);
//! federation.finish()?;
//! # Ok(()) }
//! ```
//!
//! `examples/own_model.rs` has two nodes, a model with dropout, and events; `examples/own_strategy.rs` a rule for folding
//! of one's own.

pub use crate::{
    folder::FolderUrl,
    node::{
        AsyncOptions, BelowQuorum, Event, LocalUpdate, NodeConfig, NodeError, Pace, StartOptions, Stop, StrategyChoice,
        SyncOptions, Validation,
    },
    p2p::{NetworkSettings, PeerAddress, PeerList},
    run::{History, Learner, LearnerError, Metrics, Outgoing, Run, RunError, RunOptions, Steps, Trained, federate},
    strategy::{FoldError, Folded, Round, Strategy, StrategySpec},
    weights::Weights,
};

#[cfg(feature = "train")]
pub use crate::train::{
    Adam, BatchOrder, CallbackError, Cpu, Epoch, FederatedCallback, Partial, add_proximal_gradient, init_seeded,
};
