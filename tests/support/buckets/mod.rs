//! Buckets to test against: a real S3 server inside the process ([`Server`]), a proxy that breaks what passes
//! through it ([`FaultProxy`]), and moto's server where it is installed ([`Moto`]).
//!
//! All of them listen on 127.0.0.1 on ports that the system picks, hold one empty bucket named [`BUCKET`], and stop
//! when they are dropped. They run on threads and runtimes of their own, so tests with and without a runtime can use
//! them. Every wait is bounded.
//!
//! Clients must address the bucket by path (`http://127.0.0.1:PORT/weights/key`), which is how requests are classified.
#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used, missing_docs)]

mod body;
mod faults;
mod host;
mod listing;
mod moto;
mod proxy;
mod requests;
mod server;
mod store;
mod wire;

use std::time::Duration;

pub use faults::{Fault, Kind};
pub use moto::Moto;
pub use proxy::FaultProxy;
pub use requests::{Class, Seen};
pub use server::Server;

pub const ACCESS_KEY: &str = "PEERFOLDTESTKEY";
pub const SECRET_KEY: &str = "peerfold-test-secret";
pub const BUCKET: &str = "weights";
pub const REGION: &str = "us-east-1";

/// How long anything here may take on a machine that is busy with other tests. Nothing waits that long otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
