//! The decoders of this layer, as fuzzers try them.
#![allow(clippy::unwrap_used)]

use super::{
    TimedEvent, aggregate,
    invitation::{Invitation, InvitationError},
    layers,
    settings::node_settings,
};
use crate::{
    node::{Event, Origin},
    pasted,
    untrusted::{Target, text, told},
    weights::decoders::keypair,
};
use std::{
    mem::discriminant,
    path::Path,
    time::{Duration, SystemTime},
};

fn check(invitation: Result<Invitation, InvitationError>) {
    if let Some(invitation) = told(invitation) {
        assert_eq!(Invitation::read(&invitation.text()).unwrap(), invitation);
        told(invitation.values());
    }
}

fn invitation(bytes: &[u8]) {
    check(Invitation::read(&text(bytes)));
}

/// What is in an invitation whose checksum is right: who invites may be anybody.
fn invitation_content(content: &[u8]) {
    if content.len() <= 8192 {
        check(Invitation::read(&format!("peerfold-join-1-{}", pasted::written(content))));
    }
}

fn settings_of_all() -> Vec<String> {
    let peer = keypair(1).public().to_peer_id();
    vec![
        format!(
            "federation = \"ward\"\nrun = \"2\"\nfolder = \"p2p:\"\nlr = 0.01\nparam = {{ beta = 0.9 }}\n\
             bootstrap = [\"/ip4/192.0.2.1/tcp/4600/p2p/{peer}\"]\nsteps-per-epoch = 50\nperiod = \"5m\"\n"
        ),
        "\"a\\n\\u001b[31m\" = 1\nlr = \"\"\"x\ny\"\"\"\n".to_owned(),
        "lr = \"\"\"x\ny\"\"\"\n".to_owned(),
        "bootstrap = [\"/etc\\n\\u001b[31m/passwd\"]\n".to_owned(),
        format!("lr = {}", "[".repeat(300)),
    ]
}

fn invitations() -> Vec<Vec<u8>> {
    let texts = settings_of_all().into_iter().take(2);
    texts
        .map(|settings| Invitation { secret: Some([5; 32]), settings, members: Vec::new() }.text().into_bytes())
        .collect()
}

fn contents() -> Vec<Vec<u8>> {
    let texts = settings_of_all().into_iter();
    texts
        .map(|settings| postcard::to_stdvec(&Invitation { secret: None, settings, members: Vec::new() }).unwrap())
        .collect()
}

fn config(bytes: &[u8]) {
    told(layers::parse_toml(Path::new("node.toml"), &text(bytes), &node_settings()));
}

fn configs() -> Vec<Vec<u8>> {
    settings_of_all().into_iter().map(String::into_bytes).collect()
}

fn input(bytes: &[u8]) {
    told(aggregate::input::parse(&text(bytes)));
}

fn inputs() -> Vec<Vec<u8>> {
    let texts =
        ["a.safetensors=600,staleness=2,loss=0.5,delta,degree=3,author=x,epoch=4", "a=1=2.0,delta", "a=9,\n\x1b"];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// A line that a node of a demo writes.
fn event(bytes: &[u8]) {
    if let Ok(timed) = serde_json::from_slice::<TimedEvent>(bytes) {
        let json = serde_json::to_vec(&timed).unwrap();
        let again: TimedEvent = serde_json::from_slice(&json).unwrap();
        // serde_json may read a fraction's last digit differently each time.
        assert_eq!(discriminant(&again.event), discriminant(&timed.event));
    }
}

fn events() -> Vec<Vec<u8>> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let peer = keypair(1).public().to_peer_id().to_string();
    let events = [
        Event::Started {
            peer: peer.clone(),
            federation: "f".to_owned(),
            layout: "l".to_owned(),
            epoch: 0,
            origin: Origin::Fold,
            root: "r".to_owned(),
            authors: vec![peer.clone()],
        },
        Event::Mismatch { author: peer, differences: vec!["lr: 1, here 2".to_owned()] },
        Event::Finished {
            epoch: 3,
            metrics: [("accuracy".to_owned(), 0.9)].into(),
            stopped: false,
            root: "r".to_owned(),
            seconds: 1.5,
            written: 1,
            read: 2,
            peers: Some(3),
            sent: Some(4),
            received: None,
            bucket: None,
        },
    ];
    events.into_iter().map(|event| serde_json::to_vec(&TimedEvent { time, event }).unwrap()).collect()
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![
        Target { name: "invitation", run: invitation, seeds: invitations },
        Target { name: "invitation-content", run: invitation_content, seeds: contents },
        Target { name: "config", run: config, seeds: configs },
        Target { name: "aggregate-input", run: input, seeds: inputs },
        Target { name: "event", run: event, seeds: events },
    ]
}
