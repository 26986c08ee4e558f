//! `peerfold peers`: how a running node's network stands.

use super::short_peer;
use crate::p2p::{NetworkStatus, PeerRole, PeerStatus, Transport};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{HumanBytes, HumanDuration};
use std::time::Duration;

/// The whole as text for people.
pub(super) fn text(status: &NetworkStatus) -> String {
    let mut lines = vec![format!("{} in federation {}", status.peer, status.federation)];
    lines.extend(status.listening.iter().map(|address| format!("listens on {address}")));
    lines.push(format!(
        "{} entries of {} authors; sent {}, received {}; {} in the cache",
        status.entries,
        status.authors,
        HumanBytes(status.sent),
        HumanBytes(status.received),
        HumanBytes(status.cached),
    ));
    match status.peers.len() {
        0 => lines.push("nobody is connected".to_owned()),
        _ => lines.push(table(&status.peers).to_string()),
    }
    lines.join("\n") + "\n"
}

fn table(peers: &[PeerStatus]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["peer", "is", "address", "over", "entries", "sent", "received", "connected", "last seen"]);
    for peer in peers {
        let address = peer.address.split("/p2p/").next().unwrap_or_default();
        table.add_row([
            short_peer(&peer.peer),
            role(peer.role).to_owned(),
            address.to_owned(),
            transport(peer.transport).to_owned(),
            peer.entries.to_string(),
            HumanBytes(peer.sent).to_string(),
            HumanBytes(peer.received).to_string(),
            span(peer.connected_seconds),
            format!("{} ago", span(peer.seen_seconds_ago)),
        ]);
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn role(role: PeerRole) -> &'static str {
    match role {
        PeerRole::Member => "member",
        PeerRole::Bootstrap => "bootstrap",
        PeerRole::Other => "other",
    }
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Quic => "QUIC",
    }
}

fn span(seconds: u64) -> String {
    format!("{:#}", HumanDuration(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_well() {
        let mut status = NetworkStatus {
            peer: "12D3KooWself".to_owned(),
            federation: "abcdef".to_owned(),
            listening: vec!["/ip4/192.0.2.1/tcp/1/p2p/12D3KooWself".to_owned()],
            entries: 4,
            authors: 2,
            sent: 1536,
            received: 0,
            cached: 1 << 20,
            peers: Vec::new(),
        };
        let alone = "12D3KooWself in federation abcdef\nlistens on /ip4/192.0.2.1/tcp/1/p2p/12D3KooWself\n\
                     4 entries of 2 authors; sent 1.50 KiB, received 0 B; 1.00 MiB in the cache\nnobody is connected\n";
        assert_eq!(text(&status), alone);
        status.peers.push(PeerStatus {
            peer: "12D3KooWother1".to_owned(),
            role: PeerRole::Member,
            address: "/ip4/192.0.2.2/udp/2/quic-v1/p2p/12D3KooWother1".to_owned(),
            transport: Transport::Quic,
            entries: 2,
            sent: 10,
            received: 20,
            connected_seconds: 120,
            seen_seconds_ago: 3,
        });
        let text = text(&status);
        let row: Vec<&str> = text.lines().nth(6).unwrap_or_default().split(['│', '┆']).map(str::trim).collect();
        let expected =
            ["…other1", "member", "/ip4/192.0.2.2/udp/2/quic-v1", "QUIC", "2", "10 B", "20 B", "2m", "3s ago"];
        assert_eq!(row[1..10], expected, "{text}");
    }
}
