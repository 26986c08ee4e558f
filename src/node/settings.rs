//! Settings of a node as a whole: whom it trusts, what it publishes, how it ends.

use super::{AllowListError, Allowed, allow_list};
use crate::{entries::MemberList, settings::settings};
use libp2p_identity::PeerId;
use std::time::Duration;

settings! {
    /// Who may take part.
    pub struct TrustSettings under "Trust" {
        /// Who may take part: a file with a peer id and a name a line, reread when it changes, or a peer id; may be given
        /// several times. With --sync they are the members. [default: anyone]
        ///
        /// Others get nothing from this node, and nothing of theirs is kept or passed on.
        pub allow as "allow": Option<Vec<Allowed>> = None, "FILE|PEER";
        /// Peer id of the administrator, whose newest signed list says who may take part: see `peerfold members`. The
        /// administrator itself always may. Not together with --allow.
        ///
        /// Until there is a list, nobody else may. It comes by the folder like everything else, is kept in the home, and
        /// counts at once.
        pub admin as "admin": Option<PeerId> = None, "PEER";
        /// Peer id to trust again although it signed two entries under one number.
        pub readmit as "readmit": Vec<PeerId> = Vec::new(), "PEER";
    }
}

impl TrustSettings {
    /// Who may take part, by the files as they are now; `None` if everybody may.
    pub fn members(&self) -> Result<Option<MemberList>, AllowListError> {
        self.allow.as_deref().map(allow_list::members).transpose()
    }
}

settings! {
    /// What is published besides updates.
    pub struct PublishSettings under "Output" {
        /// Publish the folded weights too, after each epoch, as AUTHOR/model: updates are what was trained, before the
        /// fold.
        ///
        /// See [`Key::model`](crate::weights::Key::model). Nobody fetches them unasked; a bucket gets twice the bytes.
        pub folded as "publish-folded": bool = false, "BOOL";
    }
}

settings! {
    /// How a node's program ends.
    pub struct EndSettings under "Network" {
        /// After the last epoch, stay up to so long until the connected peers, and the bucket, have this node's newest
        /// update.
        ///
        /// See [`Session::hand_over`](crate::node::Session::hand_over).
        pub linger as "linger": Duration = Duration::from_secs(10), "SECONDS";
        /// After the last epoch, go on answering peers until stopped.
        pub stay as "stay": bool = false, "BOOL";
    }
}
