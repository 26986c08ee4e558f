//! Settings of a node as a whole: whom it trusts, what it publishes, how it ends.

use crate::settings::settings;
use libp2p_identity::PeerId;
use std::time::Duration;

settings! {
    /// Whose updates count.
    pub struct TrustSettings under "Trust" {
        /// Peer id whose updates count; may be given several times. With --sync they are the members. [default: anyone]
        pub allow as "allow": Option<Vec<PeerId>> = None, "PEER";
        /// Peer id to trust again although it signed two entries under one number.
        pub readmit as "readmit": Vec<PeerId> = Vec::new(), "PEER";
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
