//! A user's own module, federated by the callback: learning together, restarts, runtimes, and what goes wrong.

use burn::{
    backend::Autodiff,
    module::{AutodiffModule, Module},
    nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig, loss::CrossEntropyLossConfig},
    optim::{AdamConfig, GradientsParams, Optimizer, RmsPropConfig, SgdConfig},
    tensor::{Int, Tensor, activation::relu, backend::Backend},
};
use peerfold::{
    node::BelowQuorum,
    prelude::*,
    train::{Draws, collect, save_optimizer},
    weights::Weights,
};
use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

type B = Autodiff<Cpu>;

/// burn's generator is one for the whole process, and dropout draws from it: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Module, Debug)]
struct Net<B: Backend> {
    hidden: Linear<B>,
    norm: BatchNorm<B>,
    dropout: Dropout,
    output: Linear<B>,
}

impl Net<B> {
    fn new(width: usize, dropout: f64) -> Self {
        let device = Default::default();
        let net = Self {
            hidden: LinearConfig::new(2, width).init(&device),
            norm: BatchNormConfig::new(width).init(&device),
            dropout: DropoutConfig::new(dropout).init(),
            output: LinearConfig::new(width, 3).init(&device),
        };
        init_seeded(net, 5)
    }
}

impl<B: Backend> Net<B> {
    fn forward(&self, points: Tensor<B, 2>) -> Tensor<B, 2> {
        let hidden = relu(self.norm.forward(self.hidden.forward(points)));
        self.output.forward(self.dropout.forward(hidden))
    }
}

/// Points around the corners of a triangle, `shares` of each class in 10.
fn points<B: Backend>(seed: u64, count: usize, shares: [usize; 3]) -> (Tensor<B, 2>, Tensor<B, 1, Int>) {
    let mut draws = Draws::new("points", seed, b"");
    let classes: Vec<usize> = (0..3).flat_map(|class| vec![class; shares[class]]).collect();
    let (mut xs, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let class = classes[draws.below(classes.len() as u64) as usize];
        let (x, y) = [(0.0, 1.0), (-1.0, -1.0), (1.0, -1.0)][class];
        xs.extend([x + draws.unit() - 0.5, y + draws.unit() - 0.5].map(|value| value as f32));
        labels.push(class as i32);
    }
    let device = Default::default();
    let xs = Tensor::<B, 1>::from_floats(xs.as_slice(), &device).reshape([count, 2]);
    (xs, Tensor::from_ints(labels.as_slice(), &device))
}

fn train<O: Optimizer<Net<B>, B>>(net: &mut Net<B>, optimizer: &mut O, seed: u64, shares: [usize; 3]) -> f64 {
    let mut last = 0.0;
    for step in 0..8 {
        let (xs, labels) = points::<B>(seed.wrapping_add(step), 32, shares);
        let loss = CrossEntropyLossConfig::new().init(&xs.device()).forward(net.forward(xs), labels);
        let gradients = GradientsParams::from_grads(loss.backward(), net);
        *net = optimizer.step(0.005, net.clone(), gradients);
        last = f64::from(loss.into_scalar());
    }
    last
}

fn accuracy(net: &Net<B>) -> f64 {
    let (xs, labels) = points::<Cpu>(99, 300, [1, 1, 1]);
    let right = net.valid().forward(xs).argmax(1).squeeze_dim::<1>(1).equal(labels).int().sum().into_scalar();
    f64::from(right) / 300.0
}

/// Trains to the last epoch; gives the epochs that were trained.
fn run<O: Optimizer<Net<B>, B>>(
    federation: &mut FederatedCallback<B>,
    (net, optimizer): (&mut Net<B>, &mut O),
    last: u64,
    shares: [usize; 3],
) -> Vec<u64> {
    let mut trained = Vec::new();
    while let Some(epoch) = federation.next_epoch(last) {
        trained.push(epoch);
        let loss = train(net, optimizer, federation.seed(epoch), shares);
        federation.on_epoch_end(net, optimizer, Epoch::of(256).metric("loss", loss)).unwrap();
    }
    trained
}

fn sync(deadline: Duration, below_quorum: BelowQuorum) -> Pace {
    Pace::Sync(SyncOptions { nodes: 2, quorum: 2, deadline, below_quorum })
}

