//! Planting an entry in nodes without going through a folder.

use super::rogue::{Happened, Rogue, random_fingerprints};
use libp2p::{PeerId, swarm::ConnectionId};
use peerfold::{
    entries::Position,
    p2p::{Item, PeerAddress, SyncRequest, SyncResponse},
    weights::FederationId,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long the nodes have to subscribe to gossip. Who didn't gets the bytes by sync alone.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(5);
/// Longer than a node takes to go on; only one that hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Questions that a node has to answer after it got the page: the first may have overtaken it.
const ROUNDS: u32 = 2;

/// How far it is with one node, which is one connection: two nodes may have one identity.
struct Target {
    peer: PeerId,
    /// Whether the page with the bytes was given.
    paged: bool,
    /// Questions answered since.
    rounds: u32,
    /// It has asked for what comes after the page, or has closed the connection, or has answered often enough.
    done: bool,
}

/// Sends these bytes as an entry to each of these nodes, by gossip and by sync, and waits until each is through with them.
pub async fn plant(federation: FederationId, nodes: Vec<PeerAddress>, bytes: &[u8]) {
    let mut rogue = Rogue::new(federation);
    let mut targets: BTreeMap<ConnectionId, Target> = BTreeMap::new();
    for node in &nodes {
        targets.insert(rogue.dial(node), Target { peer: node.peer, paged: false, rounds: 0, done: false });
    }
    let mut unsubscribed: BTreeSet<PeerId> = nodes.iter().map(|node| node.peer).collect();
    // What was asked before the gossip went out.
    let mut early = Vec::new();
    let wait = async {
        while !unsubscribed.is_empty() && !targets.values().all(|target| target.done) {
            match rogue.next().await {
                Happened::Subscribed(peer) => drop(unsubscribed.remove(&peer)),
                asked @ Happened::SyncAsked(..) => early.push(asked),
                other => take(&mut rogue, &mut targets, bytes, other),
            }
        }
    };
    let _ = tokio::time::timeout(SUBSCRIBED_WITHIN, wait).await;
    // Nobody listens, if all have closed.
    rogue.gossip(bytes);
    for asked in early {
        take(&mut rogue, &mut targets, bytes, asked);
    }
    let through = async {
        while !targets.values().all(|target| target.done) {
            let happened = rogue.next().await;
            take(&mut rogue, &mut targets, bytes, happened);
        }
    };
    tokio::time::timeout(PATIENCE, through).await.expect("a node hangs over what it was sent");
}

fn take(rogue: &mut Rogue, targets: &mut BTreeMap<ConnectionId, Target>, bytes: &[u8], happened: Happened) {
    match happened {
        Happened::Closed(connection) => targets.get_mut(&connection).unwrap().done = true,
        Happened::SyncAsked(connection, request, channel) => {
            let target = targets.get_mut(&connection).unwrap();
            let response = match request {
                SyncRequest::Compare { .. } => SyncResponse::Differs(random_fingerprints()),
                SyncRequest::Items { after: None, .. } | SyncRequest::Others { after: None, .. } => {
                    target.paged = true;
                    let next = Some(Position { bucket: 0, text: "x".to_owned() });
                    SyncResponse::Items { items: vec![Item::Entry(bytes.to_vec())], next }
                }
                SyncRequest::Proof { .. } => SyncResponse::Same,
                SyncRequest::Items { .. } | SyncRequest::Others { .. } => {
                    target.done = true;
                    SyncResponse::Items { items: vec![], next: None }
                }
            };
            rogue.say(channel, response);
        }
        Happened::SyncSaid(connection) => {
            let target = &targets[&connection];
            if target.paged {
                rogue.compare(target.peer);
            }
        }
        Happened::SyncAnswered(connection) => {
            let target = targets.get_mut(&connection).unwrap();
            target.rounds += u32::from(target.paged);
            target.done |= target.rounds >= ROUNDS;
            let peer = target.peer;
            // Which connection to a peer is asked can't be chosen.
            if targets.values().any(|target| target.peer == peer && target.paged && !target.done) {
                rogue.compare(peer);
            }
        }
        _ => {}
    }
}
