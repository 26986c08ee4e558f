//! The commands in README.md, as a reader would type them.

use super::process::{PATIENCE, Sandbox, until};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

const README: &str = include_str!("../../README.md");

/// The blocks of shell commands, each with the heading that it stands under.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let (mut found, mut heading) = (Vec::new(), "");
    let mut rest = README;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        } else if let Some(kind) = line.strip_prefix("```") {
            let (block, after) = rest.split_once("\n```").unwrap();
            rest = after.split_once('\n').map_or("", |(_, after)| after);
            if kind == "sh" {
                found.push((heading, block));
            }
        }
    }
    found
}

/// The commands of a block, each on one line and without its comment.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// All commands under a heading.
fn under(heading: &str) -> Vec<String> {
    blocks().iter().filter(|(at, _)| *at == heading).flat_map(|(_, block)| commands(block)).collect()
}

/// What follows this on a line, up to the next space.
fn argument<'a>(command: &'a str, flag: &str) -> &'a str {
    let after = command.split_once(&format!(" {flag} ")).unwrap_or_else(|| panic!("no {flag} in {command}")).1;
    after.split_whitespace().next().unwrap()
}

/// A sandbox in which commands are typed. Its processes are killed when this is dropped.
struct Shell {
    sandbox: Sandbox,
    children: Vec<Child>,
}

impl Shell {
    fn new() -> Self {
        Self { sandbox: Sandbox::new(), children: Vec::new() }
    }

    /// The command with the sandbox's directory for /tmp, and a port that is free.
    fn here(&self, command: &str) -> String {
        let dir = self.sandbox.path("tmp").display().to_string();
        command.replace("/tmp/", &format!("{dir}/")).replace("/tcp/4600", "/tcp/0")
    }

    /// Types a command; its output goes to this file.
    fn begin(&mut self, command: &str, output: &str) {
        let plain = self.sandbox.command([""; 0]);
        let programs = Path::new(plain.get_program()).parent().unwrap().display().to_string();
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(self.here(command)).env_clear().current_dir(self.sandbox.path(""));
        shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.env("PATH", format!("{programs}:/usr/local/bin:/usr/bin:/bin"));
        let file = |name: &str| fs::File::create(self.sandbox.path(name)).unwrap();
        shell.stdin(Stdio::null()).stdout(file(output)).stderr(file(&format!("{output}.log")));
        self.children.push(shell.spawn().unwrap());
    }

    fn read(&self, output: &str) -> String {
        fs::read_to_string(self.sandbox.path(output)).unwrap_or_default()
    }

    /// Waits until a line of the output is like this.
    fn wait_for(&self, output: &str, wanted: impl Fn(&str) -> bool) {
        let log = || self.read(&format!("{output}.log"));
        until(|| self.read(output).lines().any(&wanted), || format!("{}\n{}", self.read(output), log()));
    }

    /// Runs a command to its end.
    fn run(&mut self, command: &str) {
        self.begin(command, "run");
        assert!(self.children.pop().unwrap().wait().unwrap().success(), "{command}: {}", self.read("run.log"));
    }

    /// Stops all that was begun, and waits for the end.
    fn stop(&mut self) {
        self.kill("TERM");
        for mut child in self.children.drain(..) {
            child.wait().unwrap();
        }
        until(|| self.sandbox.processes().is_empty(), || format!("{:?} don't end", self.sandbox.processes()));
    }

    fn kill(&self, signal: &str) {
        for process in self.sandbox.processes() {
            // It may have ended already.
            let kill = format!("kill -{signal} {process} 2> /dev/null");
            let _ = Command::new("/bin/sh").arg("-c").arg(kill).status();
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.kill("KILL");
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// Whether a node reports that it has folded with this many others.
fn folds(line: &str, others: usize) -> bool {
    line.split_once(": folded with ").is_some_and(|(_, names)| names.matches("(epoch ").count() == others)
}

#[test]
fn the_third_of_three_nodes_folds_with_the_others() {
    let commands = under("Run nodes");
    let [bootstrap, dead, first, second, third] = &commands[..] else { panic!("{commands:#?}") };
    // After the first two lines, the user has a minute to type the third.
    for node in [first, second, third] {
        let number = |flag| argument(node, flag).parse::<f64>().unwrap();
        assert!(number("--period") * number("--epochs") >= 60.0, "{node}");
    }
    let mut shell = Shell::new();
    fs::create_dir(shell.sandbox.path("tmp")).unwrap();
    shell.begin(bootstrap, "bootstrap");
    shell.wait_for("bootstrap", |line| line.contains("/p2p/"));
    shell.run(dead);
    shell.begin(first, "a");
    shell.begin(second, "b");
    for node in ["a", "b"] {
        shell.wait_for(node, |line| folds(line, 1));
    }
    shell.begin(third, "c");
    shell.wait_for("c", |line| folds(line, 2));
    for node in ["a", "b"] {
        shell.wait_for(node, |line| folds(line, 2));
    }
    // And `peerfold peers` shows them.
    let peers = README.split("`peerfold peers").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    shell.run(&format!("peerfold peers {peers}"));
    let told = shell.read("run");
    assert!(told.contains("in federation \"try\", run \"1\"") && told.contains("member"), "{told}");
    shell.stop();
    assert!(shell.sandbox.path("tmp/try/a.safetensors").exists(), "a node that is stopped writes its weights");
}

#[test]
fn two_nodes_meet_in_a_shared_directory() {
    let commands = under("A shared directory instead");
    let [directory, first, second] = &commands[..] else { panic!("{commands:#?}") };
    let mut shell = Shell::new();
    shell.run(directory);
    shell.begin(first, "a");
    shell.begin(second, "b");
    for node in ["a", "b"] {
        shell.wait_for(node, |line| folds(line, 1));
        shell.wait_for(node, |line| line.contains("finished at epoch"));
    }
    for mut child in shell.children.drain(..) {
        assert!(child.wait().unwrap().success());
    }
    assert!(shell.sandbox.path("tmp/peerfold-try/b.safetensors").exists());
}

#[test]
fn every_command_that_is_shown_has_flags_that_there_are() {
    let (mut checked, mut nodes) = (0, 0);
    for (heading, block) in blocks() {
        for command in commands(block) {
            let command = command.replace("cargo run --profile quick -- ", "peerfold ");
            let Some(arguments) = command.strip_prefix("peerfold ") else { continue };
            let arguments = arguments.split(" | ").next().unwrap_or_default();
            let mut shell = Shell::new();
            shell.run(&format!("peerfold {arguments} --help"));
            checked += 1;
            if arguments.starts_with("node ") {
                // Also their values, as far as they are known before a node begins.
                let print = if arguments.ends_with("--print-config") { "" } else { " --print-config" };
                shell.run(&format!("peerfold {arguments}{print}"));
                nodes += 1;
            }
            assert!(!shell.read("run").is_empty(), "{heading}: {command}");
        }
    }
    assert!(checked >= 12 && nodes >= 7, "only {checked} commands were found, {nodes} of them nodes");
    assert!(PATIENCE.as_secs() >= 60, "longer than a node waits for a second one");
}
