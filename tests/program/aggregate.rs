//! `peerfold aggregate`: folds files into a file.

use super::{
    golden::{self, Golden, claims::replayed, numbers},
    process::{Ended, Sandbox},
};
use bytes::Bytes;
use peerfold::weights::{DType, Tensor, TensorSpec, Weights};
use serde_json::{Value, json};
use std::{collections::BTreeMap, ffi::OsStr, fs, path::Path, process::Command};

fn tensor(name: &str, dtype: DType, shape: &[u64], data: Vec<u8>) -> Tensor {
    Tensor { spec: TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() }, data: data.into() }
}

fn floats(name: &str, values: &[f32]) -> Tensor {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, DType::F32, &[values.len() as u64], data)
}

fn weights(tensors: impl IntoIterator<Item = Tensor>) -> Weights {
    Weights::new(tensors.into_iter().collect()).unwrap()
}

/// A sandbox with files of weights.
struct Files(Sandbox);

impl Files {
    /// Each a file with a tensor `w`.
    fn new<const N: usize>(files: [(&str, &[f32]); N]) -> Self {
        let sandbox = Self(Sandbox::new());
        files.iter().for_each(|(name, values)| sandbox.write(name, &weights([floats("w", values)])));
        sandbox
    }

    fn write(&self, name: &str, weights: &Weights) {
        let path = self.0.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, weights.to_safetensors().unwrap()).unwrap();
    }

    fn read(&self, name: &str) -> Weights {
        Weights::from_safetensors(&Bytes::from(fs::read(self.0.path(name)).unwrap())).unwrap()
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        numbers(&self.read(name))
    }

    fn there(&self, name: &str) -> bool {
        self.0.path(name).exists()
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output: &[&str] = if args.iter().any(|arg| arg == "--output") { &[] } else { &["--output", "out"] };
        let mut command = self.0.command([&["aggregate"], output].concat());
        command.args(args);
        command
    }

    /// Runs to the end, with `--json`; checks that the code is 0 or 1, as the object says.
    fn aggregate<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> (Ended, Value) {
        let mut command = self.command(args);
        command.arg("--json");
        let ended = Ended::of(command);
        let [line] = &ended.lines[..] else { panic!("not one line: {:?} {}", ended.lines, ended.log) };
        let result: Value = serde_json::from_str(line).unwrap();
        let code = if result["folded"].as_bool().unwrap() { 0 } else { 1 };
        assert_eq!(ended.status.code(), Some(code), "{line}");
        (ended, result)
    }

    /// The result of what must succeed without a word on standard error.
    fn folded<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let (ended, result) = self.aggregate(args);
        assert!(ended.status.success() && ended.log.is_empty(), "{}", ended.log);
        result
    }

    /// The error of what must write nothing.
    fn refused<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let before = self.everything();
        let (ended, result) = self.aggregate(args);
        assert_eq!(result["folded"], false, "{result}");
        assert_eq!(self.everything(), before, "something was written");
        let error = ended.log.lines().last().unwrap().strip_prefix("error: ").unwrap();
        assert_eq!(result["reason"], error);
        error.to_owned()
    }

    /// All files of the sandbox's directory.
    fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.0.path("")).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|path| path.is_file());
        files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

#[test]
fn a_mean_of_two_files() {
    let files = Files::new([("a", &[1.0, -2.0]), ("b", &[3.0, 2.0])]);
    let result = files.folded(words("--strategy fedavg --input a=300 --input b=100"));
    assert_eq!(files.numbers("out"), [1.5, -1.0]);
    let out = files.read("out");
    assert_eq!(
        result,
        json!({
            "folded": true,
            "strategy": "fedavg",
            "round": 1,
            "output": "out",
            "bytes": fs::metadata(files.0.path("out")).unwrap().len(),
            "root": out.manifest().root().to_string(),
            "inputs": [
                { "path": "a", "num_examples": 300, "share": 0.75 },
                { "path": "b", "num_examples": 100, "share": 0.25 },
            ],
            "unaveraged": [],
            "turned_negative": [],
            "rejected": [],
        })
    );
    // For people, over what is there, and one of the inputs.
    let text = Ended::of(files.command(words("--strategy Fed-Avg --input a=300 --input b=100 --output a"))).success();
    assert!(text.log.is_empty(), "{}", text.log);
    for part in ["75.00 %", "25.00 %", "300", "fedavg, round 1: a,", &out.manifest().root().to_string()] {
        assert!(text.text().contains(part), "{part} is not in: {}", text.text());
    }
    assert_eq!(files.read("a"), out);
    // Nothing is left behind.
    assert_eq!(files.everything().len(), 3);
}

