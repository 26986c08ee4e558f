//! Nodes that train by a command (`--exec`): the examples, and commands that do all kinds of things wrong.

use super::{
    process::{Ended, LOOK, PATIENCE, Running, Sandbox},
    python::python,
};
use peerfold::{node::Event, weights::Weights};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/exec");

/// One tensor of one number, which stays as it is. The state has the epochs that were trained.
const TRAINER: &str = r#"
if [ "$EXEC_EPOCH" = 0 ]; then
    printf '\071\0\0\0\0\0\0\0{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   \0\0\200\077' > "$EXEC_OUT"
    exit
fi
echo "$EXEC_EPOCH" >> "$EXEC_STATE/epochs"
cp "$EXEC_WEIGHTS" "$EXEC_OUT"
echo '{"num_examples": 5, "metrics": {"loss": 0.5}}' > "$EXEC_REPORT"
"#;

/// A node that trains by a command and meets others in the sandbox's folder.
fn node(sandbox: &Sandbox, home: &str, command: &str, args: &[&str]) -> Command {
    let folder = sandbox.folder();
    let args = [&["--folder", &folder, "--exec", command][..], args].concat();
    let mut node = sandbox.node(home, &args);
    node.env_remove("PEERFOLD_STEPS_PER_EPOCH").env("PATH", env::var_os("PATH").unwrap_or_default());
    node
}

/// The trainer, which in an epoch does something else, as long as the sandbox has no file `mended`.
fn wrong_in(sandbox: &Sandbox, epoch: u64, instead: &str) -> String {
    let mended = sandbox.path("mended");
    let wrong = format!("if [ \"$EXEC_EPOCH\" = {epoch} ] && [ ! -e '{}' ]; then {instead}\nfi\n", mended.display());
    TRAINER.replacen("echo \"$EXEC_EPOCH\"", &format!("{wrong}echo \"$EXEC_EPOCH\""), 1)
}

/// What a home keeps of a command.
fn kept(home: &Path, name: &str) -> PathBuf {
    let runs = fs::read_dir(home.join("runs")).unwrap();
    let found = runs.map(|run| run.unwrap().path().join("exec").join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} isn't in {}", home.display()))
}

/// The epochs that count, as the command has noted them.
fn trained(sandbox: &Sandbox, home: &str) -> Vec<u64> {
    let noted = fs::read_to_string(kept(&sandbox.path(home), "state/epochs")).unwrap();
    noted.lines().map(|line| line.parse().unwrap()).collect()
}

fn attempts(sandbox: &Sandbox, home: &str) -> usize {
    let dir = kept(&sandbox.path(home), "state");
    let names = fs::read_dir(dir.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("attempt-")).count()
}

/// Two nodes that wait for each other, each with half of the data, come to the same weights, bit for bit.
fn learn_together(example: &str, of: &str, tensors: &[&str], better_than: f64) {
    let sandbox = Sandbox::new();
    let command = format!("{of} {EXAMPLES}/{example}");
    let nodes = ["a", "b"].iter().enumerate().map(|(part, home)| {
        let part = format!("{part}/2");
        let out = sandbox.path(format!("{home}.safetensors"));
        let args = ["--partition", &part, "--sync", "--epochs", "4", "--out", out.to_str().unwrap()];
        Running::start(node(&sandbox, home, &command, &args))
    });
    let nodes: Vec<Running> = nodes.collect();
    for running in nodes {
        let ended = running.wait();
        assert!(ended.status.success(), "{}", ended.log);
        let events = ended.events();
        let folds = events.iter().filter(|event| matches!(event, Event::Folded { updates, .. } if updates.len() == 2));
        assert_eq!(folds.count(), 4);
        let last = events.iter().rev().find_map(|event| match event {
            Event::EpochDone { metrics, .. } => Some(metrics.clone()),
            _ => None,
        });
        let folded = last.unwrap()["folded_accuracy"];
        assert!(folded > better_than, "{folded}");
    }
    let [one, other] = ["a", "b"].map(|home| fs::read(sandbox.path(format!("{home}.safetensors"))).unwrap());
    assert!(one == other);
    let weights = Weights::from_safetensors(&one.into()).unwrap();
    let names: Vec<&str> = weights.layout().tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, tensors);
}

