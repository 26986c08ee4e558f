//! A federation with a secret, as its operators set it up: `peerfold secret`, `invite`, `join`, and nodes that train.

use super::process::{Ended, Running, Sandbox};
use peerfold::{node::Event, p2p::PeerAddress};
use std::{fs, path::Path};

const ANY: &str = "/ip4/127.0.0.1/tcp/0";

fn secret(sandbox: &Sandbox, file: &str) -> String {
    Ended::of(sandbox.command(["secret", "new", file])).success().text()
}

#[test]
fn a_secret_is_made_once_and_kept_private() {
    let sandbox = Sandbox::new();
    let made = secret(&sandbox, "ward.secret");
    assert_eq!(Ended::of(sandbox.command(["secret", "check", "ward.secret"])).success().text(), made);
    let bytes = fs::read(sandbox.path("ward.secret")).unwrap();
    let again = Ended::of(sandbox.command(["secret", "new", "ward.secret"]));
    assert!(again.error().contains("ward.secret is there already"), "{}", again.error());
    assert_eq!(fs::read(sandbox.path("ward.secret")).unwrap(), bytes);
    assert_ne!(secret(&sandbox, "other.secret").split(' ').next_back(), made.split(' ').next_back());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(sandbox.path("ward.secret"), fs::Permissions::from_mode(0o644)).unwrap();
        let args = ["node", "--federation", "x", "--home", "a", "--secret", "ward.secret"];
        let exposed = Ended::of(sandbox.command(args));
        let error = exposed.error();
        assert!(error.contains("--secret ward.secret") && error.contains("chmod 600"), "{error}");
    }
}

#[test]
fn what_a_secret_cannot_hide_is_refused_in_one_line() {
    let sandbox = Sandbox::new();
    secret(&sandbox, "ward.secret");
    let peer = "/p2p/12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7";
    let quic = format!("/ip4/127.0.0.1/udp/1/quic-v1{peer}");
    let (secret, quic, folder) = (["--secret", "ward.secret"], quic.as_str(), sandbox.folder());
    for (args, parts) in [
        (vec!["node", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"], ["--listen", "/tcp/"]),
        (vec!["node", "--bootstrap", quic], ["--bootstrap", "/tcp/"]),
        (vec!["folder", "ls", "p2p:", "--bootstrap", quic], ["--bootstrap", "/tcp/"]),
        (vec!["node", "--folder", &folder], ["--secret", "not encrypted"]),
        (vec!["bootstrap", "--home", "b", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"], ["quic-v1", "/tcp/"]),
    ] {
        let mut command = sandbox.command([&args[..], &secret].concat());
        command.env("PEERFOLD_FEDERATION", "ward");
        let ended = Ended::of(command);
        assert!(parts.iter().all(|part| ended.error().contains(part)), "{args:?}: {}", ended.error());
    }
}

/// An administrator invites two sites, which paste what they were sent, and their nodes learn together. Who has another
/// secret is told so.
#[test]
fn sites_that_are_invited_learn_together() {
    let sandbox = Sandbox::new();
    let made = secret(&sandbox, "ward.secret");
    let bootstrap = ["bootstrap", "--home", "bootstrap", "--listen", ANY, "--secret", "ward.secret"];
    let mut bootstrap = Running::start(sandbox.command(bootstrap));
    let address: PeerAddress = bootstrap.line(|line| line.contains("/p2p/")).parse().unwrap();
    let address = address.to_string();

    let settings = ["--federation", "ward", "--steps-per-epoch", "30", "--strategy", "fedavg", "--min-peers", "1"];
    let invite = ["invite", "--secret", "ward.secret", "--bootstrap", &address];
    let invited = Ended::of(sandbox.command([&invite[..], &settings].concat())).success();
    let invitation = invited.text();
    assert!(invitation.starts_with("peerfold-join-1-") && invited.lines.len() == 1, "{invitation}");
    let digits = made.split(' ').next_back().unwrap();
    assert!(
        invited.log.contains("contains the federation's secret") && invited.log.contains(digits),
        "{}",
        invited.log
    );
    let unreachable = Ended::of(sandbox.command([&["invite", "--secret", "ward.secret"][..], &settings].concat()));
    assert!(unreachable.error().contains("--bootstrap is missing"), "{}", unreachable.error());

    let directory = Ended::of(sandbox.command([&["invite", "--folder", "file:///srv"][..], &settings].concat()));
    assert!(directory.error().contains("--folder names a folder of this machine"), "{}", directory.error());

    let join = |home: &str, text: &str| Ended::of(sandbox.command(["join", text, "--home", home]));
    let cut = join("a", &invitation[..invitation.len() - 5]);
    assert!(cut.error().contains("cut short"), "{}", cut.error());
    assert!(!sandbox.path("a").exists());
    for home in ["a", "b"] {
        let joined = join(home, &invitation).success().text();
        let start = format!("peerfold node --config {}", sandbox.path(home).join("node.toml").display());
        assert!(joined.contains(&start) && joined.contains("\"ward\""), "{joined}");
        assert_eq!(
            fs::read(sandbox.path(home).join("federation.secret")).unwrap(),
            fs::read(sandbox.path("ward.secret")).unwrap()
        );
    }
    // The same again changes nothing; what somebody has written is not written over.
    let config = sandbox.path("a/node.toml");
    let before = fs::read_to_string(&config).unwrap();
    join("a", &invitation).success();
    fs::write(&config, format!("{before}epochs = 4\n")).unwrap();
    assert!(join("a", &invitation).error().contains("node.toml is there already"));

    let node = |home: &str, part: &str| {
        let config = sandbox.path(home).join("node.toml");
        let args = ["--partition", part, "--epochs", "4", "--listen", ANY, "--json"];
        Running::start(sandbox.command(["node", "--config", config.to_str().unwrap()].iter().chain(&args)))
    };
    let mut staying = {
        let config = Path::new("a/node.toml");
        let args = ["--partition", "0/2", "--listen", ANY, "--json", "--stay"];
        Running::start(sandbox.command(["node", "--config", config.to_str().unwrap()].iter().chain(&args)))
    };
    staying.event(|event| matches!(event, Event::Waiting { .. }));
    let ended = node("b", "1/2").wait().success();
    assert!(!ended.log.contains("can join"), "{}", ended.log);
    let folds = |event: &Event| matches!(event, Event::Folded { updates, .. } if updates.len() == 2);
    assert!(ended.events().iter().any(folds), "{:?}", ended.events());

    let ls = |file: &[&str]| {
        let args = ["folder", "ls", "p2p:", "--federation", "ward", "--bootstrap", &address, "--listen", ANY];
        Ended::of(sandbox.command([&args[..], file].concat()))
    };
    assert!(ls(&["--secret", "ward.secret"]).success().text().contains("unfolded"));
    secret(&sandbox, "other.secret");
    let other = ls(&["--secret", "other.secret"]);
    assert!(!other.status.success() && other.log.contains("it has another"), "{}", other.log);
    assert!(other.log.contains("has it the file that --secret names here?"), "{}", other.log);
    let none = ls(&["--no-mdns"]);
    assert!(!none.status.success() && none.log.contains("--secret names its file"), "{}", none.log);
    staying.signal("TERM");
    staying.wait().success();
    bootstrap.signal("TERM");
    let told = bootstrap.wait().success().log;
    assert!(told.contains("refused who has another secret"), "{told}");
}
