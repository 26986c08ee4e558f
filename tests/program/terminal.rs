//! Output for people: terminals of several widths, and no terminal at all.

use super::process::{Ended, PATIENCE, Running, Sandbox};
use peerfold::node::Event;
use std::{
    fs,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

/// More than anything writes.
const ROWS: u16 = 1500;

/// A row of a terminal.
struct Row {
    text: String,
    /// Whether the terminal has broken it, because it was too long.
    is_broken: bool,
}

/// The program in a terminal of this many columns; `None`, with a message, if there is nothing to make one with.
fn in_terminal(sandbox: &Sandbox, args: &[&str], columns: u16) -> Option<Command> {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: there is no `script` to make a terminal with");
        return None;
    }
    let plain = sandbox.command([""; 0]);
    let args: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let program = plain.get_program().display();
    let line = format!("stty cols {columns} rows {ROWS}; exec '{program}' {}", args.join(" "));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env_clear().current_dir(sandbox.path(""));
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TERM", "xterm").env("PATH", "/usr/local/bin:/usr/bin:/bin").env("SHELL", "/bin/sh");
    Some(command)
}

/// What stands on the terminal after this was written to it.
fn rows(written: &[u8], columns: u16) -> Vec<Row> {
    let mut terminal = vt100::Parser::new(ROWS, columns, 0);
    terminal.process(written);
    let screen = terminal.screen();
    let texts = screen.rows(0, columns).enumerate();
    let rows = texts.map(|(row, text)| Row { text, is_broken: screen.row_wrapped(row as u16) });
    let mut rows: Vec<Row> = rows.collect();
    let used = rows.iter().rposition(|row| !row.text.trim().is_empty()).map_or(0, |last| last + 1);
    rows.truncate(used);
    rows
}

/// Runs the program to its end in a terminal.
fn shown(sandbox: &Sandbox, args: &[&str], columns: u16) -> Option<(Ended, Vec<Row>)> {
    let ended = Ended::of(in_terminal(sandbox, args, columns)?);
    let rows = rows(ended.lines.join("\r\n").as_bytes(), columns);
    Some((ended, rows))
}

fn text(rows: &[Row]) -> String {
    rows.iter().map(|row| format!("{}\n", row.text)).collect()
}

/// Panics if the terminal had to break a line.
fn assert_fits(rows: &[Row], what: &str) {
    let broken = rows.iter().find(|row| row.is_broken).map(|row| &row.text);
    assert_eq!(broken, None, "{what}:\n{}", text(rows));
    assert!(!rows.is_empty(), "{what}");
}

#[test]
fn help_and_lists_are_broken_between_words() {
    let sandbox = Sandbox::new();
    for columns in [60, 80, 120] {
        for args in [
            &["--help"][..],
            &["node", "-h"],
            &["node", "--help"],
            &["demo", "-h"],
            &["demo", "--help"],
            &["bootstrap", "--help"],
            &["aggregate", "--help"],
            &["folder", "ls", "--help"],
            &["peers", "--help"],
            &["strategies"],
            &["strategies", "fedadam"],
            &["node", "--strategy", "fedx", "--federation", "x", "--folder", "memory:"],
        ] {
            let Some((_, rows)) = shown(&sandbox, args, columns) else { return };
            // How a command is used is shown on one line, and what has no space in it can't be broken well.
            let can_be = |row: &Row| row.text.contains(' ') && !row.text.starts_with("Usage:");
            let rows: Vec<Row> = rows.into_iter().filter(can_be).collect();
            assert_fits(&rows, &format!("{args:?} at {columns}"));
        }
    }
}

#[test]
fn the_table_of_a_demo_fits() {
    let sandbox = Sandbox::new();
    let p2p: &[&str] = &["demo", "--sync", "--epochs", "2", "--steps-per-epoch", "5"];
    let with_bucket: &[&str] = &[p2p, &["--fallback"]].concat();
    for (args, columns, tables) in
        [(p2p, 60, 2), (p2p, 80, 2), (p2p, 100, 1), (p2p, 120, 1), (with_bucket, 60, 3), (with_bucket, 80, 2)]
    {
        if args.contains(&"--fallback") && cfg!(not(feature = "demo-s3")) {
            continue;
        }
        let Some((_, rows)) = shown(&sandbox, args, columns) else { return };
        let table: Vec<&Row> = rows.iter().filter(|row| row.text.starts_with(['┌', '│', '╞', '└'])).collect();
        assert_eq!(table.iter().filter(|row| row.text.starts_with('┌')).count(), tables, "{}", text(&rows));
        assert!(table.iter().all(|row| row.text.ends_with(['┐', '│', '╡', '┘'])), "{}", text(&rows));
        for heading in ["node", "examples", "alone", "federated", "gain", "time", "peers", "sent", "received"] {
            assert!(table.iter().any(|row| row.text.contains(heading)), "{heading} is not in\n{}", text(&rows));
        }
        // The sentences above and below, not the nodes' own lines, which are drawn to the edge.
        let sentences: Vec<Row> = rows.into_iter().filter(|row| !row.text.starts_with("node ")).collect();
        assert_fits(&sentences, &format!("{args:?} at {columns}"));
    }
}

