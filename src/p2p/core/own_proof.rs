//! Telling members about the proof against this node itself: somebody else signs with its identity, most likely from a
//! copy of its home. A node that finds this out ends, so members wouldn't find out by themselves in time.

use super::{Core, Output, RequestId, Token, strikes::Severity};
use crate::p2p::message::{Item, SyncRequest, SyncResponse};
use libp2p_identity::PeerId;
use std::collections::{BTreeMap, BTreeSet};

/// The peers that were told. Both fields are bounded by the connected peers.
#[derive(Debug, Default)]
pub(super) struct OwnProof {
    told: BTreeSet<PeerId>,
    /// Requests in flight, and to whom.
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

    /// Whether some member still has to confirm that it knows the proof against this node.
    pub fn is_telling_own_proof(&self) -> bool {
        !self.own_proof.asked.is_empty()
    }

    /// Returns true if this was the answer to a proof. A peer that couldn't take it isn't told again: it may run an
    /// older version.
    pub(super) fn own_proof_answered(&mut self, id: RequestId) -> bool {
        self.own_proof.asked.remove(&id).is_some()
    }

    /// A peer says that it is excluded, or claims that another is.
    pub(super) fn proof_told(&mut self, token: Token, peer: PeerId, entries: [Vec<u8>; 2]) {
        let response = match self.take_in_item(&Item::Proof(entries)) {
            Ok(changed) => {
                if changed {
                    // The other copy, which has the same name, must be told too.
                    self.set_changed(None);
                }
                SyncResponse::Same
            }
            Err(error) => {
                self.strike(peer, Severity::LowTolerance, &format!("it told what is no proof: {error}"));
                SyncResponse::NotMember
            }
        };
        self.push(Output::SyncReply { token, response });
    }
}
