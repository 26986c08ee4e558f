//! Weights files from other programs, and for other programs.

use super::process::{Ended, Running, Sandbox};
use peerfold::{
    experiment::digits,
    node::Event,
    train::{Model, from_saved},
    weights::{Annotations, DType, Tensor, TensorSpec, Weights},
};
use serde_json::Value;
use std::{fs, path::Path, process::Command};

fn read(path: &Path) -> Weights {
    Weights::from_safetensors(&fs::read(path).unwrap().into()).unwrap()
}

/// The weights of a node as it published them, from the file that it saved.
pub(crate) fn saved_digits(path: &Path) -> Weights {
    from_saved(Model::Digits, &read(path)).unwrap().with_annotations(Annotations::default())
}

fn one() -> Weights {
    let spec = TensorSpec { name: "w".to_owned(), dtype: DType::F32, shape: vec![1] };
    Weights::new(vec![Tensor { spec, data: 1f32.to_le_bytes().to_vec().into() }]).unwrap()
}

fn annotated<const N: usize>(weights: &Weights, texts: [(&str, &str); N]) -> Vec<u8> {
    let texts = texts.map(|(name, text)| (name.to_owned(), text.to_owned()));
    weights.clone().with_annotations(Annotations::new(texts.into()).unwrap()).to_safetensors().unwrap()
}

