//! A real S3 server inside the process.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::body::{Counted, Direction, Failure};
use super::host::Host;
use super::requests::{Log, Seen};
use super::store::Store;
use super::{ACCESS_KEY, BUCKET, SECRET_KEY};

/// Checks signatures, and keeps objects as files in a folder of its own.
pub struct Server {
    // Dropped before the folder that it serves.
    host: Host,
    log: Arc<Log>,
    dir: TempDir,
}

impl Server {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(Store::new(dir.path().to_owned()));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let log = Arc::new(Log::default());
        let host = Host::start({
            let log = Arc::clone(&log);
            move |stream| serve(stream, service.clone(), Arc::clone(&log))
        });
        Self { host, log, dir }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.host.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.host.address()
    }

    /// The folder that holds the bucket's folder, and s3s-fs's metadata next to it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file of an object. What is written to it is served, but with the ETag of what was put.
    pub fn object_path(&self, key: &str) -> PathBuf {
        self.dir.path().join(BUCKET).join(key)
    }

    /// The keys of all objects, sorted.
    pub fn keys(&self) -> Vec<String> {
        let bucket = self.dir.path().join(BUCKET);
        let mut keys = Vec::new();
        let mut folders = vec![bucket.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    keys.push(entry.path().strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        keys.sort();
        keys
    }

    /// Everything asked for since the start or since [`forget_requests`](Self::forget_requests), in order.
    pub fn requests(&self) -> Vec<Seen> {
        self.log.seen()
    }

    pub fn forget_requests(&self) {
        self.log.forget();
    }

    /// Cuts all connections and refuses new ones. A client that keeps connections open may find out about the one it
    /// uses next only when it has sent a request on it.
    pub fn stop(&self) {
        self.host.stop();
    }

    /// Listens on the same port again, with the same objects.
    pub fn resume(&self) {
        self.host.resume();
    }
}

async fn serve(stream: TcpStream, service: S3Service, log: Arc<Log>) {
    let answer = service_fn(|request| answer(request, service.clone(), Arc::clone(&log)));
    // Clients may go away whenever they like.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

async fn answer(
    request: Request<Incoming>,
    service: S3Service,
    log: Arc<Log>,
) -> Result<Response<Counted<Body>>, Failure> {
    let entry = log.open(&request);
    let (head, body) = request.into_parts();
    // An answer that comes before the whole request has, as one about a wrong signature would, is lost when the
    // connection is closed with the rest of the request unread.
    let body = Counted::new(body, &entry, Direction::Request).collect().await?.to_bytes();
    let response = service.call(Request::from_parts(head, body.into())).await?;
    entry.answered(response.status());
    Ok(response.map(|body| Counted::new(body, &entry, Direction::Response)))
}
