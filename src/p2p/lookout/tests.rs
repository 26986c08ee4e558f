//! One node, a bootstrap node in its list, and a live member that only the bootstrap node knows, with everything that can
//! happen between them in every order that can come about.

#![allow(clippy::unwrap_used)]

use super::*;
use libp2p::Multiaddr;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const EARLY: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(11);

fn address() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/1".parse().unwrap()
}

/// A peer as the world knows it.
#[derive(Debug)]
struct Other {
    id: PeerId,
    connected: bool,
    identified: bool,
    heard: Heard,
    /// What it will say.
    says: Heard,
    /// Failures that are still to come.
    fails: u32,
}

impl Other {
    fn new(says: Heard, fails: u32) -> Self {
        Self { id: PeerId::random(), connected: false, identified: false, heard: Heard::Nothing, says, fails }
    }
}

/// A question to the table that is out.
#[derive(Debug)]
struct Question {
    met: Met,
    /// Whether the bootstrap node was in the table when it was begun.
    reaches: bool,
}

struct World {
    lookout: Lookout,
    redial: Redial,
    bootstrap: Other,
    member: Other,
    questions: Vec<Question>,
    /// Whether the table has told of the member.
    told: bool,
    knows_updates: bool,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happens {
    Connects(bool),
    FailsToConnect(bool),
    SaysWhatItIs(bool),
    IsHeard(bool),
    IsLost(bool),
    Asks,
    Answers(usize),
    AnswerIsLost(usize),
}

impl World {
    fn new(fails: [u32; 2]) -> Self {
        let bootstrap = Other::new(Heard::NoNode, fails[0]);
        let member = Other::new(Heard::Member, fails[1]);
        let mut redial = Redial::new(1);
        redial.listed(bootstrap.id, address(), Duration::ZERO);
        let (lookout, questions) = (Lookout::default(), Vec::new());
        Self { lookout, redial, bootstrap, member, questions, told: false, knows_updates: false }
    }

    fn other(&mut self, is_member: bool) -> &mut Other {
        if is_member { &mut self.member } else { &mut self.bootstrap }
    }

    fn settled(&self, now: Duration) -> bool {
        let heard = |peer: &PeerId| {
            let other = if *peer == self.member.id { &self.member } else { &self.bootstrap };
            other.heard
        };
        let facts = Facts {
            heard,
            redial: &self.redial,
            searches_beside: false,
            knows_updates: self.knows_updates,
            is_learning: false,
        };
        self.lookout.is_settled(now, &facts)
    }

    fn possible(&self) -> Vec<Happens> {
        let mut possible = Vec::new();
        for (is_member, other) in [(false, &self.bootstrap), (true, &self.member)] {
            if !other.connected && (!is_member || self.told) {
                possible.push(Happens::Connects(is_member));
                if other.fails > 0 {
                    possible.push(Happens::FailsToConnect(is_member));
                }
            }
            if other.connected && !other.identified {
                possible.push(Happens::SaysWhatItIs(is_member));
            }
            if other.connected && other.heard == Heard::Nothing {
                possible.push(Happens::IsHeard(is_member));
                if other.fails > 0 {
                    possible.push(Happens::IsLost(is_member));
                }
            }
        }
        // The driver asks in time, and again as long as the answer is wanting.
        if self.questions.len() < 2 && (self.lookout.wants_answer() || !self.told) {
            possible.push(Happens::Asks);
        }
        for number in 0..self.questions.len() {
            possible.push(Happens::Answers(number));
            possible.push(Happens::AnswerIsLost(number));
        }
        possible
    }

    fn happens(&mut self, what: Happens) {
        match what {
            Happens::Connects(is_member) => {
                let other = self.other(is_member);
                other.connected = true;
                let id = other.id;
                self.redial.connected(&id);
                self.lookout.connected(id, !is_member);
            }
            Happens::FailsToConnect(is_member) => {
                let other = self.other(is_member);
                other.fails -= 1;
                let id = other.id;
                self.redial.lost(&id, EARLY);
                self.lookout.not_reached(&id);
            }
            Happens::SaysWhatItIs(is_member) => {
                let other = self.other(is_member);
                other.identified = true;
                let id = other.id;
                let sought = !is_member || self.lookout.is_announced(&id);
                self.lookout.identified(&id, sought);
            }
            Happens::IsHeard(is_member) => {
                let other = self.other(is_member);
                other.heard = other.says;
            }
            Happens::IsLost(is_member) => {
                let other = self.other(is_member);
                other.fails -= 1;
                (other.connected, other.identified) = (false, false);
                let id = other.id;
                self.redial.lost(&id, EARLY);
                self.lookout.disconnected(id, Heard::Nothing, !is_member);
            }
            Happens::Asks => {
                let reaches = self.bootstrap.connected && self.bootstrap.identified;
                self.questions.push(Question { met: self.lookout.asks(), reaches });
            }
            Happens::Answers(number) => {
                let question = self.questions.remove(number);
                if question.reaches {
                    self.told = true;
                    self.lookout.announced(self.member.id);
                }
                // An empty table answers at once: that nobody was asked.
                self.lookout.answered(question.met, question.reaches);
            }
            Happens::AnswerIsLost(number) => {
                let question = self.questions.remove(number);
                self.lookout.answered(question.met, false);
            }
        }
    }
}

/// The invariant that a late joiner depends on, in every order that is drawn: as long as the member can be reached, the
/// node never takes it for absent.
#[test]
fn a_live_member_behind_a_live_bootstrap_node_is_never_taken_for_absent() {
    for seed in 0..20_000 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut world = World::new([random.random_range(0..TRIES), random.random_range(0..TRIES)]);
        let mut history = Vec::new();
        for _ in 0..400 {
            let met = world.member.heard == Heard::Member;
            assert!(met || !world.settled(EARLY), "alone after {history:?}, seed {seed}");
            if met && world.settled(EARLY) {
                break;
            }
            let possible = world.possible();
            let what = possible[random.random_range(0..possible.len())];
            history.push(what);
            world.happens(what);
        }
        assert!(world.settled(EARLY), "never done: {history:?}, seed {seed}");
    }
}

