//! The vectors of `docs/wire.md` that only a running node shows: the files and objects it writes, and the names under
//! which it meets others. And a node in Python, which knows only the page, whose update is folded.

use crate::{
    python::python,
    samples::{PATIENCE, read},
    wire_vectors::{PAGE, bytes_of_digits, entry, hexed, keypair, metadata, secret, text, vectors, weights},
};
use futures::StreamExt;
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    gossipsub, identify, kad, noise,
    pnet::{PnetConfig, PreSharedKey},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use peerfold::{
    entries::Membership,
    folder::{Author, CachedFolder, CachedOptions, LocalFolder, SharedFolder},
    node::{AsyncNode, AsyncOptions, Checks, Event, LocalUpdate, Participant, ParticipantOptions},
    p2p::{NetworkOptions, NetworkSettings, PeerAddress},
    strategy::StrategySpec,
    weights::{FederationId, SignedEntry, Weights},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::timeout;

/// The author of a vector's entry, who has published nothing yet.
fn author(of: &Value) -> Author {
    Author::in_memory(keypair(&of["secret"]), text(&of["federation"]).parse().unwrap())
}

/// Publishes what a vector says.
async fn publish(folder: &dyn SharedFolder, given: &Value) -> Arc<SignedEntry> {
    let (signed, value) = (entry(&given["entry"]), weights(&given["value"]));
    let put = folder.put(&signed.key, &value, metadata(&given["entry"]["put"])).await.unwrap();
    assert_eq!(*put, signed);
    put
}

/// The files under a directory, by their paths from there.
fn files(dir: &Path) -> Vec<String> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for file in fs::read_dir(next).unwrap() {
            let path: PathBuf = file.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_directory_has_the_files_of_the_page() {
    let (given, expected) = vectors("directory").remove(0);
    let dir = tempfile::tempdir().unwrap();
    let folder = LocalFolder::open(dir.path(), author(&given["entry"])).unwrap();
    let put = publish(&folder, &given).await;
    let found = files(dir.path());
    let [entry, value] = &found[..] else { panic!("{found:?}") };
    let content = |file: &String| hexed(&fs::read(dir.path().join(file)).unwrap());
    assert_eq!(
        json!({"entry_file": entry, "entry": content(entry), "value_file": value, "value": content(value)}),
        expected
    );
    let reader = Author::in_memory(libp2p_identity::Keypair::generate_ed25519(), put.federation);
    let reader = LocalFolder::open_to_read(dir.path(), reader).unwrap();
    assert_eq!(reader.list("").await.unwrap(), [put.clone()]);
    assert_eq!(read(reader.get(&put).await.unwrap()).await.unwrap(), weights(&given["value"]));
}

fn local(epoch: u64, weights: &Weights) -> LocalUpdate {
    LocalUpdate { weights: weights.clone(), epoch, num_examples: 10, metrics: Vec::new() }
}

#[tokio::test]
async fn a_node_that_knows_only_the_page_is_folded() {
    if python().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let keypair = libp2p_identity::Keypair::generate_ed25519();
    let author = Author::in_memory(keypair, FederationId::new("wards", "of a test"));
    let folder = Arc::new(LocalFolder::open(dir.path(), author).unwrap());
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = events.clone();
    let options = ParticipantOptions {
        checks: Checks::default(),
        membership: Arc::new(Membership::open()),
        events: Arc::new(move |event| sink.lock().unwrap().push(event.clone())),
    };
    let weights = Weights::from_f32s(&[("bias", &[1], &[0.5]), ("kernel", &[2, 2], &[1.0, 2.0, 3.0, 4.0])]).unwrap();
    let fedavg = StrategySpec::new("fedavg").build().unwrap();
    let participant = Participant::new(folder.clone(), fedavg, weights.layout().clone(), options);
    let mut node = AsyncNode::new(participant, AsyncOptions::default());
    node.exchange(&local(1, &weights)).await.unwrap();

    let join = async |secret: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wire/check.py");
        let mut python = python().unwrap();
        python.arg("-B").arg(script).arg("--join").arg(dir.path()).args(["wards", "of a test", secret]);
        tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap()
    };
    let refused = join("2a").await;
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && error == "error: SECRET must be 64 hexadecimal digits\n", "{error}");
    let mut peer = String::new();
    // Also when it comes again, to what it has published itself: with another number, and without what is replaced.
    for (epoch, entries) in [(1, 1), (2, 2), (3, 2), (3, 2)] {
        let joined = join(&"2a".repeat(32)).await;
        assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
        let said: Value = serde_json::from_slice(&joined.stdout).unwrap();
        assert_eq!(
            (text(&said["of"]), text(&said["name"])),
            (&*folder.author().to_string(), &*format!("update/{epoch}"))
        );
        peer = text(&said["peer"]).to_owned();
        assert_eq!(folder.list(&peer).await.unwrap().len(), entries);
        if epoch < 3 {
            node.exchange(&local(epoch + 1, &weights)).await.unwrap();
        }
    }
    assert_eq!(folder.conflicts().await.unwrap(), []);
    node.exchange(&local(4, &weights)).await.unwrap();
    let events = events.lock().unwrap();
    let folded = events.iter().filter_map(|event| match event {
        Event::Folded { updates, .. } => Some(updates),
        _ => None,
    });
    let theirs: Vec<_> = folded.flatten().filter(|update| !update.own).collect();
    let theirs: Vec<_> = theirs.iter().map(|update| (update.author.as_str(), update.epoch)).collect();
    assert_eq!(theirs, [1, 2, 3].map(|epoch| (peer.as_str(), epoch)), "{events:?}");
}

