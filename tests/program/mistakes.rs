//! Users' mistakes: each gets one clear line and a non-zero exit code, and nothing has begun.

use super::process::{Ended, Running, Sandbox, event};
use peerfold::node::Event;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Somebody's peer id.
const PEER: &str = "12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7";

/// An IDX file of unsigned bytes.
fn idx(dimensions: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, dimensions.len() as u8];
    dimensions.iter().for_each(|side| file.extend(side.to_be_bytes()));
    file.extend(elements);
    file
}

/// A data set in MNIST's format with a few images.
pub(crate) fn small_mnist(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for name in ["train", "t10k"] {
        let images: Vec<u8> = (0..20 * 784u32).map(|pixel| (pixel % 251) as u8).collect();
        let labels: Vec<u8> = (0..20).map(|image| image % 10).collect();
        fs::write(dir.join(format!("{name}-images-idx3-ubyte")), idx(&[20, 28, 28], &images)).unwrap();
        fs::write(dir.join(format!("{name}-labels-idx1-ubyte")), idx(&[20], &labels)).unwrap();
    }
}

/// Cuts the last byte off.
pub(crate) fn truncate(file: &Path) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
}

/// The error of a node that must not begin.
fn refused(sandbox: &Sandbox, args: &[&str]) -> String {
    let ended = Ended::of(sandbox.node("node", args));
    let error = ended.error().to_owned();
    match &ended.lines[..] {
        // Arguments that can't be read at all.
        [] => assert_eq!(ended.status.code(), Some(2), "{args:?}: no event tells of it"),
        [line] => assert_eq!(event(line), Event::Failed { reason: error.clone() }, "{args:?}"),
        lines => panic!("{args:?} began: {lines:?}"),
    }
    error
}