#[test]
fn a_model_in_python_is_federated_without_any_package() {
    let Some(mut python) = python() else { return };
    // The sandbox has no home in which a manager of versions would find it.
    let program = python.args(["-c", "import sys; print(sys.executable)"]).output().unwrap().stdout;
    learn_together("train.py", String::from_utf8(program).unwrap().trim(), &["bias", "weight"], 0.85);
}

#[test]
fn a_model_in_r_is_federated() {
    let has = Command::new("Rscript").args(["-e", "library(jsonlite)"]).output().is_ok_and(|has| has.status.success());
    if !has {
        return eprintln!("skipped: there is no Rscript with jsonlite");
    }
    learn_together("train.R", "Rscript", &["coefficients"], 0.9);
}

/// Three numbers and one: the mean that both come to counts each once.
#[test]
fn a_script_federates_a_program_that_knows_nothing_of_it() {
    if !Command::new("perl").arg("-v").output().is_ok_and(|perl| perl.status.success()) {
        return eprintln!("skipped: there is no perl");
    }
    let sandbox = Sandbox::new();
    let nodes = [("a", "1\n2\n3\n"), ("b", "10\n")].map(|(home, numbers)| {
        let file = sandbox.path(format!("{home}.txt"));
        fs::write(&file, numbers).unwrap();
        let args = ["--sync", "--nodes", "2", "--epochs", "40"];
        let mut node = node(&sandbox, home, &format!("{EXAMPLES}/train.sh"), &args);
        node.env("NUMBERS", file);
        Running::start(node)
    });
    for running in nodes {
        let ended = running.wait();
        assert!(ended.status.success(), "{}", ended.log);
        let last = ended.events().into_iter().rev().find_map(|event| match event {
            Event::EpochDone { metrics, .. } => Some(metrics["mean"]),
            _ => None,
        });
        // Half of the way from the mean of all, which is 4, to that of its own.
        let mean = last.unwrap();
        assert!((mean - 3.0).abs() < 1e-9 || (mean - 7.0).abs() < 1e-9, "{mean}");
    }
}

#[test]
fn whatever_a_command_does_wrong_is_one_line_and_the_next_start_repeats_the_epoch() {
    let cases = [
        ("echo no memory >&2; exit 3", "the command failed with exit code 3; the last that it said: no memory"),
        ("kill -9 $$", "the command was killed by signal 9"),
        ("sleep 1000", "it took longer than 1s (--exec-timeout)"),
        ("exit 0", "the command has written no weights"),
        ("echo rubbish > \"$EXEC_OUT\"; exit 0", "the weights that the command has written can't be used"),
        (
            "head -c 40 \"$EXEC_WEIGHTS\" > \"$EXEC_OUT\"; exit 0",
            "the weights that the command has written can't be used",
        ),
        (
            r#"printf '\071\0\0\0\0\0\0\0{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   \0\0\300\177' > "$EXEC_OUT"; exit 0"#,
            "tensor \"w\" is not finite at element 0",
        ),
        (
            r#"printf '\071\0\0\0\0\0\0\0{"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   \0\0\0\0' > "$EXEC_OUT"; exit 0"#,
            "other tensors than it was given",
        ),
        ("cp \"$EXEC_WEIGHTS\" \"$EXEC_OUT\"; exit 0", "$EXEC_REPORT, is not there"),
        (
            "cp \"$EXEC_WEIGHTS\" \"$EXEC_OUT\"; echo '{\"examples\": 3}' > \"$EXEC_REPORT\"; exit 0",
            "unknown field `examples`",
        ),
        ("ln -s / \"$EXEC_STATE/root\"", "neither a file nor a directory"),
    ];
    for (wrong, says) in cases {
        let sandbox = Sandbox::new();
        let command = wrong_in(&sandbox, 2, wrong);
        let args = ["--epochs", "3", "--exec-retries", "0", "--exec-timeout", "1"];
        // The commands of this machine may take longer than a second.
        let patient = ["--epochs", "3", "--exec-retries", "0"];
        let args = if wrong.starts_with("sleep") { &args[..] } else { &patient[..] };
        let failed = Ended::of(node(&sandbox, "a", &command, args));
        assert_eq!(failed.status.code(), Some(1), "{wrong}: {}", failed.log);
        let errors: Vec<&str> = failed.log.lines().filter(|line| line.contains("error: ")).collect();
        assert!(
            errors.len() == 1 && errors[0].contains(says) && errors[0].contains("epoch 2"),
            "{wrong}: {}",
            failed.log
        );
        let events = failed.events();
        assert!(matches!(events.last(), Some(Event::Failed { reason }) if reason.contains(says)), "{events:?}");
        assert_eq!((trained(&sandbox, "a"), attempts(&sandbox, "a")), (vec![1], 0), "{wrong}");
        fs::write(sandbox.path("mended"), "").unwrap();
        let mended = Ended::of(node(&sandbox, "a", &command, &patient));
        assert!(mended.status.success(), "{wrong}: {}", mended.log);
        assert_eq!(trained(&sandbox, "a"), [1, 2, 3], "{wrong}");
    }
}