#[test]
fn inputs_are_new_in_each_call() {
    let files = Files::new([("x", &[0.0]), ("a", &[1.0]), ("b", &[3.0])]);
    // Nobody says which call or epoch it is: the state knows how many folds there were.
    let call = "--strategy fedbuff --param buffer_size=3 --initial x --state state --input a=1 --input b=1";
    assert_eq!(files.folded(words(call))["round"], 1);
    assert_eq!(files.numbers("out"), [0.0]);
    assert_eq!(files.folded(words(call))["round"], 2);
    assert!((files.numbers("out")[0] - 5.0 / 3.0).abs() < 1e-6, "{:?}", files.numbers("out"));
    // The same epoch again is no news.
    let again =
        "--strategy fedbuff --param buffer_size=3 --state other --initial x --input a=1,epoch=4 --input b=1,epoch=4";
    for _ in 0..3 {
        files.folded(words(again));
        assert_eq!(files.numbers("out"), [0.0]);
    }
}

#[test]
fn parameters_of_flower_async_need_no_reference() {
    let files = Files::new([("x", &[0.3]), ("a", &[0.1])]);
    let common = "--initial x --input a=7 --param fedasync_mixing_alpha=0.9 --param staleness_alpha=0.9 --param \
                  server_artificial_delay=False --param num_clients=8 --param total_samples=2000";
    for strategy in ["fedasync", "asyncfeded", "unweighted"] {
        let common = format!("--strategy {strategy} {common}");
        files.folded(words(&common));
        let implied = files.read("out");
        files.folded(words(&format!("{common} --param reference=flower-async")));
        assert_eq!(files.read("out"), implied, "{strategy}");
    }
}

#[test]
fn what_would_not_be_finite_is_refused() {
    let files = Files::new([("a", &[1.0]), ("huge", &[3e36])]);
    let error = files.refused(words("--strategy fedavg --param reference=flwr-1.6 --input a=100 --input huge=200"));
    assert!(error.contains("not finite") && error.contains("tensor"), "{error}");
    files.folded(words("--strategy fedavg --input a=100 --input huge=200"));
}

#[test]
fn one_file_is_not_output_and_state() {
    let files = Files::new([("x", &[0.0]), ("a", &[1.0])]);
    std::os::unix::fs::symlink("s", files.0.path("link")).unwrap();
    for output in ["./s", "link"] {
        let args = format!("--strategy fedavgm --initial x --input a=1 --state s --output {output}");
        let ended = Ended::of(files.command(words(&args)));
        assert_eq!(ended.status.code(), Some(2), "{}", ended.log);
        assert!(ended.log.contains("the same file"), "{}", ended.log);
    }
    // What a link leads to is written, not the link.
    fs::write(files.0.path("s"), "").unwrap();
    files.folded(words("--strategy fedavg --input a=1 --output link"));
    assert!(files.0.path("link").is_symlink());
    assert_eq!(files.numbers("s"), [1.0]);
    let twice = "--strategy fedtrimmedavg --param beta=0.1 --param beta=0.2 --input a=1";
    assert!(Ended::of(files.command(words(twice))).log.contains("given twice"));
}

#[test]
fn paths_with_equal_signs_and_commas() {
    let names = ["lr=5,delta/w, 1=2.st", "a=1,loss=2", "=", "a=1,epoch"];
    let files = Files::new(names.map(|name| (name, &[1.0][..])));
    for name in names {
        let result = files.folded(["--strategy", "fedavg", "--input", &format!("{name}=7,staleness=2")]);
        assert_eq!(result["inputs"], json!([{ "path": name, "num_examples": 7, "share": 1.0 }]));
    }
    let result = files.folded(words("--strategy fedavg --input a=1,epoch=7"));
    assert_eq!(result["inputs"][0]["path"], "a=1,epoch", "there is no file a");
}

