//! The Python that runs the second implementation of `docs/wire.md`.
#![allow(unreachable_pub)]

use std::process::Command;

/// Python, if it is there and new enough for the page's scripts.
pub fn python() -> Option<Command> {
    let python = || Command::new("python3");
    let version = python().args(["-c", "import sys; sys.exit(sys.version_info < (3, 10))"]).output();
    if version.is_ok_and(|version| version.status.success()) {
        return Some(python());
    }
    eprintln!("skipped: there is no python3 of 3.10 or later to check docs/wire.md with");
    None
}
