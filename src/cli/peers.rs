//! `peerfold peers`: shows who is connected to a running node.

use crate::{
    p2p::{NetworkStatus, PeerRole, PeerStatus, Refusals, Transport},
    program::{Column, Sheet, short_peer},
};
use indicatif::{HumanBytes, HumanDuration};
use std::time::Duration;

/// The whole as text for people, with the table at most this wide.
pub(super) fn text(status: &NetworkStatus, columns: Option<usize>) -> String {
    let mut lines = vec![match (&status.name, &status.run) {
        (Some(name), Some(run)) => format!("{} in federation {name:?}, run {run:?}", status.peer),
        _ => format!("{} in federation {}", status.peer, status.federation),
    }];
    lines.extend(status.listening.iter().map(|address| format!("listens on {address}")));
    let relays = status.announced.iter().filter(|address| address.contains("/p2p-circuit"));
    lines.extend(relays.map(|address| format!("isn't reached directly, but by the relay {address}")));
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
        _ => lines.push(table(&status.peers).text(columns)),
    }
    lines.extend(status.sought.iter().map(|sought| {
        let (peer, ago) = (short_peer(&sought.peer), span(sought.seconds_ago));
        let called = sought.name.as_ref().map_or_else(|| peer.clone(), |name| format!("{name} {peer}"));
        format!("{called} can't be reached, {ago} ago: {}", sought.reason)
    }));
    if status.refused.total() > 0 {
        let Refusals { connections, requests, gossip } = status.refused;
        lines.push(format!("refused: {connections} connections, {requests} requests, {gossip} messages of gossip"));
    }
    if status.put_off > 0 {
        lines.push(format!("put off, as peers had as much as they may: {} requests", status.put_off));
    }
    lines.extend(status.banned.iter().map(|banned| {
        let (peer, span) = (short_peer(&banned.peer), span(banned.seconds));
        format!("{peer} is kept out for {span}: {}", banned.reason)
    }));
    lines.join("\n") + "\n"
}

fn table(peers: &[PeerStatus]) -> Sheet {
    let column = |cell: fn(&PeerStatus) -> String| peers.iter().map(cell).collect::<Vec<_>>();
    Sheet::of(Column::words("peer", column(called)))
        .with([
            Column::words("is", column(|peer| role(peer.role).to_owned())),
            Column::words("address", column(|peer| peer.address.split("/p2p/").next().unwrap_or_default().to_owned())),
            Column::words("over", column(|peer| transport(peer.transport).to_owned())),
            Column::words("way", column(|peer| peer.way.to_string())),
        ])
        .with([
            Column::numbers("entries", column(|peer| peer.entries.to_string())),
            Column::numbers("sent", column(|peer| HumanBytes(peer.sent).to_string())),
            Column::numbers("received", column(|peer| HumanBytes(peer.received).to_string())),
            Column::numbers("connected", column(|peer| span(peer.connected_seconds))),
            Column::numbers("last seen", column(|peer| format!("{} ago", span(peer.seen_seconds_ago)))),
        ])
}

/// The end of its peer id, after its name if it has one.
fn called(peer: &PeerStatus) -> String {
    let id = short_peer(&peer.peer);
    peer.name.as_ref().map_or_else(|| id.clone(), |name| format!("{name} {id}"))
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
    use crate::p2p::{BannedPeer, SoughtPeer, Way};

    #[test]
    fn it_reads_well() {
        let mut status = NetworkStatus {
            peer: "12D3KooWself".to_owned(),
            name: None,
            run: None,
            federation: "abcdef".to_owned(),
            listening: vec!["/ip4/192.0.2.1/tcp/1/p2p/12D3KooWself".to_owned()],
            entries: 4,
            authors: 2,
            sent: 1536,
            received: 0,
            cached: 1 << 20,
            figures: None,
            peers: Vec::new(),
            announced: Vec::new(),
            sought: Vec::new(),
            unread: 0,
            places: 256,
            banned: Vec::new(),
            refused: Refusals::default(),
            put_off: 0,
        };
        let alone = "12D3KooWself in federation abcdef\nlistens on /ip4/192.0.2.1/tcp/1/p2p/12D3KooWself\n\
                     4 entries of 2 authors; sent 1.50 KiB, received 0 B; 1.00 MiB in the cache\nnobody is connected\n";
        assert_eq!(text(&status, None), alone);
        status.name = Some("hospitals".to_owned());
        status.run = Some("2".to_owned());
        let named = text(&status, None);
        assert_eq!(named.lines().next(), Some("12D3KooWself in federation \"hospitals\", run \"2\""));
        status.peers.push(PeerStatus {
            peer: "12D3KooWother1".to_owned(),
            name: None,
            role: PeerRole::Member,
            address: "/ip4/192.0.2.2/udp/2/quic-v1/p2p/12D3KooWother1".to_owned(),
            transport: Transport::Quic,
            way: Way::Punched,
            entries: 2,
            sent: 10,
            received: 20,
            connected_seconds: 120,
            seen_seconds_ago: 3,
        });
        status.banned.push(BannedPeer {
            peer: "12D3KooWother2".to_owned(),
            reason: "it sends too many requests".to_owned(),
            seconds: 600,
        });
        status.refused.requests = 7;
        status.put_off = 3;
        let kept_out = text(&status, None);
        let kept_out: Vec<&str> = kept_out.lines().rev().take(3).collect();
        assert_eq!(
            kept_out,
            [
                "…other2 is kept out for 10m: it sends too many requests",
                "put off, as peers had as much as they may: 3 requests",
                "refused: 0 connections, 7 requests, 0 messages of gossip",
            ]
        );
        (status.banned, status.refused, status.put_off) = (Vec::new(), Refusals::default(), 0);
        for columns in [60, 80, 100] {
            let text = text(&status, Some(columns));
            let table = text.lines().filter(|line| line.starts_with(['│', '┌']));
            assert!(
                table.clone().count() > 1 && table.into_iter().all(|line| line.chars().count() <= columns),
                "{text}"
            );
        }
        let text = text(&status, None);
        let row: Vec<&str> = text.lines().nth(6).unwrap_or_default().split(['│', '┆']).map(str::trim).collect();
        let expected = [
            "…other1",
            "member",
            "/ip4/192.0.2.2/udp/2/quic-v1",
            "QUIC",
            "punched",
            "2",
            "10 B",
            "20 B",
            "2m",
            "3s ago",
        ];
        assert_eq!(row[1..11], expected, "{text}");
        status.announced = vec!["/ip4/192.0.2.9/tcp/1/p2p/12D3KooWrelay/p2p-circuit/p2p/12D3KooWself".to_owned()];
        status.sought.push(SoughtPeer {
            peer: "12D3KooWother3".to_owned(),
            name: Some("ward".to_owned()),
            reason: "/ip4/192.0.2.3/tcp/1: Connection refused (os error 111)".to_owned(),
            seconds_ago: 4,
        });
        let text = super::text(&status, None);
        for line in [
            "isn't reached directly, but by the relay \
             /ip4/192.0.2.9/tcp/1/p2p/12D3KooWrelay/p2p-circuit/p2p/12D3KooWself",
            "ward …other3 can't be reached, 4s ago: /ip4/192.0.2.3/tcp/1: Connection refused (os error 111)",
        ] {
            assert!(text.lines().any(|told| told == line), "{text}");
        }
    }
}