/// Every file of a reference, from call to call with the state in a file.
fn replay(folder: &str, at_least: usize) {
    let mut count = 0;
    for (path, claim) in replayed(folder) {
        count += 1;
        let file: Golden = golden::read(&path);
        let files = Files::new([]);
        files.write("x", &golden::weights(&file.initial));
        let spec = file.spec();
        for (at, round) in file.rounds.iter().enumerate() {
            let number = round.server_round.unwrap_or(at as u64 + 1);
            let mut args = vec!["--strategy".to_owned(), spec.name.clone(), "--state".to_owned(), "state".to_owned()];
            args.extend(["--round".to_owned(), number.to_string()]);
            let failures = file.params.get("n_failures").map(|number| ("n_failures".to_owned(), number.to_string()));
            for (name, value) in spec.params.clone().into_iter().chain(failures) {
                args.extend(["--param".to_owned(), format!("{name}={value}")]);
            }
            if at == 0 {
                args.extend(["--initial".to_owned(), "x".to_owned()]);
            }
            for (number, input) in round.inputs.iter().enumerate() {
                files.write(&format!("{number}.st"), &golden::weights(&input.tensors));
                let loss = input.train_loss.or(round.server_loss).map_or(String::new(), |loss| format!(",loss={loss}"));
                let figures = format!("{number}.st={},staleness={}{loss}", input.num_examples, input.t_diff);
                args.extend(["--input".to_owned(), figures]);
            }
            let place = format!("{} round {number}", path.display());
            match &round.output {
                Some(expected) => {
                    let result = files.folded(&args);
                    assert_eq!(result["round"], number);
                    assert!(claim.holds(&files.numbers("out"), expected), "{place}");
                }
                None => assert_ne!(files.refused(&args), "", "{place}"),
            }
        }
    }
    assert!(count >= at_least, "{count} files of {folder}");
}

#[test]
fn results_of_flower_1_6_from_call_to_call() {
    replay("flwr-1.6", 1);
}

#[test]
fn results_of_flower_1_41_from_call_to_call() {
    replay("flwr-1.41", 1);
}

#[test]
fn results_of_flower_async_from_call_to_call() {
    replay("flower-async", 1);
}

#[test]
fn a_state_of_something_else_is_refused() {
    let files = Files::new([("a", &[1.0, 2.0]), ("b", &[1.5, 1.0]), ("other", &[1.0])]);
    let fedavgm = "--strategy fedavgm --param server_momentum=0.9 --initial a --state state --input b=1";
    files.folded(words(fedavgm));
    let state = fs::read(files.0.path("state")).unwrap();
    assert!(!state.is_empty());
    for (strategy, part) in [("fedadam", "fedadam"), ("fedavg", "fedavg")] {
        let error = files.refused(["--strategy", strategy, "--state", "state", "--input", "b=1"]);
        for part in ["--state state", part, "without the file it begins anew"] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }
    let layout = files.refused(words("--strategy fedavgm --param server_momentum=0.9 --state state --input other=1"));
    assert!(layout.contains("--input other has another layout than --state state: w f32[1]"), "{layout}");
    for length in 0..state.len() {
        fs::write(files.0.path("state"), &state[..length]).unwrap();
        let error = files.refused(words("--strategy fedavgm --state state --input b=1"));
        assert!(error.contains("--state state"), "{error}");
    }
    fs::remove_file(files.0.path("state")).unwrap();
    fs::create_dir(files.0.path("state")).unwrap();
    let error = files.refused(words("--strategy fedavgm --initial a --state state --input b=1"));
    assert!(error.contains("--state state") && error.contains("no regular file"), "{error}");
    // Without a memory the file is empty.
    files.folded(words("--strategy fedavg --state empty --input a=1"));
    assert_eq!(fs::read(files.0.path("empty")).unwrap(), b"");
    files.folded(words("--strategy fedavg --state empty --input a=1"));
}

