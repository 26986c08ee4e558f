//! Decides who may take part in a federation, as this node sees it.

use libp2p_identity::PeerId;
use std::collections::BTreeSet;

/// Whose values count. Decided once, when a node is opened, and asked by everything that would fetch, keep or fold
/// them.
///
/// The node itself isn't asked about. Entries are different: they are passed on whoever signed them, otherwise members
/// with different lists would never come to know the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    allowed: Option<BTreeSet<PeerId>>,
}

impl Membership {
    /// Everybody.
    pub fn open() -> Self {
        Self::default()
    }

    /// These authors and nobody else.
    pub fn only(allowed: impl IntoIterator<Item = PeerId>) -> Self {
        Self { allowed: Some(allowed.into_iter().collect()) }
    }

    /// Whether this author may take part.
    pub fn allows(&self, author: PeerId) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&author))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_federation_allows_everybody_and_an_empty_list_nobody() {
        let (one, other) = (PeerId::random(), PeerId::random());
        assert!(Membership::open().allows(one));
        assert!(!Membership::only([]).allows(one));
        let closed = Membership::only([one]);
        assert!(closed.allows(one) && !closed.allows(other));
    }
}
