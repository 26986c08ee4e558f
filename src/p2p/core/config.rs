use crate::{
    entries::Membership,
    weights::{FederationId, LayoutId},
};
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
    /// Of whom: values of nobody else are fetched unasked, or kept for who leaves. Entries are taken in and passed on
    /// whoever signed them, and a value that somebody asks for is given.
    pub membership: Arc<Membership>,
    /// How often to sync with one random member: a minute.
    pub sync_every: Duration,
    /// What is bounded.
    pub limits: Limits,
}

/// What a [`Core`](super::Core) is bounded by.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Values that are fetched at once; the others wait.
    pub values_at_once: usize,
    /// Peers that one value is fetched from at once.
    pub providers_at_once: usize,
    /// Requests for blobs that one provider has at once.
    pub requests_at_once: usize,
    /// Bytes of blobs that a request asks for, if it asks for more than one.
    pub request_bytes: u64,
    /// Longest value that is fetched unasked.
    pub prefetch_bytes: u64,
    /// Wrong answers or messages after which a peer is dropped.
    pub strikes: u32,
    /// How long a dropped peer stays dropped.
    pub banned_for: Duration,
}

impl Default for Limits {
    /// Four values at once, each from one peer with four requests of 2 MiB: at most 32 MiB in flight, twice that while
    /// wanted values push in before unasked ones. Values over 4 GiB are fetched only when they are asked for. Three strikes,
    /// and a peer is dropped for ten minutes.
    fn default() -> Self {
        Self {
            values_at_once: 4,
            providers_at_once: 1,
            requests_at_once: 4,
            request_bytes: 2 << 20,
            prefetch_bytes: 4 << 30,
            strikes: 3,
            banned_for: Duration::from_secs(600),
        }
    }
}