#[test]
fn arguments_that_cannot_be() {
    let sandbox = Sandbox::new();
    let alone = ["--folder", "memory:"];
    fs::write(sandbox.path("empty.toml"), "peers = []").unwrap();
    for (args, parts) in [
        (&["--partition", "3/3"][..], &["--partition 3/3", "0 to 2"][..]),
        (&["--partition", "3"], &["--partition 3", "I/N"]),
        (&["--partition", "0/0"], &["--partition 0/0"]),
        (&["--strategy", "fedx"], &["--strategy fedx", "fedavg"]),
        (&["--strategy", "fedadams"], &["--strategy fedadams", "did you mean fedadam?"]),
        (
            &["--strategy", "fedadam", "--param", "speed=1"],
            &["--param speed=1: fedadam has no parameter \"speed\"", "eta"],
        ),
        (&["--strategy", "fedadam", "--param", "beta1=0.5"], &["no parameter \"beta1\"", "did you mean beta_1?"]),
        (&["--strategy", "fedadam", "--param", "eta=fast"], &["eta", "fast"]),
        (&["--param", "eta"], &["--param eta", "NAME=VALUE"]),
        (&["--strategy", "fedprox", "--param", "proximal_mu=-1"], &["proximal_mu", "-1", "from 0"]),
        (&["--strategy", "unweighted", "--param", "send_gradients=True"], &["--param send_gradients=true", "weights"]),
        (&["--folder", "s3:"], &["--folder s3:", "s3://BUCKET/PREFIX"]),
        (&["--folder", "s3://key:secret@ward"], &["--folder s3://", "keys", "--s3-endpoint"]),
        (&["--folder", "p2p:", "--fallback", "ward"], &["--fallback ward", "s3://BUCKET/PREFIX"]),
        (&["--fallback", "s3://ward"], &["--fallback s3://ward", "--folder memory: is no network"]),
        (&["--folder", "s3://ward", "--s3-endpoint", "store"], &["--s3-endpoint store", "https://"]),
        (
            &["--folder", "s3://ward", "--s3-endpoint", "ftp://store"],
            &["--s3-endpoint ftp://store", "http:// or https://"],
        ),
        (&["--s3-poll", "0"], &["--s3-poll 0", "above 0"]),
        (&["--s3-grace=-1"], &["--s3-grace -1", "seconds"]),
        (&["--folder", "some/dir"], &["--folder some/dir", "did you mean file:///", "/some/dir?"]),
        (&["--folder", "file://some/dir"], &["did you mean file:///some/dir?"]),
        (&["--folder", "p2p://192.0.2.1"], &["--folder p2p://192.0.2.1", "--bootstrap"]),
        (&["--bootstrap", PEER], &["--bootstrap 12D3", "--folder memory: is no network"]),
        (&["--listen", "/ip4/127.0.0.1/tcp/0"], &["--listen /ip4/", "--folder memory: is no network"]),
        (&["--stay"], &["--stay", "--folder memory: is no network"]),
        (&["--folder", "p2p:", "--bootstrap", "none.toml"], &["--bootstrap none.toml", "multiaddr", "No such file"]),
        (&["--folder", "p2p:", "--bootstrap", "/ip4/192.0.2.1/tcp/1"], &["--bootstrap /ip4/192.0.2.1/tcp/1", "/p2p/"]),
        (&["--folder", "p2p:", "--bootstrap", "empty.toml"], &["--bootstrap empty.toml", "no peer that can be used"]),
        (
            &["--folder", "p2p:", "--listen", "127.0.0.1:1"],
            &["--listen 127.0.0.1:1", "is no multiaddr", "write /ip4/127.0.0.1/tcp/1 "],
        ),
        (&["--folder", "p2p:", "--listen", "/dns/localhost/tcp/1"], &["--listen /dns/localhost", "/tcp/PORT"]),
        (&["--cache-quota", "much"], &["--cache-quota much", "8GiB"]),
        (&["--linger=-1"], &["--linger -1", "seconds"]),
        (&["--allow", "me"], &["--allow me", "peer id"]),
        (&["--readmit", "me"], &["--readmit me", "peer id"]),
        (&["--start-deadline=-1"], &["--start-deadline -1", "seconds"]),
        (&["--start-deadline", "nan"], &["--start-deadline NaN", "finite"]),
        (&["--sync", "--nodes", "2", "--deadline", "1e10"], &["--deadline 10000000000", "a hundred years"]),
        (&["--sync", "--nodes", "2", "--quorum", "3"], &["--quorum 3", "only 2 nodes"]),
        (&["--sync", "--nodes", "2", "--quorum", "0"], &["--quorum 0", "at least 1"]),
        (&["--sync"], &["--nodes is missing"]),
        (&["--sync", "--allow", PEER, "--nodes", "3"], &["--nodes 3", "2 members"]),
        (&["--sync", "--allow", PEER, "--quorum", "3"], &["--quorum 3", "only 2 nodes"]),
        (&["--lr", "-1"], &["learning rate", "above 0"]),
        (&["--batch-size", "18446744073709551615"], &["batch size", "65536"]),
        (&["--out", ""], &["--out", "write a path"]),
        (&["--out", "/dev/null"], &["--out /dev/null", "no regular file"]),
        (&["--below-quorum", "panic"], &["below-quorum", "panic", "wait, alone, stop"]),
        (&["--participation", "2"], &["--participation 2", "0 to 1"]),
        (&["--max-norm=-1"], &["--max-norm -1", "above 0"]),
        (&["--period", "0"], &["--period 0", "above 0"]),
        (&["--period=-1"], &["--period -1", "seconds"]),
        (&["--period", "inf"], &["--period inf", "finite"]),
        (&["--period", "1", "--steps-per-epoch", "3"], &["--period 1", "--steps-per-epoch 3", "beside it"]),
        (&["--checkpoint-every", "0"], &["--checkpoint-every 0", "minutes above 0"]),
        (&["--checkpoint-every=-1"], &["--checkpoint-every -1", "minutes above 0"]),
        (&["--checkpoint-every", "1e300"], &["--checkpoint-every", "a hundred years"]),
        (&["--checkpoint-every", "nan"], &["--checkpoint-every NaN", "finite"]),
        (&["--checkpoint-every", "inf"], &["--checkpoint-every inf", "finite"]),
        (&["--epochs", "0"], &["--epochs 0", "at least 1"]),
        (&["--epochs", "many"], &["--epochs", "many"]),
        (&["--lr", "0"], &["--lr 0", "learning rate"]),
        (&["--lr", "nan"], &["--lr NaN"]),
        (&["--batch-size", "0"], &["batch size"]),
        (&["--threads", "0"], &["--threads 0", "1 and 1024"]),
        (&["--skew", "2"], &["--skew 2", "between 0 and 1"]),
        (&["--validation", "0.9"], &["--validation 0.9", "the part held out must be between 0 and 0.5"]),
        (&["--validation", "0.0001"], &["--validation 0.0001", "of this node's 1438 examples that is none"]),
        (&["--dataset", "cats"], &["--dataset cats", "digits and mnist"]),
        (&["--dataset", "mnist2"], &["--dataset mnist2", "did you mean mnist?"]),
        (&["--dataset", "mnist"], &["--data-dir is missing", "PEERFOLD_DATA"]),
        (&["--device", "abacus"], &["--device abacus", "cpu"]),
        (&["--out", "none/model.safetensors"], &["--out none/model.safetensors"]),
        (&["--out", "."], &["--out ."]),
        (&["--init", "none.safetensors"], &["--init none.safetensors", "No such file"]),
        (&["--federation", ""], &["--federation", "name"]),
        (&["--epoch", "1"], &["--epoch", "--epochs"]),
        (&["--config", "none.toml"], &["none.toml", "No such file"]),
    ] {
        let has_folder = args.contains(&"--folder");
        let args: Vec<&str> = if has_folder { args.to_vec() } else { [&alone, args].concat() };
        let error = refused(&sandbox, &args);
        for part in parts {
            assert!(error.contains(part), "{args:?}: {part} is not in: {error}");
        }
        assert!(error.matches("No such file").count() <= 1, "said twice: {error}");
    }
    assert!(!sandbox.path("node/runs").exists(), "nothing has begun");
    let missing = Ended::of(sandbox.command(["node", "--folder", "memory:"]));
    assert!(missing.error().contains("--federation is missing"), "{}", missing.error());
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_without_cuda() {
    let sandbox = Sandbox::new();
    let error = refused(&sandbox, &["--folder", "memory:", "--device", "cuda"]);
    assert!(error.contains("without CUDA") && error.contains("--features cuda"), "{error}");
}

#[test]
fn configurations_that_are_wrong() {
    let sandbox = Sandbox::new();
    for (text, parts) in [
        ("seed = 1\nepoch = 3\n", &["line 2", "`epoch`", "did you mean epochs?"][..]),
        ("steps_per_epoch = 3\n", &["line 1", "did you mean steps-per-epoch?"]),
        ("qzx = 3\n", &["line 1", "there is no setting `qzx`"]),
        ("lr = -1\n", &["node.toml: lr = -1: ", "above 0"]),
        ("skew = 2.5\n", &["node.toml: skew = 2.5: ", "between 0 and 1"]),
        ("max-norm = -1.0\n", &["node.toml: max-norm = -1: ", "above 0"]),
        ("partition = \"3/3\"\n", &["node.toml: partition = 3/3: ", "0 to 2"]),
        ("seed = 1\n\nepochs = \"many\"\n", &["line 3", "epochs", "many"]),
        ("epochs = -1\n", &["line 1", "epochs", "-1"]),
        ("epochs = [\n", &["line 1"]),
        ("[training]\nepochs = 1\n", &["line 1", "training"]),
        ("seed = 1\nbelow-quorum = \"panic\"\n", &["line 2", "below-quorum", "panic", "alone"]),
        ("lr = nan\n", &["node.toml: lr = NaN: must be finite"]),
        ("seed = 1\nparam = \"eta=1\"\n", &["line 2", "param", "a list [\"NAME=VALUE\"] or a table"]),
        ("seed = 1\nparam = { eta = [1] }\n", &["line 2", "param", "a table { NAME = VALUE } of numbers"]),
    ] {
        fs::write(sandbox.path("node.toml"), text).unwrap();
        let error = refused(&sandbox, &["--folder", "memory:", "--config", "node.toml"]);
        for part in parts {
            assert!(error.contains(part), "{text:?}: {part} is not in: {error}");
        }
    }
    fs::write(sandbox.path("node.toml"), "strategy = \"fedadam\"\n[param]\nspeed = 1\n").unwrap();
    let error = refused(&sandbox, &["--folder", "memory:", "--config", "node.toml"]);
    assert!(error.contains("fedadam has no parameter \"speed\""), "{error}");
}

#[test]
fn variables_that_are_wrong_are_blamed_by_their_names() {
    let sandbox = Sandbox::new();
    let with = |name: &str, value: &str, flags: &[&str]| {
        let mut command = sandbox.node("node", &[&["--folder", "memory:"], flags].concat());
        command.env(name, value);
        Ended::of(command)
    };
    for (name, value, part) in [
        ("PEERFOLD_LR", "fast", "'fast' for 'PEERFOLD_LR'"),
        ("PEERFOLD_LR", "-1", "PEERFOLD_LR=-1: "),
        ("PEERFOLD_LR", "nan", "PEERFOLD_LR=NaN: "),
        ("PEERFOLD_BELOW_QUORUM", "panic", "'panic' for 'PEERFOLD_BELOW_QUORUM'"),
        ("PEERFOLD_PARTITION", "3/3", "PEERFOLD_PARTITION=3/3: "),
        ("PEERFOLD_STRATEGY", "fedx", "PEERFOLD_STRATEGY=fedx: "),
        ("PEERFOLD_PARAM", "speed=1", "PEERFOLD_PARAM=speed=1: "),
        ("PEERFOLD_SKEW", "2", "PEERFOLD_SKEW=2: "),
        ("PEERFOLD_NO_MDNS", "perhaps", "'perhaps' for 'PEERFOLD_NO_MDNS'"),
    ] {
        let ended = with(name, value, &[]);
        let error = ended.error();
        let flag = name.replace("PEERFOLD_", "--").replace('_', "-").to_lowercase();
        assert!(error.contains(part) && !error.contains(&flag), "{name}: {error}");
    }
    // A flag that is wrong is at fault itself, whatever the variable has.
    for flags in [&["--lr", "slow"][..], &["--lr=-2"]] {
        let ended = with("PEERFOLD_LR", "0.1", flags);
        assert!(ended.error().contains("--lr") && !ended.error().contains("PEERFOLD_LR"), "{}", ended.error());
    }
}

#[test]
fn variables_that_mean_nothing_are_told_with_what_was_meant() {
    let sandbox = Sandbox::new();
    for (name, told) in [
        ("PEERFOLD_EPOCH", "PEERFOLD_EPOCH means nothing to this program; did you mean PEERFOLD_EPOCHS?"),
        ("PEERFOLD_DATA_DIR", "did you mean PEERFOLD_DATA?"),
        ("PEERFOLD_QZX", "PEERFOLD_QZX means nothing to this program"),
    ] {
        let mut command = sandbox.node("node", &["--folder", "memory:", "--print-config"]);
        command.env(name, "3");
        let ended = Ended::of(command).success();
        let [line] = &ended.log.lines().collect::<Vec<_>>()[..] else { panic!("{}", ended.log) };
        assert!(line.starts_with("warning: ") && line.ends_with(told), "{line}");
    }
    let mut command = sandbox.node("node", &["--folder", "memory:", "--print-config"]);
    command.env("PEERFOLD_EPOCHS", "3").env("PEERFOLD_EPOCH", "").env("PEER", "x");
    assert_eq!(Ended::of(command).success().log, "");
}

#[test]
fn data_sets_that_are_damaged() {
    let sandbox = Sandbox::new();
    let data = sandbox.path("data");
    let load = || refused(&sandbox, &["--folder", "memory:", "--dataset", "mnist", "--data-dir", "data"]);
    assert!(load().contains("are missing"), "{}", load());
    small_mnist(&data);
    truncate(&data.join("train-images-idx3-ubyte"));
    assert!(load().contains("train-images-idx3-ubyte"), "{}", load());
    small_mnist(&data);
    fs::write(data.join("t10k-labels-idx1-ubyte"), "no labels at all").unwrap();
    assert!(load().contains("t10k-labels-idx1-ubyte"), "{}", load());
    small_mnist(&data);
    fs::remove_file(data.join("train-labels-idx1-ubyte")).unwrap();
    fs::create_dir(data.join("train-labels-idx1-ubyte")).unwrap();
    assert!(load().contains("train-labels-idx1-ubyte"), "{}", load());
}

#[test]
fn folders_and_homes_that_cannot_be_written() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("file"), "in the way").unwrap();
    let folder = url::Url::from_file_path(sandbox.path("file")).unwrap().to_string();
    let error = refused(&sandbox, &["--folder", &folder]);
    assert!(error.contains(&sandbox.path("file").display().to_string()), "{error}");
    for home in ["file", "file/home", "/proc/peerfold"] {
        let error = refused(&sandbox, &["--folder", "memory:", "--home", home]);
        assert!(error.contains(home), "{error}");
    }
    // To root every directory can be written.
    let closed = sandbox.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(closed.join("file"), "").is_err() {
        let folder = url::Url::from_file_path(&closed).unwrap().to_string();
        assert!(refused(&sandbox, &["--folder", &folder]).contains("ermission denied"));
    }
}

