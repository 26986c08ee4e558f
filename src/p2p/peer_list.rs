//! Lists of peers to begin with, as `--bootstrap` takes them and people keep them in files.

use super::addresses::{AddressError, PeerAddress, multiaddr};
use crate::printable::printable;
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use toml::Spanned;

/// Longest file that is read as a list.
const MAX_BYTES: u64 = 1 << 20;
/// Most peers in a list. The rest are left out, with a warning.
const MAX_PEERS: usize = 1024;
/// Most lines of a list that are told to be wrong, each by itself.
const MAX_TOLD: usize = 32;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum PeerListError {
    /// A multiaddr that isn't a peer's.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// It is neither a peer's address nor a readable file.
    #[error(
        "neither a peer's multiaddr, like /ip4/192.0.2.1/tcp/4600/p2p/12D3KooW…, nor a file that can be read: {source}"
    )]
    Neither {
        /// Why it can't be read as a file.
        source: io::Error,
    },
    /// The file can't be read.
    #[error("the list {} can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is longer than any list.
    #[error("{} is no list of peers: it is longer than 1 MiB", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a list in either format.
    #[error("the list {} is wrong{place}: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// ` at line N`, where known.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// Nothing in the file can be used.
    #[error("the list {} has no peer that can be used: {reason}", path.display())]
    NothingUsable {
        /// The file.
        path: PathBuf,
        /// What is wrong with the first.
        reason: String,
    },
}

/// Peers to begin with, as `--bootstrap` takes them: one multiaddr, or a file in one of two formats.
///
/// ```toml
/// # TOML
/// peers = [
///     "/ip4/192.0.2.1/tcp/4600/p2p/12D3KooW…",
/// ]
/// ```
///
/// or one multiaddr a line, where `#` begins a comment. A line that is wrong costs that peer, with a warning, and not the
/// others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerList {
    /// The peers, each address once, in the order of the list.
    pub peers: Vec<PeerAddress>,
    /// What could not be used, one line each, with file and line number.
    pub warnings: Vec<String>,
}

/// The TOML format.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlList {
    peers: Vec<Spanned<String>>,
}

impl PeerList {
    /// Reads what `--bootstrap` was given: a multiaddr if it parses as one, otherwise the name of a file.
    pub fn of(text: &str) -> Result<Self, PeerListError> {
        if multiaddr(text).is_ok() {
            return Ok(Self { peers: vec![text.parse()?], warnings: Vec::new() });
        }
        match Self::read(Path::new(text)) {
            Err(PeerListError::Read { source, .. }) => Err(PeerListError::Neither { source }),
            list => list,
        }
    }

    /// Reads a file. Errors if there is nothing usable in it.
    pub fn read(path: &Path) -> Result<Self, PeerListError> {
        let failed = |source| PeerListError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
        if read.map_err(failed)? as u64 > MAX_BYTES {
            return Err(PeerListError::TooLong { path: path.to_owned() });
        }
        Self::parse(&text, path)
    }

    /// Reads the text of the file at `path`.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, PeerListError> {
        let items = if is_toml(text) { toml_items(text, path)? } else { line_items(text) };
        let mut list = Self::default();
        let (mut first, mut wrong) = (None, 0);
        for (line, item) in items {
            let problem = match item.parse::<PeerAddress>() {
                Ok(peer) if list.peers.contains(&peer) => continue,
                Ok(peer) if list.peers.len() < MAX_PEERS => {
                    list.peers.push(peer);
                    continue;
                }
                Ok(_) => {
                    let place = path.display();
                    list.warnings.push(format!("{place}: only the first {MAX_PEERS} peers are used"));
                    break;
                }
                Err(problem) => format!("line {line}: {problem}"),
            };
            wrong += 1;
            if wrong <= MAX_TOLD {
                list.warnings.push(format!("{}: {problem}", path.display()));
            }
            first.get_or_insert(problem);
        }
        if wrong > MAX_TOLD {
            list.warnings.push(format!("{}: {} more lines are wrong", path.display(), wrong - MAX_TOLD));
        }
        if list.peers.is_empty() {
            let reason = first.unwrap_or_else(|| {
                "it has none; write one multiaddr a line, like /ip4/192.0.2.1/tcp/4600/p2p/12D3KooW…".to_owned()
            });
            return Err(PeerListError::NothingUsable { path: path.to_owned(), reason });
        }
        Ok(list)
    }
}

/// The lines that aren't empty: each with its number and its text up to a comment.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let stripped = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    stripped.enumerate().map(|(index, line)| (index + 1, line)).filter(|(_, line)| !line.is_empty())
}

/// In TOML no line begins with a slash, and some line has an equals sign or is a table's head.
fn is_toml(text: &str) -> bool {
    !lines(text).any(|(_, line)| line.starts_with('/'))
        && lines(text).any(|(_, line)| line.contains('=') || line.starts_with('['))
}

