//! How fast the network moves values and news, between two nodes over loopback.
//!
//! `cargo bench --bench network [-- quic]`. Four figures: a value of 64 MiB from `put` having returned until it is
//! verified and stored on the other node, in turns with a raw request-response exchange of the same bytes over the same
//! transport; the same to 1, 2, 4 and 8 nodes at once, and how often its author sends it; from `put` having returned until `watch` gives the entry on the other node, idle and while both train; and
//! the bytes on the wire, counted by a forwarder, when one of 64 tensors has changed.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise,
    request_response::{self, Codec, Message, ProtocolSupport},
    swarm::SwarmEvent,
    tcp, yamux,
};
use libp2p_identity::Keypair;
use peerfold::{
    experiment::digits,
    folder::{Author, CachedFolder, CachedOptions, SharedFolder},
    p2p::{NetworkSettings, PeerAddress, PeerRole},
    train::{Device, Model, TrainOptions, trainer},
    weights::{DType, FederationId, Key, LayoutId, Metadata, Tensor, TensorSpec, Weights},
};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

const MIB: usize = 1 << 20;
const TENSORS: usize = 64;
const TURNS: usize = 7;
const NEWS: u64 = 200;
/// Requests under way in the raw exchange: what it is fastest with here.
const RAW_WINDOWS: [usize; 3] = [1, 4, 8];

fn main() {
    let quic = std::env::args().any(|argument| argument == "quic");
    let (name, listen) = if quic { ("QUIC", "/ip4/127.0.0.1/udp/0/quic-v1") } else { ("TCP", "/ip4/127.0.0.1/tcp/0") };
    let listen: Multiaddr = listen.parse().unwrap();
    let runtime = runtime();
    println!("over {name}, both nodes on this machine");
    runtime.block_on(values(&listen, quic));
    runtime.block_on(fan_out(&listen, quic));
    runtime.block_on(news(&listen));
    runtime.block_on(one_changed(&"/ip4/127.0.0.1/tcp/0".parse().unwrap()));
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

struct Node {
    folder: CachedFolder,
    _dir: TempDir,
}

fn node(listen: &Multiaddr, bootstrap: Vec<PeerAddress>, layout: Option<LayoutId>) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let author = Author::in_memory(Keypair::generate_ed25519(), FederationId::new("bench", "1"));
    let listen = vec![listen.clone()];
    let network = NetworkSettings { listen, bootstrap, no_mdns: true, ..NetworkSettings::default() };
    let options =
        CachedOptions { network: Some(network.into()), layout, ..CachedOptions::new(dir.path().join("cache")) };
    Node { folder: CachedFolder::open(author, options).unwrap(), _dir: dir }
}

/// 64 tensors of 1 MiB, each filled by a number of its own.
fn value(numbers: impl Iterator<Item = u64>) -> Weights {
    let tensors = numbers.take(TENSORS).enumerate().map(|(tensor, number)| {
        let mut random = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
        let mut data = vec![0; MIB];
        random.fill(&mut data);
        let spec = TensorSpec { name: format!("{tensor:02}"), dtype: DType::U8, shape: vec![MIB as u64] };
        Tensor { spec, data: data.into() }
    });
    Weights::new(tensors.collect()).unwrap()
}

async fn learned(folder: &CachedFolder, key: &Key) -> Arc<peerfold::weights::SignedEntry> {
    let mut watch = folder.watch(&key.to_string());
    watch.next().await
}

async fn values(listen: &Multiaddr, quic: bool) {
    let first = node(listen, Vec::new(), None);
    let second = node(listen, first.folder.listening().to_vec(), None);
    let mut raws: Vec<Raw> = RAW_WINDOWS.iter().map(|&window| Raw::new(listen, quic, window)).collect();
    let mut speeds = Vec::new();
    let mut puts = Vec::new();
    let mut raw_speeds = vec![Vec::new(); raws.len()];
    for turn in 0..TURNS as u64 {
        let value = value((turn * 64)..);
        let key = Key::new(first.folder.author(), format!("{turn}")).unwrap();
        let began = Instant::now();
        let entry = first.folder.put(&key, &value, Metadata::default()).await.unwrap();
        puts.push(64.0 / began.elapsed().as_secs_f64());
        let began = Instant::now();
        let learned = learned(&second.folder, &key).await;
        assert_eq!(learned, entry);
        second.folder.get(&learned).await.unwrap();
        speeds.push(64.0 / began.elapsed().as_secs_f64());
        for (raw, speeds) in raws.iter_mut().zip(&mut raw_speeds) {
            speeds.push(64.0 / raw.exchange().await.as_secs_f64());
        }
    }
    println!("put of 64 MiB:                   {:5.0} MiB/s (hashed, written, flushed)", median(&puts));
    println!("put to stored on the other node: {:5.0} MiB/s", median(&speeds));
    for (window, raw) in RAW_WINDOWS.iter().zip(&raw_speeds) {
        let ratio: Vec<f64> = speeds.iter().zip(raw).map(|(ours, raw)| ours / raw).collect();
        println!("raw request-response, {window} at once: {:5.0} MiB/s, ratio {:.2}", median(raw), median(&ratio));
    }
}

