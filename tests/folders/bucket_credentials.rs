//! Credentials that end and are asked for anew, as a container's are. Where they come from stands in variables of the
//! environment, so the node is a process of its own: this program, asked to run one test.

use crate::{bucket_nodes, buckets, samples};

use bucket_nodes::*;
use buckets::{ACCESS_KEY, Class, Fault, FaultProxy, SECRET_KEY, Server};
use peerfold::{bucket::BucketOptions, folder::SharedFolder};
use samples::PATIENCE;
use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

const ENDPOINT: &str = "PEERFOLD_TEST_ENDPOINT";
const HOME: &str = "PEERFOLD_TEST_HOME";

/// Gives credentials, and counts how often.
struct Giver {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<String>>,
}

impl Giver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked, answer) = (listener.local_addr().unwrap(), Arc::default(), Arc::default());
        let giver = Self { address, asked, answer };
        let (asked, answer) = (giver.asked.clone(), giver.answer.clone());
        // For as long as the process lives.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                asked.fetch_add(1, Ordering::SeqCst);
                let body = answer.lock().unwrap().clone();
                let status = if body.is_empty() { "503 Service Unavailable" } else { "200 OK" };
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        giver
    }

    /// From now until this many seconds from now.
    fn give(&self, seconds: u64) {
        let end = std::time::SystemTime::now() + Duration::from_secs(seconds);
        let end = utc(end.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
        *self.answer.lock().unwrap() = format!(
            "{{\"AccessKeyId\":\"{ACCESS_KEY}\",\"SecretAccessKey\":\"{SECRET_KEY}\",\"Token\":\"t\",\"Expiration\":\"{end}\"}}"
        );
    }

    fn give_nothing(&self) {
        self.answer.lock().unwrap().clear();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// As RFC 3339 writes it (the days by Hinnant's `civil_from_days`).
fn utc(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let (month, day) = (if shifted < 10 { shifted + 3 } else { shifted - 9 }, day - (153 * shifted + 2) / 5 + 1);
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The process of the node.
struct Node {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Node {
    fn start(giver: &Giver, endpoint: String, home: &std::path::Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "bucket_credentials::the_node", "--ignored", "--nocapture", "--test-threads", "1"]);
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        command.env(ENDPOINT, endpoint).env(HOME, home).env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true");
        let uri = format!("http://{}/credentials", giver.address);
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (found, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| found.send(line)));
        Self { child, lines }
    }

    /// Publishes an update, and tells whether the bucket has it and what is said of the bucket.
    fn publish(&mut self, number: u64) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{number}").unwrap();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("the node answers");
            if let Some((_, said)) = line.split_once(&format!("published {number}: ")) {
                return said.to_owned();
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test, but what [`Node`] runs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other tests run it, as a process of its own"]
async fn the_node() {
    let Ok(endpoint) = env::var(ENDPOINT) else { return };
    let url = format!("s3://{}/ward", buckets::BUCKET).parse().unwrap();
    let bucket = BucketOptions { keys: None, ..options(endpoint) };
    let dir = env::var(HOME).unwrap().into();
    let options =
        peerfold::folder::CachedOptions { bucket: Some((url, bucket)), ..peerfold::folder::CachedOptions::new(dir) };
    let opened = tokio::task::spawn_blocking(move || peerfold::folder::CachedFolder::open(samples::author(1), options));
    let node = opened.await.unwrap().unwrap();
    for line in std::io::stdin().lines() {
        let number: u64 = line.unwrap().parse().unwrap();
        put(&node, &format!("update/{number}"), &value(number), number).await;
        let mut routes = node.routes().unwrap();
        if !node.hand_over(Duration::from_secs(5)).await.outlives() {
            // Neither written nor given up yet, if the machine is busy.
            tokio::select! {
                _ = node.hand_over(PATIENCE) => (),
                _ = routes.wait_for(|routes| routes.reason.is_some()) => (),
            }
        }
        let reason = routes.borrow().reason.clone();
        println!("published {number}: {}", reason.unwrap_or_default());
    }
}

fn has(server: &Server, number: u64) -> bool {
    server.keys().iter().any(|key| key.contains(&format!(".update.{number}.")))
}

#[test]
fn credentials_that_have_expired_are_asked_for_anew() {
    let (giver, server, homes) = (Giver::start(), Server::start(), Homes::new());
    let proxy = FaultProxy::start(server.address());
    giver.give(3600);
    let mut node = Node::start(&giver, proxy.endpoint(), &homes.dir(1));
    assert_eq!(node.publish(1), "");
    assert!(has(&server, 1));
    let asked = giver.asked();
    assert!((1..4).contains(&asked), "{asked}");
    // The store says that they have expired, before their time: asked for once more, and the write is made.
    for (number, class) in [(2, Class::Put), (3, Class::List)] {
        let before = giver.asked();
        proxy.inject(Fault::status(400, "ExpiredToken").on(class).times(1));
        assert_eq!(node.publish(number), "");
        assert!(has(&server, number));
        if class == Class::Put {
            // By this write, and by a listing beside it.
            let asked = giver.asked() - before;
            assert!((1..4).contains(&asked), "{asked} times");
        }
    }
}

#[test]
fn credentials_are_asked_for_before_they_end_and_used_to_their_end() {
    let (giver, server, homes) = (Giver::start(), Server::start(), Homes::new());
    giver.give(12);
    let mut node = Node::start(&giver, server.endpoint(), &homes.dir(1));
    assert_eq!(node.publish(1), "");
    let (asked, requests) = (giver.asked(), server.requests().len());
    // Short ones are not asked for with each request.
    assert!(asked <= 3 && requests > asked, "{asked} times for {requests} requests");
    // Nobody gives any now: the old ones are good for a while, and then it is said.
    giver.give_nothing();
    let (mut number, mut said) = (1, String::new());
    while said.is_empty() {
        number += 1;
        said = node.publish(number);
        assert!(!said.is_empty() || has(&server, number));
    }
    assert!(giver.asked() > asked);
    assert!(number > 2, "they were good for another write");
    assert!(said.contains("credentials"), "{said}");
    // And when somebody does, it goes on by itself.
    giver.give(3600);
    while !said.is_empty() {
        number += 1;
        said = node.publish(number);
    }
    assert!(has(&server, number));
}
