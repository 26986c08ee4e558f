//! Known answers for every encoding. Encodings are part of the protocol: changing one cuts this version off from all
//! earlier ones.

use libp2p_identity::Keypair;
use peerfold::entries::EntrySet;
use peerfold::weights::*;
use std::sync::Arc;

fn weights() -> Weights {
    let tensor = |name: &str, dtype, shape: &[u64]| {
        let spec = TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() };
        let data: Vec<u8> = (0..spec.bytes()).map(|at| (at % 251) as u8).collect();
        Tensor { spec, data: data.into() }
    };
    Weights::new(vec![
        tensor("embedding", DType::F32, &[300, 1000]),
        tensor("bias", DType::F64, &[10]),
        tensor("count", DType::I64, &[]),
        tensor("half", DType::F16, &[3, 3]),
        tensor("brain", DType::BF16, &[2]),
        tensor("integers", DType::I32, &[5]),
        tensor("bytes", DType::U8, &[7]),
        tensor("mask", DType::Bool, &[0, 4]),
    ])
    .unwrap()
}

fn entry() -> SignedEntry {
    let keypair = Keypair::ed25519_from_bytes([7; 32]).unwrap();
    let manifest = weights().manifest();
    let metadata = Metadata { epoch: 3, num_examples: 60_000, metrics: vec![] };
    let content = Content::Put {
        root: manifest.root(),
        length: manifest.layout().bytes(),
        metadata: metadata.with_metrics([("loss", 0.25), ("accuracy", 0.875)]),
    };
    let key = Key::update(keypair.public().to_peer_id(), 3);
    let federation = FederationId::new("known", "1");
    let layout = manifest.layout().id();
    SignedEntry::sign(Entry { federation, layout, key, sequence: 42, content }, &keypair).unwrap()
}

/// The entry as a later version signs it, whose value is a difference to the one of zeros, compressed by number 1.
fn packed() -> Vec<u8> {
    let keypair = Keypair::ed25519_from_bytes([7; 32]).unwrap();
    let plain = entry();
    let body = [&plain.bytes()[..plain.bytes().len() - 64], &[3], &[0; 32], &[1]].concat();
    let signature = keypair.sign(&[b"peerfold/entry\0", &body[..]].concat()).unwrap();
    [body, signature].concat()
}

#[test]
fn an_entry_has_room_for_an_encoding() {
    let encoding = Encoding::Packed { base: Some(Root::from_bytes([0; 32])), compression: Some(1) };
    let expected = EntryError::Encoding { key: entry().key.clone(), encoding };
    assert_eq!(SignedEntry::decode(&packed()), Err(expected));
}

#[test]
fn answers_are_as_ever() {
    let manifest = weights().manifest();
    let entry = entry();
    let mut set = EntrySet::new(entry.federation);
    set.insert(Arc::new(entry.clone())).unwrap();
    let answers = [
        ("author", entry.key.author().to_string()),
        ("federation", entry.federation.to_string()),
        ("layout", manifest.layout().id().to_string()),
        ("manifest bytes", manifest.encode().len().to_string()),
        ("chunks", manifest.chunks().iter().map(ChunkHash::short).collect::<Vec<_>>().join(" ")),
        ("root", manifest.root().to_string()),
        ("entry bytes", entry.bytes().len().to_string()),
        ("entry", entry.hash().to_string()),
        ("packed entry", EntryHash::of(&packed()).to_string()),
        ("digest", set.digest().to_string()),
        ("empty root", Weights::new(vec![]).unwrap().manifest().root().to_string()),
        ("artifact root", Weights::artifact("hello").unwrap().manifest().root().to_string()),
    ];
    let text: String = answers.iter().map(|(what, answer)| format!("{what}: {answer}\n")).collect();
    assert_eq!(text, include_str!("../data/known_answers.txt"), "\n{text}");
}
