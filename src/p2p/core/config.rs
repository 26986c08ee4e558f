//! What a core is made with.

use crate::{
    entries::Membership,
    settings::{Range, settings},
    weights::{FederationId, LayoutId},
};
use bytesize::ByteSize;
use libp2p_identity::PeerId;
use std::{sync::Arc, time::Duration};

/// Settings of a [`Core`](super::Core).
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// The federation.
    pub federation: FederationId,
    /// The node itself.
    pub me: PeerId,
    /// Newest updates of this layout are fetched when they are announced, so that they are there for a fold and outlive
    /// their authors; `None` fetches only what is asked for.
    pub layout: Option<LayoutId>,
    /// Of these only those of authors that [are expected](super::Input::Expects) are fetched unasked; at first nobody's.
    pub sampled: bool,
    /// Who may take part. Of other authors nothing is taken in, and other peers are told and given nothing.
    pub membership: Arc<Membership>,
    /// How often to sync with one random member: a minute.
    pub sync_every: Duration,
    /// The limits.
    pub limits: Limits,
}

settings! {
    /// What a [`Core`](super::Core) is bounded by. As by default: four values at once, of each the bytes of four
    /// requests of 2 MiB, from up to four peers, so that at most 32 MiB are in flight; twice that while wanted values push
    /// in before unasked ones.
    pub struct Limits under "Network limits" {
        /// Values that are fetched at once; the others wait.
        pub values_at_once as "max-fetches": usize = 4, "N", Range::at_least(1.0);
        /// Peers that one value is fetched from at once.
        pub providers_at_once as "max-fetch-peers": usize = 4, "N", Range::at_least(1.0);
        /// Requests for parts of values that one peer is sent at once; and of one value, as many bytes are under way as
        /// these ask for.
        pub requests_at_once as "max-fetch-requests": usize = 4, "N", Range::at_least(1.0);
        /// Bytes that such a request asks for, if it asks for more than one part.
        pub request_bytes as "request-size": ByteSize = ByteSize::mib(2), "SIZE", Range::at_least(1.0);
        /// Authors whose entries are followed. Where there are more, only those of connected peers are, until the node
        /// ends. [default: all; 256 with --max-peers]
        pub view as "max-followed": Option<usize> = None, "N", Range::at_least(1.0);
        /// Entries a second that are taken in by gossip of authors who aren't connected and of whom nothing was folded. What
        /// is passed over comes by sync, if there is room for it.
        pub absent_entry_rate as "max-absent-entry-rate": f64 = 64.0, "N", Range::above(0.0);
        /// Values a second that are looked for in vain of authors who aren't connected and of whom nothing was folded.
        /// Anybody makes a thousand such authors in a moment.
        pub absent_rate as "max-absent-rate": f64 = 16.0, "N", Range::above(0.0);
        /// Bytes a second below which, over half a minute, a value is asked for elsewhere first, and makes way for another
        /// that waits. Nobody is struck for it.
        pub least_rate as "min-fetch-rate": ByteSize = ByteSize::kib(32), "SIZE";
        /// Longest value that is fetched, or kept for others, unasked.
        pub prefetch_bytes as "prefetch-size": ByteSize = ByteSize::gib(4), "SIZE";
        /// Wrong answers or messages after which a peer is dropped. What may be an accident counts a part of one, and
        /// half of all is forgotten in ten minutes.
        pub strikes as "strikes": u32 = 3, "N", Range::at_least(1.0);
        /// Seconds that a dropped peer stays dropped the first time, and twice as long each time after.
        pub banned_for as "banned-for": Duration = Duration::from_secs(600), "SECONDS";
        /// Seconds that a peer stays dropped at most.
        pub banned_at_most as "banned-at-most": Duration = Duration::from_secs(24 * 60 * 60), "SECONDS";
    }
}
