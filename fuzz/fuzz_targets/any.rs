//! Every program of this crate: the target that has the program's name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let run = RUN.get_or_init(|| {
        let name = env!("CARGO_BIN_NAME");
        peerfold::decoders::target(name).unwrap_or_else(|| panic!("there is no target {name}")).run
    });
    run(bytes);
});