#[test]
fn a_home_in_use() {
    let sandbox = Sandbox::new();
    let mut first = Running::start(sandbox.node("node", &["--folder", &sandbox.folder(), "--min-peers", "1"]));
    first.event(|event| matches!(event, Event::Waiting { .. }));
    let error = refused(&sandbox, &["--folder", "memory:"]);
    assert!(error.contains("in use") && error.contains(&format!("(process {})", first.id())), "{error}");
    // Its id can be asked for all the same.
    let mut id = sandbox.command(["id", "--home"]);
    id.arg(sandbox.path("node"));
    Ended::of(id).success();
    first.kill();
    Ended::of(sandbox.node("node", &["--folder", "memory:", "--epochs", "1"])).success();
}

#[test]
fn peers_of_nobody() {
    let sandbox = Sandbox::new();
    let asked = |home: &str| Ended::of(sandbox.command(["peers", "--home", home])).error().to_owned();
    assert!(asked("none").contains("there is no home none"), "{}", asked("none"));
    assert!(!sandbox.path("none").exists());
    let mut node = Running::start(sandbox.node("node", &["--folder", &sandbox.folder(), "--min-peers", "1"]));
    node.event(|event| matches!(event, Event::Waiting { .. }));
    assert!(asked("node").contains("another --folder than p2p:"), "{}", asked("node"));
    node.kill();
    assert!(asked("node").contains("no node runs on the home node"), "{}", asked("node"));
}

