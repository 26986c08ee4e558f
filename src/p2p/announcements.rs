//! The members that have announced themselves to a bootstrap node: bounded per peer and in total, and forgotten in
//! time.

use libp2p::kad::{
    ProviderRecord, RecordKey,
    store::{MemoryStore, MemoryStoreConfig, RecordStore},
};
use libp2p_identity::PeerId;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Federations whose members are kept, over all peers.
const MAX_KEYS: usize = 16 * 1024;
/// Members kept per federation: as many as Kademlia puts into an answer.
const MAX_MEMBERS: usize = 20;
/// Federations in which one peer can announce itself.
const MAX_KEYS_OF_PEER: usize = 64;
/// A federation's key is a hash.
const MAX_KEY_BYTES: usize = 64;

/// Which peers have announced themselves as members of which federations. Kademlia's store holds the records. This
/// bounds what one peer can put there and drops old ones, which the store does only when it is asked for the key.
#[derive(Default)]
pub(super) struct Announcements {
    until: HashMap<PeerId, HashMap<RecordKey, Instant>>,
}

impl Announcements {
    /// How long an announcement holds; nodes repeat theirs long before.
    pub(super) const TTL: Duration = Duration::from_secs(30 * 60);

    /// A store that takes no values, only announcements.
    pub(super) fn store(me: PeerId) -> MemoryStore {
        let config = MemoryStoreConfig {
            max_records: 0,
            max_value_bytes: 0,
            max_provided_keys: MAX_KEYS,
            max_providers_per_key: MAX_MEMBERS,
        };
        MemoryStore::with_config(me, config)
    }

    /// Takes an announcement into the store, unless it is over a limit.
    pub(super) fn add(&mut self, record: ProviderRecord, store: &mut MemoryStore) {
        let (key, peer) = (record.key.clone(), record.provider);
        let keys = self.until.get(&peer);
        let is_new = keys.is_none_or(|keys| !keys.contains_key(&key));
        if key.as_ref().len() > MAX_KEY_BYTES || is_new && keys.is_some_and(|keys| keys.len() >= MAX_KEYS_OF_PEER) {
            return;
        }
        let until = record.expires.unwrap_or_else(|| Instant::now() + Self::TTL);
        // The store ignores newcomers once a federation has its full number of members.
        if store.add_provider(record).is_ok() && store.providers(&key).iter().any(|known| known.provider == peer) {
            self.until.entry(peer).or_default().insert(key, until);
        }
    }

    /// Drops announcements that have expired.
    pub(super) fn forget_old(&mut self, store: &mut MemoryStore) {
        self.forget_before(Instant::now(), store);
    }

    fn forget_before(&mut self, now: Instant, store: &mut MemoryStore) {
        self.until.retain(|peer, keys| {
            keys.retain(|key, until| {
                let holds = *until > now;
                if !holds {
                    store.remove_provider(key, peer);
                }
                holds
            });
            !keys.is_empty()
        });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.until.values().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &[u8], provider: PeerId, expires: Instant) -> ProviderRecord {
        ProviderRecord { key: RecordKey::new(&key), provider, expires: Some(expires), addresses: Vec::new() }
    }

    #[test]
    fn they_are_bounded_and_forgotten() {
        let mut store = Announcements::store(PeerId::random());
        let mut announcements = Announcements::default();
        let (now, peer) = (Instant::now(), PeerId::random());
        let later = now + Duration::from_secs(60);
        for key in 0..100 {
            announcements.add(record(&[key], peer, if key < 10 { now } else { later }), &mut store);
        }
        announcements.add(record(&[0; 65], PeerId::random(), later), &mut store);
        assert_eq!(announcements.len(), MAX_KEYS_OF_PEER);
        // Repeating an announcement doesn't make a new one.
        announcements.add(record(&[5], peer, later), &mut store);
        assert_eq!(announcements.len(), MAX_KEYS_OF_PEER);

        for _ in 0..30 {
            announcements.add(record(b"federation", PeerId::random(), later), &mut store);
        }
        assert_eq!(announcements.len(), MAX_KEYS_OF_PEER + MAX_MEMBERS);

        announcements.forget_before(now, &mut store);
        assert_eq!(announcements.len(), MAX_KEYS_OF_PEER + MAX_MEMBERS - 9);
        assert!(store.providers(&RecordKey::new(&[0])).is_empty());
        assert_eq!(store.providers(&RecordKey::new(&[5])).len(), 1);
        announcements.forget_before(later, &mut store);
        assert_eq!((announcements.len(), store.providers(&RecordKey::new(&[5])).len()), (0, 0));
    }
}
