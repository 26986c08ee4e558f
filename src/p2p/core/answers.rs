//! The answers that this node has for peers and that they haven't read yet: bounded in bytes, per peer and in all.
//!
//! An answer is in memory from the moment it is read from the cache until the peer has taken it. What finds no room waits
//! as a question, which costs next to nothing, until others have been taken.

use libp2p_identity::PeerId;
use std::collections::{BTreeMap, VecDeque};

/// What answers may take.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Bytes of one peer's answers. A peer that has none may always have one, whatever its length.
    pub per_peer: u64,
    /// Bytes in all. Half of it is kept for trusted peers.
    pub all: u64,
    /// Questions of one peer that may wait for room.
    pub waiting_per_peer: usize,
    /// Questions that may wait in all.
    pub waiting: usize,
}

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<Q> {
    /// It is to be answered now. Its bytes are counted until [`Answers::taken`].
    Now(Q),
    /// It waits for room; [`Answers::begin_next`] gives it back.
    Later,
    /// Too much waits already: it is refused.
    Never(Q),
}

/// Answers under way and questions that wait, by the ids of their requests. `Q` is a question.
#[derive(Debug)]
pub struct Answers<Id, Q> {
    room: Room,
    /// Who gets each answer, its bytes, and whether it is trusted.
    under_way: BTreeMap<Id, (PeerId, u64, bool)>,
    /// Bytes of the answers of each peer that has any.
    of_peers: BTreeMap<PeerId, u64>,
    total: u64,
    of_strangers: u64,
    waiting: VecDeque<Waiting<Id, Q>>,
}

#[derive(Debug)]
struct Waiting<Id, Q> {
    id: Id,
    peer: PeerId,
    bytes: u64,
    trusted: bool,
    question: Q,
}

impl<Id: Ord + Copy, Q> Answers<Id, Q> {
    /// None yet.
    pub fn new(room: Room) -> Self {
        Self {
            room,
            under_way: BTreeMap::new(),
            of_peers: BTreeMap::new(),
            total: 0,
            of_strangers: 0,
            waiting: VecDeque::new(),
        }
    }

    /// A peer asks for what takes at most so many bytes.
    pub fn ask(&mut self, id: Id, peer: PeerId, trusted: bool, bytes: u64, question: Q) -> Turn<Q> {
        // A peer's own questions are answered in their order; it doesn't wait for those of others.
        if self.fits(&peer, trusted, bytes) && !self.waiting.iter().any(|waiting| waiting.peer == peer) {
            self.begin(id, peer, trusted, bytes);
            return Turn::Now(question);
        }
        let of_peer = self.waiting.iter().filter(|waiting| waiting.peer == peer).count();
        if of_peer >= self.room.waiting_per_peer || self.waiting.len() >= self.room.waiting {
            return Turn::Never(question);
        }
        self.waiting.push_back(Waiting { id, peer, bytes, trusted, question });
        Turn::Later
    }

    /// Counts an answer that is in memory already. False if it doesn't fit and is to be thrown away.
    pub fn give(&mut self, id: Id, peer: PeerId, trusted: bool, bytes: u64) -> bool {
        let fits = self.fits(&peer, trusted, bytes);
        if fits {
            self.begin(id, peer, trusted, bytes);
        }
        fits
    }

    /// How long an answer has turned out to be. Returns how long it was taken for, and whether its peer is trusted.
    pub fn weigh(&mut self, id: &Id, bytes: u64) -> Option<(u64, bool)> {
        let (peer, before, trusted) = self.taken_off(id)?;
        self.begin(*id, peer, trusted, bytes);
        Some((before, trusted))
    }

    /// An answer has been taken by its peer, or never will be. Returns whose it was, if it was under way.
    pub fn taken(&mut self, id: &Id) -> Option<PeerId> {
        self.waiting.retain(|waiting| waiting.id != *id);
        self.taken_off(id).map(|(peer, ..)| peer)
    }

    /// The next question that there is room for, if any: of the peer with the fewest bytes under way, so that who reads
    /// slowly waits longest.
    pub fn begin_next(&mut self) -> Option<(Id, PeerId, Q)> {
        let fits = |waiting: &Waiting<Id, Q>| self.fits(&waiting.peer, waiting.trusted, waiting.bytes);
        let ready = self.waiting.iter().enumerate().filter(|(_, waiting)| fits(waiting));
        let (at, _) = ready.min_by_key(|(at, waiting)| (self.of_peer(&waiting.peer), *at))?;
        let Waiting { id, peer, bytes, trusted, question } = self.waiting.remove(at)?;
        self.begin(id, peer, trusted, bytes);
        Some((id, peer, question))
    }

