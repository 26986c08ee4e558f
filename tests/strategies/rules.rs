//! Every strategy, with parameters at which its rule shows.

use peerfold::strategy::{STRATEGIES, StrategySpec};

/// Rules that take one update after the other in the round's order.
pub(crate) const IN_ORDER: [&str; 4] = ["unweighted", "fedasync", "paflm", "asyncfeded"];

/// Rules that forget, and of which equal updates come out as they went in.
pub(crate) const MEMORYLESS: [&str; 11] = [
    "fedavg",
    "fedprox",
    "faulttolerantfedavg",
    "fedmedian",
    "fedtrimmedavg",
    "krum",
    "multikrum",
    "bulyan",
    "geometricmedian",
    "gossip",
    "dpsgd",
];

pub(crate) fn spec(text: &str) -> StrategySpec {
    let mut words = text.split_whitespace();
    let spec = StrategySpec::new(words.next().unwrap());
    words.fold(spec, |spec, word| {
        let (name, value) = word.split_once('=').unwrap();
        spec.with(name, value)
    })
}

/// Every strategy without a reference, most of them more than once. All of them fold any round of seven updates that
/// have examples and a loss.
pub(crate) fn without_reference() -> Vec<StrategySpec> {
    let texts = [
        "fedavg",
        "fedavg max_share=0.3",
        "fedprox proximal_mu=0.1",
        "faulttolerantfedavg min_completion_rate_fit=0.7",
        "fedavgm",
        "fedavgm server_momentum=0.9",
        "fedavgm server_learning_rate=0.5 server_momentum=0.5 max_share=0.4",
        "fedavgm server_learning_rate=0.3",
        "fedadagrad",
        "fedadagrad beta_1=0.5 eta=0.03 tau=0.1",
        "fedadam",
        "fedadam eta=0.01 beta_1=0.5 beta_2=0.9 tau=0.1",
        "fedyogi",
        "fedyogi eta=0.1 beta_1=0.5 beta_2=0.9 tau=0.1",
        "fedmedian",
        "fedtrimmedavg",
        "fedtrimmedavg beta=0.4",
        "fedtrimmedavg beta=0",
        "krum",
        "krum num_malicious_clients=2",
        "krum num_malicious_nodes=1 num_clients_to_keep=3 max_share=0.5",
        "multikrum",
        "multikrum num_malicious_clients=1 num_nodes_to_select=4",
        "multikrum num_malicious_nodes=2 num_nodes_to_select=30 max_share=0.2",
        "bulyan",
        "bulyan num_malicious_clients=1",
        "qfedavg",
        "qfedavg q_param=1 qffl_learning_rate=0.5",
        "qfedavg q=0 client_learning_rate=1",
        "unweighted",
        "fedasync",
        "fedasync use_staleness=false fedasync_mixing_alpha=0.3",
        "fedasync staleness_function=hinge hinge_a=2 hinge_b=1.5 use_sample_weighing=true",
        "fedasync staleness_function=constant use_sample_weighing=true total_samples=100",
        "fedasync fedasync_a=2 fedasync_mixing_alpha=1",
        "paflm",
        "paflm staleness_alpha=0.5 num_clients=3 use_sample_weighing=true total_samples=5000",
        "asyncfeded",
        "asyncfeded lambda=0.5 epsilon=0.1 history=2",
        "asyncfeded history=0",
        "fedbuff",
        "fedbuff buffer_size=7 server_learning_rate=0.5",
        "asofed",
        "asofed total_samples=10000000",
        "safa",
        "safa lag_tolerance=1 max_share=0.3",
        "port",
        "port staleness_bound=2 similarity_weight=3 staleness_weight=0.5 max_share=0.4",
        "gossip",
        "dpsgd",
        "diloco",
        "diloco outer_learning_rate=1 outer_momentum=0.5",
        "geometricmedian",
        "geometricmedian eps=0.1 ftol=1e-6 maxiter=5 max_share=0.3",
        "centeredclipping",
        "centeredclipping tau=0.5 iterations=3",
        "normbound",
        "normbound norm_bound=0.5 max_share=0.3",
    ];
    let specs: Vec<_> = texts.map(spec).into();
    for info in STRATEGIES {
        assert!(specs.iter().any(|spec| spec.name == info.name), "{} is not among them", info.name);
    }
    specs
}

/// Every strategy with every reference that it has.
pub(crate) fn with_reference() -> Vec<StrategySpec> {
    let mut specs = Vec::new();
    for info in STRATEGIES {
        for reference in ["flwr-1.6", "flwr-1.41", "flwr-1.41-message", "flower-async"] {
            let spec = StrategySpec::new(info.name).with("reference", reference);
            let momentum = if info.name == "fedavgm" { spec.with("server_momentum", 0.9) } else { spec };
            if momentum.build().is_ok() {
                specs.push(momentum);
            }
        }
    }
    assert!(specs.len() >= 43, "{} references", specs.len());
    specs
}

pub(crate) fn all() -> Vec<StrategySpec> {
    without_reference().into_iter().chain(with_reference()).collect()
}
