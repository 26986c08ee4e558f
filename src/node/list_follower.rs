//! Follows the list that a federation's administrator signs: takes over the newest one that is in the folder, keeps it
//! in the home, and on the administrator's own node publishes the changes that `peerfold members` asks for.

use super::{
    ListChange, ListFigures, ListFile, ListTold,
    background::{AbortOnDrop, off_runtime},
};
use crate::{
    entries::{MemberList, Membership, SignedList, SignedListError},
    folder::{FolderError, SharedFolder, Value},
    weights::{Content, Key, Metadata, SignedEntry, Weights, read_all},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// How long fetching a list may take before it is tried again.
const FETCH: Duration = Duration::from_secs(30);
/// How long after a list that nobody had.
const FETCH_AGAIN: Duration = Duration::from_secs(2);
/// How often the administrator's node looks for changes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long it tries to tell others about one.
const TELL: Duration = Duration::from_secs(30);
/// How often it looks meanwhile who knows: its other entries change too, so that at most moments somebody lacks one.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Follows the list until it is dropped.
pub(super) struct ListFollower {
    figures: watch::Receiver<ListFigures>,
    _task: AbortOnDrop,
}

impl ListFollower {
    /// From the newest list in the home. Call it in a tokio runtime.
    pub(super) fn start(
        file: ListFile,
        newest: Option<SignedList>,
        folder: &Arc<dyn SharedFolder>,
        membership: &Arc<Membership>,
    ) -> Self {
        let follower = Follower::new(file, newest, folder, membership);
        let figures = follower.figures.subscribe();
        Self { figures, _task: AbortOnDrop(tokio::spawn(follower.run())) }
    }

    pub(super) fn figures(&self) -> ListFigures {
        *self.figures.borrow()
    }
}

/// What an entry in the list's place comes to.
enum Found {
    List(Box<SignedList>),
    /// Nothing that counts, now or later.
    Nothing,
    Refused(SignedListError),
    /// It can't be read now.
    Later(String),
}

struct Follower {
    key: Key,
    is_admin: bool,
    file: ListFile,
    folder: Arc<dyn SharedFolder>,
    membership: Arc<Membership>,
    newest: Option<SignedList>,
    /// Whether the home lacks the newest list.
    unsaved: bool,
    /// The newest entry in the list's place that was not read yet.
    waiting: Option<Arc<SignedEntry>>,
    figures: watch::Sender<ListFigures>,
}

impl Follower {
    fn new(
        file: ListFile,
        newest: Option<SignedList>,
        folder: &Arc<dyn SharedFolder>,
        membership: &Arc<Membership>,
    ) -> Self {
        let follower = Self {
            key: Key::members(file.admin()),
            is_admin: folder.author() == file.admin(),
            folder: folder.clone(),
            membership: membership.clone(),
            waiting: None,
            newest,
            unsaved: false,
            figures: watch::Sender::new(ListFigures::default()),
            file,
        };
        follower.count(0);
        follower
    }

    async fn run(mut self) {
        let mut entries = self.folder.watch(&self.key.to_string());
        let mut complained = false;
        loop {
            let pause = match (&self.waiting, self.is_admin) {
                (_, true) => Some(LOOK_EVERY),
                (Some(_), false) => Some(FETCH_AGAIN),
                (None, false) => self.unsaved.then_some(FETCH_AGAIN),
            };
            tokio::select! {
                entry = entries.next() => if entry.key == self.key {
                    self.waiting = Some(entry);
                    complained = false;
                },
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
            if let Some(entry) = self.waiting.take() {
                match self.find(&entry).await {
                    Found::List(list) => self.take_over(*list).await,
                    Found::Nothing => {}
                    Found::Refused(reason) => {
                        tracing::warn!(%reason, "what the administrator {} has signed is no list", entry.key.author());
                        self.count(1);
                    }
                    Found::Later(reason) => {
                        if !complained {
                            tracing::warn!(number = entry.sequence, %reason, "there is a newer list of members; trying again");
                        }
                        (complained, self.waiting) = (true, Some(entry));
                    }
                }
            } else if self.unsaved {
                self.save().await;
            }
            if self.is_admin {
                self.serve_command().await;
            }
        }
    }

    fn number(&self) -> u64 {
        self.newest.as_ref().map_or(0, SignedList::number)
    }

    fn count(&self, refused: u64) {
        let (number, admitted) = (self.number(), self.file.admitted(self.newest.as_ref()).len() as u64);
        let add = |figures: &mut ListFigures| {
            *figures = ListFigures { number, admitted, refused: figures.refused + refused };
        };
        self.figures.send_modify(add);
    }

    async fn find(&self, entry: &Arc<SignedEntry>) -> Found {
        let Content::Put { length, .. } = entry.content else { return Found::Nothing };
        if entry.sequence <= self.number() {
            return Found::Nothing;
        }
        // Before it is fetched.
        if let Err(error) = SignedList::check_length(length) {
            return Found::Refused(error);
        }
        let value: Value = match timeout(FETCH, self.folder.get(entry)).await {
            Ok(Ok(value)) => value,
            Ok(Err(FolderError::Gone { .. })) => return Found::Nothing,
            Ok(Err(error)) => return Found::Later(error.to_string()),
            Err(_) => return Found::Later(format!("it didn't come in {} seconds", FETCH.as_secs())),
        };
        let entry = SignedEntry::clone(entry);
        let signer = entry.key.author();
        let read = off_runtime(move || {
            read_all(&value).map(|text| {
                let text = text.artifact_bytes().ok_or(SignedListError::NotAsSigned { signer })?;
                SignedList::new(entry, text)
            })
        });
        match read.await {
            Ok(Ok(Ok(list))) => Found::List(Box::new(list)),
            Ok(Ok(Err(error))) => Found::Refused(error),
            Ok(Err(error)) => Found::Later(error.to_string()),
            Err(error) => Found::Later(error.to_string()),
        }
    }

    /// The list counts from now on. It is kept first, so that no crash brings back an older one; but a disk that is full
    /// lets nobody in again who was revoked.
    async fn take_over(&mut self, list: SignedList) {
        let admitted = list.admitted();
        let (was, members) = (self.membership.list().unwrap_or_default(), admitted.len());
        let revoked = was.peers().filter(|peer| !admitted.contains(peer)).count();
        tracing::info!(number = list.number(), members, revoked, "the administrator has signed a newer list");
        self.newest = Some(list);
        self.save().await;
        self.membership.replace(admitted);
        self.count(0);
    }

    async fn save(&mut self) {
        let Some(list) = self.newest.clone() else { return };
        let file = self.file.clone();
        let saved = off_runtime(move || file.write(&list).map_err(|error| error.to_string())).await;
        let error = saved.map_err(|error| error.to_string()).flatten().err();
        if let (Some(error), false) = (&error, self.unsaved) {
            tracing::warn!("{error}; the newest list of members counts, but isn't kept until that is mended");
        }
        self.unsaved = error.is_some();
    }

    /// Does what `peerfold members` asks for, if anything.
    async fn serve_command(&mut self) {
        let dir = self.file.dir().to_owned();
        let Ok(Some(change)) = off_runtime(move || ListChange::asked(&dir)).await else { return };
        let told = self.change(change).await.unwrap_or_else(|trouble| ListTold {
            number: self.number(),
            trouble: Some(trouble),
            ..ListTold::default()
        });
        let dir = self.file.dir().to_owned();
        match off_runtime(move || ListChange::done(&dir, &told)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "who has changed the list isn't told what became of it"),
            Err(error) => tracing::warn!(%error, "who has changed the list isn't told what became of it"),
        }
    }

    async fn change(&mut self, change: ListChange) -> Result<ListTold, String> {
        if change.after != self.number() {
            return Err(format!(
                "list {} was changed, but list {} counts by now; try again",
                change.after,
                self.number()
            ));
        }
        let wanted = MemberList::parse(&change.list).map_err(|mistake| mistake.to_string())?;
        if self.newest.as_ref().is_none_or(|newest| *newest.list() != wanted) {
            let text = wanted.text().into_bytes();
            SignedList::check_length(text.len() as u64).map_err(|error| error.to_string())?;
            let value = Weights::artifact(text.clone()).map_err(|error| error.to_string())?;
            let entry = self.folder.put(&self.key, &value, Metadata::default()).await;
            let entry = SignedEntry::clone(&*entry.map_err(|error| error.to_string())?);
            let list = SignedList::new(entry, &text).map_err(|error| error.to_string())?;
            self.take_over(list).await;
        }
        let others = wanted.without(&self.file.admin()).len();
        let until = Instant::now() + TELL;
        loop {
            let handed_over = self.folder.hand_over(TOLD_EVERY).await;
            let told = ListTold {
                number: self.number(),
                known_by: handed_over.network.map(|network| network.knowing),
                bucket: handed_over.bucket,
                trouble: None,
            };
            if told.is_told(others) || Instant::now() >= until {
                return Ok(told);
            }
            // With nobody connected the answer comes at once.
            sleep(TOLD_EVERY / 4).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        folder::{Author, MemoryFolder, MemoryStorage},
        weights::FederationId,
    };
    use libp2p_identity::{Keypair, PeerId};
    use std::path::Path;

    struct Federation {
        id: FederationId,
        admin: Keypair,
        storage: MemoryStorage,
    }

    impl Federation {
        fn new(admin: &Keypair) -> Self {
            let storage = MemoryStorage::new();
            Self { id: FederationId::new("ward", "1"), admin: admin.clone(), storage }
        }

        fn folder(&self, keypair: &Keypair) -> Arc<dyn SharedFolder> {
            Arc::new(MemoryFolder::new(&self.storage, Author::in_memory(keypair.clone(), self.id)))
        }

        /// Keeps its lists in this directory.
        fn follower(&self, dir: &Path, keypair: &Keypair) -> (Follower, Arc<Membership>) {
            let file = ListFile::new(dir, self.id, self.admin.public().to_peer_id());
            let newest = file.read().unwrap();
            let membership = Arc::new(Membership::listed(file.admitted(newest.as_ref())));
            (Follower::new(file, newest, &self.folder(keypair), &membership), membership)
        }
    }

    async fn put(folder: &dyn SharedFolder, text: &str) -> Arc<SignedEntry> {
        let value = Weights::artifact(text.as_bytes().to_vec()).unwrap();
        folder.put(&Key::members(folder.author()), &value, Metadata::default()).await.unwrap()
    }

    #[tokio::test]
    async fn the_newest_list_counts_at_once_and_what_is_none_changes_nothing() {
        let (admin, stranger) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (dir, federation) = (tempfile::tempdir().unwrap(), Federation::new(&admin));
        let (one, two) = (PeerId::random(), PeerId::random());
        let (follower, membership) = federation.follower(dir.path(), &stranger);
        let mut figures = follower.figures.subscribe();
        let running = AbortOnDrop(tokio::spawn(follower.run()));
        let (by_admin, by_stranger) = (federation.folder(&admin), federation.folder(&stranger));
        let admits = |peer: PeerId| membership.allows(peer);
        assert!(admits(by_admin.author()) && !admits(one) && !admits(by_stranger.author()));

        let first = put(&*by_admin, &format!("{one} ward")).await;
        figures.wait_for(|figures| figures.number == first.sequence).await.unwrap();
        assert!(admits(one) && admits(by_admin.author()) && membership.name(one).as_deref() == Some("ward"));
        // Under the same name, but signed by somebody else.
        put(&*by_stranger, &format!("{}", by_stranger.author())).await;
        for (refused, text) in [(1, "nobody\n".to_owned()), (2, "#".repeat((48 << 10) + 1))] {
            put(&*by_admin, &text).await;
            figures.wait_for(|figures| figures.refused == refused).await.unwrap();
        }
        by_admin.remove(&Key::members(by_admin.author())).await.unwrap();
        let last = put(&*by_admin, &format!("{two}")).await;
        figures.wait_for(|figures| figures.number == last.sequence).await.unwrap();
        assert!(admits(two) && !admits(one) && !admits(by_stranger.author()));
        drop(running);

        // A restart goes on where it was, and takes no older one, such as a copy of the folder has.
        let copy = Federation::new(&admin);
        let older = put(&*copy.folder(&admin), &format!("{one}")).await;
        assert!(older.sequence < last.sequence);
        let (follower, membership) = copy.follower(dir.path(), &stranger);
        assert!(membership.allows(two) && !membership.allows(one));
        assert!(matches!(follower.find(&older).await, Found::Nothing));
        assert!(matches!(federation.follower(dir.path(), &stranger).0.find(&last).await, Found::Nothing));
        // Another administrator's list is none of this one's.
        let other = Federation { admin: stranger.clone(), ..copy };
        assert!(!other.follower(dir.path(), &admin).1.allows(two));
    }

    #[tokio::test]
    async fn a_list_that_was_changed_in_the_home_is_an_error_that_names_it() {
        let admin = Keypair::generate_ed25519();
        let (dir, federation) = (tempfile::tempdir().unwrap(), Federation::new(&admin));
        let (mut follower, _) = federation.follower(dir.path(), &admin);
        let entry = put(&*federation.folder(&admin), &format!("{}", PeerId::random())).await;
        let Found::List(list) = follower.find(&entry).await else { panic!("it is a list") };
        follower.take_over(*list).await;
        let path = dir.path().join("members");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = follower.file.read().unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("remove it"), "{error}");
    }
}