fn memory() -> NodeConfig {
    NodeConfig::new("test", FolderUrl::Memory)
}

fn shared(dir: &Path) -> NodeConfig {
    NodeConfig::new("test", FolderUrl::Local(dir.join("shared")))
}

#[test]
fn two_nodes_learn_what_neither_sees_alone() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let node = |name: &'static str, shares: [usize; 3]| {
        let home = dir.path().join(name);
        let mut config = shared(dir.path());
        config.pace = sync(Duration::from_secs(120), BelowQuorum::Stop);
        config.start = StartOptions { min_peers: 1, deadline: Duration::from_secs(120) };
        move || -> (f64, Weights) {
            let (mut net, mut adam) = (Net::new(16, 0.0), AdamConfig::new().init());
            let mut federation = FederatedCallback::join(&config, home, &mut net, &mut adam).unwrap();
            assert_eq!(run(&mut federation, (&mut net, &mut adam), 20, shares), Vec::from_iter(1..=20));
            (accuracy(&net), collect(&net).unwrap())
        }
    };
    let (first, second) = (node("a", [5, 5, 0]), node("b", [0, 5, 5]));
    let (first, second) = (thread::spawn(first), thread::spawn(second));
    let (first, second) = (first.join().unwrap(), second.join().unwrap());
    assert!(first.0 > 0.9, "accuracy {}", first.0);
    // Running statistics included.
    assert_eq!(first, second);

    let (mut net, mut adam, home) = (Net::new(16, 0.0), AdamConfig::new().init(), dir.path().join("c"));
    let mut lonely = FederatedCallback::join(&memory(), home, &mut net, &mut adam).unwrap();
    run(&mut lonely, (&mut net, &mut adam), 20, [5, 5, 0]);
    assert!(accuracy(&net) < 0.7, "accuracy {}", accuracy(&net));
}

#[test]
fn a_restarted_run_is_the_uninterrupted_one() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let fresh = || (Net::new(8, 0.3), RmsPropConfig::new().with_momentum(0.9).init());
    let part = |home: &str, last| {
        let (mut net, mut optimizer) = fresh();
        let home = dir.path().join(home);
        let federation = FederatedCallback::join(&memory(), home, &mut net, &mut optimizer).unwrap();
        let trained = run(&mut federation.with_seed(3), (&mut net, &mut optimizer), last, [1, 1, 1]);
        (trained, collect(&net).unwrap())
    };
    let (_, straight) = part("straight", 6);
    assert_eq!(part("parts", 2).0, [1, 2]);
    assert_eq!(part("parts", 2).0, Vec::<u64>::new());
    // An epoch that is not trained to its end, with draws in between.
    {
        let (mut net, mut optimizer) = fresh();
        let home = dir.path().join("parts");
        let mut federation = FederatedCallback::join(&memory(), home, &mut net, &mut optimizer).unwrap();
        assert_eq!(federation.next_epoch(6), Some(3));
        train(&mut net, &mut optimizer, 0, [1, 1, 1]);
    }
    let (trained, weights) = part("parts", 6);
    assert_eq!(trained, [3, 4, 5, 6]);
    assert!(weights == straight, "other bits after a restart");
    assert!(part("other", 5).1 != straight);
}

