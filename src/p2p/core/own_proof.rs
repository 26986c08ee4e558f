//! Telling members of the proof against this node itself: that somebody else signs as it does, most likely from a copy of
//! its home. Who has found that out ends, so members don't find it out by themselves in time.

use super::{Core, Output, RequestId, Token};
use crate::p2p::message::{Item, SyncRequest, SyncResponse};
use libp2p_identity::PeerId;
use std::collections::{BTreeMap, BTreeSet};

/// Who was told. Both are bounded by the connected peers.
#[derive(Debug, Default)]
pub(super) struct OwnProof {
    told: BTreeSet<PeerId>,
    /// What is under way, and to whom.
    asked: BTreeMap<RequestId, PeerId>,
}

impl OwnProof {
    pub(super) fn disconnected(&mut self, peer: PeerId) {
        self.told.remove(&peer);
        self.asked.retain(|_, told| *told != peer);
    }
}

impl Core {
    /// Tells each connected member once, if this node is excluded.
    pub(super) fn tell_own_proof(&mut self) {
        let proof = self.board.set().conflict(&self.config.me).cloned();
        let Some(proof) = proof else { return };
        let untold: Vec<PeerId> = self.members().filter(|peer| !self.own_proof.told.contains(peer)).collect();
        for peer in untold {
            let (federation, id) = (self.config.federation, self.new_id());
            let entries = proof.entries.each_ref().map(|entry| entry.bytes().to_vec());
            self.own_proof.told.insert(peer);
            self.own_proof.asked.insert(id, peer);
            self.push(Output::Sync { id, peer, request: SyncRequest::Proof { federation, entries } });
        }
    }

    /// Whether a member has still to say that it knows the proof against this node.
    pub fn is_telling_own_proof(&self) -> bool {
        !self.own_proof.asked.is_empty()
    }

    /// True if this was the answer to a proof. Who couldn't take it is not asked again: it may be of an older version.
    pub(super) fn own_proof_answered(&mut self, id: RequestId) -> bool {
        self.own_proof.asked.remove(&id).is_some()
    }

    /// A peer says that it is excluded, or claims that another is.
    pub(super) fn proof_told(&mut self, token: Token, peer: PeerId, entries: [Vec<u8>; 2]) {
        let response = match self.take_in_item(&Item::Proof(entries)) {
            Ok(changed) => {
                if changed {
                    // Its other copy is to be told too, which has the same name.
                    self.set_changed(None);
                }
                SyncResponse::Same
            }
            Err(error) => {
                self.strike(peer, &format!("it told what is no proof: {error}"));
                SyncResponse::NotMember
            }
        };
        self.push(Output::SyncReply { token, response });
    }
}
