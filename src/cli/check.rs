//! `peerfold check`: says whom a node with these settings would reach, who would reach it, and what to do where that fails.

use super::{
    flags::CheckedFlags,
    layers::{blamed, resolve, values},
    settings::{NodeIdentity, SettingsError, default_home, missing, read},
    source::Given,
};
use crate::{
    home::Home,
    p2p::{Between, CheckReport, CheckedAddress, NetworkSettings, Standing, check},
    printable::printable,
    program::{print, short_peer},
    secret::SecretSettings,
    weights::FederationId,
};
use anyhow::Context;
use clap::Args;
use libp2p_identity::Keypair;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tokio::runtime::Builder;

/// Milliseconds: a clock that is off by less than a minute isn't told of, and by how much is told in minutes.
const MINUTE: u64 = 60_000;

#[derive(Args)]
pub(super) struct CheckFlags {
    #[command(flatten)]
    flags: CheckedFlags,
    /// Read settings from a node's TOML file.
    #[arg(long, env = "PEERFOLD_CONFIG", value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Write what was found as one JSON object.
    #[arg(long)]
    json: bool,
}

/// The exit code is 1 if nobody was reached.
pub(super) fn run(flags: &CheckFlags) -> anyhow::Result<ExitCode> {
    let settings = resolve(&flags.flags.0, flags.config.as_deref())?;
    let report = look(&settings).map_err(|error| blamed(error, &settings))?;
    print(&if flags.json { serde_json::to_string(&report)? + "\n" } else { text(&report) })?;
    Ok(if report.is_reached() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look(settings: &Given) -> anyhow::Result<CheckReport> {
    let values = values(settings);
    let network: NetworkSettings = read(&values)?;
    if network.bootstrap.is_empty() {
        return Err(missing("bootstrap").into());
    }
    let secret = read::<SecretSettings>(&values)?.secret.map(|file| file.secret);
    if secret.is_some() {
        network.check_private().map_err(SettingsError::from)?;
    }
    let identity: NodeIdentity = read(&values)?;
    let federation = identity.federation.as_deref().map(|name| FederationId::new(name, &identity.run));
    let home = identity.home.map_or_else(default_home, Ok)?;
    let keypair = keypair(&home);
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().context("starting the runtime")?;
    Ok(runtime.block_on(check(&keypair, &network, secret.as_ref(), federation))?)
}

/// The home's, so that who lets in only members says what it would say to the node. Another one, if there is no home or a
/// node runs on it.
fn keypair(home: &Path) -> Keypair {
    if Home::check_exists(home).is_ok()
        && let Ok(home) = Home::open_existing(home)
    {
        return home.keypair().clone();
    }
    Keypair::generate_ed25519()
}

/// The whole as text for people.
fn text(report: &CheckReport) -> String {
    let mut lines: Vec<String> = report.list.iter().map(listed).collect();
    if !report.is_reached() {
        lines.push("nobody was reached".to_owned());
        return lines.join("\n") + "\n";
    }
    lines.extend(report.members.map(|members| {
        match members {
            0 => "no member of the federation is known there: is it the first, or are --federation and --run others?"
                .to_owned(),
            1 => "1 member of the federation is known there".to_owned(),
            members => format!("{members} members of the federation are known there"),
        }
    }));
    lines.extend(report.seen.iter().map(|seen| format!("seen at {seen}")));
    lines.extend(report.own.iter().map(|own| {
        let (by, how) = (short_peer(&own.by), if own.reached { "reached" } else { "not reached" });
        format!("{} is {how} by {by}", own.address)
    }));
    let is_reached = report.own.iter().any(|own| own.reached);
    let relays = report.list.iter().any(|checked| checked.reached && checked.relays);
    lines.push(verdict(report.between, is_reached, !report.own.is_empty(), relays).to_owned());
    lines.join("\n") + "\n"
}

fn listed(checked: &CheckedAddress) -> String {
    let CheckedAddress { address, milliseconds, agent, protocol, .. } = checked;
    let remedy = checked.remedy.as_ref().map_or(String::new(), |remedy| format!(": {remedy}"));
    match (&checked.wrong, checked.reached) {
        (Some(wrong), false) => format!("{address} isn't reached: {wrong}{remedy}"),
        (Some(wrong), true) => format!("{address} is reached, but {wrong}{remedy}"),
        (None, _) => {
            // Whoever listens there chooses these.
            let agent = printable(agent.as_deref().unwrap_or("who doesn't say what it is"));
            let protocol = printable(protocol.as_deref().unwrap_or("an unknown version"));
            let relays = if checked.relays { ", relays" } else { "" };
            let federation = match checked.federation {
                Some(Standing::Member) => ", a member of the federation",
                Some(Standing::Known) => ", knows members of the federation",
                Some(Standing::Unknown) => ", knows no member of the federation",
                None => "",
            };
            let clock = checked.clock_ahead_ms.filter(|ahead| ahead.unsigned_abs() >= MINUTE).map(clock);
            let clock = clock.unwrap_or_default();
            format!("{address} is reached in {milliseconds} ms: {agent}, speaks {protocol}{relays}{federation}{clock}")
        }
    }
}

/// What to do about a clock that is off by so many milliseconds.
fn clock(ahead: i64) -> String {
    let minutes = ahead.unsigned_abs().saturating_add(MINUTE / 2) / MINUTE;
    let by = humantime::format_duration(Duration::from_secs(60 * minutes));
    let where_to = if ahead < 0 { "behind" } else { "ahead of" };
    format!(
        "; its clock is {by} {where_to} this machine's: set the one that is wrong. Nodes federate all the same, but the \
         times in their logs don't fit together, and a bucket refuses who is 15 minutes off"
    )
}

/// What all of it means for a node here, and what to do.
fn verdict(between: Between, is_reached: bool, is_tried: bool, relays: bool) -> &'static str {
    match (between, is_reached) {
        (_, true) => "others reach a node here directly: there is nothing to do",
        (_, false) if !is_tried => {
            "nobody tried out whether a node here is reached: it exchanges weights with those who are, if there are any"
        }
        (Between::Nothing, false) => {
            "nothing translates addresses, but a firewall keeps others out: let in the ports of --listen, over TCP and UDP"
        }
        (Between::Symmetric, false) => {
            "a router draws a port for each connection, so that others reach a node here only by a relay, without weights: \
             forward the ports of --listen, over TCP and UDP, or allow --relay-weights on all nodes"
        }
        (Between::Cone, false) if relays => {
            "a router translates addresses, and direct connections can be made through it: there is nothing to do; where the \
             other side's router draws ports, forward the ports of --listen here"
        }
        (Between::Cone, false) => {
            "a router translates addresses: forward the ports of --listen, over TCP and UDP, or use a bootstrap node that \
             relays, by which direct connections can be made"
        }
        (Between::Translated | Between::Unknown, false) => {
            "a router translates addresses, and how can't be told by one peer: a node tries to get direct connections by a \
             relay; to be sure, forward the ports of --listen, over TCP and UDP"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2p::OwnAddress;

    #[test]
    fn it_reads_well() {
        let reached = CheckedAddress {
            address: "/ip4/192.0.2.1/tcp/4600/p2p/12D3KooWone".to_owned(),
            reached: true,
            milliseconds: 12,
            agent: Some("peerfold-bootstrap/0.1.0".to_owned()),
            protocol: Some("/peerfold/1".to_owned()),
            relays: true,
            // The answer takes a moment.
            clock_ahead_ms: Some(-3 * 3_600_000 + 20),
            federation: Some(Standing::Known),
            wrong: None,
            remedy: None,
        };
        let refused = CheckedAddress {
            address: "/ip4/192.0.2.2/tcp/4600/p2p/12D3KooWtwo".to_owned(),
            reached: false,
            wrong: Some("Connection refused (os error 111)".to_owned()),
            remedy: Some("is it the right port?".to_owned()),
            ..reached.clone()
        };
        let mut report = CheckReport {
            peer: "12D3KooWself".to_owned(),
            list: vec![reached, refused],
            own: vec![OwnAddress {
                address: "/ip4/198.51.100.7/tcp/4601".to_owned(),
                reached: false,
                by: "12D3KooWone123".to_owned(),
            }],
            seen: vec!["/ip4/198.51.100.7/tcp/4601".to_owned()],
            between: Between::Symmetric,
            members: Some(2),
        };
        let told = text(&report);
        let told: Vec<&str> = told.lines().collect();
        assert_eq!(
            told[..5],
            [
                "/ip4/192.0.2.1/tcp/4600/p2p/12D3KooWone is reached in 12 ms: peerfold-bootstrap/0.1.0, speaks /peerfold/1, \
                 relays, knows members of the federation; its clock is 3h behind this machine's: set the one that is \
                 wrong. Nodes federate all the same, but the times in their logs don't fit together, and a bucket \
                 refuses who is 15 minutes off",
                "/ip4/192.0.2.2/tcp/4600/p2p/12D3KooWtwo isn't reached: Connection refused (os error 111): is it the right \
                 port?",
                "2 members of the federation are known there",
                "seen at /ip4/198.51.100.7/tcp/4601",
                "/ip4/198.51.100.7/tcp/4601 is not reached by …one123",
            ]
        );
        assert!(told[5].contains("--relay-weights") && told.len() == 6, "{told:#?}");
        report.list[0].agent = Some("x\n\u{1b}[2J".to_owned());
        assert!(listed(&report.list[0]).contains("x\\n\\u{1b}[2J,"), "{}", listed(&report.list[0]));
        report.list.remove(0);
        assert_eq!(text(&report).lines().last(), Some("nobody was reached"));
    }
}
