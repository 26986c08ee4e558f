"""The options of folders and nodes. Made by `python/generate` from what Rust declares: change it there."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TypedDict


class NetworkOptions(TypedDict, total=False):
    """Options of a `P2PFolder`. `None` is the default.

    Keys:
        listen: Where to listen, as /ip4/0.0.0.0/tcp/PORT or /ip4/0.0.0.0/udp/PORT/quic-v1; may be given several
            times. [default: every interface, TCP and QUIC, the ports of the last run or free ones]
        no_mdns: Don't look for peers on the local network.
        relay_weights: Move weights by way of a relay too, where there is no direct connection. A relay passes on so
            much of a connection, and belongs to somebody: see `peerfold bootstrap --relay-bytes`.
        upnp: Ask the router of this network to let others in (UPnP). Of use where it does what anybody in its
            network asks.
        sync_every: Seconds between two syncs with a random member, which find what gossip has missed. [default: 60]
        max_fetches: Values that are fetched at once; the others wait. [default: 4]
        max_fetch_peers: Peers that one value is fetched from at once. [default: 4]
        max_fetch_requests: Requests for parts of values that one peer is sent at once; and of one value, as many
            bytes are under way as these ask for. [default: 4]
        request_size: Bytes that such a request asks for, if it asks for more than one part. [default: 2 MiB]
        max_followed: Authors whose entries are followed. Where there are more, only those of connected peers are,
            until the node ends. [default: all; 256 with `max_peers`]
        max_absent_entry_rate: Entries a second that are taken in by gossip of authors who aren't connected and of
            whom nothing was folded. What is passed over comes by sync, if there is room for it. [default: 64]
        max_absent_rate: Values a second that are looked for in vain of authors who aren't connected and of whom
            nothing was folded. Anybody makes a thousand such authors in a moment. [default: 16]
        min_fetch_rate: Bytes a second below which, over half a minute, a value is asked for elsewhere first, and
            makes way for another that waits. Nobody is struck for it. [default: 32 KiB]
        prefetch_size: Longest value that is fetched, or kept for others, unasked. [default: 4 GiB]
        strikes: Wrong answers or messages after which a peer is dropped. What may be an accident counts a part of
            one, and half of all is forgotten in ten minutes. [default: 3]
        banned_for: Seconds that a dropped peer stays dropped the first time, and twice as long each time after.
            [default: 600]
        banned_at_most: Seconds that a peer stays dropped at most. [default: 86400]
        max_connections: Connections at once; fewer if there are not as many file descriptors. [default: 256]
        max_stranger_connections: Connections of peers of whom the node hasn't folded several updates; at most half
            of all connections. Where connections are short, the oldest of these is closed for a new one, first of
            who has published nothing. [default: 128]
        max_connections_per_address: Connections from one address. [default: 128]
        max_connections_per_network: Connections from the addresses of one network: /24, or /48 of IPv6. [default:
            192]
        max_relayed_connections: Connections by way of relays, which count to no address: whoever is at the other
            end has none that is known. [default: 64]
        max_relays: Bootstrap nodes that are asked to be relays of this node, while nobody has confirmed that it is
            reached directly. [default: 2]
        max_dial_backs: Addresses of peers that are tried out for them at once, and as many a minute for each: a
            node tells its peers whether it reaches them. [default: 8]
        max_connections_per_peer: Connections of one peer. [default: 4]
        max_pending_connections: Connections being made, and as many being taken; fewer if there are not as many
            file descriptors. [default: 512]
        max_pending_per_address: Those being taken from one address. [default: 256]
        handshake_timeout: Seconds that a connection may take to be made. [default: 10]
        max_streams: Requests that a connection has at once, both ways. [default: 64]
        request_timeout: Seconds until an answer begins: on a slow line what was asked for before comes first.
            [default: 60]
        stall_timeout: Seconds in which 16 KiB of an answer must come, or be taken. Who takes less is disconnected.
            [default: 20]
        max_answers_per_peer: Bytes of answers that one peer has yet to read; its other requests wait. [default: 16
            MiB]
        max_answers: Bytes of answers that peers have yet to read, in all. [default: 64 MiB]
        max_upload_per_peer: Bytes of values that one peer is given a second; it is told when to ask for more. 0: as
            many as the line takes. [default: 0 B]
        max_upload: Bytes of values that all peers are given a second, half of them kept for members that are known.
            0: as many as the line takes. [default: 0 B]
        max_waiting_requests: Requests that wait for such room; more are refused. One peer may have an eighth of
            them. [default: 1024]
        max_request_rate: Requests of one peer a second; it may save up those of eight seconds. [default: 512]
        max_requests_rate: Requests of all peers a second, likewise. [default: 4096]
        table_timeout: Seconds that a question to the table of peers (Kademlia) may take. [default: 15]
        member_ttl: Seconds that members are remembered who don't say again that they are there; nodes do so every
            minute or so. [default: 1800]
        max_table_members: Members of one federation that this node's part of the table remembers. [default: 64]
        max_table_federations: Federations that it remembers members of. [default: 1024]
        max_table_records: Members that it remembers in all. [default: 4096]
        gossip_seen_for: Seconds that gossip remembers what it has seen. [default: 60]
        max_gossip_seen: Messages of gossip that are taken in that time, and so remembered; what is too much is
            dropped. [default: 65536]
        max_gossip_rate: Messages of gossip that one peer may send a second; it may save up those of eight seconds.
            [default: 256]
        secret: The file with the federation's secret, from `peerfold secret new`. Who doesn't have it can't
            connect, learns no name, and reads nothing in a bucket. Over TCP alone; the local network isn't
            searched.
        fallback: A bucket behind the network, s3://bucket/prefix: what is published goes there too, and what no
            peer gives comes from there.
        fallback_after: Seconds to wait for peers to give a value before the fallback is asked. [default: 3]
        relay_after: Seconds, and one more for each MiB, that an author who has published, by the network, nothing
            new in the fallback is waited for until its newest update is relayed there. [default: 10]
        s3_allow_http: Let the endpoint be plain HTTP, which hides nothing.
        s3_poll: Seconds between two listings of the bucket while there is news. [default: 1]
        s3_poll_idle: Seconds up to which the time between two listings grows while there is none. [default: 30]
        s3_grace: Seconds, by the store's clock, for which this node's objects are kept when nothing needs them any
            more. [default: 300]
    """

    listen: Sequence[str | PathLike[str]] | str | PathLike[str] | None
    no_mdns: bool | None
    relay_weights: bool | None
    upnp: bool | None
    sync_every: float | str | None
    max_fetches: int | None
    max_fetch_peers: int | None
    max_fetch_requests: int | None
    request_size: int | str | None
    max_followed: int | None
    max_absent_entry_rate: float | None
    max_absent_rate: float | None
    min_fetch_rate: int | str | None
    prefetch_size: int | str | None
    strikes: int | None
    banned_for: float | str | None
    banned_at_most: float | str | None
    max_connections: int | None
    max_stranger_connections: int | None
    max_connections_per_address: int | None
    max_connections_per_network: int | None
    max_relayed_connections: int | None
    max_relays: int | None
    max_dial_backs: int | None
    max_connections_per_peer: int | None
    max_pending_connections: int | None
    max_pending_per_address: int | None
    handshake_timeout: float | str | None
    max_streams: int | None
    request_timeout: float | str | None
    stall_timeout: float | str | None
    max_answers_per_peer: int | str | None
    max_answers: int | str | None
    max_upload_per_peer: int | str | None
    max_upload: int | str | None
    max_waiting_requests: int | None
    max_request_rate: float | None
    max_requests_rate: float | None
    table_timeout: float | str | None
    member_ttl: float | str | None
    max_table_members: int | None
    max_table_federations: int | None
    max_table_records: int | None
    gossip_seen_for: float | str | None
    max_gossip_seen: int | None
    max_gossip_rate: float | None
    secret: str | PathLike[str] | None
    fallback: str | None
    fallback_after: float | str | None
    relay_after: float | str | None
    s3_allow_http: bool | None
    s3_poll: float | str | None
    s3_poll_idle: float | str | None
    s3_grace: float | str | None


class BucketOptions(TypedDict, total=False):
    """Options of an `S3Folder`. `None` is the default.

    Keys:
        s3_allow_http: Let the endpoint be plain HTTP, which hides nothing.
        s3_poll: Seconds between two listings of the bucket while there is news. [default: 1]
        s3_poll_idle: Seconds up to which the time between two listings grows while there is none. [default: 30]
        s3_grace: Seconds, by the store's clock, for which this node's objects are kept when nothing needs them any
            more. [default: 300]
        secret: The file with the federation's secret, from `peerfold secret new`. Who doesn't have it can't
            connect, learns no name, and reads nothing in a bucket. Over TCP alone; the local network isn't
            searched.
    """

    s3_allow_http: bool | None
    s3_poll: float | str | None
    s3_poll_idle: float | str | None
    s3_grace: float | str | None
    secret: str | PathLike[str] | None


class AsyncOptions(TypedDict, total=False):
    """Options of an `AsyncFederatedNode`. `None` is the default.

    Keys:
        ignore_seen: Leave out updates that were folded already.
        participation: Fold after an epoch with this probability only. [default: 1]
        epochs_between_folds: Fold after every so many epochs. [default: 1]
        upload_only: Publish, but never fold.
        max_peers: Fold at most so many peers, each time a fresh random sample. [default: all]
        max_wait: Wait for updates that are still on their way for at most this part of the time that the node
            trains. [default: 0.1]
        min_peers: Wait at the start until so many peers are there. [default: 0; with `sync` all]
        start_deadline: Seconds to wait for them; then the node begins with those who are there. [default: 60]
        max_staleness: Leave out updates that are staler than this. [default: 10]
        max_num_examples: Refuse updates that claim more examples. [default: 100000000]
        max_examples_ratio: Count no more examples of an update than so many times the median of those that it is
            folded with. [default: 5]
        max_norm: Refuse updates whose weights have a larger Euclidean norm. [default: any]
        max_norm_ratio: Leave out updates whose weights have a norm of more than so many times the median of those
            of their fold. [default: 100]
        suspect: What to do about an update that is far out of line with at least three others, in length or
            direction, or in its loss on `validation`. [default: warn]
        allow: Who may take part: a file with a peer id and a name a line, reread when it changes, or a peer id; may
            be given several times. With `sync` they are the members. [default: anyone]
        admin: Peer id of the administrator, whose newest signed list says who may take part: see `peerfold
            members`. The administrator itself always may. Not together with `allow`.
        readmit: Peer id to trust again although it signed two entries under one number.
        linger: After the last epoch, stay up to so long until the connected peers, and the bucket, have this node's
            newest update. [default: 10]
        publish_folded: Publish the folded weights too, after each epoch, as AUTHOR/model: updates are what was
            trained, before the fold.
        cache_quota: Bytes that the cache in the home may take. For new values it drops what nobody needs any more,
            then the updates of strangers, then those of other peers. [default: 8 GiB]
        cache_stranger_quota: Bytes of it that the newest updates of strangers may take, but no more than a quarter.
            [default: 1 GiB]
        max_authors: Authors of whom entries are kept. [default: 4096]
        max_author_entries: Entries kept of one author, what it has removed included. [default: 256]
        max_strangers: Authors of whom entries are kept although this node has not folded three of their updates.
            [default: 1024]
        max_stranger_entries: Entries kept of all those together. [default: 4096]
    """

    ignore_seen: bool | None
    participation: float | None
    epochs_between_folds: int | None
    upload_only: bool | None
    max_peers: int | None
    max_wait: float | None
    min_peers: int | None
    start_deadline: float | str | None
    max_staleness: int | None
    max_num_examples: int | None
    max_examples_ratio: float | None
    max_norm: float | None
    max_norm_ratio: float | None
    suspect: str | None
    allow: Sequence[str | PathLike[str]] | str | PathLike[str] | None
    admin: str | None
    readmit: Sequence[str | PathLike[str]] | str | PathLike[str] | None
    linger: float | str | None
    publish_folded: bool | None
    cache_quota: int | str | None
    cache_stranger_quota: int | str | None
    max_authors: int | None
    max_author_entries: int | None
    max_strangers: int | None
    max_stranger_entries: int | None


class SyncOptions(TypedDict, total=False):
    """Options of a `SyncFederatedNode`. `None` is the default.

    Keys:
        quorum: Nodes that suffice when the deadline passes, this one included. [default: all]
        deadline: Seconds to wait for all nodes. [default: 60]
        below_quorum: What to do when the deadline passes and the quorum isn't there. [default: wait]
        min_peers: Wait at the start until so many peers are there. [default: 0; with `sync` all]
        start_deadline: Seconds to wait for them; then the node begins with those who are there. [default: 60]
        max_staleness: Leave out updates that are staler than this. [default: 10]
        max_num_examples: Refuse updates that claim more examples. [default: 100000000]
        max_examples_ratio: Count no more examples of an update than so many times the median of those that it is
            folded with. [default: 5]
        max_norm: Refuse updates whose weights have a larger Euclidean norm. [default: any]
        max_norm_ratio: Leave out updates whose weights have a norm of more than so many times the median of those
            of their fold. [default: 100]
        suspect: What to do about an update that is far out of line with at least three others, in length or
            direction, or in its loss on `validation`. [default: warn]
        allow: Who may take part: a file with a peer id and a name a line, reread when it changes, or a peer id; may
            be given several times. With `sync` they are the members. [default: anyone]
        admin: Peer id of the administrator, whose newest signed list says who may take part: see `peerfold
            members`. The administrator itself always may. Not together with `allow`.
        readmit: Peer id to trust again although it signed two entries under one number.
        linger: After the last epoch, stay up to so long until the connected peers, and the bucket, have this node's
            newest update. [default: 10]
        publish_folded: Publish the folded weights too, after each epoch, as AUTHOR/model: updates are what was
            trained, before the fold.
        cache_quota: Bytes that the cache in the home may take. For new values it drops what nobody needs any more,
            then the updates of strangers, then those of other peers. [default: 8 GiB]
        cache_stranger_quota: Bytes of it that the newest updates of strangers may take, but no more than a quarter.
            [default: 1 GiB]
        max_authors: Authors of whom entries are kept. [default: 4096]
        max_author_entries: Entries kept of one author, what it has removed included. [default: 256]
        max_strangers: Authors of whom entries are kept although this node has not folded three of their updates.
            [default: 1024]
        max_stranger_entries: Entries kept of all those together. [default: 4096]
    """

    quorum: int | None
    deadline: float | str | None
    below_quorum: str | None
    min_peers: int | None
    start_deadline: float | str | None
    max_staleness: int | None
    max_num_examples: int | None
    max_examples_ratio: float | None
    max_norm: float | None
    max_norm_ratio: float | None
    suspect: str | None
    allow: Sequence[str | PathLike[str]] | str | PathLike[str] | None
    admin: str | None
    readmit: Sequence[str | PathLike[str]] | str | PathLike[str] | None
    linger: float | str | None
    publish_folded: bool | None
    cache_quota: int | str | None
    cache_stranger_quota: int | str | None
    max_authors: int | None
    max_author_entries: int | None
    max_strangers: int | None
    max_stranger_entries: int | None


#: Names of options by who takes them.
NAMES: dict[str, frozenset[str]] = {
    "network": frozenset(NetworkOptions.__annotations__),
    "bucket": frozenset(BucketOptions.__annotations__),
    "async": frozenset(AsyncOptions.__annotations__),
    "sync": frozenset(SyncOptions.__annotations__),
}
