//! Every decoder of bytes that others wrote, as fuzzers try it: with cargo-fuzz by the feature `fuzzing`, and on a stable
//! toolchain by this module's test. See `docs/fuzzing.md`.

pub use crate::untrusted::Target;

use crate::{bucket, cache, entries, folder, home, node, p2p, run, secret, settings, strategy, weights};

/// All of them.
pub fn targets() -> Vec<Target> {
    let mut targets = Vec::new();
    targets.extend(secret::decoders::targets());
    targets.extend(settings::decoders::targets());
    targets.extend(weights::decoders::targets());
    targets.extend(entries::decoders::targets());
    targets.extend(home::decoders::targets());
    targets.extend(cache::decoders::targets());
    targets.extend(p2p::decoders::targets());
    targets.extend(bucket::decoders::targets());
    targets.extend(folder::decoders::targets());
    targets.extend(strategy::decoders::targets());
    targets.extend(node::decoders::targets());
    targets.extend(run::decoders::targets());
    #[cfg(feature = "train")]
    {
        targets.extend(crate::train::decoders::targets());
        targets.extend(crate::experiment::decoders::targets());
    }
    #[cfg(feature = "cli")]
    targets.extend(crate::cli::decoders::targets());
    targets
}

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests;
