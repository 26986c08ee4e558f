//! The list of those who may take part in a federation: their peer ids, and the names that people call them by.

use libp2p_identity::PeerId;
use std::collections::BTreeMap;

/// Most members in a list.
pub const MAX_MEMBERS: usize = 10_000;
/// Most characters of a member's name.
pub const MAX_NAME_CHARS: usize = 64;

/// Why a text is no list of members.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ListMistake {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Who may take part, each with a name if the list has one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberList {
    members: BTreeMap<PeerId, Option<String>>,
}

impl MemberList {
    /// Reads a list of one member a line: the peer id, and after it a name, which may have spaces. `#` begins a comment.
    ///
    /// One wrong line spoils the list: left out it would revoke somebody. A peer id that is there twice is an error too,
    /// because one of the two lines was meant for another site.
    pub fn parse(text: &str) -> Result<Self, ListMistake> {
        let mut lines = BTreeMap::new();
        let mut list = Self::default();
        for (line, text) in (1..).zip(text.lines()) {
            let mistake = |what: String| ListMistake { line, what };
            let text = text.split('#').next().unwrap_or_default().trim();
            if text.is_empty() {
                continue;
            }
            let (id, name) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            let peer: PeerId = id.parse().map_err(|_| {
                mistake(format!("{id:.60?} is no peer id; write one a line, and the site's name after it"))
            })?;
            let name = name.trim();
            if name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
                return Err(mistake(format!("a name has at most {MAX_NAME_CHARS} characters, and none for control")));
            }
            if let Some(first) = lines.insert(peer, line) {
                return Err(mistake(format!("{peer} is in line {first} already")));
            }
            if list.members.len() == MAX_MEMBERS {
                return Err(mistake(format!("a list has at most {MAX_MEMBERS} members")));
            }
            list.members.insert(peer, (!name.is_empty()).then(|| name.to_owned()));
        }
        Ok(list)
    }

    /// Adds the members of another list. Who is in both keeps its name, if it has one.
    pub fn extend(&mut self, other: Self) {
        for (peer, name) in other.members {
            let known = self.members.entry(peer).or_default();
            *known = known.take().or(name);
        }
    }

    /// This list with this peer, under this name if it is given one. Errors if it would not be a list, or the name another
    /// when read again.
    pub fn with(&self, peer: PeerId, name: Option<&str>) -> Result<Self, ListMistake> {
        let text = format!("{}{peer} {}", self.without(&peer).text(), name.unwrap_or_default());
        let list = Self::parse(&text)?;
        if list.name(&peer) == name && list.len() == self.without(&peer).len() + 1 {
            return Ok(list);
        }
        let what = format!("{:?} is no name: it has no #, and no space before or after it", name.unwrap_or_default());
        Err(ListMistake { line: list.len(), what })
    }

    /// This list without this peer.
    #[must_use]
    pub fn without(&self, peer: &PeerId) -> Self {
        let mut list = self.clone();
        list.members.remove(peer);
        list
    }

    /// The list as it is [read](Self::parse), in order of the peer ids.
    pub fn text(&self) -> String {
        let line = |(peer, name): (&PeerId, &Option<String>)| match name {
            Some(name) => format!("{peer} {name}\n"),
            None => format!("{peer}\n"),
        };
        self.members.iter().map(line).collect()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether this peer is in the list.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.members.contains_key(peer)
    }

    /// What the list calls this peer.
    pub fn name(&self, peer: &PeerId) -> Option<&str> {
        self.members.get(peer)?.as_deref()
    }

    /// The peer ids.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.members.keys().copied()
    }
}

impl FromIterator<PeerId> for MemberList {
    fn from_iter<T: IntoIterator<Item = PeerId>>(peers: T) -> Self {
        Self { members: peers.into_iter().map(|peer| (peer, None)).collect() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ids_names_and_comments() {
        let (one, two) = (PeerId::random(), PeerId::random());
        let text = format!("# sites\r\n\r\n  {one}\tWard 3, St. Mary's  # since May\n{two}");
        let list = MemberList::parse(&text).unwrap();
        assert_eq!((list.name(&one), list.name(&two)), (Some("Ward 3, St. Mary's"), None));
        assert!(list.contains(&two) && !list.contains(&PeerId::random()));
        assert_eq!(list.peers().count(), 2);
        assert_eq!(MemberList::parse("\n# nobody\n").unwrap(), MemberList::default());
    }

    #[test]
    fn a_wrong_line_is_named_and_spoils_the_list() {
        let one = PeerId::random();
        let wrong = |text: &str| MemberList::parse(text).unwrap_err();
        assert_eq!(wrong(&format!("{one} a\n\nward 3\n")).line, 3);
        assert!(wrong(&format!("{one} a\nward 3\n")).to_string().contains("line 2: \"ward\" is no peer id"));
        let twice = wrong(&format!("{one} a\n# b\n{one} b\n"));
        assert_eq!((twice.line, twice.what.contains("line 1 already")), (3, true));
        assert_eq!(wrong(&format!("{one} {}", "n".repeat(MAX_NAME_CHARS + 1))).line, 1);
        assert_eq!(wrong(&format!("{one} \u{1b}[31mred")).line, 1);
        let many: String = (0..=MAX_MEMBERS).map(|_| format!("{}\n", PeerId::random())).collect();
        assert_eq!(wrong(&many).line, MAX_MEMBERS + 1);
    }

    #[test]
    fn what_is_changed_is_read_again_as_it_was_meant() {
        let (one, two) = (PeerId::random(), PeerId::random());
        let list = MemberList::default().with(one, Some("Ward 3, St. Mary's")).unwrap().with(two, None).unwrap();
        assert_eq!((list.name(&one), list.name(&two), list.len()), (Some("Ward 3, St. Mary's"), None, 2));
        assert_eq!(MemberList::parse(&list.text()).unwrap(), list);
        let renamed = list.with(one, Some("ward")).unwrap();
        assert_eq!((renamed.name(&one), renamed.len()), (Some("ward"), 2));
        assert_eq!(renamed.without(&one), MemberList::from_iter([two]));
        let (smuggled, long) = (format!("a\n{}", PeerId::random()), "n".repeat(MAX_NAME_CHARS + 1));
        for name in ["", "a # b", "#", " a", "a ", "a\u{7}", smuggled.as_str(), long.as_str()] {
            list.with(one, Some(name)).unwrap_err();
        }
    }

    #[test]
    fn lists_add_up_and_names_stay() {
        let (one, two) = (PeerId::random(), PeerId::random());
        let mut list = MemberList::from_iter([one]);
        list.extend(MemberList::parse(&format!("{one} first\n{two} second")).unwrap());
        list.extend(MemberList::parse(&format!("{one} other")).unwrap());
        assert_eq!((list.name(&one), list.name(&two)), (Some("first"), Some("second")));
    }
}
