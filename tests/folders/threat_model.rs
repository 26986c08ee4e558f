//! `docs/threat-model.md` against the code: every test that it names is there, and its numbers are the settings'.

use peerfold::{
    cache::CacheSettings,
    entries::{FOLDS_TO_BE_KNOWN, MAX_AUTHORS},
    node::Checks,
    p2p::NetworkSettings,
};
use std::{collections::BTreeSet, fs, path::Path};

const PAGE: &str = include_str!("../../docs/threat-model.md");

/// What the page has between backticks.
fn quoted() -> impl Iterator<Item = &'static str> {
    PAGE.split('`').skip(1).step_by(2)
}

/// The files that a test's module may be in, and the test.
fn place(program: &str, path: &str) -> (Vec<String>, String) {
    let (module, test) = path.rsplit_once("::").unwrap();
    let module = module.trim_end_matches("::tests").replace("::", "/");
    let files = match program {
        "lib" => vec![format!("src/{module}.rs"), format!("src/{module}/tests.rs")],
        _ => vec![format!("tests/{program}/{module}.rs")],
    };
    (files, test.to_owned())
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let named: BTreeSet<(&str, &str)> = quoted()
        .filter(|quoted| *quoted != "program module::test")
        .filter_map(|quoted| quoted.split_once(' '))
        .filter(|(_, path)| path.contains("::"))
        .collect();
    assert!(named.len() > 30, "{named:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let missing: Vec<_> = named
        .into_iter()
        .filter(|(program, path)| {
            let (files, test) = place(program, path);
            let has = |file: &String| {
                fs::read_to_string(root.join(file)).is_ok_and(|code| code.contains(&format!("fn {test}(")))
            };
            !files.iter().any(has)
        })
        .collect();
    assert!(missing.is_empty(), "the page names tests that aren't there: {missing:#?}");
}

/// The greatest share in percent that one liar among so many has in a mean by claimed examples.
fn share(among: f64, ratio: f64) -> String {
    format!("{:.0} %", 100.0 * ratio / (ratio + among - 1.0))
}

#[test]
fn its_numbers_are_those_of_the_settings() {
    let (network, cache, checks) = (NetworkSettings::default(), CacheSettings::default(), Checks::default());
    let (swarm, limits) = (&network.swarm, &network.limits);
    let commas = |number: usize| format!("{},{:03}", number / 1000, number % 1000);
    assert_eq!((FOLDS_TO_BE_KNOWN, checks.max_norm, MAX_AUTHORS > cache.entries.authors), (3, None, true));
    let ratio = checks.max_examples_ratio;
    let full = cache.entries.strangers as f64 / limits.absent_entry_rate - 8.0;
    assert_eq!((full, swarm.per_address * 2), (8.0, swarm.connections as usize), "eight seconds; two networks");
    let said = [
        format!("{ratio} times the median count (`--max-examples-ratio`)"),
        format!("over {} times the median norm is left out (`--max-norm-ratio`)", checks.max_norm_ratio),
        format!("One liar of 10 has up to {} of the", share(10.0, ratio)),
        format!("of 5 {}, of 3 {};", share(5.0, ratio), share(3.0, ratio)),
        format!("three quarters of {} are known (`--max-authors`", commas(cache.entries.authors)),
        format!("{} authors (`--max-strangers`)", commas(cache.entries.strangers)),
        format!("At {} entries a second (`--max-absent-entry-rate`)", limits.absent_entry_rate),
        format!("{} connections (`--max-connections`)", swarm.connections),
        format!("{} of peers who aren't known (`--max-stranger-connections`)", swarm.strangers),
        format!("An address has {} (`--max-connections-per-address`)", swarm.per_address),
        format!("a network {} (`--max-connections-per-network`)", swarm.per_network),
        format!("a node {} (`--max-table-members`)", swarm.members),
        format!("{} requests a second (`--max-request-rate`)", swarm.request_rate),
        format!("{} at a time (`--max-pending-connections`)", swarm.pending),
        format!("{} of one address\n(`--max-pending-per-address`)", swarm.pending_per_address),
        format!("for {} seconds (`--handshake-timeout`)", swarm.handshake_timeout.as_secs()),
        format!("at more than {} KiB a second (`--min-fetch-rate`)", limits.least_rate.as_u64() >> 10),
        format!("{} entries a second are taken in (`--max-absent-entry-rate`)", limits.absent_entry_rate),
        format!("comes, {} a second (`--max-absent-rate`)", limits.absent_rate),
        format!("one of {} fetches\n(`--max-fetches`)", limits.values_at_once),
        format!("up to {} GiB (`--prefetch-size`)", limits.prefetch_bytes.as_u64() >> 30),
    ];
    let missing: Vec<&String> = said.iter().filter(|said| !PAGE.contains(said.as_str())).collect();
    assert!(missing.is_empty(), "the page lacks {missing:#?}");
}