/// A dropped callback stands for a process that ends.
#[test]
fn the_middle_of_an_epoch_is_saved_by_the_loop_and_gone_on_with() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let fresh = || (Net::new(8, 0.3), AdamConfig::new().init());
    // Trains two epochs of 12 steps, saves after every third one, and ends after `ends_after` steps.
    let life = |home: &str, ends_after: u64| {
        let (mut net, mut optimizer) = fresh();
        let federation = FederatedCallback::join(&memory(), dir.path().join(home), &mut net, &mut optimizer).unwrap();
        let (mut federation, mut left) = (federation.with_seed(3), ends_after);
        while let Some(epoch) = federation.next_epoch(2) {
            let before = federation.resume(&mut net, &mut optimizer).unwrap().unwrap_or_default();
            assert_eq!(federation.resume(&mut net, &mut optimizer).unwrap(), None);
            let mut loss = before.get("loss").unwrap_or(0.0);
            for step in before.steps()..12 {
                if left == 0 {
                    return (federation.epoch(), step, None);
                }
                left -= 1;
                let seed = federation.seed(epoch).wrapping_add(step);
                loss += train(&mut net, &mut optimizer, seed, [1, 1, 1]);
                if step % 3 == 2 {
                    let partial = Partial::after(step + 1).figure("loss", loss);
                    federation.save_progress(&net, &optimizer, partial).unwrap();
                }
            }
            federation.on_epoch_end(&mut net, &optimizer, Epoch::of(256).metric("loss", loss)).unwrap();
        }
        let mut state = Vec::new();
        save_optimizer(&net, &optimizer, &mut state).unwrap();
        (federation.epoch(), ends_after - left, Some((collect(&net).unwrap(), state)))
    };
    let straight = life("straight", 100);
    assert_eq!((straight.0, straight.1), (2, 24));
    // Three steps are saved and one is wasted; then from the third to the ninth; then past the end of the epoch.
    assert_eq!(life("parts", 4), (0, 4, None));
    assert_eq!(life("parts", 7), (0, 10, None));
    assert_eq!(life("parts", 8), (1, 5, None));
    let parts = life("parts", 100);
    assert_eq!((parts.0, parts.1), (2, 9));
    assert!(parts.2 == straight.2, "other bits after restarts");
}

