use super::{
    AsyncNode, AsyncOptions, BlockingSession, Checks, EventSink, Members, NodeError, Participant, ParticipantOptions,
    Session, SessionOptions, StartOptions, Stop, StrategyChoice, SyncNode, SyncOptions,
};
use crate::{
    bucket::{BucketOptions, BucketUrl},
    cache::DEFAULT_QUOTA,
    entries::Membership,
    folder::{Author, FolderUrl, OpenOptions},
    home::Home,
    p2p::{FederationName, NETWORK_SOCKET, NetworkOptions},
    strategy::StrategySpec,
    weights::{FederationId, Layout},
};
use libp2p_identity::PeerId;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How a node takes turns with its peers.
#[derive(Debug, Clone, PartialEq)]
pub enum Pace {
    /// Never waiting.
    Async(AsyncOptions),
    /// Epoch by epoch, together.
    Sync(SyncOptions),
}

/// Everything that makes a node, but its model and its data.
#[derive(Clone)]
pub struct NodeConfig {
    /// The federation's name.
    pub federation: String,
    /// The run's label; another label is another federation.
    pub run: String,
    /// Where updates are put and found.
    pub folder: FolderUrl,
    /// How to take part in the network, if the folder is [`FolderUrl::P2p`].
    pub network: NetworkOptions,
    /// How to use a bucket, if the folder is [`FolderUrl::Bucket`] or there is a fallback. Relayed are only the [allowed](Self::allow).
    pub bucket: BucketOptions,
    /// A bucket behind the network: what is published goes there too, and what no peer gives comes from there.
    pub fallback: Option<BucketUrl>,
    /// Bytes that the cache of a network or a bucket may take before it drops what it needn't keep.
    pub cache_quota: u64,
    /// The rule for folding: a [`StrategySpec`], or a strategy of one's own.
    pub strategy: StrategyChoice,
    /// Tensors that are no parameters, besides those whose names say so: averaged under rules that take steps. A module that
    /// is federated by the callback adds its own.
    pub buffers: Vec<String>,
    /// Asynchronous or synchronous.
    pub pace: Pace,
    /// How to begin without a checkpoint.
    pub start: StartOptions,
    /// What a peer's update must satisfy.
    pub checks: Checks,
    /// Updates with a higher staleness τ are left out of a fold.
    pub max_staleness: u64,
    /// The only peers whose updates count, and the members of a synchronous federation; everybody's if `None`.
    pub allow: Option<Vec<PeerId>>,
    /// Authors to be trusted although they signed two entries under one number.
    pub readmit: Vec<PeerId>,
    /// How long a program's end waits until the connected peers have this node's newest update: see
    /// [`Session::hand_over`].
    pub linger: Duration,
    /// What all nodes should have alike, by name. A peer that has it otherwise is told as
    /// [`Event::Mismatch`](super::Event::Mismatch).
    pub hyperparameters: BTreeMap<String, String>,
    /// What each node should have to itself, by name, as its part of the data. A peer that has the same is told as
    /// [`Event::Mismatch`](super::Event::Mismatch).
    pub distinct: BTreeMap<String, String>,
    /// Whether the weights that the node goes on with are published too, after each epoch, as
    /// [`<author>/model`](crate::weights::Key::model): an update is what was trained, before the fold. Nobody fetches them
    /// unasked; a bucket gets twice the bytes.
    pub publish_folded: bool,
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
            network: NetworkOptions::default(),
            bucket: BucketOptions::default(),
            fallback: None,
            cache_quota: DEFAULT_QUOTA,
            strategy: StrategySpec::new("fedavg").into(),
            buffers: Vec::new(),
            pace: Pace::Async(AsyncOptions::default()),
            start: StartOptions::default(),
            checks: Checks::default(),
            max_staleness: 10,
            allow: None,
            readmit: Vec::new(),
            linger: Duration::from_secs(10),
            hyperparameters: BTreeMap::new(),
            distinct: BTreeMap::new(),
            publish_folded: false,
            events: Arc::new(|_| {}),
            stop: Stop::new(),
        }
    }

    /// The federation's id.
    pub fn federation_id(&self) -> FederationId {
        FederationId::new(&self.federation, &self.run)
    }

    /// Who may take part: the participant, the network and the bucket ask this.
    fn membership(&self) -> Membership {
        match &self.allow {
            Some(allowed) => Membership::only(allowed.iter().copied()),
            None => Membership::open(),
        }
    }

    /// The federation as people are told of it: its name, and the run unless it is the first.
    fn shown_name(&self) -> String {
        match self.run.as_str() {
            "1" => format!("'{}'", self.federation),
            run => format!("'{}', run '{run}',", self.federation),
        }
    }

    /// Opens the node in its home, for weights of this layout. Errors if the folder can't be written.
    ///
    /// The home must stay open as long as the node runs.
    pub fn open(&self, home: &Home, layout: Arc<Layout>) -> Result<BlockingSession, NodeError> {
        let run_dir = home.name_run(&self.federation, &self.run)?;
        let author = Author::from_home(home, self.federation_id());
        BlockingSession::new(|| {
            let me = author.peer_id();
            let membership = Arc::new(self.membership());
            let named = FederationName { name: self.federation.clone(), run: self.run.clone() };
            let open = OpenOptions {
                readmitted: self.readmit.clone(),
                membership: membership.clone(),
                network: NetworkOptions { named: Some(named), ..self.network.clone() },
                bucket: self.bucket.clone(),
                fallback: self.fallback.clone(),
                cache_quota: self.cache_quota,
                dir: run_dir.clone(),
                socket: Some(home.dir().join(NETWORK_SOCKET)),
                layout: Some(layout.id()),
            };
            let folder = self.folder.open(author, &open)?;
            let strategy = self.strategy.build_for(&self.buffers)?;
            let options = ParticipantOptions {
                checks: self.checks.clone(),
                max_staleness: self.max_staleness,
                membership,
                events: self.events.clone(),
            };
            let participant = Participant::new(folder, strategy, layout, options);
            let session = SessionOptions {
                federation: self.federation_id(),
                name: self.shown_name(),
                run_dir: Some(run_dir),
                start: self.start.clone(),
                hyperparameters: self.hyperparameters.clone(),
                distinct: self.distinct.clone(),
                publish_folded: self.publish_folded,
                stop: self.stop.clone(),
            };
            Ok(match &self.pace {
                Pace::Async(options) => Session::new(AsyncNode::new(participant, options.clone()), session),
                Pace::Sync(options) => {
                    let members = match &self.allow {
                        Some(allowed) => Members::allowed(me, allowed.iter().copied()),
                        None => Members::first_seen(me, options.nodes),
                    };
                    Session::new(SyncNode::new(participant, options.clone(), members), session)
                }
            })
        })
    }
}
