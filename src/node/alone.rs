//! Reports that a node is alone: at the start, and at the end of a run in which no peer's update was folded.

use super::{Event, NodeError, Participant};
use crate::p2p::Surroundings;

/// Whether this node has anybody to learn from, and what has been reported of that.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Who was found when the node looked around; `None` for a folder that isn't a network.
    pub(super) surroundings: Option<Surroundings>,
    /// Whether it was reported, or needn't be.
    looked: bool,
    /// The last epoch that it has trained in this run.
    pub(super) trained: Option<u64>,
}

impl Company {
    /// Why there is nobody to learn from now; `None` if there is somebody, or if that can't be known.
    async fn missing(&self, participant: &Participant) -> Result<Option<String>, NodeError> {
        let shows_storage = participant.folder().routes().map(|routes| routes.borrow().bucket);
        Ok(match (self.surroundings, shows_storage) {
            (Some(surroundings), _) if !surroundings.is_alone() => None,
            // What it knows of others is from an earlier run; none of them is there.
            (Some(surroundings), None | Some(false)) => Some(surroundings.to_string()),
            // A bucket that can't be read has its own event.
            (None, Some(false)) => None,
            (surroundings, _) if participant.peers_present().await? == 0 => Some(surroundings.map_or_else(
                || "nobody else has published in the folder".to_owned(),
                |surroundings| format!("{surroundings}, and nobody else has published in the bucket"),
            )),
            _ => None,
        })
    }

    /// Reports, once, at the start if nobody is there, and whether the node now waits for somebody. `federation` is its
    /// name, for people.
    pub(super) async fn tell_start(
        &mut self,
        participant: &Participant,
        federation: &str,
        waits: bool,
    ) -> Result<(), NodeError> {
        if self.looked {
            return Ok(());
        }
        self.looked = true;
        if let Some(reason) = self.missing(participant).await? {
            let now = if waits { "waiting for somebody" } else { "training alone until somebody comes" };
            let reason = format!("nobody else is in federation {federation} yet: {reason}; {now}");
            participant.emit(&Event::Alone { epoch: 0, reason, ended: false });
        }
        Ok(())
    }

    /// Reports, once, at the end if a node that has trained never folded anybody's update.
    pub(super) fn tell_end(&mut self, participant: &Participant, federation: &str) {
        if let Some(epoch) = self.trained.take().filter(|_| !participant.has_folded_peers()) {
            let reason = format!("no update of a peer was folded in federation {federation} in this run");
            participant.emit(&Event::Alone { epoch, reason, ended: true });
        }
    }
}
