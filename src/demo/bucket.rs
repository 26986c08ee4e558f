//! The demo's S3 server, as a process of its own.

use super::{
    directory::{Directory, program},
    process::lines,
};
use anyhow::{Context, bail};
use socket2::{Domain, Socket, Type};
use std::{
    cell::RefCell,
    fs,
    io::BufReader,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, ChildStdin, Stdio},
    thread,
};

/// The variables with the keys that requests are signed with, as AWS users have them.
pub(super) const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
pub(super) const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
/// The bucket's name.
const BUCKET: &str = "demo";

/// A bucket on a server of the demo's own. Dropping it kills the server.
pub(super) struct Bucket {
    dir: PathBuf,
    address: SocketAddr,
    secret: String,
    server: RefCell<Option<Server>>,
    /// Holds the port, so that nobody else gets it while the server is down.
    _port: Option<Socket>,
}

struct Server {
    child: Child,
    /// It ends when this does.
    _stdin: Option<ChildStdin>,
}

impl Bucket {
    /// Starts the server with an empty bucket in the directory and fresh keys.
    pub(super) fn start(directory: &Directory) -> anyhow::Result<Self> {
        let dir = directory.home("s3")?;
        fs::create_dir_all(dir.join(BUCKET)).with_context(|| format!("creating {}", dir.display()))?;
        let port = Socket::new(Domain::IPV4, Type::STREAM, None).context("a socket for the bucket's server")?;
        port.set_reuse_address(true).context("a port for the bucket's server")?;
        port.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).context("a port for the bucket's server")?;
        let address = port.local_addr()?.as_socket().context("the bucket's server has no address")?;
        let secret = format!("{:032x}", rand::random::<u128>());
        // Linux lets a second socket have the port as long as only one of them listens.
        let port = Some(port).filter(|_| cfg!(target_os = "linux"));
        let bucket = Self { dir, address, secret, server: RefCell::new(None), _port: port };
        bucket.resume()?;
        Ok(bucket)
    }

    /// Where the nodes find it.
    pub(super) fn url(&self) -> String {
        format!("s3://{BUCKET}")
    }

    /// `http://127.0.0.1:PORT`
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The environment variables with the keys to it.
    pub(super) fn keys(&self) -> [(&'static str, String); 2] {
        [(KEY_ID, BUCKET.to_owned()), (SECRET, self.secret.clone())]
    }

    /// Kills the server. What it holds stays.
    pub(super) fn cut(&self) {
        self.server.replace(None);
    }

    /// Starts the server again, where it was.
    pub(super) fn resume(&self) -> anyhow::Result<()> {
        let mut command = program()?;
        command.arg("demo-bucket").arg(&self.dir).arg(self.address.to_string()).envs(self.keys());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("the bucket's server can't be started")?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        self.server.replace(Some(Server { child, _stdin: stdin }));
        if lines(BufReader::new(stdout.context("the output of the bucket's server")?)).next().is_none() {
            let log: Vec<String> = stderr.into_iter().flat_map(|err| lines(BufReader::new(err))).collect();
            bail!("the bucket's server failed: {}", log.last().map_or("it gave no reason", String::as_str));
        }
        thread::spawn(move || {
            let log = stderr.into_iter().flat_map(|err| lines(BufReader::new(err)));
            log.for_each(|line| tracing::info!(bucket = true, "{line}"));
        });
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