#[test]
fn the_program_is_told_of_its_epochs_and_its_end_and_has_them_in_its_history() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let mut config = memory();
    let heard = events.clone();
    config.events = Arc::new(move |event| heard.lock().unwrap().push(event.clone()));
    let (mut net, mut adam) = (Net::new(8, 0.0), AdamConfig::new().init());
    let mut federation = FederatedCallback::join(&config, dir.path(), &mut net, &mut adam).unwrap();
    while let Some(epoch) = federation.next_epoch(2) {
        let loss = train(&mut net, &mut adam, federation.seed(epoch), [1, 1, 1]);
        let report = Epoch::of(256).steps(8).metric("loss", loss);
        // One epoch is measured after the fold, the other isn't.
        if epoch == 1 {
            federation.on_epoch_end(&mut net, &adam, report).unwrap();
        } else {
            let measure = |net: &Net<B>| Metrics::from([("accuracy".to_owned(), accuracy(net))]);
            federation.on_epoch_end_with(&mut net, &adam, report, measure).unwrap();
        }
    }
    let history: Vec<(u64, u64, Metrics)> =
        federation.history().epochs().map(|it| (it.epoch, it.num_examples, it.metrics.clone())).collect();
    federation.finish().unwrap();
    let events = events.lock().unwrap();
    let done: Vec<(u64, u64, Metrics)> = events
        .iter()
        .filter_map(|event| match event {
            Event::EpochDone { epoch, epochs: 2, metrics, steps: 8, .. } => Some((*epoch, 256, metrics.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(done, history);
    assert_eq!(done.iter().map(|(_, _, metrics)| metrics.len()).collect::<Vec<_>>(), [1, 2]);
    let Some(Event::Finished { epoch: 2, metrics, stopped: false, root, .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(*metrics, Metrics::from([("accuracy".to_owned(), accuracy(&net))]));
    assert_eq!(*root, collect(&net).unwrap().manifest().root().to_string());
}

#[test]
fn another_model_or_optimizer_than_the_checkpoints_is_a_clear_error() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (mut net, mut adam) = (Net::new(8, 0.0), AdamConfig::new().init());
    let mut federation = FederatedCallback::join(&memory(), dir.path(), &mut net, &mut adam).unwrap();
    run(&mut federation, (&mut net, &mut adam), 1, [1, 1, 1]);
    let in_use = FederatedCallback::join(&memory(), dir.path(), &mut net, &mut adam).err().unwrap();
    assert!(in_use.to_string().contains("in use"), "{in_use}");
    drop(federation);

    let mut wider = Net::new(9, 0.0);
    let before = collect(&wider).unwrap();
    let mut fresh = AdamConfig::new().init();
    let error = FederatedCallback::join(&memory(), dir.path(), &mut wider, &mut fresh).err().unwrap().to_string();
    assert!(error.contains("another model") && error.contains("hidden.bias"), "{error}");
    assert_eq!(collect(&wider).unwrap(), before);

    let (mut net, mut sgd) = (Net::new(8, 0.0), SgdConfig::new().init());
    let before = collect(&net).unwrap();
    let error = FederatedCallback::join(&memory(), dir.path(), &mut net, &mut sgd).err().unwrap().to_string();
    assert!(error.contains("of the optimizer Adam, not of Sgd"), "{error}");
    assert_eq!(collect(&net).unwrap(), before);
}

#[test]
fn what_cannot_be_published_is_not_saved_either() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (mut net, mut adam) = (Net::new(4, 0.0), AdamConfig::new().init());
    let mut federation = FederatedCallback::join(&memory(), dir.path(), &mut net, &mut adam).unwrap();
    let many = (0..17).fold(Epoch::of(1), |epoch, number| epoch.metric(number.to_string(), 0.0));
    for epoch in [many, Epoch::of(1).metric("a name of more than 24 bytes", 0.0)] {
        let error = federation.on_epoch_end(&mut net, &adam, epoch).unwrap_err();
        assert!(matches!(error, CallbackError::Metrics { epoch: 1, .. }), "{error}");
    }
    let mut spoiled = net.clone();
    spoiled.output.weight =
        spoiled.output.weight.map(|weight| Tensor::from_inner(weight.inner() * f32::NAN).require_grad());
    let error = federation.on_epoch_end(&mut spoiled, &adam, Epoch::of(1)).unwrap_err();
    assert!(matches!(error, CallbackError::Node(NodeError::Diverged { epoch: 1, .. })), "{error}");
    drop(federation);
    let mut federation = FederatedCallback::join(&memory(), dir.path(), &mut net, &mut adam).unwrap();
    assert_eq!(run(&mut federation, (&mut net, &mut adam), 2, [1, 1, 1]), [1, 2]);
}

#[test]
fn a_stop_ends_waiting_and_a_restart_goes_on() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let stop_when_waiting = |config: &mut NodeConfig| {
        let stop = config.stop.clone();
        config.events = Arc::new(move |event| {
            if matches!(event, Event::Waiting { .. }) {
                stop.request();
            }
        });
    };
    let (mut net, mut adam) = (Net::new(4, 0.0), AdamConfig::new().init());
    let mut config = shared(dir.path());
    config.start = StartOptions { min_peers: 1, deadline: Duration::from_secs(600) };
    stop_when_waiting(&mut config);
    let error = FederatedCallback::join(&config, dir.path().join("a"), &mut net, &mut adam).err().unwrap();
    assert!(matches!(error, CallbackError::Node(NodeError::Stopped)), "{error}");

    let mut config = shared(dir.path());
    config.pace = sync(Duration::from_secs(600), BelowQuorum::Wait);
    stop_when_waiting(&mut config);
    let mut federation = FederatedCallback::join(&config, dir.path().join("a"), &mut net, &mut adam).unwrap();
    assert_eq!(run(&mut federation, (&mut net, &mut adam), 9, [1, 1, 1]), [1]);
    assert!(federation.is_stopped() && federation.epoch() == 0);
    drop(federation);

    // It answers alone now, with what was trained before the stop.
    let mut config = shared(dir.path());
    config.pace = sync(Duration::from_millis(50), BelowQuorum::Alone);
    let trained = collect(&net).unwrap();
    let (mut net, mut adam) = (Net::new(4, 0.0), AdamConfig::new().init());
    let mut federation = FederatedCallback::join(&config, dir.path().join("a"), &mut net, &mut adam).unwrap();
    assert_eq!((federation.epoch(), federation.next_epoch(9)), (1, Some(2)));
    assert_eq!(collect(&net).unwrap(), trained);
}

#[test]
fn a_node_that_was_behind_goes_on_with_the_epoch_of_the_others() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut config = shared(dir.path());
    config.pace = sync(Duration::from_millis(100), BelowQuorum::Alone);
    let fresh = || (Net::new(4, 0.0), AdamConfig::new().init());
    let ((mut slow, mut slow_adam), (mut net, mut adam)) = (fresh(), fresh());
    let mut behind = FederatedCallback::join(&config, dir.path().join("a"), &mut slow, &mut slow_adam).unwrap();
    let mut ahead = FederatedCallback::join(&config, dir.path().join("b"), &mut net, &mut adam).unwrap();
    run(&mut ahead, (&mut net, &mut adam), 4, [1, 1, 1]);
    assert_eq!(behind.next_epoch(9), Some(1));
    assert_eq!(behind.on_epoch_end(&mut slow, &slow_adam, Epoch::of(1)).unwrap(), 4);
    assert_eq!(behind.next_epoch(9), Some(5));
    assert_eq!(collect(&slow).unwrap(), collect(&net).unwrap());
    drop(behind);
    run(&mut ahead, (&mut net, &mut adam), 7, [1, 1, 1]);
    let mut behind = FederatedCallback::join(&config, dir.path().join("a"), &mut slow, &mut slow_adam).unwrap();
    assert_eq!(behind.next_epoch(9), Some(8));
    assert_eq!(collect(&slow).unwrap(), collect(&net).unwrap());
}

/// FedAvg that counts its folds, also over restarts.
struct Counting {
    inner: Box<dyn Strategy>,
    count: u8,
    counts: Arc<Mutex<Vec<u8>>>,
}

impl Strategy for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        self.count += 1;
        self.counts.lock().unwrap().push(self.count);
        self.inner.fold(round)
    }

    fn save(&self) -> Vec<u8> {
        vec![self.count]
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), FoldError> {
        self.count = state[0];
        Ok(())
    }
}

