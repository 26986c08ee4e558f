//! A program with few file descriptors: more files, values and connections than those.

use super::process::{Ended, PATIENCE, Running, Sandbox, until};
use libp2p_identity::Keypair;
use peerfold::{
    folder::{Author, LocalFolder, SharedFolder},
    node::Event,
    p2p::PeerAddress,
    train::Model,
    weights::{DType, FederationId, Key, Metadata, Tensor, TensorSpec, Weights},
};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::Command,
};

/// The same command with at most this many descriptors, soft and hard, and with a shell's redirections.
fn with_descriptors(limit: u32, command: &Command, redirected: &str) -> Command {
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\" {redirected}")]);
    limited.arg(command.get_program()).args(command.get_args()).env_clear();
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(command.get_current_dir().unwrap());
    limited
}

fn floats(values: &[f32]) -> Weights {
    let spec = TensorSpec { name: "w".to_owned(), dtype: DType::F32, shape: vec![values.len() as u64] };
    Weights::new(vec![Tensor { spec, data: values.iter().flat_map(|x| x.to_le_bytes()).collect() }]).unwrap()
}

#[test]
fn two_thousand_inputs_are_folded() {
    let sandbox = Sandbox::new();
    let inputs: Vec<String> = (0..2000).map(|number| format!("{number}.safetensors")).collect();
    for (number, name) in inputs.iter().enumerate() {
        fs::write(sandbox.path(name), floats(&[number as f32, 1.0]).to_safetensors().unwrap()).unwrap();
    }
    let inputs: Vec<String> = inputs.iter().flat_map(|name| ["--input".to_owned(), format!("{name}=1")]).collect();
    // The median reads every input twice, and all of them at once.
    for (strategy, middle) in [("fedavg", 999.5), ("fedmedian", 999.5)] {
        let mut command = sandbox.command(["aggregate", "--strategy", strategy, "--output", "out.safetensors"]);
        command.args(&inputs);
        let ended = Ended::of(with_descriptors(256, &command, "")).success();
        assert!(ended.log.is_empty(), "{}", ended.log);
        let out = Weights::from_safetensors(&fs::read(sandbox.path("out.safetensors")).unwrap().into()).unwrap();
        assert_eq!(out, floats(&[middle, 1.0]), "{strategy}");
    }
}

#[test]
fn a_node_folds_more_values_than_it_can_hold_open() {
    const PEERS: u8 = 150;
    let sandbox = Sandbox::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let layout = Model::Digits.layout();
    let zeros =
        layout.tensors().iter().map(|spec| Tensor { spec: spec.clone(), data: vec![0; spec.bytes() as usize].into() });
    let zeros = Weights::new(zeros.collect()).unwrap();
    for peer in 0..PEERS {
        let keypair = Keypair::ed25519_from_bytes([peer; 32]).unwrap();
        let key = Key::update(keypair.public().to_peer_id(), 1);
        let author = Author::in_memory(keypair, FederationId::new("test", "1"));
        let folder = LocalFolder::open(&sandbox.path("folder"), author).unwrap();
        let metadata = Metadata { epoch: 1, num_examples: 10, ..Metadata::default() };
        runtime.block_on(folder.put(&key, &zeros, metadata)).unwrap();
    }
    let command = sandbox.node("node", &["--folder", &sandbox.folder(), "--epochs", "2", "--threads", "1"]);
    let ended = Ended::of(with_descriptors(100, &command, "")).success();
    let folded = |event: &Event| match event {
        Event::Folded { updates, .. } => Some(updates.len()),
        _ => None,
    };
    assert_eq!(ended.events().iter().find_map(folded), Some(usize::from(PEERS) + 1), "{}", ended.log);
}

#[test]
fn a_bootstrap_node_says_that_it_has_no_descriptors_left() {
    let sandbox = Sandbox::new();
    let log = sandbox.path("log");
    let node = sandbox.command(["bootstrap", "--home", "home", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    let mut running = Running::start(with_descriptors(48, &node, "2> log"));
    let line = running.line(|line| line.contains("/tcp/"));
    let address: PeerAddress = line.parse().unwrap();
    let port: u16 = address.address.to_string().rsplit('/').next().unwrap().parse().unwrap();
    let connect = |_| TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE).unwrap();
    let connections: Vec<TcpStream> = (0..80).map(connect).collect();
    let logged = || fs::read_to_string(&log).unwrap_or_default();
    until(|| logged().contains("descriptors"), || format!("nothing is said of it: {}", logged()));
    for part in ["WARN", "48 open files", "ulimit -n", "LimitNOFILE"] {
        assert!(logged().contains(part), "{part} is not in: {}", logged());
    }
    // And it goes on.
    drop(connections);
    running.signal("TERM");
    running.wait().success();
}