/// A folder with a network, a bucket or both.
async fn open(
    dir: &TempDir,
    author: Author,
    change: impl FnOnce(CachedOptions) -> CachedOptions + Send + 'static,
) -> CachedFolder {
    let options = change(CachedOptions::new(dir.path().join(author.peer_id().to_string())));
    tokio::task::spawn_blocking(move || CachedFolder::open(author, options)).await.unwrap().unwrap()
}

fn network(bootstrap: &[PeerAddress]) -> NetworkSettings {
    NetworkSettings {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        bootstrap: bootstrap.to_vec(),
        no_mdns: true,
        sync_every: Duration::from_secs(1),
        ..NetworkSettings::default()
    }
}

/// Where the author brings its entry to the bucket, and where a member does it for an author who has only the network.
#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_has_the_objects_of_the_page() {
    use crate::{
        bucket_nodes,
        buckets::{BUCKET, Server},
        samples::{eventually, learn},
        wire_vectors::told,
    };
    let (given, expected) = vectors("object").remove(0);
    let (dir, of) = (tempfile::tempdir().unwrap(), &given["entry"]);
    let place = |server: &Server| {
        let url = format!("s3://{BUCKET}/{}", text(&given["prefix"])).parse().unwrap();
        let options = bucket_nodes::options_with(server.endpoint(), |settings| settings.relay_after = Duration::ZERO);
        Some((url, options))
    };
    let object = |server: &Server, key: &str| fs::read(server.object_path(key)).unwrap();
    let (own_server, relay_server) = (Server::start(), Server::start());

    let bucket = place(&own_server);
    let folder = open(&dir, author(of), move |options| CachedOptions { bucket, ..options }).await;
    let put = publish(&folder, &given).await;
    let is_there = async || own_server.keys().len() == 2;
    timeout(PATIENCE, eventually(is_there)).await.unwrap();
    let keys = own_server.keys();
    let [entry, pack] = &keys[..] else { panic!("{keys:?}") };
    let found = json!({
        "entry_name": entry,
        "entry": hexed(&object(&own_server, entry)),
        "pack_name": pack,
        "pack": told(&object(&own_server, pack)),
        "relayed_name": expected["relayed_name"],
    });
    assert_eq!(found, expected);
    drop(folder);

    let layout = Some(put.layout);
    let other = tempfile::tempdir().unwrap();
    let first =
        open(&other, author(of), |options| CachedOptions { network: Some(network(&[]).into()), ..options }).await;
    publish(&first, &given).await;
    let relaying = Author::in_memory(keypair(&given["relaying_secret"]), put.federation);
    let (settings, bucket) = (network(first.listening()), place(&relay_server));
    let relay = open(&other, relaying, move |options| CachedOptions {
        network: Some(settings.into()),
        bucket,
        layout,
        ..options
    });
    let relay = relay.await;
    let name = text(&expected["relayed_name"]);
    let is_there = async || relay_server.keys().iter().any(|key| key == name);
    timeout(PATIENCE, eventually(is_there)).await.unwrap_or_else(|_| panic!("{:?}", relay_server.keys()));
    assert_eq!(hexed(&object(&relay_server, name)), expected["entry"]);

    // Who has only the bucket reads it.
    let (reader, bucket) =
        (Author::in_memory(libp2p_identity::Keypair::generate_ed25519(), put.federation), place(&relay_server));
    let reader = open(&other, reader, move |options| CachedOptions { bucket, ..options }).await;
    timeout(PATIENCE, learn(&reader, &put)).await.unwrap();
    assert_eq!(bucket_nodes::at_last(&reader, &put).await, weights(&given["value"]));
    drop(relay);
}