    /// Bytes under way.
    pub fn bytes(&self) -> u64 {
        self.total
    }

    fn of_peer(&self, peer: &PeerId) -> u64 {
        self.of_peers.get(peer).copied().unwrap_or_default()
    }

    fn fits(&self, peer: &PeerId, trusted: bool, bytes: u64) -> bool {
        let own = self.of_peer(peer);
        let within = |used: u64, most: u64| used == 0 || used.saturating_add(bytes) <= most;
        within(own, self.room.per_peer)
            && within(self.total, self.room.all)
            && (trusted || within(self.of_strangers, self.room.all / 2))
    }

    fn begin(&mut self, id: Id, peer: PeerId, trusted: bool, bytes: u64) {
        self.under_way.insert(id, (peer, bytes, trusted));
        *self.of_peers.entry(peer).or_default() += bytes;
        self.total += bytes;
        self.of_strangers += if trusted { 0 } else { bytes };
    }

    fn taken_off(&mut self, id: &Id) -> Option<(PeerId, u64, bool)> {
        let (peer, bytes, trusted) = self.under_way.remove(id)?;
        self.total -= bytes;
        self.of_strangers -= if trusted { 0 } else { bytes };
        if let Some(own) = self.of_peers.get_mut(&peer) {
            *own -= bytes;
            // An answer of no length is not under way for long, so nothing is lost.
            if *own == 0 {
                self.of_peers.remove(&peer);
            }
        }
        Some((peer, bytes, trusted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { per_peer: 10, all: 40, waiting_per_peer: 3, waiting: 6 };

    #[test]
    fn a_peer_that_reads_nothing_gets_its_share_and_no_more() {
        let mut answers = Answers::new(ROOM);
        let (unread, other) = (PeerId::random(), PeerId::random());
        let mut turns: Vec<_> = (0..20).map(|id| answers.ask(id, unread, true, 5, id)).collect();
        let refused = turns.split_off(5);
        assert_eq!(turns, [Turn::Now(0), Turn::Now(1), Turn::Later, Turn::Later, Turn::Later]);
        assert!(refused.iter().all(|turn| matches!(turn, Turn::Never(_))));
        assert_eq!(answers.bytes(), 10);
        assert_eq!(answers.ask(20, other, true, 5, 20), Turn::Now(20), "others don't wait for it");
        assert_eq!(answers.begin_next(), None);
        assert_eq!(answers.taken(&1), Some(unread));
        assert_eq!(answers.begin_next(), Some((2, unread, 2)));
        // Its connection is closed.
        (0..20).for_each(|id| _ = answers.taken(&id));
        assert_eq!((answers.bytes(), answers.begin_next()), (5, None));
    }

    #[test]
    fn strangers_leave_half_to_the_trusted() {
        let mut answers = Answers::new(ROOM);
        for id in 0..20 {
            answers.ask(id, PeerId::random(), false, 5, ());
        }
        assert_eq!(answers.bytes(), 20);
        assert_eq!(answers.ask(20, PeerId::random(), true, 10, ()), Turn::Now(()));
        assert_eq!(answers.ask(21, PeerId::random(), true, 10, ()), Turn::Now(()));
        assert_eq!(answers.bytes(), 40);
    }

    #[test]
    fn whoever_has_least_under_way_is_next() {
        let mut answers = Answers::new(ROOM);
        let (slow, quick) = (PeerId::random(), PeerId::random());
        for id in 0..4 {
            answers.ask(id, PeerId::random(), true, 8, id);
        }
        answers.ask(4, slow, true, 8, 4);
        answers.ask(5, slow, true, 2, 5);
        answers.ask(6, quick, true, 8, 6);
        assert_eq!(answers.taken(&0).map(|_| answers.begin_next()), Some(Some((6, quick, 6))));
        assert_eq!(answers.begin_next(), None);
    }

    #[test]
    fn what_is_shorter_than_asked_for_makes_room() {
        let mut answers = Answers::new(ROOM);
        let peer = PeerId::random();
        assert_eq!(answers.ask(1, peer, true, 100, ()), Turn::Now(()), "one is always possible");
        assert_eq!(answers.ask(2, peer, true, 5, ()), Turn::Later);
        answers.weigh(&1, 3);
        assert_eq!(answers.begin_next(), Some((2, peer, ())));
        assert!(!answers.give(3, peer, true, 3), "it has 8 of 10");
        assert!(answers.give(4, peer, true, 2));
    }
}