#[test]
fn differences_are_added_to_what_all_began_from() {
    let files = Files::new([("x", &[10.0, 20.0]), ("d", &[1.0, -1.0]), ("w", &[13.0, 17.0])]);
    let error = files.refused(words("--strategy fedavg --input d=1,delta"));
    assert!(error.contains("give --initial"), "{error}");
    files.folded(words("--strategy fedavg --initial x --input d=1,delta --input w=1"));
    assert_eq!(files.numbers("out"), [12.0, 18.0]);
}

#[test]
fn every_dtype_is_carried_and_floats_are_folded() {
    let files = Files::new([]);
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/python_dtypes.safetensors");
    fs::copy(python, files.0.path("a")).unwrap();
    let original = files.read("a");
    files.folded(words("--strategy fedavg --input a=3 --input a=4"));
    assert_eq!(files.read("out"), original, "the mean of the same is the same");
    // Integers and booleans are those of the newest.
    let zeros = original.tensors().map(|(spec, data)| Tensor { spec: spec.clone(), data: vec![0; data.len()].into() });
    files.write("zeros", &weights(zeros));
    for (input, newest) in [("zeros=1,epoch=3", "zeros"), ("zeros=1", "a")] {
        files.folded(["--strategy", "fedmedian", "--input", "a=1,epoch=2", "--input", "a=9", "--input", input]);
        let (folded, newest) = (files.read("out"), files.read(newest));
        for (spec, data) in newest.tensors().filter(|(spec, _)| !spec.dtype.is_float()) {
            assert_eq!(folded.get(&spec.name).unwrap().1, data, "{spec}");
        }
        assert_eq!(folded.get("f64.matrix"), original.get("f64.matrix"));
    }
    files.write("nothing", &weights([]));
    files.folded(words("--strategy fedavg --input nothing=3 --input nothing=4"));
    assert_eq!(files.read("out"), weights([]));
}

#[test]
fn values_that_cannot_be_folded_are_left_out_by_name() {
    let files = Files::new([
        ("a", &[1.0, 2.0]),
        ("nan", &[1.0, f32::NAN]),
        ("infinite", &[f32::NEG_INFINITY, 0.0]),
        ("long", &[300.0, 400.0]),
        ("c", &[3.0, 6.0]),
    ]);
    let inputs = "--input nan=1 --input a=1 --input infinite=1 --input c=1000001 --input long=1 --input c=1";
    let args = format!("--strategy fedavg --max-norm 499.9 --max-num-examples 1000000 {inputs}");
    let (ended, result) = files.aggregate(words(&args));
    assert_eq!(files.numbers("out"), [2.0, 4.0]);
    let rejected = [
        ("nan", "tensor \"w\" is not finite at element 1"),
        ("infinite", "tensor \"w\" is not finite at element 0"),
        ("c", "it claims 1000001 examples, but at most 1000000 are believed"),
        ("long", "its norm is 500.000000, but at most 499.9 is allowed"),
    ];
    assert_eq!(
        result["rejected"],
        Value::from_iter(rejected.map(|(path, reason)| json!({ "path": path, "reason": reason })))
    );
    let lines = rejected.map(|(path, reason)| format!("warning: {path} is left out: {reason}"));
    assert_eq!(ended.log.lines().collect::<Vec<_>>(), lines);
    assert_eq!(result["inputs"].as_array().unwrap().len(), 2);

    // They are failures of the round.
    let strict = files.refused(words(&format!("{args} --param accept_failures=false")));
    assert!(strict.contains("4 updates could not be used"), "{strict}");
    let strict = files.refused(words(&format!("{args} --param accept_failures=false --failures 3")));
    assert!(strict.contains("7 updates could not be used"), "{strict}");
    let none = files.refused(words("--strategy fedavg --input nan=1 --input infinite=2"));
    assert!(none.contains("every input was rejected") && none.contains("element 1"), "{none}");
    let (_, none) = files.aggregate(words("--strategy fedavg --input nan=1"));
    assert_eq!((&none["folded"], &none["rejected"][0]["path"]), (&json!(false), &json!("nan")));
    // What is begun from is no update that can be left out.
    let initial = files.refused(words("--strategy fedavgm --initial nan --input a=1"));
    assert!(initial.contains("--initial nan: tensor \"w\" is not finite"), "{initial}");
    // Rejections are no reason for another result than without them.
    let text = Ended::of(files.command(words("--strategy fedavg --input nan=1 --input a=1"))).success();
    assert!(text.text().contains("rejected") && text.log.contains("nan is left out"), "{}{}", text.text(), text.log);
}

