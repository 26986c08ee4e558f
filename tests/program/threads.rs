//! `--threads`: the number of training threads is obeyed and changes no bit.

use super::process::{Ended, Running, Sandbox, until};
use peerfold::node::Event;
use std::{fs, thread::available_parallelism};

/// Threads of a process that train.
fn training_threads(process: u32) -> usize {
    let names = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().filter_map(Result::ok);
    let names = names.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    names.filter(|name| name.starts_with("train")).count()
}

#[test]
fn the_number_of_threads_is_obeyed_and_changes_no_bit() {
    let sandbox = Sandbox::new();
    let weights = |threads: &str| {
        let file = format!("{threads}.safetensors");
        let node = ["--folder", "memory:", "--epochs", "2", "--threads", threads, "--out", &file];
        Ended::of(sandbox.node(threads, &node)).success();
        fs::read(sandbox.path(&file)).unwrap()
    };
    let one = weights("1");
    assert!(weights("2") == one && weights("5") == one);

    let endless = ["--folder", "memory:", "--steps-per-epoch", "100000000"];
    for (args, expected) in [(&["--threads", "3"][..], 3), (&[], available_parallelism().unwrap().get())] {
        let mut node = Running::start(sandbox.node("endless", &[&endless, args].concat()));
        node.event(|event| matches!(event, Event::Started { .. }));
        let count = || training_threads(node.id());
        until(|| count() == expected, || format!("{} threads, not {expected}", count()));
        node.kill();
    }
}

#[test]
fn the_nodes_of_a_demo_share_the_processors() {
    let share = (available_parallelism().unwrap().get() / 2).max(1);
    for (args, expected) in [(&["--threads", "3"][..], 3), (&[], share)] {
        let sandbox = Sandbox::new();
        let endless = ["demo", "--nodes", "2", "--steps-per-epoch", "100000000"];
        let demo = Running::start(sandbox.command([&endless, args].concat()));
        let counts = || -> Vec<usize> {
            let counts = sandbox.processes().into_iter().map(training_threads);
            counts.filter(|&threads| threads > 0).collect()
        };
        until(|| counts() == [expected; 2], || format!("{:?} threads, not twice {expected}", counts()));
        demo.kill();
        sandbox.wait_until_nothing_is_left();
    }
}
