//! What a disk may hold after a power cut, rebuilt from the record of a process.
//!
//! A file's content is certain up to the last time it was flushed, and a name in a directory once that directory was
//! flushed after it. Every other change may have reached the disk or not, in any order; a write may also have reached it
//! in part. File systems promise more, each something else.

mod replay;

use rand::{Rng, RngExt};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

/// A file or directory, by its number.
type Node = usize;
const ROOT: Node = 0;
/// A line of the record.
type Moment = usize;

/// A directory's files and subdirectories, by their paths: bytes of files, nothing of directories.
pub(super) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

#[derive(Clone)]
enum What {
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    Resize(u64),
    /// In a directory, at once.
    Names {
        gone: Option<String>,
        new: Option<(String, Node)>,
    },
}

struct Change {
    made: Moment,
    node: Node,
    what: What,
    /// When it was certain to be on the disk.
    flushed: Option<Moment>,
}

/// What became of a change that was not flushed.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Done,
    /// Of a write, only the beginning; the rest is missing, or is other bytes.
    Torn {
        whole: u64,
        rest: Option<u8>,
    },
}

/// What is left of all that was not flushed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left {
    Nothing,
    Everything,
    /// The names, of files without their contents.
    Names,
    /// The contents, under the names that were flushed.
    Contents,
    /// The names as they were at some moment, and any part of the contents.
    NamesInOrder,
    Anything,
}

pub(super) const LEFT: [Left; 6] =
    [Left::Nothing, Left::Everything, Left::Names, Left::Contents, Left::NamesInOrder, Left::Anything];

/// An open file, which several descriptors may be of.
#[derive(Clone, Copy)]
struct Open {
    node: Node,
    file: usize,
}

/// A directory, and all that was ever changed in it.
pub(super) struct Disk {
    root: PathBuf,
    is_dir: Vec<bool>,
    changes: Vec<Change>,
    open: HashMap<i64, Open>,
    /// Where the next write to each open file goes; `None` if at its end.
    positions: Vec<Option<u64>>,
    /// Lines that were printed, with the moment.
    pub(super) printed: Vec<(Moment, String)>,
    half_line: String,
    /// The line at which the record that is read now begins.
    begun: Moment,
    pub(super) now: Moment,
}