fn texts(path: &Path) -> Vec<(String, String)> {
    read(path).annotations().iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

fn pairs<const N: usize>(texts: [(&str, &str); N]) -> Vec<(String, String)> {
    texts.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec()
}

/// A node that trains an epoch alone and saves.
fn trained(sandbox: &Sandbox, home: &str, args: &[&str]) -> (f64, Ended) {
    let mut command = sandbox.node(home, &[&["--folder", "memory:"][..], args].concat());
    command.env("PEERFOLD_EPOCHS", "1");
    let ended = Ended::of(command).success();
    match ended.events().last() {
        Some(Event::Finished { metrics, .. }) => (metrics["accuracy"], ended),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fold_keeps_the_metadata_that_its_inputs_share() {
    let sandbox = Sandbox::new();
    let one = one();
    for (name, site) in [("a", "a"), ("b", "b\u{1b}[2J")] {
        let texts = [("format", "pt"), ("site", site), ("ta\u{1b}sk", site), ("vocabulary", "ü")];
        fs::write(sandbox.path(name), annotated(&one, texts)).unwrap();
    }
    let arguments = "aggregate --strategy fedavg --input a=1 --input b=1 --output out";
    let text = Ended::of(sandbox.command(arguments.split(' '))).success();
    assert_eq!(texts(&sandbox.path("out")), pairs([("format", "pt"), ("vocabulary", "ü")]));
    let last = text.text();
    assert!(last.ends_with("left out: site, ta\\u{1b}sk") && !last.contains('\u{1b}'), "{last:?}");
    let json = Ended::of(sandbox.command(arguments.split(' ').chain(["--json"]))).success();
    let json: Value = serde_json::from_str(&json.text()).unwrap();
    assert_eq!(json["metadata"], serde_json::json!({ "format": "pt", "vocabulary": "ü" }));
    assert_eq!(json["metadata_left_out"], serde_json::json!(["site", "ta\u{1b}sk"]));
    assert_eq!(json["root"], read(&sandbox.path("out")).manifest().root().to_string());
    // Which way round a square matrix lies is no detail.
    for (name, layout) in [("a", "torch"), ("b", "burn")] {
        fs::write(sandbox.path(name), annotated(&one, [("peerfold.layout", layout)])).unwrap();
    }
    let refused = Ended::of(sandbox.command(arguments.split(' ')));
    assert!(refused.error().contains("--input b says peerfold.layout = \"burn\""), "{}", refused.error());
}

#[test]
fn a_folder_gives_a_file_back_with_its_metadata() {
    let sandbox = Sandbox::new();
    let file = annotated(&one(), [("format", "pt"), ("note", "\u{0} ward 7")]);
    fs::write(sandbox.path("a.safetensors"), &file).unwrap();
    let url = sandbox.folder();
    let folder = |args: &[&str]| {
        Ended::of(sandbox.command([&["folder"][..], args, &["--federation", "test"]].concat())).success().text()
    };
    let put = folder(&["put", &url, "base", "a.safetensors", "--home", "home", "--json"]);
    let row: Value = serde_json::from_str(&put).unwrap();
    let author = row["author"].as_str().unwrap();
    folder(&["get", &url, &format!("{author}/base"), "--output", "b.safetensors"]);
    assert_eq!(fs::read(sandbox.path("b.safetensors")).unwrap(), file);
}

#[test]
fn what_a_node_saves_has_the_metadata_that_it_began_from() {
    let sandbox = Sandbox::new();
    trained(&sandbox, "first", &["--out", "base", "--layout", "burn"]);
    let base = read(&sandbox.path("base"));
    assert_eq!(texts(&sandbox.path("base")), pairs([("peerfold.layout", "burn")]));
    fs::write(sandbox.path("init"), annotated(&base, [("peerfold.layout", "burn"), ("site", "ward 7")])).unwrap();
    let expected = pairs([("format", "pt"), ("peerfold.layout", "torch"), ("site", "ward 7")]);
    trained(&sandbox, "second", &["--init", "init", "--out", "out"]);
    assert_eq!(texts(&sandbox.path("out")), expected);
    // Also in a later life, which is not told of the file.
    trained(&sandbox, "second", &["--epochs=2", "--out", "later"]);
    assert_eq!(texts(&sandbox.path("later")), expected);
    // It reads what it saves, in both layouts, and with nothing said.
    for (layout, said) in [("torch", true), ("burn", true), ("torch", false), ("burn", false)] {
        trained(&sandbox, "third", &["--out", "saved", "--layout", layout]);
        let saved = read(&sandbox.path("saved"));
        let annotations = if said { saved.annotations().clone() } else { Annotations::default() };
        fs::write(sandbox.path("init"), saved.with_annotations(annotations).to_safetensors().unwrap()).unwrap();
        let home = format!("{layout} {said}");
        let started = trained(&sandbox, &home, &["--init", "init"]).1.events();
        let Some(Event::Started { root, .. }) = started.first() else { panic!("{started:?}") };
        assert_eq!(*root, saved_digits(&sandbox.path("saved")).manifest().root().to_string(), "{home}");
    }
}

/// A linear layer as PyTorch has it: x @ W.T + b, W of the shape [out, in].
fn linear(weights: &Weights, layer: &str, input: &[f32]) -> Vec<f32> {
    let floats = |name: String| -> Vec<f32> {
        let (_, data) = weights.get(&name).unwrap();
        data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let (matrix, bias) = (floats(format!("{layer}.weight")), floats(format!("{layer}.bias")));
    let row = |row: &[f32]| row.iter().zip(input).map(|(weight, x)| weight * x).sum::<f32>();
    matrix.chunks(input.len()).zip(bias).map(|(weights, bias)| row(weights) + bias).collect()
}

#[test]
fn a_saved_model_is_pytorchs() {
    let sandbox = Sandbox::new();
    let args = ["--steps-per-epoch=200", "--out"];
    let (accuracy, _) = trained(&sandbox, "home", &[&args[..], &["model.safetensors"]].concat());
    let weights = read(&sandbox.path("model.safetensors"));
    assert_eq!(weights.get("output.weight").unwrap().0.shape, [10, 64]);
    let test = digits().test;
    let right = (0..test.len()).filter(|&at| {
        let hidden: Vec<f32> = linear(&weights, "hidden", test.image(at)).into_iter().map(|x| x.max(0.0)).collect();
        let logits = linear(&weights, "output", &hidden);
        let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap().0;
        best == usize::from(test.labels()[at])
    });
    let measured = right.count() as f64 / test.len() as f64;
    assert!((measured - accuracy).abs() < 0.005 && accuracy > 0.8, "{measured}, but the node says {accuracy}");
    in_pytorch(&sandbox, accuracy);
}

/// The same by PyTorch itself, where it is installed.
fn in_pytorch(sandbox: &Sandbox, accuracy: f64) {
    let python = |code: &str| {
        let mut command = Command::new("python3");
        command.current_dir(sandbox.path("")).args(["-c", code]);
        command.output()
    };
    if !python("import torch, safetensors.torch").is_ok_and(|output| output.status.success()) {
        println!("skipped: python3 has no torch and safetensors here; by hand the same holds");
        return;
    }
    let test = digits().test;
    let images: Vec<&[f32]> = (0..test.len()).map(|at| test.image(at)).collect();
    let examples = serde_json::json!({ "images": images, "labels": test.labels() });
    fs::write(sandbox.path("test.json"), examples.to_string()).unwrap();
    let code = "
import json, torch, safetensors.torch
model = torch.nn.Sequential()
model.hidden, model.relu, model.output = torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
model.load_state_dict(safetensors.torch.load_file('model.safetensors'))
test = json.load(open('test.json'))
right = model(torch.tensor(test['images'])).argmax(1) == torch.tensor(test['labels'])
print(right.double().mean().item())
";
    let output = python(code).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let measured: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert!((measured - accuracy).abs() < 0.005, "{measured} in PyTorch, but the node says {accuracy}");
}

#[test]
fn updates_are_got_from_a_folder_in_pytorchs_layout_too() {
    let sandbox = Sandbox::new();
    let url = sandbox.folder();
    let node = Running::start(sandbox.node("home", &["--folder", &url, "--epochs", "1", "--out", "out"]));
    node.wait().success();
    let ls = Ended::of(sandbox.command(["folder", "ls", &url, "--federation", "test", "--json"])).success().text();
    let rows: Value = serde_json::from_str(&ls).unwrap();
    let author = rows[0]["author"].as_str().unwrap();
    let get = |output: &str, layout: &[&str]| {
        let key = format!("{author}/update/1");
        let args = ["folder", "get", &url, &key, "--output", output, "--federation", "test"];
        Ended::of(sandbox.command([&args[..], layout].concat())).success();
        sandbox.path(output)
    };
    let (torch, burn) = (get("torch", &[]), get("burn", &["--layout", "burn"]));
    assert_eq!(read(&torch), read(&sandbox.path("out")));
    assert_eq!(texts(&burn), pairs([("peerfold.layout", "burn")]));
    assert_eq!(saved_digits(&torch), saved_digits(&burn));
    assert_ne!(read(&torch).get("hidden.weight"), read(&burn).get("hidden.weight"));
}

#[test]
fn files_of_other_formats_are_told_by_name() {
    let sandbox = Sandbox::new();
    let zip =
        |name: &str| [&b"PK\x03\x04"[..], &[0; 22], &[name.len() as u8, 0, 0, 0], name.as_bytes(), &[7; 99]].concat();
    for (bytes, parts) in [
        (zip("archive/data.pkl"), &["a PyTorch file", "torch.load", "weights_only=True"][..]),
        (zip("arr_0.npy"), &[".npz", "numpy.load"]),
        (zip("config.json"), &["Keras", "python3 -c"]),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02".to_vec(), &["old PyTorch", "torch.load"]),
        (b"\x89HDF\r\n\x1a\n\x00\x00\x00".to_vec(), &["HDF5", "h5py"]),
        (b"\x93NUMPY\x01\x00v\x00{'descr".to_vec(), &[".npy", "numpy.load"]),
        (b"GGUF\x03\x00\x00\x00\x00\x00".to_vec(), &["GGUF"]),
        (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), &["Git LFS pointer", "git lfs pull"]),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec(), &["gzip", "unpack"]),
        (b"<!DOCTYPE html>\n<html><body>Sign in".to_vec(), &["a web page", "get it anew"]),
        (Vec::new(), &["it is empty"]),
        (b"no weights at all".to_vec(), &["doesn't begin with the header"]),
    ] {
        fs::write(sandbox.path("w.safetensors"), &bytes).unwrap();
        for arguments in [
            "aggregate --strategy fedavg --input w.safetensors=1 --output out",
            "node --federation test --home home --folder memory: --epochs 1 --init w.safetensors",
            "folder put memory: base w.safetensors --federation test --home home",
        ] {
            let ended = Ended::of(sandbox.command(arguments.split(' ')));
            assert_eq!(ended.status.code(), Some(1), "{arguments}");
            let error = ended.error();
            assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} are not in: {error}");
            assert!(error.contains("w.safetensors") && !error.contains(" bytes"), "{error}");
        }
    }
}