#[test]
fn tables_of_peers_and_folders_fit() {
    let sandbox = Sandbox::new();
    let mut bootstrap =
        Running::start(sandbox.command(["bootstrap", "--home", "bootstrap", "--listen", "/ip4/127.0.0.1/tcp/0"]));
    let address = bootstrap.line(|line| line.contains("/p2p/"));
    let network = ["--folder", "p2p:", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--bootstrap", &address];
    let mut node = Running::start(sandbox.node("a", &[&network[..], &["--epochs", "1", "--stay"]].concat()));
    node.event(|event| matches!(event, Event::Finished { .. }));
    let folder = sandbox.folder();
    let more = ["--folder", &folder, "--epochs", "2"];
    Ended::of(sandbox.node("b", &more)).success();
    fs::write(sandbox.path("note"), "x").unwrap();
    for columns in [60, 80, 120] {
        let Some((_, peers)) = shown(&sandbox, &["peers", "--home", "a"], columns) else { return };
        let table: Vec<Row> = peers.into_iter().filter(|row| row.text.starts_with(['┌', '│', '╞', '└'])).collect();
        assert_fits(&table, "peers");
        assert!(text(&table).contains("bootstrap") && text(&table).contains("last seen"), "{}", text(&table));
        let ls = ["folder", "ls", &folder, "--federation", "test"];
        let Some((_, rows)) = shown(&sandbox, &ls, columns) else { return };
        assert_fits(&rows, "folder ls");
        assert!(text(&rows).contains("update/2") && text(&rows).contains("loss="), "{}", text(&rows));
    }
}

/// A process that is killed when a test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn after_ctrl_c_each_node_has_one_line() {
    let sandbox = Sandbox::new();
    let columns = 80;
    let Some(mut command) = in_terminal(&sandbox, &["demo", "--epochs", "100000"], columns) else { return };
    let mut demo = Killed(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let (mut keyboard, mut output) = (demo.0.stdin.take().unwrap(), demo.0.stdout.take().unwrap());
    let (sender, pieces) = mpsc::channel();
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut piece) {
            let _ = sender.send(piece[..length].to_vec());
        }
    });
    let mut written = Vec::new();
    // All three are at work.
    while rows(&written, columns).iter().filter(|row| row.text.contains(" loss ")).count() < 3 {
        written.extend(pieces.recv_timeout(PATIENCE).unwrap());
    }
    keyboard.write_all(b"\x03").unwrap();
    while let Ok(piece) = pieces.recv_timeout(PATIENCE) {
        written.extend(piece);
    }
    drop(keyboard);
    assert!(String::from_utf8_lossy(&written).contains("^C"), "the terminal shows what was typed");
    let rows = rows(&written, columns);
    let of_nodes: Vec<&str> = rows.iter().map(|row| row.text.as_str()).filter(|row| row.contains(" loss ")).collect();
    assert_eq!(of_nodes.len(), 3, "{}", text(&rows));
    assert!((0..3).all(|node| of_nodes[node].starts_with(&format!("node {node} "))), "{}", text(&rows));
    assert!(!text(&rows).contains("^C"), "it is drawn over: {}", text(&rows));
    demo.0.wait().unwrap();
    sandbox.wait_until_nothing_is_left();
}

#[test]
fn without_a_terminal_nothing_is_broken() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(["demo", "--nodes", "2", "--sync", "--epochs", "2", "--steps-per-epoch", "5"]);
    command.env("COLUMNS", "40");
    let ended = Ended::of(command).success();
    let table: Vec<&String> = ended.lines.iter().filter(|line| line.starts_with('│')).collect();
    assert_eq!(table.len(), 3, "a heading and two nodes: {}", ended.text());
    assert!(ended.lines.iter().any(|line| line.chars().count() > 120 && line.contains("No example left its node")));
    let error = Ended::of(sandbox.command(["node", "--federation", "x", "--strategy", "fedx", "--folder", "memory:"]));
    assert!(error.error().len() > 300);
}