#[test]
fn weights_of_another_model() {
    let sandbox = Sandbox::new();
    small_mnist(&sandbox.path("data"));
    let mnist = ["--folder", "memory:", "--dataset", "mnist", "--data-dir", "data"];
    Ended::of(sandbox.node("node", &["--folder", "memory:", "--epochs", "1", "--out", "digits.safetensors"])).success();
    let error = refused(&sandbox, &mnist);
    assert!(error.contains("checkpoint") && error.contains("another model"), "{error}");
    let ended = Ended::of(sandbox.node("other", &[&mnist[..], &["--init", "digits.safetensors"]].concat()));
    assert!(ended.error().contains("--init digits.safetensors is of another model"), "{}", ended.error());
    fs::write(sandbox.path("text"), "no weights").unwrap();
    let ended = Ended::of(sandbox.node("other", &["--folder", "memory:", "--init", "text"]));
    assert!(ended.error().contains("--init text"), "{}", ended.error());
    let error = refused(&sandbox, &["--folder", "memory:", "--strategy", "fedadam"]);
    assert!(error.contains("checkpoint") && error.contains("fedavg"), "{error}");
}

#[test]
fn demos_that_cannot_be() {
    let sandbox = Sandbox::new();
    for (args, part) in [
        (&["--nodes", "0"][..], "--nodes"),
        (&["--nodes", "65"], "--nodes"),
        (&["--epochs", "0"], "--epochs"),
        (&["--skew", "1.5"], "--skew 1.5"),
        (&["--skew", "nan"], "--skew NaN"),
        (&["--strategy", "fedx"], "--strategy fedx"),
        (&["--strategy", "fedadam", "--param", "eta"], "--param eta"),
        (&["--period", "0"], "--period 0"),
        (&["--period", "nan"], "--period NaN"),
        (&["--period", "1", "--steps-per-epoch", "3"], "--steps-per-epoch"),
        (&["--kill", "1"], "NODE@EPOCH"),
        (&["--kill", "3@1"], "from 0 to 2"),
        (&["--kill", "1@9"], "only 8 epochs"),
        (&["--kill", "1@0"], "from 1"),
        (&["--dataset", "mnist"], "--data-dir"),
        (&["--dataset", "cats"], "cats"),
        (&["--folder", "ftp"], "p2p, s3"),
        (&["--cut"], "--fallback"),
        (&["--folder", "s3", "--fallback"], "--folder s3"),
        (&["--fallback", "--cut", "--epochs", "7"], "8 epochs"),
    ] {
        let ended = Ended::of(sandbox.command(["demo"].iter().chain(args)));
        assert!(ended.error().contains(part), "{args:?}: {}", ended.error());
        assert_eq!(ended.lines, [""; 0]);
    }
    let mut command = sandbox.command(["demo"]);
    command.env("TMPDIR", sandbox.path("none"));
    assert!(Ended::of(command).error().contains("temporary directory"));
    sandbox.wait_until_nothing_is_left();
}
