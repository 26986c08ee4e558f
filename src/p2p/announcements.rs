//! The members that have announced themselves to a node's part of the table: bounded per peer and in total, and forgotten
//! in time.

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
const LOOKS_EVERY: Duration = Duration::from_secs(10);

/// Which peers have announced themselves as members of which federations. Kademlia's store holds the records. This
/// bounds what one peer can put there and drops old ones, which the store does only when it is asked for the key.
pub(super) struct Announcements {
    places: Places,
    until: HashMap<PeerId, HashMap<RecordKey, Instant>>,
    records: usize,
    looked: Instant,
}

/// How much there is room for, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// Announcements in all.
    pub(super) records: usize,
    /// How long one holds.
    pub(super) ttl: Duration,
}

/// A bootstrap node's, which is there for nothing else.
impl Default for Announcements {
    fn default() -> Self {
        Self::new(Places { records: MAX_KEYS * MAX_MEMBERS, ttl: Self::TTL })
    }
}

impl Announcements {
    /// How long an announcement to a bootstrap node holds; nodes repeat theirs long before.
    pub(super) const TTL: Duration = Duration::from_secs(30 * 60);

    pub(super) fn new(places: Places) -> Self {
        Self { places, until: HashMap::new(), records: 0, looked: Instant::now() }
    }

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

    /// Takes an announcement into the store, unless it is over a limit. Where there is no room for one more, the peer
    /// with the most loses one.
    pub(super) fn add(&mut self, record: ProviderRecord, store: &mut MemoryStore) {
        let (key, peer) = (record.key.clone(), record.provider);
        let keys = self.until.get(&peer);
        let is_new = keys.is_none_or(|keys| !keys.contains_key(&key));
        if key.as_ref().len() > MAX_KEY_BYTES || is_new && keys.is_some_and(|keys| keys.len() >= MAX_KEYS_OF_PEER) {
            return;
        }
        if is_new && self.records >= self.places.records && !self.make_room(&peer, store) {
            return;
        }
        let until = record.expires.unwrap_or_else(|| Instant::now() + self.places.ttl);
        // The store ignores newcomers once a federation has its full number of members, and may drop another for one.
        if store.add_provider(record).is_ok() && store.providers(&key).iter().any(|known| known.provider == peer) {
            let added = self.until.entry(peer).or_default().insert(key, until).is_none();
            self.records += usize::from(added);
        }
    }

    /// False if nobody has more than this peer.
    fn make_room(&mut self, peer: &PeerId, store: &mut MemoryStore) -> bool {
        let own = self.until.get(peer).map_or(0, HashMap::len);
        let Some((most, keys)) = self.until.iter().max_by_key(|(_, keys)| keys.len()) else { return false };
        let (most, soonest) = (*most, keys.iter().min_by_key(|(_, until)| **until).map(|(key, _)| key.clone()));
        let Some(key) = soonest.filter(|_| keys.len() > own + 1) else { return false };
        store.remove_provider(&key, &most);
        if let Some(keys) = self.until.get_mut(&most) {
            keys.remove(&key);
            self.records -= 1;
        }
        true
    }

    /// Drops announcements that have expired. Looks for them once in a while only.
    pub(super) fn forget_old(&mut self, store: &mut MemoryStore) {
        let now = Instant::now();
        if now.duration_since(self.looked) >= LOOKS_EVERY {
            self.looked = now;
            self.forget_before(now, store);
        }
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
        self.records = self.until.values().map(HashMap::len).sum();
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &[u8], provider: PeerId, expires: Instant) -> ProviderRecord {
        ProviderRecord { key: RecordKey::new(&key), provider, expires: Some(expires), addresses: Vec::new() }
    }

    #[test]
    fn who_has_many_makes_room_for_who_has_none() {
        let mut store = Announcements::store(PeerId::random());
        let mut announcements = Announcements::new(Places { records: 100, ttl: Announcements::TTL });
        let later = Instant::now() + Duration::from_secs(60);
        let many: Vec<PeerId> = (0..10).map(|_| PeerId::random()).collect();
        for peer in &many {
            (0..50).for_each(|key| announcements.add(record(&[key, 1], *peer, later), &mut store));
        }
        assert_eq!(announcements.len(), 100);
        let honest: Vec<PeerId> = (0..20).map(|_| PeerId::random()).collect();
        for peer in &honest {
            announcements.add(record(b"federation", *peer, later), &mut store);
        }
        assert_eq!(announcements.len(), 100);
        assert_eq!(store.providers(&RecordKey::new(b"federation")).len(), 20);
        for peer in &many {
            (50..100).for_each(|key| announcements.add(record(&[key, 1], *peer, later), &mut store));
        }
        assert_eq!(
            store.providers(&RecordKey::new(b"federation")).len(),
            20,
            "those with many don't push out the rest"
        );
        let held: usize = (0..100).map(|key| store.providers(&RecordKey::new(&[key, 1])).len()).sum();
        assert_eq!(held, 80);
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