/// The same where the federation has a secret.
#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_bucket_has_the_objects_of_the_page() {
    use crate::{
        bucket_nodes,
        buckets::{BUCKET, Server},
        samples::{eventually, learn},
        wire_vectors::told,
    };
    let (given, expected) = vectors("sealed object").remove(0);
    let (dir, of, server) = (tempfile::tempdir().unwrap(), &given["entry"], Server::start());
    let place = || {
        let url = format!("s3://{BUCKET}/{}", text(&given["prefix"])).parse().unwrap();
        let options = bucket_nodes::options_with(server.endpoint(), |_| {});
        Some((url, peerfold::bucket::BucketOptions { secret: Some(secret(&given["secret"])), ..options }))
    };
    let bucket = place();
    let folder = open(&dir, author(of), move |options| CachedOptions { bucket, ..options }).await;
    let put = publish(&folder, &given).await;
    let names = ["entry_name", "mark_name", "pack_name"].map(|name| text(&expected[name]).to_owned());
    timeout(PATIENCE, eventually(async || server.keys().len() == 3)).await.unwrap();
    let found: BTreeSet<String> = server.keys().into_iter().collect();
    assert_eq!(found, names.iter().cloned().collect());
    let object = |key: &str| fs::read(server.object_path(key)).unwrap();
    let [entry, mark, pack] = &names;
    assert_eq!(String::from_utf8(object(mark)).unwrap(), text(&expected["mark"]));
    assert_eq!((hexed(&object(entry)), told(&object(pack))), (expected["entry"].clone(), expected["pack"].clone()));

    let (reader, bucket) = (Author::in_memory(libp2p_identity::Keypair::generate_ed25519(), put.federation), place());
    let reader = open(&dir, reader, move |options| CachedOptions { bucket, ..options }).await;
    timeout(PATIENCE, learn(&reader, &put)).await.unwrap();
    assert_eq!(bucket_nodes::at_last(&reader, &put).await, weights(&given["value"]));
}

/// What `peerfold invite` prints, and `peerfold join` takes.
#[cfg(unix)]
#[test]
fn an_invitation_is_as_on_the_page() {
    let run = |dir: &TempDir, args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_peerfold"));
        let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PEERFOLD_"));
        ours.for_each(|(name, _)| _ = command.env_remove(name));
        let done = command.current_dir(dir.path()).env("HOME", dir.path()).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    for (given, expected) in vectors("invitation") {
        let (dir, invitation) = (tempfile::tempdir().unwrap(), text(&expected["invitation"]));
        let settings = text(&given["settings"]);
        fs::write(dir.path().join("node.toml"), settings).unwrap();
        let mut args = vec!["invite", "--config", "node.toml"];
        let is_secret = !given["secret"].is_null();
        if is_secret {
            secret(&given["secret"]).write_new(&dir.path().join("ward.secret")).unwrap();
            args.extend(["--secret", "ward.secret"]);
        }
        assert_eq!(run(&dir, &args), format!("{invitation}\n"));
        run(&dir, &["join", invitation, "--home", "site"]);
        let written = fs::read_to_string(dir.path().join("site/node.toml")).unwrap();
        assert!(settings.lines().all(|line| written.lines().any(|written| written == line)), "{written}");
        let theirs = dir.path().join("site/federation.secret");
        assert_eq!(theirs.exists(), is_secret);
        if is_secret {
            assert_eq!(peerfold::secret::Secret::read(&theirs).unwrap(), secret(&given["secret"]));
        }
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
}

/// TCP, with the private network of this key if there is one.
fn transport(
    key: &libp2p_identity::Keypair,
    private: Option<PreSharedKey>,
) -> Boxed<(libp2p_identity::PeerId, StreamMuxerBox)> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default());
    let noise = noise::Config::new(key).unwrap();
    match private {
        None => tcp.upgrade(Version::V1).authenticate(noise).multiplex(yamux::Config::default()).boxed(),
        Some(key) => {
            let private = tcp.and_then(move |socket, _| PnetConfig::new(key).handshake(socket));
            private.upgrade(Version::V1).authenticate(noise).multiplex(yamux::Config::default()).boxed()
        }
    }
}

