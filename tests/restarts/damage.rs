//! Any file of a home is damaged in any way: the node finds it and goes on, or says in one error which file it is.
//!
//! `PEERFOLD_TEST_DAMAGES=n` damages every file in every way, at n places.

use super::checkpoints::{fedavgm, session_options, train};
use crate::nodes::{Recorder, federation, options, participant, patiently, weights};
use bytes::Bytes;
use fail::FailScenario;
use peerfold::{
    folder::{Author, CachedFolder, CachedOptions, FolderError, SharedFolder},
    home::Home,
    node::{AsyncNode, AsyncOptions, Origin, Session},
    p2p::{NetworkOptions, NetworkSettings, PeerAddress},
    weights::{Weights, read_all},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

const EPOCHS: u64 = 3;

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flipped,
    Truncated,
    Emptied,
    Directory,
    Lost,
}

const DAMAGES: [Damage; 5] = [Damage::Flipped, Damage::Truncated, Damage::Emptied, Damage::Directory, Damage::Lost];

/// A node with its home, and where it is.
struct Node {
    session: Session,
    folder: Arc<CachedFolder>,
    at: (Weights, u64),
    trainer: Bytes,
    _home: Home,
}

impl Node {
    /// In a network if there are settings for one.
    async fn start(dir: &Path, network: Option<NetworkSettings>) -> Result<Self, String> {
        let home = Home::open(dir).map_err(|error| error.to_string())?;
        let run_dir = home.run_dir(&federation()).map_err(|error| error.to_string())?;
        let layout = Some(weights(0.0).layout().id());
        let options_of =
            CachedOptions { network: network.map(NetworkOptions::from), layout, ..CachedOptions::in_run(&run_dir) };
        let author = Author::from_home(&home, federation());
        let folder = tokio::task::spawn_blocking(move || CachedFolder::open(author, options_of)).await;
        let folder = Arc::new(folder.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?);
        let participant = participant(folder.clone(), &fedavgm(), options(&Recorder::new()));
        let mut session = Session::new(AsyncNode::new(participant, AsyncOptions::default()), session_options(&run_dir));
        let start = Bytes::from(0u64.to_le_bytes().to_vec());
        let begun = session.begin((weights(0.5), Origin::Seed), start.clone().into()).await;
        let begun = begun.map_err(|error| error.to_string())?;
        let mut trainer = start.to_vec();
        if let Some(state) = begun.trainer {
            trainer.clear();
            let mut reader = state.reader().map_err(|error| error.to_string())?;
            reader.read_to_end(&mut trainer).map_err(|error| error.to_string())?;
        }
        Ok(Self { session, folder, at: (begun.weights, begun.epoch), trainer: trainer.into(), _home: home })
    }

    async fn epoch(&mut self) -> Result<(), String> {
        let (local, state) = train(&self.at.0, self.at.1 + 1, &self.trainer);
        let completed = self.session.epoch_trained(local, state.clone().into()).await;
        let completed = completed.map_err(|error| error.to_string())?;
        (self.at, self.trainer) = ((completed.weights, completed.epoch), state);
        Ok(())
    }