#[test]
fn a_rule_that_does_not_fold_says_why() {
    let files = Files::new([("a", &[1.0]), ("b", &[2.0]), ("c", &[2.0])]);
    for (args, part) in [
        ("--strategy fedavg --input a=0 --input b=0", "no update was trained on any example"),
        ("--strategy krum --param num_malicious_clients=1 --input a=1 --input b=1", "at least 5 updates for f = 1"),
        ("--strategy bulyan --input a=1 --input b=1", "at least 3 updates"),
        ("--strategy faulttolerantfedavg --failures 2 --input a=1", "1 updates arrived and 2 failed"),
        ("--strategy qfedavg --initial a --input b=1,loss=0.1 --input c=1", "--input c can't be folded by qfedavg"),
        ("--strategy qfedavg --initial a --input b=1,loss=nan", "--input b can't be folded by qfedavg"),
        ("--strategy fedadam --input a=1", "give --initial"),
    ] {
        let error = files.refused(words(args));
        assert!(error.contains(part), "{args}: {part} is not in: {error}");
    }
}

#[test]
fn files_that_are_wrong_are_told_and_nothing_is_written() {
    let files = Files::new([("a", &[1.0, 2.0]), ("short", &[1.0, 2.0]), ("longer", &[1.0, 2.0, 3.0])]);
    let whole = fs::read(files.0.path("a")).unwrap();
    fs::write(files.0.path("short"), &whole[..whole.len() - 1]).unwrap();
    fs::write(files.0.path("lying"), [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat()).unwrap();
    fs::write(files.0.path("empty"), b"").unwrap();
    let header = br#"{"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}}"#;
    fs::write(files.0.path("huge"), [&(header.len() as u64).to_le_bytes()[..], header, &[0; 8]].concat()).unwrap();
    files.write("other", &weights([floats("v", &[1.0, 2.0])]));
    files.write("double", &weights([tensor("w", DType::F64, &[2], vec![0; 16])]));
    fs::create_dir(files.0.path("directory")).unwrap();
    for name in ["float8", "complex"] {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/python_{name}.safetensors"));
        fs::copy(python, files.0.path(name)).unwrap();
    }
    for (name, part) in [
        ("none", "No such file"),
        ("directory", "no regular file"),
        ("short", "not a whole safetensors file"),
        ("lying", "its header is to have 18446744073709551615 bytes"),
        ("empty", "it is empty"),
        ("huge", "tensor w f32[4611686018427387904] has 8 bytes"),
        ("float8", "tensor \"scale\" has the dtype F8_E4M3"),
        ("complex", "tensor \"phase\" has the dtype C64"),
        ("longer", "another layout than a: w f32[3] where w f32[2] is expected"),
        ("double", "another layout than a: w f64[2] where"),
        ("other", "another layout than a: w f32[2] is missing"),
    ] {
        let error = files.refused(["--strategy", "fedavg", "--input", "a=1", "--input", &format!("{name}=1")]);
        assert!(error.starts_with(&format!("--input {name}")) && error.contains(part), "{part} is not in: {error}");
    }
    let error = files.refused(words("--strategy fedavg --initial longer --input a=1"));
    assert!(error.contains("--input a has another layout than --initial"), "{error}");
    let error = files.refused(words("--strategy fedavg --initial short --input a=1"));
    assert!(error.contains("--initial short: not a whole safetensors file"), "{error}");
    for output in ["directory", "none/out", "/dev/null"] {
        let error = files.refused(["--strategy", "fedavg", "--input", "a=1", "--output", output]);
        assert!(error.contains(&format!("--output {output}")), "{error}");
    }
    assert!(!files.there("out"));
}

#[test]
fn authors_are_remembered_by_name() {
    let files = Files::new([("x", &[0.0]), ("a", &[4.0]), ("b", &[8.0])]);
    // A rule that waits for two different authors.
    let fedbuff = "--strategy fedbuff --param buffer_size=2 --state state";
    let call = |input: &str| {
        files.folded(words(&format!("{fedbuff} --initial x --input {input}")));
        files.numbers("out")[0]
    };
    assert_eq!(call("a=1,author=ada"), 0.0, "one of two");
    assert_ne!(call("b=1,author=bea"), 0.0, "both");
}

#[test]
fn arguments_that_cannot_be() {
    let files = Files::new([("a", &[1.0]), ("b", &[1.0])]);
    for (args, part) in [
        ("--strategy fedx --input a=1", "--strategy fedx: there is no strategy \"fedx\"; there are"),
        ("--strategy fedadam --param speed=1 --input a=1", "fedadam has no parameter \"speed\"; it has eta"),
        ("--strategy fedadam --param eta=fast --input a=1", "eta can't be \"fast\""),
        ("--strategy fedadam --param eta --input a=1", "--param eta: write NAME=VALUE"),
        ("--strategy fedavg", "--input"),
        ("--input a=1", "--strategy"),
        ("--strategy fedavg --input a", "write FILE=NUM_EXAMPLES"),
        ("--strategy fedavg --input a=-1", "write FILE=NUM_EXAMPLES"),
        ("--strategy fedavg --input a=1,stale=2", "\"stale=2\" is no option of an input; there are staleness=T"),
        ("--strategy fedavg --input a=1,staleness=-1", "staleness can't be \"-1\""),
        ("--strategy fedavg --input a=1,author=x --input b=1,author=x", "--input b: the author \"x\" has another"),
        ("--strategy fedavg --input a=1 --round 0", "--round"),
        ("--strategy fedavg --input a=1 --round=-1", "--round"),
        ("--strategy fedavg --input a=1 --max-norm 0", "above 0"),
        ("--strategy fedavg --input a=1 --max-norm -1", "above 0"),
        ("--strategy fedavg --input a=1 --max-norm nan", "above 0"),
        ("--strategy fedavg --input a=1 --failures -1", "--failures"),
        ("--strategy fedavg --input a=1 --param n_failures=some", "n_failures=some: must be a whole number"),
        ("--strategy fedavg --input a=1 --param n_failures=1 --failures 1", "the same as --failures"),
        ("--strategy fedavg --input a=1 --state out", "--state and --output are the same file"),
        ("--strategy fedavg --input a=1 --inputs b=1", "--inputs"),
    ] {
        let mut command = files.command(words(args));
        command.arg("--json");
        let ended = Ended::of(command);
        assert_eq!(ended.status.code(), Some(2), "{args}: {}", ended.log);
        assert!(ended.error().contains(part), "{args}: {part} is not in: {}", ended.error());
        assert_eq!(ended.lines, [""; 0]);
    }
    assert!(!files.there("out"));
}

/// What the inputs have together doesn't fit into the memory that is allowed.
#[test]
fn inputs_are_not_held_in_memory() {
    const INPUTS: u8 = 24;
    const ELEMENTS: usize = 2 << 20;
    let files = Files::new([]);
    for number in 0..INPUTS {
        files.write(&format!("{number}.st"), &weights([floats("w", &vec![f32::from(number); ELEMENTS])]));
    }
    let inputs = (0..INPUTS).flat_map(|number| ["--input".to_owned(), format!("{number}.st=1")]);
    let plain = files.command(["--strategy".to_owned(), "fedavg".to_owned()].into_iter().chain(inputs));
    let mut command = Command::new("/bin/sh");
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // Data and heap, in KiB: 96 MiB, where the inputs have 192.
    command.current_dir(files.0.path("")).args(["-c", "ulimit -d 98304 && exec \"$0\" \"$@\""]);
    command.arg(plain.get_program()).args(plain.get_args());
    Ended::of(command).success();
    let mean = (0..INPUTS).map(f32::from).sum::<f32>() / f32::from(INPUTS);
    assert!(files.numbers("out").iter().all(|&number| number == mean));
}

fn integers(value: i8) -> Weights {
    weights([tensor("layer.qweight", DType::I8, &[4], vec![value as u8; 4])])
}

#[test]
fn integers_alone_are_refused_or_averaged_and_rounded_on_request() {
    let files = Files::new([]);
    for (name, value) in [("a", 0), ("b", 100)] {
        files.write(name, &integers(value));
    }
    let args = ["--strategy", "fedavg", "--input", "a=1", "--input", "b=3"];
    let refused = Ended::of(files.command(args));
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.error().contains("nothing can be averaged") && refused.error().contains("integers=mean"));
    assert!(!files.there("out"));
    Ended::of(files.command([&args[..], &["--param", "integers=mean"]].concat())).success();
    assert_eq!(files.read("out"), integers(75));
}

