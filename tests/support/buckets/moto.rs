//! moto's S3 server, as a second opinion.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::{env, thread};

use super::{BUCKET, PATIENCE};

const PROGRAM: &str = "target/ci-tools/bin/moto_server";
const MISSING: &str =
    "skipped: moto_server is missing. Install it with .ci/install-tools, or name it in PEERFOLD_MOTO.";

/// Accepts any credentials. Killed when it is dropped.
pub struct Moto {
    process: Child,
    address: SocketAddr,
}

impl Moto {
    /// Says so on stderr where it isn't.
    pub fn is_installed() -> bool {
        let is_installed = program().is_some();
        if !is_installed {
            eprintln!("{MISSING}");
        }
        is_installed
    }

    /// `None`, and a word about it on stderr, where moto isn't installed.
    pub fn start() -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("{MISSING}");
            return None;
        };
        let process = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} doesn't start: {error}", program.display()));
        // Owned from here on, so that a panic kills the process.
        let mut moto = Self { process, address: ([127, 0, 0, 1], 0).into() };
        moto.address = moto.announced();
        moto.create_bucket();
        Some(moto)
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// It says where it listens, after it has begun to. What it says later must be read, or it would wait for that.
    fn announced(&mut self) -> SocketAddr {
        let lines = BufReader::new(self.process.stderr.take().unwrap()).lines();
        let (found, address) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("Running on http://") {
                    let _ = found.send(address.trim().parse());
                }
            }
        });
        address.recv_timeout(PATIENCE).expect("moto_server says where it listens").expect("an address")
    }

    fn create_bucket(&self) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = self.address;
        write!(stream, "PUT /{BUCKET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.split(' ').nth(1) == Some("200"), "no bucket: {answer}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program() -> Option<PathBuf> {
    if let Some(path) = env::var_os("PEERFOLD_MOTO") {
        return Some(path.into());
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(PROGRAM);
    path.exists().then_some(path)
}
