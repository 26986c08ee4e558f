//! A folder that passes everything on to a host process.

use super::{
    host,
    link::Link,
    messages::{Answer, FromHost, PlainEntry, Request, conflict, parse_entry, read_frame, tensors_of},
};
use async_trait::async_trait;
use bytes::Bytes;
use libp2p_identity::PeerId;
use peerfold::{
    entries::{Board, Conflict, Watch},
    folder::{ChunkStore, FolderError, FolderFigures, SharedFolder, Traffic, Value},
    p2p::NetworkStatus,
    weights::{Digest, Entry, Key, Manifest, Metadata, SignedEntry, Weights},
};
use std::{
    env,
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

/// The parent's end. The process dies with it.
pub struct Proxy {
    author: PeerId,
    pub listening: Vec<String>,
    link: Arc<Link>,
    board: Arc<Board>,
    process: Mutex<Child>,
}

impl Proxy {
    /// Starts a process and waits until its folder is open. Blocks.
    pub fn start(author: PeerId, setup: &host::Setup) -> Result<Self, String> {
        Self::start_by(Command::new(env::current_exe().unwrap()), author, setup)
    }

    /// Starts the process in a network namespace.
    pub fn start_in(namespace: &str, author: PeerId, setup: &host::Setup) -> Result<Self, String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(env::current_exe().unwrap());
        Self::start_by(command, author, setup)
    }

    fn start_by(mut command: Command, author: PeerId, setup: &host::Setup) -> Result<Self, String> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = command
            .args(["--exact", host::TEST, "--nocapture", "--test-threads=1"])
            .env(host::ROLE, serde_json::to_string(setup).unwrap())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // With it goes our copy of the other end: the process's death is the end of the stream.
        drop(command);
        let process = KillOnDrop(Some(process));
        let mut incoming = ours.try_clone().unwrap();
        let listening = match read_frame(&mut incoming) {
            Some(FromHost::Ready(listening)) => listening,
            Some(FromHost::Failed(error)) => return Err(error),
            _ => return Err("the process has ended before its folder was open".to_owned()),
        };
        // Each message is an answer's counterpart; the test that waits for the answers is the bound.
        let (out, frames) = mpsc::channel::<Vec<u8>>();
        let mut outgoing = ours;
        thread::spawn(move || frames.iter().try_for_each(|frame| outgoing.write_all(&frame)));
        let link = Arc::new(Link::new(out));
        let board = Arc::new(Board::new(setup.federation));
        thread::spawn({
            let (link, board) = (link.clone(), board.clone());
            move || {
                while let Some(message) = read_frame(&mut incoming) {
                    match message {
                        FromHost::Told(entry) => take_in(&board, Arc::new(parse_entry(&entry))),
                        FromHost::Answer(id, answer) => link.answered(id, answer),
                        FromHost::Ready(_) | FromHost::Failed(_) => unreachable!("said once"),
                    }
                }
                link.ended();
            }
        });
        Ok(Self { author, listening, link, board, process: Mutex::new(process.keep()) })
    }

    /// SIGKILL. What the process did until now is all it did.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        let _ = process.kill();
        let _ = process.wait();
    }

    pub async fn readmit(&self, author: PeerId) -> Result<(), FolderError> {
        self.link.call(Request::Readmit { author: author.to_bytes() }).await.map(|_| ())
    }

    /// The host's network; `None` if it has ended.
    pub async fn status(&self) -> Option<NetworkStatus> {
        match self.link.call(Request::Status).await {
            Ok(Answer::Status(status)) => status.map(|status| serde_json::from_str(&status).unwrap()),
            _ => None,
        }
    }

    async fn entry(&self, request: Request) -> Result<Arc<SignedEntry>, FolderError> {
        let Answer::Entry(entry) = self.link.call(request).await? else { unreachable!() };
        let entry = Arc::new(parse_entry(&entry));
        // What was put is there when `put` returns, whenever the watch tells it.
        take_in(&self.board, entry.clone());
        Ok(entry)
    }
}

/// Excluding is up to the host. Here authors are trusted; otherwise a readmitted one would be excluded again.
fn take_in(board: &Board, entry: Arc<SignedEntry>) {
    board.readmit(entry.key.author());
    board.insert(entry).unwrap();
}

struct KillOnDrop(Option<Child>);

impl KillOnDrop {
    fn keep(mut self) -> Child {
        self.0.take().unwrap()
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(process) = &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The chunks of a value that the host has open.
struct Chunks {
    link: Arc<Link>,
    handle: u64,
    place: String,
}

impl ChunkStore for Chunks {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn chunk(&self, chunk: usize, _offset: u64, _length: u64) -> io::Result<Bytes> {
        match self.link.call_blocking(Request::Chunk { handle: self.handle, chunk }) {
            Ok(Answer::Chunk(bytes)) => Ok(bytes),
            Ok(_) => unreachable!(),
            // For the reader here, a value that ends too early is damaged.
            Err(FolderError::Read(error)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.link.tell(Request::Release { handle: self.handle });
    }
}

#[async_trait]
impl SharedFolder for Proxy {
    fn author(&self) -> PeerId {
        self.author
    }

    async fn put(&self, key: &Key, value: &Weights, metadata: Metadata) -> Result<Arc<SignedEntry>, FolderError> {
        self.entry(Request::Put { key: key.to_string(), value: tensors_of(value), metadata }).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Arc<SignedEntry>>, FolderError> {
        let Answer::Entries(entries) = self.link.call(Request::List { prefix: prefix.to_owned() }).await? else {
            unreachable!()
        };
        Ok(entries.iter().map(|entry| Arc::new(parse_entry(entry))).collect())
    }

    async fn get(&self, entry: &Entry) -> Result<Value, FolderError> {
        let answer = self.link.call(Request::Get(PlainEntry::from(entry))).await?;
        let Answer::Value { handle, manifest, place } = answer else { unreachable!() };
        let manifest = Manifest::decode(&manifest).expect("the other process is of the same program");
        Ok(Value::new(manifest, Chunks { link: self.link.clone(), handle, place }))
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(self.board.clone(), prefix, ())
    }

    async fn remove(&self, key: &Key) -> Result<Arc<SignedEntry>, FolderError> {
        self.entry(Request::Remove { key: key.to_string() }).await
    }

    async fn digest(&self) -> Result<Digest, FolderError> {
        let Answer::Digest(digest) = self.link.call(Request::Digest).await? else { unreachable!() };
        Ok(digest)
    }

    async fn conflicts(&self) -> Result<Vec<Conflict>, FolderError> {
        let Answer::Conflicts(proofs) = self.link.call(Request::Conflicts).await? else { unreachable!() };
        Ok(proofs.iter().map(conflict).collect())
    }

    fn figures(&self) -> FolderFigures {
        match self.link.call_blocking(Request::Traffic) {
            Ok(Answer::Traffic { written, read }) => Traffic { written, read }.into(),
            _ => panic!("the process has ended"),
        }
    }
}