#[test]
fn whose_the_integer_tensors_are_is_said() {
    let files = Files::new([]);
    for (name, value, count) in [("a", 0.0, 1), ("b", 1.0, 2)] {
        files.write(name, &weights([floats("w", &[value]), tensor("steps", DType::U8, &[1], vec![count])]));
    }
    let args = ["--strategy", "fedavg", "--input", "a=1,epoch=1", "--input", "b=3,epoch=2"];
    let text = Ended::of(files.command(args)).success().text();
    assert!(text.contains("those of b alone: steps"), "{text}");
    let json: Value =
        serde_json::from_str(&Ended::of(files.command([&args[..], &["--json"]].concat())).success().text()).unwrap();
    assert_eq!(json["unaveraged"], json!([{"path": "b", "tensors": ["steps"]}]));
    let mean = Ended::of(files.command([&args[..], &["--json", "--param", "integers=mean"]].concat())).success().text();
    assert_eq!(serde_json::from_str::<Value>(&mean).unwrap()["unaveraged"], json!([]));
}

#[test]
fn running_statistics_are_averaged_by_rules_that_take_steps() {
    for strategy in
        ["fedadam", "fedyogi", "fedadagrad", "fedavgm", "diloco", "qfedavg", "fedbuff", "paflm", "asyncfeded"]
    {
        let files = Files::new([]);
        let model = |weight, variance| weights([floats("bn.weight", &[weight]), floats("bn.running_var", &[variance])]);
        for (name, weight, variance) in [("x0", 1.0, 1.0), ("a", 0.5, 0.02), ("b", 0.5, 0.04)] {
            files.write(name, &model(weight, variance));
        }
        for round in 1..=6 {
            let args =
                ["--strategy", strategy, "--initial", "x0", "--state", "state", "--input", "a=1,loss=1", "--input"];
            let ended = Ended::of(files.command([&args[..], &["b=1,loss=1"]].concat())).success();
            let variance = files.numbers("out")[0];
            assert!((0.02..=0.04).contains(&variance), "{strategy} round {round}: {variance} {}", ended.log);
        }
        // Stepped on request, and then said.
        if strategy == "diloco" {
            let args = [
                "--strategy",
                strategy,
                "--initial",
                "x0",
                "--param",
                "step=*running_var",
                "--param",
                "outer_learning_rate=1.5",
            ];
            let ended = Ended::of(files.command([&args[..], &["--input", "a=1", "--input", "b=1"]].concat())).success();
            assert!(files.numbers("out")[0] < 0.0);
            assert!(ended.log.contains("bn.running_var has turned negative"), "{}", ended.log);
            assert!(ended.text().contains("turned negative"), "{}", ended.text());
        }
    }
}

#[test]
fn local_tensors_stay_those_of_the_first_input() {
    let files = Files::new([]);
    for (name, value) in [("a", 1.0), ("b", 3.0)] {
        files.write(name, &weights([floats("body", &[value]), floats("head.weight", &[value])]));
    }
    for strategy in ["fedavg", "fedmedian", "krum", "fedasync"] {
        let args = ["--strategy", strategy, "--initial", "a", "--param", "local=head.*"];
        Ended::of(files.command([&args[..], &["--input", "b=1", "--input", "a=1"]].concat())).success();
        assert_eq!(files.numbers("out")[1], 3.0, "{strategy}");
    }
}
