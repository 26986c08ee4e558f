//! Which peers are drawn for a fold, where not all are folded. Pure: no I/O and no clock.

use crate::weights::SignedEntry;
use libp2p_identity::PeerId;
use std::{collections::BTreeSet, sync::Arc};

/// A fresh sample of peers for every fold.
///
/// Each author has a number for each epoch, which follows from the seed, and those with the lowest are drawn: so it is
/// known beforehand whose updates the next fold needs, as far as they are there by then, and nothing else need be fetched.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    seed: u64,
    /// At most so many; `None` for all.
    most: Option<usize>,
    /// Those drawn beforehand for the next fold.
    expected: BTreeSet<PeerId>,
}

impl Sample {
    pub(super) fn new(seed: u64, most: Option<usize>) -> Self {
        Self { seed, most, expected: BTreeSet::new() }
    }

    /// Whether not all are folded.
    pub(super) fn is_drawn(&self) -> bool {
        self.most.is_some()
    }

    /// Draws from what is fresh now for the fold of an epoch: of those who were expected as many as are fresh, and others in
    /// the place of those who aren't.
    pub(super) fn draw(&self, epoch: u64, fresh: Vec<Arc<SignedEntry>>) -> Vec<Arc<SignedEntry>> {
        let author = |entry: &Arc<SignedEntry>| entry.key.author();
        let Some(most) = self.most.filter(|&most| most < fresh.len()) else { return fresh };
        let drawn = self.lowest(epoch, most, fresh.iter().map(author), |peer| !self.expected.contains(peer));
        fresh.into_iter().filter(|entry| drawn.contains(&author(entry))).collect()
    }

    /// Draws from who is fresh now for a later epoch. `None` if everybody is folded.
    pub(super) fn expect(&mut self, epoch: u64, fresh: impl Iterator<Item = PeerId>) -> Option<BTreeSet<PeerId>> {
        self.expected = self.lowest(epoch, self.most?, fresh, |_| false);
        Some(self.expected.clone())
    }

    fn lowest(
        &self,
        epoch: u64,
        most: usize,
        of: impl Iterator<Item = PeerId>,
        last: impl Fn(&PeerId) -> bool,
    ) -> BTreeSet<PeerId> {
        let epoch = [self.seed.to_le_bytes(), epoch.to_le_bytes()].concat();
        let key = blake3::derive_key("peerfold 2026 sample of peers for a fold v1", &epoch);
        let number = |peer: &PeerId| *blake3::keyed_hash(&key, &peer.to_bytes()).as_bytes();
        let mut numbered: Vec<_> = of.map(|peer| (last(&peer), number(&peer), peer)).collect();
        numbered.sort_unstable();
        numbered.into_iter().take(most).map(|(.., peer)| peer).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::{Content, Entry, FederationId, Key, LayoutId, Metadata, Root};
    use libp2p_identity::Keypair;
    use std::collections::BTreeMap;

    fn updates(count: u8) -> Vec<Arc<SignedEntry>> {
        let update = |seed| {
            let keypair = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
            let content = Content::Put { root: Root::from_bytes([seed; 32]), length: 1, metadata: Metadata::default() };
            let entry = Entry {
                federation: FederationId::new("sample", "1"),
                layout: LayoutId::from_bytes([0; 32]),
                key: Key::update(keypair.public().to_peer_id(), 1),
                sequence: 1,
                content,
            };
            Arc::new(SignedEntry::sign(entry, &keypair).unwrap())
        };
        (1..=count).map(update).collect()
    }

    fn authors(entries: &[Arc<SignedEntry>]) -> BTreeSet<PeerId> {
        entries.iter().map(|entry| entry.key.author()).collect()
    }

    #[test]
    fn each_fold_draws_anew_and_everybody_is_drawn_as_often() {
        let (sample, all) = (Sample::new(7, Some(3)), updates(12));
        let mut drawn: BTreeMap<PeerId, usize> = BTreeMap::new();
        for epoch in 1..=400 {
            let chosen = sample.draw(epoch, all.clone());
            assert_eq!(chosen.len(), 3);
            chosen.iter().for_each(|entry| *drawn.entry(entry.key.author()).or_default() += 1);
        }
        // 100 each, with a deviation of 8.7.
        assert!(drawn.len() == 12 && drawn.values().all(|times| (65..=135).contains(times)), "{drawn:?}");
        assert_eq!(sample.draw(1, all[..3].to_vec()).len(), 3);
        assert_eq!(Sample::new(7, None).draw(1, all.clone()).len(), 12);
    }

    #[test]
    fn who_was_expected_is_drawn_and_others_only_in_the_place_of_who_is_gone() {
        let (mut sample, all) = (Sample::new(7, Some(3)), updates(12));
        for epoch in 1..100 {
            let known = authors(&all[..8]);
            let expected = sample.expect(epoch, known.iter().copied()).unwrap();
            assert_eq!(authors(&sample.draw(epoch, all.clone())), expected, "newcomers are drawn next time");
            let gone = expected.first().unwrap();
            let left: Vec<_> = all.iter().filter(|entry| entry.key.author() != *gone).cloned().collect();
            let drawn = authors(&sample.draw(epoch, left));
            assert_eq!((drawn.len(), drawn.intersection(&expected).count()), (3, 2));
        }
        assert_eq!(Sample::new(7, None).expect(1, authors(&all).into_iter()), None);
    }
}
