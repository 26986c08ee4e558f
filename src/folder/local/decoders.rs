//! The decoder of a value's file, as fuzzers try it.
#![allow(clippy::unwrap_used)]

use super::{Counters, value_file};
use crate::{
    untrusted::Target,
    weights::{
        MAX_MANIFEST_BYTES, Weights,
        decoders::{entry_naming, weights},
        read_all,
    },
};
use std::{fs, io::Write};

/// There is an entry that names the manifest, whatever it has become.
fn value(bytes: &[u8]) {
    let length = bytes.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let manifest = bytes.get(4..).and_then(|rest| rest.get(..length)).unwrap_or_default();
    let entry = entry_naming(&manifest[..manifest.len().min(MAX_MANIFEST_BYTES)]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("value");
    fs::write(&path, bytes).unwrap();
    let opened = value_file::open(fs::File::open(&path).unwrap(), path, entry.entry(), Counters::default());
    if let Some(read) = opened.ok().and_then(|value| read_all(&value).ok()) {
        assert_eq!(Some(read.manifest().root()), entry.root());
        assert!(read.layout().bytes() <= bytes.len() as u64);
    }
}

fn values() -> Vec<Vec<u8>> {
    let large = Weights::artifact(vec![5; 70_000]).unwrap();
    let file = |weights: &Weights| {
        let mut file = Vec::new();
        value_file::write(&mut file as &mut dyn Write, &weights.manifest(), weights).unwrap();
        file
    };
    vec![file(&weights()), file(&large), vec![0xff; 12]]
}

/// All of it.
pub(in crate::folder) fn targets() -> Vec<Target> {
    vec![Target { name: "value-file", run: value, seeds: values }]
}
