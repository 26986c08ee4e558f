//! The decoders of this layer, as fuzzers try them.
#![allow(clippy::unwrap_used)]

use super::{Conflict, MAX_MEMBERS, MAX_NAME_CHARS, MemberList, SignedList};
use crate::{
    untrusted::{Target, check_told, text, told},
    weights::{
        Content, Entry, FederationId, Key, LayoutId, Metadata, SignedEntry, Weights,
        decoders::{entries, keypair},
    },
};

fn member_list(bytes: &[u8]) {
    let Some(list) = told(MemberList::parse(&text(bytes))) else { return };
    assert!(list.peers().count() <= MAX_MEMBERS);
    list.peers().filter_map(|peer| list.name(&peer)).for_each(|name| {
        check_told(name);
        assert!(name.chars().count() <= MAX_NAME_CHARS);
    });
}

fn lists() -> Vec<Vec<u8>> {
    let [one, two] = [1, 2].map(|seed| keypair(seed).public().to_peer_id());
    vec![format!("# sites\n{one} Ward 3, St. Mary's # since May\r\n\n  {two}\n").into_bytes()]
}

fn signed_list(bytes: &[u8]) {
    if let Some(list) = told(SignedList::read(bytes, FederationId::new("ward", "1"))) {
        assert_eq!(list.bytes(), bytes);
        assert!(list.admitted().contains(&list.signer()));
    }
}

fn signed_lists() -> Vec<Vec<u8>> {
    let (keypair, text) = (keypair(3), lists().remove(0));
    let artifact = Weights::artifact(text.clone()).unwrap();
    let content =
        Content::Put { root: artifact.manifest().root(), length: text.len() as u64, metadata: Metadata::default() };
    let key = Key::new(keypair.public().to_peer_id(), "members").unwrap();
    let (federation, layout) = (FederationId::new("ward", "1"), LayoutId::from_bytes([0; 32]));
    let entry = SignedEntry::sign(Entry { federation, layout, key, sequence: 7, content }, &keypair).unwrap();
    let list = SignedList::new(entry, &text).unwrap();
    vec![list.bytes()]
}

/// One entry, 0xff, and another.
fn proof(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0xff).unwrap_or(bytes.len() / 2);
    let (one, other) = bytes.split_at(at);
    if let Some(proof) = told(Conflict::decode([one, other.get(1..).unwrap_or_default()])) {
        let [first, second] = &proof.entries;
        assert!(first.hash() < second.hash() && first.key.author() == second.key.author());
        check_told(proof);
    }
}

fn proofs() -> Vec<Vec<u8>> {
    let [one, other, ..] = &entries()[..] else { return Vec::new() };
    vec![[one.bytes(), &[0xff], other.bytes()].concat()]
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![
        Target { name: "member-list", run: member_list, seeds: lists },
        Target { name: "signed-list", run: signed_list, seeds: signed_lists },
        Target { name: "proof", run: proof, seeds: proofs },
    ]
}