/// All readers fetch it as soon as they hear of it.
async fn fan_out(listen: &Multiaddr, quic: bool) {
    let mut raw = Raw::new(listen, quic, 4);
    println!("put to stored on n other nodes:  author's upload; time; the time of n raw exchanges, ratio");
    for readers in [1, 2, 4, 8] {
        let (mut uploads, mut seconds, mut raws) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..3 {
            let value = value((1000 * (turn + 1))..);
            let layout = Some(value.layout().id());
            let author = node(listen, Vec::new(), layout);
            let known = author.folder.listening().to_vec();
            let nodes: Vec<Node> = (0..readers).map(|_| node(listen, known.clone(), layout)).collect();
            for node in nodes.iter().chain([&author]) {
                let met = async || {
                    node.folder
                        .status()
                        .await
                        .unwrap()
                        .peers
                        .iter()
                        .filter(|peer| peer.role == PeerRole::Member)
                        .count()
                };
                while met().await < readers {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            let key = Key::update(author.folder.author(), 1);
            let entry = author.folder.put(&key, &value, Metadata { epoch: 1, ..Metadata::default() }).await.unwrap();
            let began = Instant::now();
            let read = nodes.iter().map(async |node| {
                learned(&node.folder, &key).await;
                while node.folder.get(&entry).await.is_err() {}
            });
            futures::future::join_all(read).await;
            seconds.push(began.elapsed().as_secs_f64());
            uploads.push(author.folder.status().await.unwrap().sent as f64 / (TENSORS * MIB) as f64);
            let mut all = 0.0;
            for _ in 0..readers {
                all += raw.exchange().await.as_secs_f64();
            }
            raws.push(all);
        }
        let ratios: Vec<f64> = seconds.iter().zip(&raws).map(|(ours, raw)| ours / raw).collect();
        println!(
            "                              {readers}  {:.2} times its size; {:.2} s; {:.2} s, {:.2}",
            median(&uploads),
            median(&seconds),
            median(&raws),
            median(&ratios)
        );
    }
}

async fn news(listen: &Multiaddr) {
    let first = node(listen, Vec::new(), None);
    let second = node(listen, first.folder.listening().to_vec(), None);
    let key = Key::new(first.folder.author(), "news").unwrap();
    let small = Weights::artifact("small").unwrap();
    first.folder.put(&key, &small, Metadata::default()).await.unwrap();
    learned(&second.folder, &key).await;
    let median_latency = async || {
        let mut watch = second.folder.watch(&key.to_string());
        let mut latencies = Vec::new();
        for epoch in 0..NEWS {
            let metadata =
                Metadata { epoch, num_examples: first.folder.figures().traffic.written, metrics: Vec::new() };
            let entry = first.folder.put(&key, &small, metadata).await.unwrap();
            let began = Instant::now();
            while watch.next().await != entry {}
            latencies.push(began.elapsed().as_secs_f64() * 1e3);
        }
        latencies.sort_by(f64::total_cmp);
        (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100])
    };
    let (median, high) = median_latency().await;
    println!("put to watch, idle:              {median:5.2} ms (99 %: {high:.2} ms)");
    let stop = Arc::new(AtomicBool::new(false));
    let training: Vec<_> = (0..2).map(|seed| train(seed, stop.clone())).collect();
    let (median, high) = median_latency().await;
    stop.store(true, Ordering::Relaxed);
    let steps: u64 = training.into_iter().map(|thread| thread.join().unwrap()).sum();
    println!("put to watch, both training:     {median:5.2} ms (99 %: {high:.2} ms; {steps} steps meanwhile)");
}

/// Trains until it is stopped, and gives the number of steps.
fn train(seed: u64, stop: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let options = TrainOptions {
            learning_rate: 1e-3,
            batch: 256,
            model_seed: seed,
            data_seed: seed,
            threads: 1,
            proximal_mu: 0.0,
        };
        let mut trainer = trainer(Model::Digits, Device::Cpu, options, Arc::new(digits().train)).unwrap();
        let mut steps = 0;
        while !stop.load(Ordering::Relaxed) {
            steps += trainer.train_steps(steps, 100, &|| stop.load(Ordering::Relaxed)).unwrap().done;
        }
        steps
    })
}

