//! Files that say who may take part: read when a node starts, and again whenever they change.

use crate::{
    entries::{ListMistake, MemberList, Membership},
    settings::Item,
};
use libp2p_identity::PeerId;
use notify::{RecursiveMode, Watcher as _};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Weak,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

/// Longest file that is read as a list.
const MAX_BYTES: u64 = 1 << 20;
/// How often the files are looked at without a notification. Notifications don't cross a network share.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a file must stay as it is before it counts. While it is written it may look like a shorter list, which would
/// revoke somebody.
const SETTLED_AFTER: Duration = Duration::from_millis(200);

/// Why a file is no list of members.
#[derive(Debug, thiserror::Error)]
pub enum AllowListError {
    /// It can't be read.
    #[error("the allow-list {} can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is longer than any list.
    #[error("{} is no allow-list: it is longer than 1 MiB", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// One of its lines is wrong.
    #[error("the allow-list {}, {mistake}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, and what is wrong.
        mistake: ListMistake,
    },
}

/// Who may take part, as `--allow` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// One peer.
    Peer(PeerId),
    /// Those in a file: see [`MemberList::parse`].
    File(PathBuf),
}

impl From<PeerId> for Allowed {
    fn from(peer: PeerId) -> Self {
        Self::Peer(peer)
    }
}

