//! Decides who may take part in a federation, as this node sees it now.

use super::MemberList;
use libp2p_identity::PeerId;
use std::sync::Arc;
use tokio::sync::watch;

/// Who may take part. The network, the bucket and the node share one, and ask it whenever they are about to store,
/// pass on, fetch or fold anything of a peer's or an author's.
///
/// It may change while the node runs: [`replace`](Self::replace) puts another list in its place, and whoever has to act
/// on that [follows the changes](Self::changes). The node itself isn't asked about.
#[derive(Debug)]
pub struct Membership {
    /// `None` admits everybody.
    list: watch::Sender<Option<Arc<MemberList>>>,
}

impl Default for Membership {
    fn default() -> Self {
        Self::open()
    }
}

impl Membership {
    /// Everybody.
    pub fn open() -> Self {
        Self { list: watch::Sender::new(None) }
    }

    /// These peers and nobody else.
    pub fn only(allowed: impl IntoIterator<Item = PeerId>) -> Self {
        Self::listed(allowed.into_iter().collect())
    }

    /// Those in the list and nobody else.
    pub fn listed(list: MemberList) -> Self {
        Self { list: watch::Sender::new(Some(Arc::new(list))) }
    }

    /// Whether this peer may take part.
    pub fn allows(&self, peer: PeerId) -> bool {
        self.list.borrow().as_ref().is_none_or(|list| list.contains(&peer))
    }

    /// Whether everybody may.
    pub fn is_open(&self) -> bool {
        self.list.borrow().is_none()
    }

    /// What the list calls this peer.
    pub fn name(&self, peer: PeerId) -> Option<String> {
        self.list.borrow().as_ref()?.name(&peer).map(str::to_owned)
    }

    /// The list as it is now; `None` if everybody may take part.
    pub fn list(&self) -> Option<Arc<MemberList>> {
        self.list.borrow().clone()
    }

    /// From now on those in this list may take part, and nobody else.
    pub fn replace(&self, list: MemberList) {
        self.list.send_if_modified(|current| {
            let changed = current.as_deref() != Some(&list);
            *current = Some(Arc::new(list));
            changed
        });
    }

    /// Changes whenever another list counts.
    pub fn changes(&self) -> watch::Receiver<Option<Arc<MemberList>>> {
        self.list.subscribe()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_open_federation_allows_everybody_and_an_empty_list_nobody() {
        let (one, other) = (PeerId::random(), PeerId::random());
        assert!(Membership::open().allows(one));
        assert!(!Membership::only([]).allows(one));
        let closed = Membership::only([one]);
        assert!(closed.allows(one) && !closed.allows(other));
        assert!(!closed.is_open() && Membership::open().is_open());
    }

    #[test]
    fn another_list_counts_at_once_and_is_told_once() {
        let (one, other) = (PeerId::random(), PeerId::random());
        let membership = Membership::only([one]);
        let mut changes = membership.changes();
        membership.replace(MemberList::parse(&format!("{other} ward")).unwrap());
        assert!(!membership.allows(one) && membership.allows(other));
        assert_eq!((membership.name(other).as_deref(), membership.name(one)), (Some("ward"), None));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        membership.replace(MemberList::parse(&format!("# the same\n{other} ward")).unwrap());
        assert!(!changes.has_changed().unwrap());
    }
}