    /// What the folder shows verifies, or can't be had now; the node's own newest update is there.
    async fn check(&self) -> Result<(), String> {
        for entry in self.folder.list("").await.map_err(|error| error.to_string())? {
            let newest = entry.key.author() == self.folder.author() && entry.key.update_epoch() == Some(self.at.1);
            // What is found damaged is dropped, and nobody is there to fetch it from again.
            let mut reads = 0;
            loop {
                match self.folder.get(&entry).await {
                    Ok(value) if read_all(&value).is_ok() => break,
                    Ok(_) if reads == 0 => reads += 1,
                    Ok(_) => panic!("{} is damaged and stays there", entry.key),
                    Err(FolderError::Unreachable { .. }) if !newest => break,
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        Ok(())
    }
}

fn network(bootstrap: Vec<PeerAddress>) -> Option<NetworkSettings> {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    Some(NetworkSettings { bootstrap, listen, no_mdns: true, ..NetworkSettings::default() })
}

/// Two nodes that fold each other; the first one's home is left in `dir`.
async fn two_nodes(dir: &Path) {
    let other = tempfile::tempdir().unwrap();
    let mut one = Node::start(dir, network(Vec::new())).await.unwrap();
    let mut two = Node::start(other.path(), network(one.folder.listening().to_vec())).await.unwrap();
    for _ in 0..EPOCHS {
        two.epoch().await.unwrap();
        let mut watch = one.folder.watch(&format!("{}/update/{}", two.folder.author(), two.at.1));
        let entry = watch.next().await;
        read_all(&one.folder.get(&entry).await.unwrap()).unwrap();
        one.epoch().await.unwrap();
    }
    let closed = dir.join("runs").join(federation().to_string()).join("cache/closed");
    drop(one);
    while !closed.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, &copied).unwrap();
        }
    }
}

fn damage(path: &Path, damage: Damage, random: &mut ChaCha8Rng) {
    let mut bytes = fs::read(path).unwrap();
    match damage {
        Damage::Flipped if !bytes.is_empty() => {
            let bit = random.random_range(0..bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(path, bytes).unwrap();
        }
        Damage::Truncated if !bytes.is_empty() => {
            let length = random.random_range(0..bytes.len());
            fs::write(path, &bytes[..length]).unwrap();
        }
        Damage::Flipped | Damage::Truncated | Damage::Emptied => fs::write(path, b"").unwrap(),
        Damage::Directory => {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }
        Damage::Lost => fs::remove_file(path).unwrap(),
    }
}

/// A life over a damaged home, of one epoch.
async fn life(dir: PathBuf) -> Result<(), String> {
    let mut node = Node::start(&dir, None).await?;
    node.epoch().await?;
    node.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_anywhere_in_a_home_is_found_or_named() {
    let _scenario = FailScenario::setup();
    let sound = tempfile::tempdir().unwrap();
    patiently(two_nodes(sound.path())).await;
    let rounds: Option<u64> = env::var("PEERFOLD_TEST_DAMAGES").ok().map(|rounds| rounds.parse().unwrap());
    let all = files(sound.path());
    let has = |part: &str| all.iter().any(|path| path.to_string_lossy().contains(part));
    assert!(
        ["cache/entries/", "cache/blobs/", "cache/index/", "checkpoint", "identity", "sequence"].into_iter().all(has)
    );
    let mut random = ChaCha8Rng::seed_from_u64(rounds.unwrap_or(0));
    let (mut went_on, mut named, mut missed) = (0, 0, Vec::new());
    for round in 0..rounds.unwrap_or(1) {
        for (number, path) in all.iter().enumerate() {
            let name = path.strip_prefix(sound.path()).unwrap();
            for (kind, how) in DAMAGES.into_iter().enumerate() {
                // One way for each file, unless all were asked for.
                if rounds.is_none() && kind != number % DAMAGES.len() {
                    continue;
                }
                let dir = tempfile::tempdir().unwrap();
                copy(sound.path(), dir.path());
                damage(&dir.path().join(name), how, &mut random);
                let place = format!("round {round}: {} {how:?}", name.display());
                let ended = patiently(tokio::spawn(life(dir.path().to_owned()))).await;
                match ended {
                    Ok(Ok(())) => went_on += 1,
                    Err(error) => missed.push(format!("{place}: {error}")),
                    Ok(Err(error)) => {
                        let parent = dir.path().join(name).parent().unwrap().to_owned();
                        if error.contains(&*parent.to_string_lossy()) {
                            named += 1;
                        } else {
                            missed.push(format!("{place}: {error}"));
                        }
                    }
                }
            }
        }
    }
    println!("{went_on} went on, {named} ended with an error that names the file");
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert!(went_on > 2 * named, "{went_on} went on and {named} did not");
}