/// A peer of libp2p, without any of Peerfold's code.
fn stranger(private: Option<PreSharedKey>) -> Swarm<Behaviour> {
    let behaviour = |key: &libp2p_identity::Keypair| {
        let me = key.public().to_peer_id();
        let gossip =
            gossipsub::ConfigBuilder::default().validation_mode(gossipsub::ValidationMode::Anonymous).build().unwrap();
        let mut table = kad::Config::new(StreamProtocol::new("/peerfold/kad/1"));
        table.set_record_filtering(kad::StoreInserts::FilterBoth);
        let mut kad = kad::Behaviour::with_config(me, kad::store::MemoryStore::new(me), table);
        kad.set_mode(Some(kad::Mode::Server));
        Behaviour {
            gossip: gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, gossip).unwrap(),
            identify: identify::Behaviour::new(identify::Config::new("any".to_owned(), key.public())),
            kad,
        }
    };
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| transport(key, private))
        .unwrap()
        .with_behaviour(behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    swarm
}

/// What a node says of itself to a stranger.
#[derive(Default)]
struct Said {
    topic: Option<String>,
    table_key: Option<String>,
    identity: Option<identify::Info>,
}

async fn said_by(node: &PeerAddress, private: Option<PreSharedKey>) -> Said {
    let (mut swarm, mut said) = (stranger(private), Said::default());
    while said.topic.is_none() || said.table_key.is_none() || said.identity.is_none() {
        match swarm.select_next_some().await {
            // Only then has it an address to tell.
            SwarmEvent::NewListenAddr { address, .. } => {
                swarm.add_external_address(address);
                swarm.dial(node.address.clone()).unwrap();
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Subscribed { topic, .. })) => {
                said.topic = Some(topic.to_string());
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { info, .. })) => {
                said.identity = Some(info);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::InboundRequest {
                request: kad::InboundRequest::AddProvider { record: Some(record) },
            })) => {
                assert_eq!(record.provider, node.peer);
                said.table_key = Some(record.key.as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
            }
            _ => {}
        }
    }
    said
}

/// The protocols in the page's table of them.
fn protocols() -> BTreeSet<String> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `/"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_meets_others_under_the_names_of_the_page() {
    for (given, expected) in vectors("federation") {
        let federation = FederationId::new(text(&given["name"]), text(&given["run"]));
        let dir = tempfile::tempdir().unwrap();
        let author = Author::in_memory(libp2p_identity::Keypair::generate_ed25519(), federation);
        let folder =
            open(&dir, author, |options| CachedOptions { network: Some(network(&[]).into()), ..options }).await;
        let said = said_by(&folder.listening()[0], None);
        let Said { topic, table_key, identity } = timeout(PATIENCE, said).await.unwrap();
        let found = json!({"federation": federation.to_string(), "topic": topic, "table_key": table_key});
        assert_eq!(found, expected);
        let identity = identity.unwrap();
        assert_eq!(identity.protocol_version, "/peerfold/1");
        assert_eq!(identity.agent_version, format!("peerfold/{}", env!("CARGO_PKG_VERSION")));
        let spoken: BTreeSet<String> = identity.protocols.iter().map(ToString::to_string).collect();
        assert_eq!(spoken, protocols());
    }
}

/// Where the federation has a secret, whoever has nothing but the page's keys gets in, and hears the page's names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_secret_meets_others_under_the_names_of_the_page() {
    for (given, expected) in vectors("secret federation") {
        let federation = FederationId::new(text(&given["name"]), text(&given["run"]));
        let dir = tempfile::tempdir().unwrap();
        let author = Author::in_memory(libp2p_identity::Keypair::generate_ed25519(), federation);
        let network = NetworkOptions { secret: Some(secret(&given["secret"])), ..network(&[]).into() };
        let folder = open(&dir, author, |options| CachedOptions { network: Some(network), ..options }).await;
        let key = bytes_of_digits(text(&expected["pre_shared_key"])).try_into().unwrap();
        let said = said_by(&folder.listening()[0], Some(PreSharedKey::new(key)));
        let Said { topic, table_key, .. } = timeout(PATIENCE, said).await.unwrap();
        let found = json!({"pre_shared_key": expected["pre_shared_key"], "topic": topic, "table_key": table_key});
        assert_eq!(found, expected);
    }
}