#[test]
fn an_empty_table_that_was_asked_early_has_not_answered() {
    let mut world = World::new([0, 0]);
    world.happens(Happens::Asks);
    world.happens(Happens::Connects(false));
    world.happens(Happens::IsHeard(false));
    world.happens(Happens::Answers(0));
    assert!(!world.settled(LATE), "it hasn't even said what it is");
    world.happens(Happens::SaysWhatItIs(false));
    assert!(!world.settled(LATE), "it was asked by nobody");
    assert!(world.lookout.wants_answer());
    world.happens(Happens::Asks);
    world.questions[0].reaches = true;
    world.happens(Happens::Answers(0));
    assert!(!world.settled(LATE), "somebody is announced");
    for happens in [Happens::Connects(true), Happens::SaysWhatItIs(true), Happens::IsHeard(true)] {
        assert!(!world.settled(LATE));
        world.happens(happens);
    }
    // It was sought, and may know others.
    assert!(!world.settled(LATE));
    world.happens(Happens::Asks);
    world.happens(Happens::Answers(0));
    assert!(world.settled(LATE));
}

#[test]
fn a_bootstrap_node_that_knows_nobody_is_an_answer() {
    let mut world = World::new([0, 0]);
    for happens in [Happens::Connects(false), Happens::SaysWhatItIs(false), Happens::IsHeard(false)] {
        assert!(!world.settled(EARLY));
        world.happens(happens);
    }
    let met = world.lookout.asks();
    world.lookout.answered(met, true);
    assert!(world.settled(EARLY));
}

#[test]
fn a_list_that_nobody_answers_on_is_given_time() {
    let mut world = World::new([2, 0]);
    world.happens(Happens::FailsToConnect(false));
    world.happens(Happens::FailsToConnect(false));
    assert!(!world.settled(EARLY));
    assert!(world.settled(LATE));
}

#[test]
fn with_nobody_to_look_for_nothing_is_waited_for() {
    let (lookout, redial) = (Lookout::default(), Redial::new(1));
    let mut facts = Facts {
        heard: |_: &PeerId| Heard::Nothing,
        redial: &redial,
        searches_beside: false,
        knows_updates: false,
        is_learning: false,
    };
    assert!(lookout.is_settled(Duration::ZERO, &facts));
    facts.searches_beside = true;
    assert!(!lookout.is_settled(Duration::ZERO, &facts));
    assert_eq!(lookout.next(Duration::ZERO), Some(BESIDE_WITHIN));
    assert!(lookout.is_settled(BESIDE_WITHIN, &facts));
}

/// A member that knows the federation makes it unnecessary to wait for the rest; one that knows nothing doesn't.
#[test]
fn one_member_that_knows_updates_is_enough() {
    let mut world = World::new([2, 0]);
    world.lookout.announced(world.member.id);
    world.told = true;
    for happens in [Happens::Connects(true), Happens::SaysWhatItIs(true), Happens::IsHeard(true)] {
        world.happens(happens);
    }
    let other = PeerId::random();
    world.lookout.announced(other);
    assert!(!world.settled(LATE));
    world.knows_updates = true;
    assert!(world.settled(EARLY));
}

#[test]
fn who_was_a_member_and_is_gone_is_missed_until_it_is_back() {
    let mut world = World::new([0, 0]);
    for happens in [Happens::Connects(true), Happens::SaysWhatItIs(true), Happens::IsHeard(true)] {
        world.happens(happens);
    }
    assert!(!world.lookout.misses_members());
    world.lookout.disconnected(world.member.id, Heard::Member, true);
    assert!(world.lookout.misses_members());
    world.lookout.connected(world.member.id, false);
    assert!(!world.lookout.misses_members());
}
