//! The network folder: nodes with real sockets on the loopback, several in one process or each in its own, and bad
//! links and peers between them.
#![allow(clippy::unwrap_used, clippy::cloned_ref_to_slice_refs, missing_docs, unreachable_pub)]

mod admission;
mod bootstrapped;
mod claims;
mod finding;
mod forwarders;
mod hostile;
mod joining;
mod kills;
mod liars;
mod lines;
mod many_authors;
mod mdns;
mod moving;
mod node;
mod rubbish;
mod secret;
mod separated;
mod simulation;
mod starts;
mod strangers;

#[path = "../support/hosts/mod.rs"]
mod hosts;
#[path = "../support/net/mod.rs"]
mod net;
#[path = "../support/samples/mod.rs"]
mod samples;
#[path = "../support/simulated/mod.rs"]
mod simulated;

/// Asynchronous tests with a limit that only a hang reaches.
macro_rules! network_tests {
    ($($(#[$doc:meta])* async fn $name:ident() $body:block)*) => {
        crate::network_tests! { within crate::samples::PATIENCE: $($(#[$doc])* async fn $name() $body)* }
    };
    (within $limit:path: $($(#[$doc:meta])* async fn $name:ident() $body:block)*) => {$(
        $(#[$doc])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            tokio::time::timeout($limit, async $body).await.expect("it hangs");
        }
    )*};
}
pub(crate) use network_tests;