async fn one_changed(listen: &Multiaddr) {
    let first = node(listen, Vec::new(), None);
    let counted = Arc::<AtomicU64>::default();
    let through = forward(first.folder.listening()[0].clone(), counted.clone()).await;
    let second = node(listen, vec![through], None);
    let key = |turn| Key::new(first.folder.author(), format!("{turn}")).unwrap();
    for (turn, changed) in [(0, None), (1, Some(17u64))] {
        let value = value((0..).map(|number| if changed == Some(number) { number + 1000 } else { number }));
        let before = counted.load(Ordering::Relaxed);
        first.folder.put(&key(turn), &value, Metadata::default()).await.unwrap();
        let entry = learned(&second.folder, &key(turn)).await;
        second.folder.get(&entry).await.unwrap();
        let bytes = counted.load(Ordering::Relaxed) - before;
        let what = if changed.is_some() { "one of 64 tensors changed" } else { "all of 64 MiB" };
        println!("on the wire, {what:<25} {:9.3} MiB", bytes as f64 / MIB as f64);
    }
}

/// A forwarder to a node, which counts the bytes both ways.
async fn forward(node: PeerAddress, counted: Arc<AtomicU64>) -> PeerAddress {
    let port = node.address.to_string().rsplit('/').next().unwrap().parse().unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port()).parse().unwrap();
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            let to = TcpStream::connect(to).await.unwrap();
            let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
            for (mut read, mut write) in [(from_read, to_write), (to_read, from_write)] {
                let counted = counted.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(length @ 1..) = read.read(&mut buffer).await {
                        counted.fetch_add(length as u64, Ordering::Relaxed);
                        if write.write_all(&buffer[..length]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    PeerAddress { peer: node.peer, address }
}

/// Requests are a number, answers 1 MiB: no hashes, no files.
#[derive(Clone, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = u64;
    type Response = Bytes;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<u64> {
        let mut number = [0; 8];
        io.read_exact(&mut number).await?;
        Ok(u64::from_le_bytes(number))
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Bytes> {
        let mut bytes = vec![0; MIB];
        io.read_exact(&mut bytes).await?;
        Ok(bytes.into())
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        number: u64,
    ) -> io::Result<()> {
        io.write_all(&number.to_le_bytes()).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Bytes,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }
}

type RawBehaviour = request_response::Behaviour<RawCodec>;

/// A pair of swarms that exchange 64 times 1 MiB.
struct Raw {
    client: Swarm<RawBehaviour>,
    server: libp2p::PeerId,
    window: usize,
    /// There until the drop, which inside a runtime must not wait for it.
    runtime: Option<Runtime>,
}

impl Raw {
    fn new(listen: &Multiaddr, quic: bool, window: usize) -> Self {
        let build = || {
            let builder = SwarmBuilder::with_new_identity().with_tokio();
            let builder =
                builder.with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default);
            let protocols = [(StreamProtocol::new("/raw/1"), ProtocolSupport::Full)];
            let behaviour = RawBehaviour::new(protocols, request_response::Config::default());
            let idle = Duration::from_secs(600);
            let builder = builder.unwrap().with_quic().with_behaviour(|_| behaviour).unwrap();
            builder.with_swarm_config(|config| config.with_idle_connection_timeout(idle)).build()
        };
        assert_eq!(quic, listen.to_string().contains("quic"));
        let runtime = runtime();
        let mut server = {
            let _inside = runtime.enter();
            build()
        };
        let peer = *server.local_peer_id();
        let (sender, address) = std::sync::mpsc::channel();
        server.listen_on(listen.clone()).unwrap();
        runtime.spawn(async move {
            let bytes = Bytes::from(vec![7; MIB]);
            loop {
                match server.select_next_some().await {
                    SwarmEvent::NewListenAddr { address, .. } => sender.send(address).unwrap(),
                    SwarmEvent::Behaviour(request_response::Event::Message {
                        message: Message::Request { channel, .. },
                        ..
                    }) => server.behaviour_mut().send_response(channel, bytes.clone()).unwrap(),
                    _ => {}
                }
            }
        });
        let mut client = build();
        let address = tokio::task::block_in_place(|| address.recv()).unwrap();
        client.add_peer_address(peer, address);
        Self { client, server: peer, window, runtime: Some(runtime) }
    }

    async fn exchange(&mut self) -> Duration {
        // Connected, as the nodes are.
        self.receive(1).await;
        let began = Instant::now();
        self.receive(TENSORS).await;
        began.elapsed()
    }

    async fn receive(&mut self, count: usize) {
        let (mut asked, mut got) = (0, 0);
        while got < count {
            while asked < count && asked - got < self.window {
                self.client.behaviour_mut().send_request(&self.server, asked as u64);
                asked += 1;
            }
            if let SwarmEvent::Behaviour(event) = self.client.select_next_some().await {
                match event {
                    request_response::Event::Message { message: Message::Response { response, .. }, .. } => {
                        assert_eq!(response.len(), MIB);
                        got += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