impl Item for Allowed {
    fn read(text: &str) -> Result<Vec<Self>, String> {
        if let Ok(peer) = text.parse() {
            return Ok(vec![Self::Peer(peer)]);
        }
        let path = PathBuf::from(text);
        match read(&path).and_then(|text| parse(&path, &text)) {
            Ok(_) => Ok(vec![Self::File(path)]),
            Err(AllowListError::Read { source, .. }) => Err(format!(
                "is neither a peer id, which `peerfold id` prints for a node, nor a file with one a line that can be \
                 read: {source}"
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Peer(peer) => peer.to_string(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// All of these, as they are now.
pub(super) fn members(allowed: &[Allowed]) -> Result<MemberList, AllowListError> {
    let peers = allowed.iter().filter_map(|allowed| match allowed {
        Allowed::Peer(peer) => Some(*peer),
        Allowed::File(_) => None,
    });
    let mut list = MemberList::from_iter(peers);
    for path in files(allowed) {
        list.extend(parse(path, &read(path)?)?);
    }
    Ok(list)
}

fn files(allowed: &[Allowed]) -> impl Iterator<Item = &Path> {
    allowed.iter().filter_map(|allowed| match allowed {
        Allowed::Peer(_) => None,
        Allowed::File(path) => Some(path.as_path()),
    })
}

fn read(path: &Path) -> Result<String, AllowListError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > MAX_BYTES => Err(AllowListError::TooLong { path: path.to_owned() }),
        Ok(_) => Ok(text),
        Err(source) => Err(AllowListError::Read { path: path.to_owned(), source }),
    }
}

pub(super) fn parse(path: &Path, text: &str) -> Result<MemberList, AllowListError> {
    MemberList::parse(text).map_err(|mistake| AllowListError::Line { path: path.to_owned(), mistake })
}

enum Wake {
    Changed,
    Stop,
}

/// Follows the files until it is dropped. A broken edit is a warning, and the list stays as it was before: otherwise a
/// slip of the keyboard would close the federation, or open it.
pub(super) struct AllowListWatcher {
    wake: SyncSender<Wake>,
    /// Sends `Wake::Changed`. `None` where the system has no notifications.
    notifications: Option<notify::RecommendedWatcher>,
}

impl AllowListWatcher {
    /// `None` if no file is named.
    pub(super) fn start(allowed: &[Allowed], membership: Weak<Membership>) -> Option<Self> {
        files(allowed).next()?;
        let (wake, woken) = mpsc::sync_channel(1);
        let notifications = notifications(allowed, wake.clone())
            .inspect_err(|error| tracing::debug!(%error, "no notifications; looking every two seconds"))
            .ok();
        let allowed = allowed.to_vec();
        thread::spawn(move || follow(&allowed, &membership, &woken));
        Some(Self { wake, notifications })
    }
}

impl Drop for AllowListWatcher {
    fn drop(&mut self) {
        drop(self.notifications.take());
        // When the channel is full the thread wakes anyway, and finds it disconnected.
        let _ = self.wake.try_send(Wake::Stop);
    }
}

/// Watches the directories, because an editor may put another file in a file's place.
fn notifications(allowed: &[Allowed], wake: SyncSender<Wake>) -> notify::Result<notify::RecommendedWatcher> {
    let names: Vec<_> = files(allowed).filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let ours = |path: &PathBuf| path.file_name().is_some_and(|name| names.iter().any(|ours| ours == name));
        if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(ours)) {
            // A full channel holds a wake-up already.
            let _ = wake.try_send(Wake::Changed);
        }
    })?;
    for path in files(allowed) {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        watcher.watch(dir, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// The list that the files make, or why they make none.
type Seen = Result<MemberList, String>;

fn follow(allowed: &[Allowed], membership: &Weak<Membership>, woken: &Receiver<Wake>) {
    // A change between the start and here is found too, because the list is put in place of the first one.
    let mut before = None;
    loop {
        let Some(seen) = settled(allowed, woken) else { return };
        let Some(membership) = membership.upgrade() else { return };
        if before.as_ref() != Some(&seen) {
            match &seen {
                Ok(list) => take_over(&membership, list.clone()),
                Err(error) => tracing::warn!("{error}; who was admitted before stays so until that is mended"),
            }
            before = Some(seen);
        }
        drop(membership);
        match woken.recv_timeout(LOOK_EVERY) {
            Ok(Wake::Changed) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What is in the files once it no longer changes. `None` if there is nobody left to tell.
fn settled(allowed: &[Allowed], woken: &Receiver<Wake>) -> Option<Seen> {
    let look = || members(allowed).map_err(|error| error.to_string());
    let mut seen = look();
    loop {
        match woken.recv_timeout(SETTLED_AFTER) {
            Ok(Wake::Changed) => {}
            Err(RecvTimeoutError::Timeout) => {
                let now = look();
                if now == seen {
                    return Some(seen);
                }
                seen = now;
            }
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

fn take_over(membership: &Membership, list: MemberList) {
    let before = membership.list().unwrap_or_default();
    let added = list.peers().filter(|peer| !before.contains(peer)).count();
    let revoked = before.peers().filter(|peer| !list.contains(peer)).count();
    if added + revoked > 0 {
        tracing::info!(added, revoked, "the allow-list has changed");
    }
    membership.replace(list);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn ids_and_files_are_told_apart_and_mistakes_named() {
        let (dir, one, two) = (tempfile::tempdir().unwrap(), PeerId::random(), PeerId::random());
        let path = dir.path().join("sites.txt");
        let text = path.display().to_string();
        let missing = Allowed::read(&text).unwrap_err();
        assert!(missing.contains("neither a peer id") && missing.contains("No such file"), "{missing}");
        fs::write(&path, format!("{one} Ward\n")).unwrap();
        let allowed = [Allowed::read(&text).unwrap(), Allowed::read(&two.to_string()).unwrap()].concat();
        assert_eq!(allowed, [Allowed::File(path.clone()), Allowed::Peer(two)]);
        assert_eq!(allowed.iter().map(Allowed::write).collect::<Vec<_>>(), [text.clone(), two.to_string()]);
        let list = members(&allowed).unwrap();
        assert_eq!((list.name(&one), list.contains(&two)), (Some("Ward"), true));
        fs::write(&path, format!("{one} Ward\nnobody\n")).unwrap();
        let wrong = Allowed::read(&text).unwrap_err();
        assert!(wrong.contains("sites.txt, line 2: \"nobody\""), "{wrong}");
        fs::write(&path, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();
        assert!(Allowed::read(&text).unwrap_err().contains("longer than 1 MiB"));
    }
}
