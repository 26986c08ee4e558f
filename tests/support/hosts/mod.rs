//! Folders in separate processes: a [`Proxy`] in the test's process, and a host that does the work.
//!
//! The host is the test's own executable, told by an environment variable to run one test that isn't one. So this module
//! has one name in every test program that has it.
// Not every program uses all of it.
#![allow(dead_code, unused_imports)]

mod host;
mod hosted;
mod link;
mod messages;
mod proxy;

pub use self::{host::Setup, hosted::chunk_file, proxy::Proxy};
