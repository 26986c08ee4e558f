//! A process that writes on a disk: its calls one after the other, with its descriptors.

use super::{
    super::record::{self, Call},
    Change, Disk, Fate, Node, Open, ROOT, What,
};
use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

impl Disk {
    /// Goes on with a process that wrote on it.
    pub(in super::super) fn goes_on(&mut self, record: &Path) {
        let text = fs::read_to_string(record).unwrap();
        let mut calls = record::read(&text);
        // A close ends a descriptor when it is entered: another thread may get its number before it returns.
        calls.sort_by_key(|call| if call.name == "close" { call.entered } else { call.returned });
        self.open.clear();
        self.half_line.clear();
        self.begun = self.now + 1;
        calls.iter().for_each(|call| self.take(call));
        self.now = self.begun + text.lines().count();
    }

    fn take(&mut self, call: &Call) {
        self.now = self.begun + call.returned;
        let args: Vec<&str> = call.args.iter().map(String::as_str).collect();
        match &*call.name {
            "open" | "creat" => {
                self.opened("AT_FDCWD", args[0], args.get(1).unwrap_or(&"O_CREAT|O_TRUNC"), call.result)
            }
            "openat" => self.opened(args[0], args[1], args[2], call.result),
            "dup" | "dup2" | "dup3" => self.duplicated(args[0], call.result),
            "fcntl" if args[1].starts_with("F_DUPFD") => self.duplicated(args[0], call.result),
            "write" if args[0] == "1" => {
                let text = self.half_line.clone() + &String::from_utf8(record::bytes(args[1])).unwrap();
                let mut lines: Vec<&str> = text.split('\n').collect();
                let rest = lines.pop().unwrap().to_owned();
                let at = self.begun + call.entered;
                self.printed.extend(lines.into_iter().map(|line| (at, line.to_owned())));
                self.half_line = rest;
            }
            "write" | "writev" => {
                if let Some(open) = self.of(args[0]) {
                    self.write(open, None, &args[1..].join(", "), call.result);
                }
            }
            "pwrite64" => {
                if let Some(open) = self.of(args[0]) {
                    self.write(open, Some(number(args[3]) as u64), args[1], call.result);
                }
            }
            "lseek" => {
                if let Some(open) = self.of(args[0]) {
                    self.positions[open.file] = Some(call.result as u64);
                }
            }
            "ftruncate" => {
                if let Some(open) = self.of(args[0]) {
                    self.change(open.node, What::Resize(number(args[1]) as u64));
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(open) = self.of(args[0]) {
                    let (entered, now) = (self.begun + call.entered, self.now);
                    let of_it = |change: &&mut Change| change.node == open.node && change.made < entered;
                    let unflushed = self.changes.iter_mut().filter(of_it).filter(|change| change.flushed.is_none());
                    unflushed.for_each(|change| change.flushed = Some(now));
                }
            }
            "mkdir" => self.made_dir("AT_FDCWD", args[0]),
            "mkdirat" => self.made_dir(args[0], args[1]),
            "unlink" | "rmdir" => self.removed("AT_FDCWD", args[0]),
            "unlinkat" => self.removed(args[0], args[1]),
            "rename" => self.linked(("AT_FDCWD", args[0]), ("AT_FDCWD", args[1]), true),
            "renameat" | "renameat2" => self.linked((args[0], args[1]), (args[2], args[3]), true),
            "link" => self.linked(("AT_FDCWD", args[0]), ("AT_FDCWD", args[1]), false),
            "linkat" => self.linked((args[0], args[1]), (args[2], args[3]), false),
            // Asks the disk to begin, and doesn't wait for what it says.
            "sync_file_range" | "fcntl" => {}
            "close" => drop(self.open.remove(&number(args[0]))),
            "mmap" => {
                let shared = args[3].contains("MAP_SHARED") && args[2].contains("PROT_WRITE");
                assert!(!shared || self.of(args[4]).is_none(), "a file of the node's is written in memory");
            }
            other => panic!("{other} is not known here: {args:?}"),
        }
    }

    fn of(&self, descriptor: &str) -> Option<Open> {
        self.open.get(&number(descriptor)).copied()
    }

    fn opened(&mut self, dir: &str, path: &str, flags: &str, descriptor: i64) {
        let Some(path) = self.path(dir, path) else { return };
        let node = if flags.contains("O_TMPFILE") {
            self.made(false)
        } else if path == self.root {
            ROOT
        } else {
            let (dir, name) = self.place(&path).unwrap();
            match self.names(dir).get(&name) {
                Some(&node) => node,
                // A socket, or another thing that is not recorded.
                None if !flags.contains("O_CREAT") => return,
                None => {
                    let node = self.made(false);
                    self.change(dir, What::Names { gone: None, new: Some((name, node)) });
                    node
                }
            }
        };
        if flags.contains("O_TRUNC") {
            self.change(node, What::Resize(0));
        }
        self.positions.push((!flags.contains("O_APPEND")).then_some(0));
        self.open.insert(descriptor, Open { node, file: self.positions.len() - 1 });
    }

    fn duplicated(&mut self, from: &str, to: i64) {
        match self.of(from) {
            Some(open) => self.open.insert(to, open),
            None => self.open.remove(&to),
        };
    }

    fn write(&mut self, open: Open, at: Option<u64>, buffers: &str, written: i64) {
        let mut bytes = record::bytes(buffers);
        bytes.truncate(written as usize);
        let end = || self.content(open.node, self.now, |_| Fate::Done).len() as u64;
        let start = at.or(self.positions[open.file]).unwrap_or_else(end);
        if let (None, Some(position)) = (at, &mut self.positions[open.file]) {
            *position += bytes.len() as u64;
        }
        self.change(open.node, What::Write { at: start, bytes });
    }

    fn made_dir(&mut self, dir: &str, path: &str) {
        let Some(path) = self.path(dir, path) else { return };
        let node = self.made(true);
        let (dir, name) = self.place(&path).unwrap();
        self.change(dir, What::Names { gone: None, new: Some((name, node)) });
    }

    fn removed(&mut self, dir: &str, path: &str) {
        let Some((dir, name)) = self.path(dir, path).and_then(|path| self.place(&path)) else { return };
        if self.names(dir).contains_key(&name) {
            self.change(dir, What::Names { gone: Some(name), new: None });
        }
    }

    fn linked(&mut self, from: (&str, &str), to: (&str, &str), moved: bool) {
        let Some((dir, name)) = self.path(from.0, from.1).and_then(|path| self.place(&path)) else { return };
        let Some(&node) = self.names(dir).get(&name) else { return };
        let (to_dir, new) =
            self.path(to.0, to.1).and_then(|path| self.place(&path)).expect("it stays in its directory");
        let (gone, new) = (moved.then_some(name), Some((new, node)));
        if dir == to_dir {
            return self.change(dir, What::Names { gone, new });
        }
        self.change(to_dir, What::Names { gone: None, new });
        if gone.is_some() {
            self.change(dir, What::Names { gone, new: None });
        }
    }

    /// A path within the root.
    fn path(&self, dir: &str, path: &str) -> Option<PathBuf> {
        let path = PathBuf::from(OsString::from_vec(record::bytes(path)));
        let path = match self.open.get(&dir.parse().unwrap_or(-1)) {
            Some(open) => self.path_of(open.node, ROOT, &self.root)?.join(path),
            None => path,
        };
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        (plain && path.starts_with(&self.root)).then_some(path)
    }

    fn path_of(&self, wanted: Node, dir: Node, at: &Path) -> Option<PathBuf> {
        if wanted == dir {
            return Some(at.to_owned());
        }
        let below = self.names(dir).into_iter().filter(|&(_, node)| self.is_dir[node]);
        below.into_iter().find_map(|(name, node)| self.path_of(wanted, node, &at.join(name)))
    }
}

fn number(arg: &str) -> i64 {
    arg.parse().unwrap_or_else(|_| panic!("{arg} is no number"))
}
