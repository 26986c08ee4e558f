//! The task that does what the core says. At each turn it takes in one thing that has happened, then does everything
//! that follows.

use super::{
    Command,
    driver::{Driver, LISTENING_WITHIN},
    jobs::Done,
};
use crate::{
    p2p::{behaviour::connection_limits, core::Input, doors, message::BlobResponse, wire::WireBytes},
    weights::Root,
};
use futures::StreamExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_identity::PeerId;
use std::time::Duration;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinError,
};

/// The cache is told what is new for a twentieth of the time at most: how long that takes grows with what is known, and a
/// flood of entries would keep a core busy with it.
const KEEPING_PAUSE: u32 = 19;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Driver {
    /// Until the handle is dropped.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.tick();
        loop {
            self.act();
            let wakeup = self.began + self.next_wakeup();
            tokio::select! {
                event = self.swarm.select_next_some() => self.happened(event),
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(done) = self.jobs.join_next() => self.job_done(done),
                cut = changed(&mut self.cut) => self.cut_off(cut),
                Ok(()) = self.membership_changes.changed() => self.membership_changed(),
                () = tokio::time::sleep_until(wakeup) => self.tick(),
            }
        }
        drop(self.swarm);
        while self.jobs.join_next().await.is_some() {}
        // What has gathered while one of them was writing as well: a ban among it would be over with this run.
        let (housekeeping, cache, board, me) = (self.housekeeping, self.cache.clone(), self.board, self.me);
        let _ = tokio::task::spawn_blocking(move || housekeeping.run(&cache, &board, me)).await;
        // So that the home can be opened again, whoever still holds a value.
        let _ = tokio::task::spawn_blocking(move || self.cache.close()).await;
    }

    fn next_wakeup(&self) -> Duration {
        let unban = self.banned.values().map(|ban| ban.until).min();
        let ready = self.ready.is_some().then_some(LISTENING_WITHIN);
        let look = (!self.arriving.is_empty()).then(|| self.lookout.next(self.now())).flatten();
        let redial = self.redial.next().filter(|_| !self.is_cut);
        let keep = (!self.keeping && !self.housekeeping.is_empty()).then_some(self.keep_from);
        let punch = self.punch_again.next().filter(|_| !self.is_cut);
        let relays = [self.outside.next(self.now()), self.reservations.next(self.now()), self.tell_ways_at, punch];
        let times = [self.core.next_wakeup(), redial, Some(self.table_queries.next()), unban, ready, look, keep];
        let times = times.into_iter().chain(relays).chain([self.router_has_refused_at()]);
        times.flatten().min().unwrap_or(Duration::MAX).min(self.now() + Duration::from_secs(60))
    }

    fn tick(&mut self) {
        let now = self.now();
        let free: Vec<PeerId> = self.banned.iter().filter(|(_, ban)| ban.until <= now).map(|(peer, _)| *peer).collect();
        for peer in free {
            self.banned.remove(&peer);
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
        self.table.forget_old(self.swarm.behaviour_mut().kad.store_mut());
        let given_up: Vec<Root> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.iter().all(oneshot::Sender::is_closed))
            .map(|(root, _)| *root)
            .collect();
        for root in given_up {
            self.waiting.remove(&root);
            self.tell(Input::Unwant(root));
        }
        if now >= LISTENING_WITHIN {
            self.tell_where();
        }
        self.tell_of_router();
        let behaviour = self.swarm.behaviour_mut();
        self.table_queries.tick(now, self.lookout.asks(), behaviour.admission.not_dialled(), &mut behaviour.kad);
        self.tell(Input::Tick);
    }

    fn cut_off(&mut self, cut: bool) {
        self.is_cut = cut;
        *self.swarm.behaviour_mut().limits.limits_mut() = connection_limits(&self.limits, cut);
        self.swarm.behaviour_mut().doors.change(doors::most(&self.limits, cut));
        if cut {
            let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
            for peer in connected {
                // An error says that it is gone already.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        } else {
            self.redial.again(self.now());
        }
    }

    /// Closes the connections of those who were revoked. Those of the bootstrap list that have become members, or are
    /// none any more, are connected with anew, because the protocols of members are offered when a connection is made.
    fn membership_changed(&mut self) {
        self.tell(Input::MembershipChanged);
        let (membership, me) = (self.membership.clone(), self.me);
        let changed: Vec<PeerId> = self
            .peers
            .by_id
            .iter()
            .filter(|(id, peer)| peer.admitted != membership.allows(**id))
            .map(|(id, _)| *id)
            .collect();
        let behaviour = self.swarm.behaviour_mut();
        let revoked: Vec<PeerId> = changed.iter().filter(|peer| !behaviour.admission.lets_in(peer)).copied().collect();
        for peer in &revoked {
            tracing::info!(%peer, "disconnected: it is no longer on the allow-list");
            behaviour.kad.remove_peer(peer);
        }
        self.redial.retain(|peer| *peer == me || membership.allows(*peer));
        for peer in changed {
            // An error says that it is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// Does what the core says, and what follows from it.
    fn act(&mut self) {
        while let Some(output) = self.core.poll() {
            self.output(output);
        }
        let now = self.now();
        self.count_refusals();
        let members = self.peers.members();
        self.counters.members.send_if_modified(|known| std::mem::replace(known, members) != members);
        let due = if self.is_cut { Vec::new() } else { self.redial.due(now, members) };
        for (peer, addresses) in due {
            let options =
                DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::DisconnectedAndNotDialing);
            if let Err(error) = self.swarm.dial(options.build()) {
                tracing::debug!(%peer, %error, "not dialled");
                if !self.swarm.is_connected(&peer) {
                    self.redial.lost(&peer, now);
                }
            }
        }
        if !self.keeping && !self.housekeeping.is_empty() && self.keep_from <= now {
            self.keeping = true;
            let housekeeping = std::mem::take(&mut self.housekeeping);
            let (cache, board, me) = (self.cache.clone(), self.board.clone(), self.me);
            self.jobs.spawn_blocking(move || housekeeping.run(&cache, &board, me));
        }
        if !self.is_cut {
            self.reserve();
            self.punch_again();
        }
        self.tell_ways();
        self.answer_waiting();
    }

    fn job_done(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Looked { root, looked }) => self.tell(Input::Looked { root, looked }),
            Ok(Done::Stored { hash, result }) => self.tell(Input::Stored { hash, result }),
            Ok(Done::Read { token, blobs }) => {
                if let Some((peer, id, channel)) = self.pending.take_blobs(token) {
                    let response = BlobResponse::Blobs(blobs);
                    self.weigh(peer, id, response.wire_bytes());
                    self.sent(&peer, response.wire_bytes());
                    // If the peer is gone, that is reported by itself, and the answer is no longer counted.
                    let _ = self.swarm.behaviour_mut().blobs.send_response(channel, response);
                    self.serve_waiting();
                }
            }
            Ok(Done::Kept { took }) => {
                self.keeping = false;
                self.keep_from = self.now() + took.saturating_mul(KEEPING_PAUSE).min(LONGEST_PAUSE);
            }
            // A job that panicked is a bug in this program: whatever waits for it would wait for ever.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// The value of a watch once it changes. Never returns if there is no watch, or if nobody can change it any more.
async fn changed(watched: &mut Option<watch::Receiver<bool>>) -> bool {
    if let Some(receiver) = watched
        && receiver.changed().await.is_ok()
    {
        return *receiver.borrow_and_update();
    }
    std::future::pending().await
}
