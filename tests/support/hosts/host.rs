//! The process that hosts one folder for a proxy in the test's own process.

use super::{
    hosted::{self, Hosted},
    messages::{Answer, Fault, FromHost, Request, ToHost, frame, parse_key, parse_peer, read_frame},
};
use peerfold::{
    folder::{SharedFolder, Value},
    weights::{FederationId, LayoutId, Tensor, Weights},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    env,
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};
use tokio::task::{AbortHandle, JoinHandle};

/// Tells the test binary that it is to be a host: a [`Setup`] as JSON.
pub const ROLE: &str = "PEERFOLD_TEST_HOST";
/// The test that does it.
pub const TEST: &str = "hosts::host::child";

/// What a host is to open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    pub home: PathBuf,
    pub federation: FederationId,
    pub listen: Vec<String>,
    pub bootstrap: Vec<String>,
    pub mdns: bool,
    pub layout: Option<LayoutId>,
}

/// Is a test in name only: the process that a proxy starts. Its standard input is one end of a pair of sockets.
#[test]
fn child() {
    let Ok(setup) = env::var(ROLE) else { return };
    let link = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    // Messages are queued without a bound: each of them was asked for by the test, or is an entry of at most 1 KiB.
    let (out, messages) = std::sync::mpsc::channel::<FromHost>();
    let mut writing = link.try_clone().unwrap();
    let writer = thread::spawn(move || messages.iter().try_for_each(|message| writing.write_all(&frame(&message))));
    match hosted::open(&serde_json::from_str(&setup).unwrap()) {
        Ok(hosted) => {
            let listening = hosted.folder.listening().iter().map(ToString::to_string);
            out.send(FromHost::Ready(listening.collect())).unwrap();
            serve(hosted, link, out);
        }
        Err(error) => {
            out.send(FromHost::Failed(error)).unwrap();
            drop(out);
        }
    }
    // The proxy may have closed its end with answers still on their way.
    let _ = writer.join().unwrap();
}

/// Answers until the proxy closes its end.
fn serve(hosted: Hosted, mut link: UnixStream, out: std::sync::mpsc::Sender<FromHost>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let host = Arc::new(Host { hosted, handles: Mutex::default() });
    let telling = runtime.spawn({
        let (host, out) = (host.clone(), out.clone());
        async move {
            let mut watch = host.hosted.folder.watch("");
            while out.send(FromHost::Told(watch.next().await.bytes().to_vec())).is_ok() {}
        }
    });
    let mut running: HashMap<u64, AbortHandle> = HashMap::new();
    while let Some(ToHost { id, request }) = read_frame(&mut link) {
        running.retain(|_, task| !task.is_finished());
        match request {
            Request::Cancel { id } => {
                running.remove(&id).inspect(AbortHandle::abort);
            }
            Request::Release { handle } => drop(host.handles.lock().unwrap().remove(&handle)),
            request => {
                let (host, out) = (host.clone(), out.clone());
                let task: JoinHandle<()> = runtime.spawn(async move {
                    let answer = host.answer(id, request).await;
                    let _ = out.send(FromHost::Answer(id, answer));
                });
                running.insert(id, task.abort_handle());
            }
        }
    }
    telling.abort();
    running.into_values().for_each(|task| task.abort());
}

struct Host {
    hosted: Hosted,
    handles: Mutex<HashMap<u64, Arc<Value>>>,
}

impl Host {
    async fn answer(self: &Arc<Self>, id: u64, request: Request) -> Result<Answer, Fault> {
        let folder = &self.hosted.folder;
        Ok(match request {
            Request::Put { key, value, metadata } => {
                let tensors = value.into_iter().map(|(spec, data)| Tensor { spec, data }).collect();
                let entry = folder.put(&parse_key(&key), &Weights::new(tensors).unwrap(), metadata).await?;
                Answer::Entry(entry.bytes().to_vec())
            }
            Request::List { prefix } => {
                let entries = folder.list(&prefix).await?;
                Answer::Entries(entries.iter().map(|entry| entry.bytes().to_vec()).collect())
            }
            Request::Get(entry) => {
                let value = folder.get(&entry.into()).await?;
                let (manifest, place) = (value.manifest().encode().into(), format!("{value:?}"));
                // A request's number names the handle too.
                self.handles.lock().unwrap().insert(id, Arc::new(value));
                Answer::Value { handle: id, manifest, place }
            }
            Request::Chunk { handle, chunk } => {
                let value = self.handles.lock().unwrap()[&handle].clone();
                let read = tokio::task::spawn_blocking(move || value.chunk(chunk)).await.unwrap();
                Answer::Chunk(read?)
            }
            Request::Remove { key } => Answer::Entry(folder.remove(&parse_key(&key)).await?.bytes().to_vec()),
            Request::Digest => Answer::Digest(folder.digest().await?),
            Request::Conflicts => Answer::of_conflicts(&folder.conflicts().await?),
            Request::Traffic => Answer::of_traffic(folder.figures().traffic),
            Request::Readmit { author } => {
                folder.readmit(parse_peer(&author));
                Answer::Done
            }
            Request::Status => {
                Answer::Status(folder.status().await.map(|status| serde_json::to_string(&status).unwrap()))
            }
            Request::Cancel { .. } | Request::Release { .. } => unreachable!("these have no answer"),
        })
    }
}