impl Disk {
    /// An empty directory.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            is_dir: vec![true],
            changes: Vec::new(),
            open: HashMap::new(),
            positions: Vec::new(),
            printed: Vec::new(),
            half_line: String::new(),
            begun: 0,
            now: 0,
        }
    }

    /// The same after its process was killed at a moment, with all that it wrote laid out in another
    /// directory, which is empty.
    pub(super) fn killed(&self, moment: Moment, root: &Path) -> Self {
        let mut disk = Self { root: root.to_owned(), is_dir: self.is_dir.clone(), now: moment, ..Self::new(root) };
        for change in self.changes.iter().filter(|change| change.made <= moment) {
            let flushed = change.flushed.filter(|&flushed| flushed <= moment);
            disk.changes.push(Change { made: change.made, node: change.node, what: change.what.clone(), flushed });
        }
        disk.printed = self.printed.iter().filter(|(at, _)| *at <= moment).cloned().collect();
        lay_out(&disk.seen(), root);
        disk
    }

    fn made(&mut self, is_dir: bool) -> Node {
        self.is_dir.push(is_dir);
        self.is_dir.len() - 1
    }

    fn change(&mut self, node: Node, what: What) {
        self.changes.push(Change { made: self.now, node, what, flushed: None });
    }

    /// The directory of a path, and its name there.
    fn place(&self, path: &Path) -> Option<(Node, String)> {
        let within = path.strip_prefix(&self.root).ok()?;
        let name = within.file_name()?.to_str()?.to_owned();
        let mut dir = ROOT;
        for part in within.parent()?.components() {
            dir = *self.names(dir).get(part.as_os_str().to_str()?)?;
        }
        Some((dir, name))
    }

    fn names(&self, dir: Node) -> BTreeMap<String, Node> {
        self.names_at(dir, self.now, |_| Fate::Done)
    }

    fn names_at(&self, dir: Node, cut: Moment, fate: impl Fn(usize) -> Fate) -> BTreeMap<String, Node> {
        let mut names = BTreeMap::new();
        for (_, what) in self.done(dir, cut, fate) {
            if let What::Names { gone, new } = what {
                names.retain(|name, _| Some(name) != gone.as_ref());
                names.extend(new.clone());
            }
        }
        names
    }

    fn content(&self, file: Node, cut: Moment, fate: impl Fn(usize) -> Fate) -> Vec<u8> {
        let mut content = Vec::new();
        for (fate, what) in self.done(file, cut, fate) {
            match what {
                What::Write { at, bytes } => {
                    let (start, end) = (*at as usize, *at as usize + bytes.len());
                    content.resize(content.len().max(end), 0);
                    content[start..end].copy_from_slice(bytes);
                    if let Fate::Torn { whole, rest } = fate {
                        let whole = (start + whole as usize % bytes.len().max(1)).min(end);
                        content[whole..end].fill(rest.unwrap_or(0));
                        if rest.is_none() && end == content.len() {
                            content.truncate(whole);
                        }
                    }
                }
                What::Resize(length) => content.resize(*length as usize, 0),
                What::Names { .. } => unreachable!(),
            }
        }
        content
    }

    /// The changes of a file or directory that a cut leaves.
    fn done(&self, node: Node, cut: Moment, fate: impl Fn(usize) -> Fate) -> impl Iterator<Item = (Fate, &What)> {
        self.changes.iter().enumerate().filter_map(move |(number, change)| {
            if change.node != node || change.made > cut {
                return None;
            }
            let is_certain = change.flushed.is_some_and(|flushed| flushed <= cut);
            let fate = if is_certain { Fate::Done } else { fate(number) };
            (!matches!(fate, Fate::Lost)).then_some((fate, &change.what))
        })
    }

    /// Moments right before something was flushed.
    pub(super) fn unflushed(&self) -> Vec<Moment> {
        let mut moments: Vec<Moment> =
            self.changes.iter().filter_map(|change| change.flushed?.checked_sub(1)).collect();
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// Moments at which something changed or was flushed.
    pub(super) fn moments(&self) -> Vec<Moment> {
        let changes = self.changes.iter().flat_map(|change| [Some(change.made), change.flushed]);
        let mut moments: Vec<Moment> = changes.flatten().chain([0]).collect();
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// What is there after a power cut.
    pub(super) fn after(&self, cut: Moment, left: Left, random: &mut impl Rng) -> Tree {
        let until = random.random_range(0..=cut);
        let often = [0.1, 0.5, 0.9][random.random_range(0..3)];
        let mut any = |what: &What| match what {
            _ if random.random_bool(often) => Fate::Done,
            What::Write { .. } if random.random_bool(0.5) => {
                let rest = [None, Some(0), Some(random.random::<u8>())][random.random_range(0..3)];
                Fate::Torn { whole: random.random_range(0..1 << 20), rest }
            }
            _ => Fate::Lost,
        };
        let fates: Vec<Fate> = self
            .changes
            .iter()
            .map(|change| {
                let done = match (left, matches!(change.what, What::Names { .. })) {
                    (Left::Everything, _) | (Left::Names, true) | (Left::Contents, false) => true,
                    (Left::Nothing, _) | (Left::Names, false) | (Left::Contents, true) => false,
                    (Left::NamesInOrder, true) => change.made <= until,
                    (Left::NamesInOrder, false) | (Left::Anything, _) => return any(&change.what),
                };
                if done { Fate::Done } else { Fate::Lost }
            })
            .collect();
        let mut tree = Tree::new();
        self.gather(ROOT, Path::new(""), cut, &fates, &mut tree);
        tree
    }

    /// What a process finds there.
    pub(super) fn seen(&self) -> Tree {
        let mut tree = Tree::new();
        self.gather(ROOT, Path::new(""), self.now, &vec![Fate::Done; self.changes.len()], &mut tree);
        tree
    }

    fn gather(&self, dir: Node, at: &Path, cut: Moment, fates: &[Fate], tree: &mut Tree) {
        for (name, node) in self.names_at(dir, cut, |change| fates[change]) {
            let path = at.join(name);
            if self.is_dir[node] {
                tree.insert(path.clone(), None);
                self.gather(node, &path, cut, fates, tree);
            } else {
                tree.insert(path, Some(self.content(node, cut, |change| fates[change])));
            }
        }
    }
}

/// What is in a directory, but for sockets.
pub(super) fn tree(dir: &Path) -> Tree {
    let mut found = Tree::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for file in fs::read_dir(at).unwrap().map(Result::unwrap) {
            let (path, kind) = (file.path(), file.file_type().unwrap());
            let within = path.strip_prefix(dir).unwrap().to_owned();
            if kind.is_dir() {
                found.insert(within, None);
                dirs.push(path);
            } else if kind.is_file() {
                found.insert(within, Some(fs::read(&path).unwrap()));
            }
        }
    }
    found
}

/// Puts files into an empty directory.
pub(super) fn lay_out(tree: &Tree, dir: &Path) {
    for (path, content) in tree {
        match content {
            Some(bytes) => fs::write(dir.join(path), bytes).unwrap(),
            None => fs::create_dir_all(dir.join(path)).unwrap(),
        }
    }
}
