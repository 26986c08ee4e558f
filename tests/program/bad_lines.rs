//! Nodes on lines that carry things late, out of order, and not all of them: in network namespaces.

use super::{
    nat::{Over, bootstrap, is_folded_with_a_peer, member, training},
    network::status,
    process::{Running, Sandbox},
    sites::{Internet, Quality},
};
use peerfold::{
    node::{Event, FoldedUpdate},
    p2p::Transport,
};
use std::collections::BTreeSet;

/// A quarter of a second from one node to the other and back, one in fifty packets lost on each line, and some overtaken.
fn line(seed: u64) -> Quality {
    Quality { milliseconds: 50, jitter: 25, loss: 0.02, seed }
}

/// Twenty steps are an epoch. What is replaced twice before it can have come over such a line is never folded.
const STEP_MILLISECONDS: u32 = 75;

/// How many updates of the other each node folds.
const UPDATES: usize = 5;

fn they_fold_each_other(test: &str, over: Over, transport: Transport) {
    let Some(mut internet) = Internet::new(test) else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, over, &[]);
    let sites = [internet.site_by(line(1)), internet.site_by(line(2))];
    let mut nodes: Vec<Running> = (sites.iter().zip([("a", "0/2"), ("b", "1/2")]))
        .map(|(site, (home, part))| {
            let listen = match over {
                Over::Quic => format!("/ip4/{}/udp/4601/quic-v1", site.address),
                _ => format!("/ip4/{}/tcp/4601", site.address),
            };
            let mut command = training(&sandbox, home, part, &["--listen", &listen]);
            command.env("FAILPOINTS", format!("train::step=sleep({STEP_MILLISECONDS})"));
            Running::start(site.at(&command))
        })
        .collect();
    for node in &mut nodes {
        let mut folded = BTreeSet::new();
        while folded.len() < UPDATES {
            if let Event::Folded { updates, .. } = node.event(is_folded_with_a_peer) {
                folded.extend(updates.iter().filter(|update| !update.own).map(|FoldedUpdate { epoch, .. }| *epoch));
            }
        }
    }
    for home in ["a", "b"] {
        let told = status(&sandbox, home);
        assert!(told.banned.is_empty() && told.refused.total() == 0, "{told:?}");
        assert_eq!(member(&sandbox, home).map(|peer| peer.transport), Some(transport), "{told:?}");
    }
    for node in nodes {
        let ended = node.kill();
        let wrong = |event: &Event| matches!(event, Event::PeerDropped { .. } | Event::Excluded { .. });
        let wrong: Vec<Event> = ended.events().into_iter().filter(wrong).collect();
        assert!(wrong.is_empty() && !ended.log.contains("ERROR"), "{wrong:?} {}", ended.log);
    }
}

#[test]
fn over_tcp_they_find_and_fold_each_other() {
    they_fold_each_other("over_tcp_they_find_and_fold_each_other", Over::Tcp, Transport::Tcp);
}

#[test]
fn over_quic_they_find_and_fold_each_other() {
    they_fold_each_other("over_quic_they_find_and_fold_each_other", Over::Quic, Transport::Quic);
}
