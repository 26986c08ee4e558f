//! The decoders of this layer, as fuzzers try them.
#![allow(clippy::unwrap_used)]

use super::{RunName, identity_of, run_name_of};
use crate::{
    untrusted::{Target, told},
    weights::decoders::keypair,
};

fn run_name(bytes: &[u8]) {
    if let Some(RunName { federation, run }) = run_name_of(bytes) {
        let json = serde_json::to_vec(&RunName { federation: federation.clone(), run: run.clone() }).unwrap();
        let again = run_name_of(&json).unwrap();
        assert_eq!((again.federation, again.run), (federation, run));
    }
}

fn identity(bytes: &[u8]) {
    if let Some(keypair) = identity_of(bytes) {
        let again = identity_of(&keypair.to_protobuf_encoding().unwrap()).unwrap();
        assert_eq!(again.public(), keypair.public());
    }
}

fn sequence(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sequence");
    std::fs::write(&path, bytes).unwrap();
    if let Some(sequences) = told(super::sequence::Sequences::open(path)) {
        let last = sequences.last();
        assert!(sequences.next().map_or(last == u64::MAX, |next| next > last));
    }
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    let names = || {
        let name = RunName { federation: "ward".to_owned(), run: "1".to_owned() };
        vec![serde_json::to_vec(&name).unwrap()]
    };
    let keys = || vec![keypair(1).to_protobuf_encoding().unwrap()];
    let numbers = || vec![b"64\n".to_vec(), u64::MAX.to_string().into_bytes()];
    vec![
        Target { name: "run-name", run: run_name, seeds: names },
        Target { name: "identity", run: identity, seeds: keys },
        Target { name: "sequence", run: sequence, seeds: numbers },
    ]
}
