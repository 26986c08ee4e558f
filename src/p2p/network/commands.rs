//! The handle's commands to the task, and the callers that wait for an answer.

use super::{
    Command,
    connected::Unreached,
    driver::{Banned, Driver},
};
use crate::p2p::{
    addresses::{PeerAddress, can_be_dialled},
    core::{FetchError, Heard, Input},
    doors,
    figures::NetworkFigures,
    lookout::Facts,
    status::{BannedPeer, NetworkStatus, SoughtPeer},
    surroundings::Surroundings,
};
use libp2p_identity::PeerId;

impl Driver {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Published(entry) => {
                self.tell(Input::Published(entry));
            }
            Command::BoardChanged => self.tell(Input::BoardChanged),
            Command::Expects(authors) => self.tell(Input::Expects(authors)),
            Command::Learned(entries) => self.tell(Input::Learned(entries)),
            Command::Fetch(entry, done) => match entry.root() {
                Some(root) => {
                    self.waiting.entry(root).or_default().push(done);
                    self.tell(Input::Want(entry));
                }
                None => drop(done.send(Err(FetchError::Gone))),
            },
            Command::HandOver(done) => {
                self.leaving.push(done);
                // A conflict may have reached the board without the core, which looks for it now.
                self.tell(Input::Leaves(true));
            }
            Command::LookAround(done) => self.arriving.push(done),
            Command::Surroundings(done) => drop(done.send(self.surroundings())),
            Command::HandedOver(done) => drop(done.send(self.core.handed_over())),
            Command::Status(done) => drop(done.send(self.status())),
        }
    }

    /// Answers the callers whose condition has come true.
    pub(super) fn answer_waiting(&mut self) {
        self.arriving.retain(|arriving| !arriving.is_closed());
        if !self.arriving.is_empty() {
            if self.lookout.is_settled(self.now(), &self.facts()) {
                let surroundings = self.surroundings();
                self.arriving.drain(..).for_each(|arriving| _ = arriving.send(surroundings));
            } else {
                self.ask_table_again();
            }
        }
        if !self.leaving.is_empty() {
            self.leave();
        }
    }

    fn facts(&self) -> Facts<'_, impl Fn(&PeerId) -> Heard> {
        let set = self.board.set();
        let of_others = |author: &PeerId| *author != self.me && set.newest_update(*author).is_some();
        Facts {
            heard: |peer: &PeerId| self.core.heard(peer),
            redial: &self.redial,
            searches_beside: self.swarm.behaviour().mdns.is_enabled(),
            knows_updates: set.authors().any(|author| of_others(&author)),
            is_learning: self.core.is_learning(),
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings { has_secret: self.has_secret, ..self.lookout.surroundings(&self.facts()) }
    }

    /// Answers the callers of `hand_over` once it is done, or once nobody is left who could take anything. A peer that
    /// hasn't been heard yet still could, and so could members that were lost, as long as nobody has anything. An
    /// excluded node hands over nothing but the proof against it.
    fn leave(&mut self) {
        self.leaving.retain(|leaving| !leaving.is_closed());
        if self.leaving.is_empty() {
            return self.tell(Input::Leaves(false));
        }
        let handed_over = self.core.handed_over();
        let done = if self.board.is_excluded(self.me) {
            !self.core.is_telling_own_proof()
        } else {
            let unheard = self.lookout.is_unheard(|peer| self.core.heard(peer));
            let returning = handed_over.holding == 0 && self.lookout.misses_members();
            !unheard && (handed_over.is_done() || handed_over.members == 0 && !returning)
        };
        if done {
            self.leaving.drain(..).for_each(|leaving| _ = leaving.send(handed_over));
            self.tell(Input::Leaves(false));
        }
    }

    fn status(&self) -> NetworkStatus {
        // Before the board is locked: no lock is taken while another is held.
        let (cached, now) = (self.cache.figures().used, self.now());
        let NetworkFigures { sent, received, .. } = self.counters.figures();
        let set = self.board.set();
        let entries = |author| set.of_author(author).count();
        NetworkStatus {
            peer: self.me.to_string(),
            name: self.named.as_ref().map(|named| named.name.clone()),
            run: self.named.as_ref().map(|named| named.run.clone()),
            federation: self.federation.to_string(),
            listening: self
                .listening()
                .iter()
                .filter(|listening| can_be_dialled(&listening.address))
                .map(PeerAddress::to_string)
                .collect(),
            entries: set.iter("").count(),
            authors: set.authors().count(),
            sent,
            received,
            cached,
            figures: self.figures.as_ref().map(|figures| figures.borrow().clone()),
            announced: self.announced_addresses(),
            sought: self
                .unreached
                .iter()
                .filter(|(peer, _)| self.redial.is_sought(peer) || self.lookout.is_announced(peer))
                .map(|(peer, Unreached { reason, at })| SoughtPeer {
                    peer: peer.to_string(),
                    name: self.membership.name(*peer),
                    reason: reason.clone(),
                    seconds_ago: now.saturating_sub(*at).as_secs(),
                })
                .collect(),
            peers: self.peers.status(
                now,
                |peer| self.redial.is_listed(peer),
                |peer| self.membership.name(peer),
                entries,
            ),
            unread: self.answers.bytes(),
            places: doors::most(&self.limits, self.is_cut).all,
            banned: self
                .banned
                .iter()
                .map(|(peer, Banned { until, reason })| BannedPeer {
                    peer: peer.to_string(),
                    reason: reason.clone(),
                    seconds: until.saturating_sub(now).as_secs(),
                })
                .collect(),
            refused: self.refusals(),
            put_off: self.put_off,
        }
    }
}