#[test]
fn a_command_that_fails_is_run_again_and_the_others_go_on_meanwhile() {
    let sandbox = Sandbox::new();
    let (tried, trainer) = (sandbox.path("tried"), TRAINER.to_owned());
    let fails_once =
        format!("[ -e '{0}' ] || {{ echo half >> \"$EXEC_STATE/epochs\"; touch '{0}'; exit 1; }}", tried.display());
    let command = wrong_in(&sandbox, 2, &fails_once);
    let node_b = Running::start(node(&sandbox, "b", &trainer, &["--epochs", "20"]));
    let ended = Ended::of(node(&sandbox, "a", &command, &["--epochs", "3"]));
    assert!(ended.status.success(), "{}", ended.log);
    let told = ended.log.lines().filter(|line| line.contains("it is run again from the same weights and state"));
    assert_eq!(told.count(), 1, "{}", ended.log);
    assert_eq!(trained(&sandbox, "a"), [1, 2, 3]);
    assert!(node_b.wait().status.success());
    assert_eq!(trained(&sandbox, "b").len(), 20);
}

/// Waits until the command has noted its process id in this file, and gives it.
fn noted(file: &Path) -> String {
    let began = Instant::now();
    loop {
        match fs::read_to_string(file) {
            Ok(id) if id.ends_with('\n') => return id.trim().to_owned(),
            _ => assert!(began.elapsed() < PATIENCE, "{} isn't written", file.display()),
        }
        thread::sleep(LOOK);
    }
}

fn until_gone(id: &str) {
    let began = Instant::now();
    let lives = || fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while lives() {
        assert!(began.elapsed() < PATIENCE, "{id} lives");
        thread::sleep(LOOK);
    }
}

#[test]
fn a_node_that_is_killed_or_stopped_takes_its_command_along_and_repeats_the_epoch() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("id");
    let waits = format!("echo half >> \"$EXEC_STATE/epochs\"; sleep 1000 & echo $! > '{}'; wait", file.display());
    let command = wrong_in(&sandbox, 2, &waits);
    for signal in ["KILL", "TERM"] {
        let running = Running::start(node(&sandbox, "a", &command, &["--epochs", "3"]));
        let id = noted(&file);
        running.signal(signal);
        let ended = running.wait();
        assert_eq!(ended.status.success(), signal == "TERM", "{}", ended.log);
        until_gone(&id);
        fs::remove_file(&file).unwrap();
        let finished = ended.events().into_iter().find_map(|event| match event {
            Event::Finished { epoch, stopped, .. } => Some((epoch, stopped)),
            _ => None,
        });
        assert_eq!(finished, (signal == "TERM").then_some((1, true)));
    }
    fs::write(sandbox.path("mended"), "").unwrap();
    let ended = Ended::of(node(&sandbox, "a", &command, &["--epochs", "3"]));
    assert!(ended.status.success(), "{}", ended.log);
    assert_eq!((trained(&sandbox, "a"), attempts(&sandbox, "a")), (vec![1, 2, 3], 0));
}

#[test]
fn what_is_about_built_in_models_is_refused_beside_a_command() {
    let sandbox = Sandbox::new();
    for (args, says) in [
        (&["--lr", "0.1"][..], "--lr 0.1: it is about built-in models"),
        (&["--steps-per-epoch", "9"], "--steps-per-epoch 9: it is about built-in models"),
        (&["--exec", " "], "--exec"),
        (&["--init", "/nowhere"], "--init /nowhere"),
    ] {
        let ended = Ended::of(node(&sandbox, "a", TRAINER, args));
        assert!(!ended.status.success() && ended.log.contains(says), "{args:?}: {}", ended.log);
    }
    let ended = Ended::of(node(&sandbox, "a", "echo no data >&2; exit 2", &["--exec-retries", "0"]));
    assert!(ended.log.contains("the weights to begin from (epoch 0) can't be had") && ended.log.contains("no data"));
}
