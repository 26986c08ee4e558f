//! A node whose host leaves its network and comes to another, as a laptop does: in network namespaces.

use super::{
    nat::{Over, bootstrap, is_folded_with_a_peer, node},
    process::{Running, Sandbox, event},
    sites::{Internet, Nat},
};
use peerfold::node::Event;
use std::cell::Cell;

/// Epochs that the node trains on its way.
const ON_ITS_WAY: u64 = 10;

/// The newest epoch that a node has published by now, and that nobody has waited for.
fn published(node: &mut Running) -> u64 {
    let newest = Cell::new(0);
    node.has_said(|line| {
        if let Event::Published { epoch, .. } = event(line) {
            newest.set(epoch);
        }
        false
    });
    newest.get()
}

#[test]
fn a_node_that_moves_to_another_network_trains_on_and_is_folded_again() {
    let Some(mut internet) = Internet::new("a_node_that_moves_to_another_network") else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Both, &[]);
    let (stays, mut moves) = (internet.site(Nat::None, true), internet.site(Nat::None, true));
    let mut nodes = [node(&sandbox, &stays, "a", "0/2", &[]), node(&sandbox, &moves, "b", "1/2", &[])];
    for node in &mut nodes {
        node.event(is_folded_with_a_peer);
    }
    moves.leave();
    for node in &mut nodes {
        let left = published(node);
        node.event(|event| matches!(event, Event::EpochDone { epoch, .. } if *epoch >= left + ON_ITS_WAY));
    }
    internet.move_in(&mut moves);
    let epochs = nodes.each_mut().map(published);
    for (node, epoch) in nodes.iter_mut().zip([epochs[1], epochs[0]]) {
        node.event(|event| {
            let Event::Folded { updates, .. } = event else { return false };
            updates.iter().any(|update| !update.own && update.epoch > epoch)
        });
    }
}
