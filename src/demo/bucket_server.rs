//! The demo's own S3 server: real requests and signatures, with objects as files in the demo's directory.

use super::bucket::{KEY_ID, SECRET};
use crate::program::{end_with_stdin, print};
use anyhow::{Context, anyhow};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::{
    S3, S3Request, S3Response, S3Result,
    auth::SimpleAuth,
    dto::{
        DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, GetObjectInput,
        GetObjectOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput, PutObjectOutput,
    },
    service::S3ServiceBuilder,
};
use s3s_fs::FileSystem;
use std::{env, net::SocketAddr, path::Path, time::Duration};
use tokio::{net::TcpSocket, runtime::Builder, sync::RwLock, time::sleep};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;
/// How long to wait when the system has no file for a further connection.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// The part of S3 that a demo's nodes use. A store never shows a half-written object, which files alone don't
/// guarantee.
struct Objects(RwLock<FileSystem>);

#[async_trait::async_trait]
impl S3 for Objects {
    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.0.read().await.list_objects_v2(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.0.read().await.get_object(request).await
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.0.write().await.put_object(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.write().await.delete_object(request).await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.0.write().await.delete_objects(request).await
    }
}

/// Serves until standard input ends. Prints where it listens as soon as it does.
pub(crate) fn serve(dir: &Path, listen: SocketAddr) -> anyhow::Result<()> {
    end_with_stdin(|_| {});
    let key = |name: &str| env::var(name).with_context(|| format!("{name} is missing"));
    let files = FileSystem::new(dir).map_err(|error| anyhow!("{}: {error:?}", dir.display()))?;
    let mut builder = S3ServiceBuilder::new(Objects(RwLock::new(files)));
    builder.set_auth(SimpleAuth::from_single(key(KEY_ID)?, key(SECRET)?));
    let service = builder.build();
    let runtime = Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        // The demo holds the port, so that it is the same when the server is started again.
        socket.set_reuseaddr(true)?;
        socket.bind(listen).with_context(|| format!("{listen} can't be listened on"))?;
        let listener = socket.listen(BACKLOG)?;
        print(&format!("{}\n", listener.local_addr()?))?;
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(OUT_OF_FILES).await;
                continue;
            };
            // Otherwise small answers wait for acknowledgements.
            let _ = stream.set_nodelay(true);
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
            // Clients may disconnect at any time.
            tokio::spawn(async { drop(connection.await) });
        }
    })
}