#[test]
fn a_strategy_of_ones_own_folds_and_its_state_survives_a_restart() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let counts: Arc<Mutex<Vec<u8>>> = Arc::default();
    let life = |home: &str, config: &NodeConfig, last| {
        let (mut net, mut adam) = (Net::new(4, 0.0), AdamConfig::new().init());
        let mut federation = FederatedCallback::join(config, dir.path().join(home), &mut net, &mut adam)?;
        run(&mut federation, (&mut net, &mut adam), last, [1, 1, 1]);
        Ok::<(), CallbackError>(())
    };
    let mut config = shared(dir.path());
    life("peer", &config, 1).unwrap();
    let made = counts.clone();
    config.strategy = StrategyChoice::own(move || {
        let inner = StrategySpec::new("fedavg").build().unwrap();
        Counting { inner, count: 0, counts: made.clone() }
    });
    life("own", &config, 3).unwrap();
    life("own", &config, 4).unwrap();
    // It joins after epoch 1, which FedAvg folds.
    assert_eq!(*counts.lock().unwrap(), [1, 2, 3]);
    config.strategy = StrategySpec::new("fedavg").into();
    let error = life("own", &config, 5).unwrap_err().to_string();
    assert!(error.contains("the strategy counting, not fedavg"), "{error}");
}

/// Joins, trains two epochs, restarts, and drops, wherever it is called.
fn whole_life(dir: &Path) {
    let (mut net, mut adam) = (Net::new(4, 0.0), AdamConfig::new().init());
    for last in [2, 3] {
        let home = dir.join("home");
        let mut federation = FederatedCallback::join(&shared(dir), home, &mut net, &mut adam).unwrap();
        run(&mut federation, (&mut net, &mut adam), last, [1, 1, 1]);
        assert_eq!(federation.epoch(), last);
    }
}

#[test]
fn it_works_inside_and_outside_of_every_runtime() {
    let _alone = alone();
    let within = |builder: &mut tokio::runtime::Builder| {
        let runtime = builder.enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (first, second, third) = (dir.path().join("1"), dir.path().join("2"), dir.path().join("3"));
        runtime.block_on(async {
            whole_life(&first);
            tokio::spawn(async move { whole_life(&second) }).await.unwrap();
            tokio::task::spawn_blocking(move || whole_life(&third)).await.unwrap();
            tokio::task::LocalSet::new().run_until(async { whole_life(&dir.path().join("4")) }).await;
        });
    };
    whole_life(tempfile::tempdir().unwrap().path());
    within(&mut tokio::runtime::Builder::new_current_thread());
    within(tokio::runtime::Builder::new_multi_thread().worker_threads(2));
    within(tokio::runtime::Builder::new_multi_thread().worker_threads(1));
}

#[test]
fn it_can_move_to_another_thread() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (mut net, mut adam) = (Net::new(4, 0.0), AdamConfig::new().init());
    let federation = FederatedCallback::join(&memory(), dir.path(), &mut net, &mut adam).unwrap();
    thread::spawn(move || assert_eq!(federation.epoch(), 0)).join().unwrap();
}