fn line_items(text: &str) -> Vec<(usize, String)> {
    lines(text).map(|(number, line)| (number, line.to_owned())).collect()
}

fn toml_items(text: &str, path: &Path) -> Result<Vec<(usize, String)>, PeerListError> {
    let number = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    let list: TomlList = toml::from_str(text).map_err(|error| PeerListError::Toml {
        path: path.to_owned(),
        place: error.span().map(|span| format!(" at line {}", number(span.start))).unwrap_or_default(),
        message: printable(&error.message().replace('\n', " ")).into_owned(),
    })?;
    Ok(list.peers.into_iter().map(|item| (number(item.span().start), item.into_inner())).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    const PEER: &str = "12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7";

    fn address(port: u16) -> String {
        format!("/ip4/192.0.2.1/tcp/{port}/p2p/{PEER}")
    }

    fn parse(text: &str) -> Result<PeerList, String> {
        PeerList::parse(text, Path::new("list")).map_err(|error| error.to_string())
    }

    fn ports(list: &PeerList) -> Vec<Option<u16>> {
        list.peers.iter().map(|peer| super::super::addresses::port(&peer.address)).collect()
    }

    #[test]
    fn both_formats_are_read() {
        let lines = format!("# ours\n\n{} # the first\r\n  {}\n{}\n", address(1), address(2), address(1));
        let toml = format!("# ours\npeers = [\n  \"{}\", # the first\n  '{}',\n]\n", address(1), address(2));
        let one_line = format!("peers = [\"{}\", \"{}\"]", address(1), address(2));
        for text in [lines, toml, one_line] {
            let list = parse(&text).unwrap();
            assert_eq!((ports(&list), list.warnings), (vec![Some(1), Some(2)], vec![]), "{text}");
        }
    }

    #[test]
    fn the_examples_are_lists() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("bootstrap");
        let lists = ["peers.toml", "peers.txt"].map(|name| PeerList::read(&examples.join(name)).unwrap());
        assert_eq!((lists[0].peers.len(), &lists[0].warnings[..]), (3, &[][..]));
        assert_eq!(lists[0], lists[1]);
    }

    #[test]
    fn a_wrong_line_costs_one_peer() {
        let lines = format!("{}\n192.0.2.1:1\n\n/ip4/192.0.2.1/tcp/3\n{}", address(1), address(4));
        let toml =
            format!("peers = [\"{}\",\n\"192.0.2.1:1\",\n\n\"/ip4/192.0.2.1/tcp/3\",\"{}\"]", address(1), address(4));
        for text in [lines, toml] {
            let list = parse(&text).unwrap();
            assert_eq!(ports(&list), [Some(1), Some(4)]);
            let [first, second] = &list.warnings[..] else { panic!("{:?}", list.warnings) };
            assert!(first.starts_with("list: line 2: ") && first.contains("no multiaddr"), "{first}");
            assert!(second.starts_with("list: line 4: ") && second.contains("lacks /p2p/"), "{second}");
        }
    }

    #[test]
    fn nothing_usable_is_an_error() {
        for (text, part) in [
            ("", "it has none"),
            ("# nobody\n\n", "it has none"),
            ("peers = []", "it has none"),
            ("rubbish\nmore", "line 1: \"rubbish\" is no multiaddr"),
            ("\n/ip4/192.0.2.1/tcp/3", "line 2: /ip4/192.0.2.1/tcp/3 lacks"),
            ("peers = [3]", "at line 1"),
            ("\nnodes = []", "at line 2"),
            ("peers = [", "at line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("the list list ") && error.contains(part), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn lists_are_bounded() {
        let many: String = (1..=1030).map(|port| address(port) + "\n").collect();
        let list = parse(&many).unwrap();
        assert_eq!((list.peers.len(), list.warnings.len()), (MAX_PEERS, 1));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        fs::write(&path, " ".repeat(1 << 20) + " ").unwrap();
        assert!(matches!(PeerList::read(&path), Err(PeerListError::TooLong { .. })));
    }

    #[test]
    fn a_multiaddr_or_a_file() {
        assert_eq!(PeerList::of(&address(7)).unwrap().peers, [address(7).parse().unwrap()]);
        let error = PeerList::of("/ip4/192.0.2.1/tcp/3").unwrap_err();
        assert!(matches!(error, PeerListError::Address(AddressError::NoPeer { .. })), "{error}");
        for neither in ["", "/", "/no/such/file", "/ip4/192.0.2.256/tcp/1"] {
            let error = PeerList::of(neither).unwrap_err().to_string();
            assert!(error.contains("neither a peer's multiaddr") && error.contains("nor a file"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers.txt");
        fs::write(&path, address(3)).unwrap();
        assert_eq!(ports(&PeerList::of(path.to_str().unwrap()).unwrap()), [Some(3)]);
        fs::write(&path, b"\xff\xfe").unwrap();
        assert!(PeerList::of(path.to_str().unwrap()).is_err());
    }
}
