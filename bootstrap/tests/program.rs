//! The `peerfold-bootstrap` binary: what it prints and how it ends.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Lines, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

struct Node {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(home: &Path, listen: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerfold-bootstrap"));
        command.env_clear().arg("--home").arg(home).args(["--listen", listen]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it prints.
    fn line(&mut self) -> Option<String> {
        self.lines.next().transpose().unwrap()
    }

    /// Waits for the end: exit code and log.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }

    fn terminate(&mut self) -> (Option<i32>, String) {
        let kill = Command::new("/bin/sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status();
        assert!(kill.unwrap().success());
        self.end()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_prints_the_address_for_the_lists_and_keeps_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let mut first = Node::start(&home, "/ip4/127.0.0.1/tcp/0");
    let line = first.line().unwrap();
    let address = peerfold::p2p::PeerList::of(&line).unwrap().peers.remove(0);
    let listen = address.address.to_string();

    // Nobody else can listen there.
    let mut second = Node::start(&dir.path().join("other"), &listen);
    assert_eq!(second.line(), None);
    let (code, log) = second.end();
    assert_eq!(code, Some(1));
    assert!(log.starts_with("error: can't listen on ") && log.contains(&listen) && log.lines().count() == 1, "{log}");

    assert_eq!(first.terminate(), (Some(0), String::new()));
    let mut again = Node::start(&home, &listen);
    assert_eq!(again.line(), Some(line), "the lists of the nodes stay right");
    assert_eq!(again.terminate(), (Some(0), String::new()));
}
