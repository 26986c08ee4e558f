//! The Unix socket in a node's home at which it reports its network to `peerfold peers`.

use super::{NETWORK_SOCKET, NetworkError, NetworkStatus};
use crate::home::Home;
use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    future::Future,
    io::{self, Read},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::UnixListener,
    time::{sleep, timeout},
};

/// How long the other side may take to read an answer, or to give one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// Longest path of a socket, in bytes.
const MAX_SOCKET_PATH: usize = 107;
/// Prefix of the name while the socket is being made. Whatever a crash leaves behind is removed when the home is
/// opened.
const PARTIAL: &str = ".partial-";

/// Why a node doesn't say how its network stands.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The home isn't there.
    #[error("there is no home {}; give the --home of a running node", dir.display())]
    NoHome {
        /// The home.
        dir: PathBuf,
    },
    /// No node runs on it.
    #[error("no node runs on the home {}; start it, or give the --home of another", dir.display())]
    NotRunning {
        /// The home.
        dir: PathBuf,
    },
    /// A node runs on it, without a socket.
    #[error(
        "the node on the home {} has no network: it runs with another --folder than p2p:, or is only just starting",
        dir.display()
    )]
    NoNetwork {
        /// The home.
        dir: PathBuf,
    },
    /// The socket can't be read.
    #[error("asking the node at {} failed: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The node is of another version.
    #[error("the node at {} answers in another way than this version knows: {source}", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The socket in a node's home at which it reports its network. A client that connects gets one JSON document, a
/// [`NetworkStatus`], and then end of file. Only the home's owner can connect.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
}

impl StatusSocket {
    /// Makes the socket, replacing one that an earlier process left. Call it from the process that has the home's lock,
    /// inside a tokio runtime. The socket file stays when this is dropped, but nobody answers there any more.
    pub fn bind(path: &Path) -> Result<Self, NetworkError> {
        let listener = bind(path).map_err(|source| NetworkError::Socket { path: path.to_owned(), source })?;
        Ok(Self { listener })
    }

    /// Answers clients one at a time until `status` returns `None`. A client that connects and doesn't read holds up
    /// only the next one, for ten seconds.
    pub async fn serve<F>(self, status: impl Fn() -> F)
    where
        F: Future<Output = Option<NetworkStatus>>,
    {
        loop {
            let mut stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Most likely there are too many open files.
                    tracing::debug!(%error, "the status socket");
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let Some(status) = status().await else { return };
            let answer = async {
                stream.write_all(&serde_json::to_vec(&status)?).await?;
                stream.shutdown().await
            };
            match timeout(PATIENCE, answer).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the status was not read"),
                Err(_) => tracing::debug!("the status was not read in time"),
            }
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let is_other = |path: &Path| fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket());
    if is_other(path) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is in its place"));
    }
    let mut name = OsString::from(PARTIAL);
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    let partial = path.with_file_name(name);
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = with_short_path(&partial, |path| UnixListener::bind(path))?;
    // Before anybody can find the socket.
    fs::set_permissions(&partial, Permissions::from_mode(0o600))?;
    fs::rename(&partial, path)?;
    Ok(listener)
}

/// Calls `call` with a path to the same file that is short enough for a socket address, where the system has one.
fn with_short_path<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_SOCKET_PATH || !cfg!(target_os = "linux") {
        return call(path);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return call(path) };
    // Open until the call is over.
    let dir = File::open(dir)?;
    let dir_number = std::os::fd::AsRawFd::as_raw_fd(&dir);
    call(&Path::new("/proc/self/fd").join(dir_number.to_string()).join(name))
}

impl NetworkStatus {
    /// Asks the node that runs on the home in `dir`. Blocks until it answers, ten seconds at most.
    pub fn ask(dir: &Path) -> Result<Self, StatusError> {
        let home = || dir.to_owned();
        if !dir.is_dir() {
            return Err(StatusError::NoHome { dir: home() });
        }
        let path = dir.join(NETWORK_SOCKET);
        let answer = match read_answer(&path) {
            Ok(answer) => answer,
            // A socket file left by a dead node refuses connections.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Err(match Home::is_in_use(dir) {
                    true => StatusError::NoNetwork { dir: home() },
                    false => StatusError::NotRunning { dir: home() },
                });
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let source = io::Error::new(io::ErrorKind::TimedOut, "it doesn't answer; try again");
                return Err(StatusError::Io { path, source });
            }
            Err(source) => return Err(StatusError::Io { path, source }),
        };
        serde_json::from_slice(&answer).map_err(|source| StatusError::Answer { path, source })
    }
}

fn read_answer(path: &Path) -> io::Result<Vec<u8>> {
    let stream = with_short_path(path, |path| UnixStream::connect(path))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::p2p::{PeerRole, PeerStatus, Refusals, Transport, Way};

    fn status() -> NetworkStatus {
        let peer = PeerStatus {
            name: Some("Ward 3".to_owned()),
            peer: "somebody".to_owned(),
            role: PeerRole::Member,
            address: "/ip4/192.0.2.1/tcp/1".to_owned(),
            transport: Transport::Tcp,
            way: Way::Direct,
            entries: 3,
            sent: 1,
            received: 2,
            connected_seconds: 4,
            seen_seconds_ago: 5,
        };
        NetworkStatus {
            peer: "me".to_owned(),
            name: Some("try".to_owned()),
            run: Some("1".to_owned()),
            federation: "f".to_owned(),
            listening: vec![],
            entries: 6,
            authors: 2,
            sent: 7,
            received: 8,
            cached: 9,
            figures: None,
            // More than fits into the system's buffers.
            peers: vec![peer; 10_000],
            announced: vec![],
            sought: vec![],
            unread: 10,
            places: 256,
            banned: vec![],
            refused: Refusals::default(),
            put_off: 0,
        }
    }

    async fn ask(dir: &Path) -> Result<NetworkStatus, StatusError> {
        let dir = dir.to_owned();
        tokio::task::spawn_blocking(move || NetworkStatus::ask(&dir)).await.unwrap()
    }

    #[tokio::test]
    async fn a_running_node_tells_how_it_stands_wherever_its_home_is() {
        let temporary = tempfile::tempdir().unwrap();
        for name in ["short".to_owned(), "long".repeat(60)] {
            let dir = temporary.path().join(name);
            let home = Home::open(&dir).unwrap();
            let path = dir.join(NETWORK_SOCKET);
            // An earlier process left one behind.
            drop(StatusSocket::bind(&path).unwrap());
            let serving = tokio::spawn(StatusSocket::bind(&path).unwrap().serve(|| async { Some(status()) }));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let silent = with_short_path(&path, |path| UnixStream::connect(path)).unwrap();
            drop(silent);
            for _ in 0..2 {
                assert_eq!(ask(&dir).await.unwrap(), status());
            }
            serving.abort();
            assert!(serving.await.unwrap_err().is_cancelled());
            assert!(matches!(ask(&dir).await, Err(StatusError::NoNetwork { .. })));
            drop(home);
            assert!(matches!(ask(&dir).await, Err(StatusError::NotRunning { .. })));
        }
        assert!(matches!(ask(&temporary.path().join("none")).await, Err(StatusError::NoHome { .. })));
    }

    #[tokio::test]
    async fn no_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NETWORK_SOCKET);
        fs::write(&path, "mine").unwrap();
        assert!(StatusSocket::bind(&path).unwrap_err().to_string().contains("no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
