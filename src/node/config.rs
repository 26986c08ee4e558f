//! Everything that makes a node, except its model and its data: the layers' settings, put together.

use super::{
    AsyncNode, AsyncOptions, BlockingSession, Checks, EndSettings, EventSink, Members, NodeError, Participant,
    ParticipantOptions, PublishSettings, Session, SessionOptions, StartOptions, Stop, StrategyChoice, SyncNode,
    SyncOptions, TrustSettings, Validation, allow_list::AllowListWatcher, list_file::ListFile,
    list_follower::ListFollower,
};
use crate::{
    bucket::{BucketKeys, BucketOptions, BucketSettings},
    cache::CacheSettings,
    entries::Membership,
    folder::{Author, CachedOptions, FolderUrl, MemoryFolder, MemoryStorage, SharedFolder},
    home::Home,
    p2p::{FederationName, NETWORK_SOCKET, NetworkOptions, NetworkSettings},
    secret::Secret,
    settings::{Mistake, Settings},
    strategy::StrategySpec,
    weights::{FederationId, Layout},
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// Whether a node waits for its peers.
#[derive(Debug, Clone, PartialEq)]
pub enum Pace {
    /// It never waits.
    Async(AsyncOptions),
    /// It goes epoch by epoch, together with its peers.
    Sync(SyncOptions),
}

/// Everything that makes a node, except its model and its data.
#[derive(Clone)]
pub struct NodeConfig {
    /// The federation's name.
    pub federation: String,
    /// The run's label; another label is another federation.
    pub run: String,
    /// Where updates are put and found.
    pub folder: FolderUrl,
    /// What the nodes of this process share, if the folder is [`FolderUrl::Memory`]: those whose configurations have
    /// clones of one storage. A new one is this node's alone.
    pub memory: MemoryStorage,
    /// How to take part in the network, if the folder is [`FolderUrl::P2p`].
    pub network: NetworkSettings,
    /// How to use a bucket, if the folder is [`FolderUrl::Bucket`], and which one behind a network. Only allowed
    /// authors are relayed.
    pub bucket: BucketSettings,
    /// The bucket's keys; else what variables, shared files and profiles, or the machine's role give.
    pub bucket_keys: Option<BucketKeys>,
    /// What hides the federation, in the network and in a bucket, from who doesn't have it.
    pub secret: Option<Secret>,
    /// How the cache of a network or a bucket is kept.
    pub cache: CacheSettings,
    /// The rule for folding: a [`StrategySpec`], or the user's own strategy.
    pub strategy: StrategyChoice,
    /// Tensors that aren't parameters, besides those recognised by name. Rules that take steps average them. The
    /// callback adds those of its module.
    pub buffers: Vec<String>,
    /// Asynchronous or synchronous.
    pub pace: Pace,
    /// How to begin without a checkpoint.
    pub start: StartOptions,
    /// What a peer's update must satisfy.
    pub checks: Checks,
    /// Measures the updates of a fold on what this node doesn't train on, for [`Checks::suspect`].
    pub validation: Option<Validation>,
    /// Who may take part.
    pub trust: TrustSettings,
    /// How a run ends: see [`Session::hand_over`].
    pub end: EndSettings,
    /// What should be the same on all nodes, by name. A peer that differs is reported as
    /// [`Event::Mismatch`](super::Event::Mismatch).
    pub hyperparameters: BTreeMap<String, String>,
    /// What should differ between nodes, by name, such as their part of the data. A peer that has the same is reported
    /// as [`Event::Mismatch`](super::Event::Mismatch).
    pub distinct: BTreeMap<String, String>,
    /// What is published besides updates.
    pub publish: PublishSettings,
    /// While it says `true`, the network is cut: see [`NetworkOptions::cut`].
    pub cut: Option<watch::Receiver<bool>>,
    /// Where events go.
    pub events: EventSink,
    /// The request to stop.
    pub stop: Stop,
}

impl NodeConfig {
    /// An asynchronous FedAvg node of the first run, with everything else as by default.
    pub fn new(federation: impl Into<String>, folder: FolderUrl) -> Self {
        Self {
            federation: federation.into(),
            run: "1".to_owned(),
            folder,
            memory: MemoryStorage::new(),
            network: NetworkSettings::default(),
            bucket: BucketSettings::default(),
            bucket_keys: None,
            secret: None,
            cache: CacheSettings::default(),
            strategy: StrategySpec::new("fedavg").into(),
            buffers: Vec::new(),
            pace: Pace::Async(AsyncOptions::default()),
            start: StartOptions::default(),
            checks: Checks::default(),
            validation: None,
            trust: TrustSettings::default(),
            end: EndSettings::default(),
            hyperparameters: BTreeMap::new(),
            distinct: BTreeMap::new(),
            publish: PublishSettings::default(),
            cut: None,
            events: Arc::new(|_| {}),
            stop: Stop::new(),
        }
    }

    /// Errors if a number of its settings is out of its bounds.
    pub fn check(&self) -> Result<(), Mistake> {
        self.network.check()?;
        if self.secret.is_some() {
            self.network.check_private()?;
            if matches!(self.folder, FolderUrl::Memory | FolderUrl::Local(_)) {
                let what = "it is not encrypted; only p2p: and s3:// can be hidden by a secret".to_owned();
                return Err(Mistake { key: "folder", value: self.folder.to_string(), what });
            }
        }
        if let (Some(admin), Some(_)) = (self.trust.admin, &self.trust.allow) {
            let what = "its list says who may take part, and --allow too; give one of them".to_owned();
            return Err(Mistake { key: "admin", value: admin.to_string(), what });
        }
        self.bucket.check()?;
        self.cache.check()?;
        self.start.check()?;
        self.checks.check()?;
        self.end.check()?;
        match &self.pace {
            Pace::Async(options) => options.check(),
            Pace::Sync(options) => options.check(),
        }
    }

    /// The federation's id.
    pub fn federation_id(&self) -> FederationId {
        FederationId::new(&self.federation, &self.run)
    }

    /// The federation as shown to people: its name, and the run unless it is the first.
    fn shown_name(&self) -> String {
        match self.run.as_str() {
            "1" => format!("'{}'", self.federation),
            run => format!("'{}', run '{run}',", self.federation),
        }
    }

    /// Opens the node in its home, for weights of this layout. Errors if a setting is out of its bounds, or the folder
    /// can't be written.
    ///
    /// The home must stay open as long as the node runs.
    pub fn open(&self, home: &Home, layout: Arc<Layout>) -> Result<BlockingSession, NodeError> {
        self.check()?;
        let run_dir = home.name_run(&self.federation, &self.run)?;
        let author = Author::from_home(home, self.federation_id());
        BlockingSession::new(|| {
            let me = author.peer_id();
            let allowed = self.trust.members()?;
            let followed = match self.trust.admin {
                Some(admin) => {
                    let file = ListFile::new(&run_dir, self.federation_id(), admin);
                    let newest = file.read()?;
                    Some((file, newest))
                }
                None => None,
            };
            let admitted = followed.as_ref().map(|(file, newest)| file.admitted(newest.as_ref()));
            let admitted = admitted.or_else(|| allowed.clone());
            let membership = admitted.map_or_else(Membership::open, Membership::listed);
            let membership = Arc::new(membership);
            let files = self.trust.allow.as_deref().unwrap_or_default();
            let watcher = AllowListWatcher::start(files, Arc::downgrade(&membership));
            let named = Some(FederationName { name: self.federation.clone(), run: self.run.clone() });
            let (told, figures) = watch::channel(serde_json::Value::Null);
            let (cut, figures) = (self.cut.clone(), Some(figures));
            let secret = self.secret.clone();
            let network = NetworkOptions { named, cut, figures, secret, ..self.network.clone().into() };
            let (settings, keys, secret) = (self.bucket.clone(), self.bucket_keys.clone(), self.secret.clone());
            let (network, bucket) = self.folder.ways(network, BucketOptions { settings, keys, secret });
            let options = CachedOptions {
                network,
                bucket,
                cache: self.cache.clone(),
                socket: Some(home.dir().join(NETWORK_SOCKET)),
                layout: Some(layout.id()),
                sampled: matches!(self.pace, Pace::Async(AsyncOptions { max_peers: Some(_), .. })),
                readmitted: self.trust.readmit.clone(),
                known: self.trust.admin.into_iter().collect(),
                membership: membership.clone(),
                ..CachedOptions::in_run(&run_dir)
            };
            let folder: Arc<dyn SharedFolder> = match &self.folder {
                FolderUrl::Memory => Arc::new(MemoryFolder::new(&self.memory, author)),
                folder => folder.open(author, options)?,
            };
            let strategy = self.strategy.build_for(&self.buffers)?;
            let follower = followed.map(|(file, newest)| ListFollower::start(file, newest, &folder, &membership));
            let options = ParticipantOptions { checks: self.checks.clone(), membership, events: self.events.clone() };
            let participant =
                Participant::new(folder, strategy, layout, options).with_validation(self.validation.clone());
            let session = SessionOptions {
                federation: self.federation_id(),
                name: self.shown_name(),
                run_dir: Some(run_dir),
                start: self.start.clone(),
                hyperparameters: self.hyperparameters.clone(),
                distinct: self.distinct.clone(),
                publish_folded: self.publish.folded,
                stop: self.stop.clone(),
            };
            let session = match &self.pace {
                Pace::Async(options) => Session::new(AsyncNode::new(participant, options.clone()), session),
                Pace::Sync(options) => {
                    let members = match &allowed {
                        Some(allowed) => Members::allowed(me, allowed.peers()),
                        None => Members::first_seen(me, options.nodes),
                    };
                    Session::new(SyncNode::new(participant, options.clone(), members), session)
                }
            };
            Ok(session.with_figures_told(told).with_allow_list(watcher).with_signed_list(follower))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_list_that_allows_nobody_stays_one() {
        for allow in [None, Some(Vec::new()), Some(vec![libp2p_identity::PeerId::random().into()])] {
            let trust = TrustSettings { allow, ..TrustSettings::default() };
            assert_eq!(toml::from_str::<TrustSettings>(&toml::to_string(&trust).unwrap()).unwrap(), trust);
        }
    }

    #[test]
    fn what_a_program_has_set_is_checked_too() {
        let key = |change: fn(&mut NodeConfig)| {
            let mut config = NodeConfig::new("checked", FolderUrl::Memory);
            config.check().unwrap();
            change(&mut config);
            config.check().unwrap_err().key
        };
        assert_eq!(key(|config| config.bucket.grace = Duration::MAX), "s3-grace");
        assert_eq!(key(|config| config.bucket.poll = Duration::ZERO), "s3-poll");
        assert_eq!(key(|config| config.network.limits.strikes = 0), "strikes");
        assert_eq!(key(|config| config.network.swarm.connections = 0), "max-connections");
        assert_eq!(key(|config| config.checks.max_norm = Some(f64::INFINITY)), "max-norm");
        let participation = |participation| AsyncOptions { participation, ..AsyncOptions::default() };
        assert_eq!(key(|config| config.start.deadline = Duration::from_secs(1 << 40)), "start-deadline");
        let mut config = NodeConfig::new("checked", FolderUrl::Memory);
        config.pace = Pace::Async(participation(f64::NAN));
        assert_eq!(config.check().unwrap_err().key, "participation");
        config.pace = Pace::Sync(SyncOptions { nodes: 0, ..SyncOptions::default() });
        assert_eq!(config.check().unwrap_err().key, "nodes");
    }
}
