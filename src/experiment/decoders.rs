//! The decoders of this layer, as fuzzers try them.
#![allow(clippy::unwrap_used)]

use super::{Idx, digits};
use crate::untrusted::{Target, check_told, told};
use flate2::{Compression, write::GzEncoder};
use std::io::{self, Read, Write};

fn idx(bytes: &[u8]) {
    fn check<const RANK: usize>(bytes: &[u8]) {
        if let Some(Idx { dimensions, elements }) = told(Idx::<RANK>::read(bytes)) {
            assert_eq!(dimensions.iter().product::<usize>(), elements.len());
        }
    }
    check::<1>(bytes);
    check::<3>(bytes);
}

fn files() -> Vec<Vec<u8>> {
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 3][..], &[1, 2, 3]].concat();
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2][..], &[7; 8]].concat();
    let huge = [&[0, 0, 8, 3][..], &[0xff; 12]].concat();
    let gigabyte = vec![0, 0, 8, 1, 0x40, 0, 0, 0];
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&images).unwrap();
    // A megabyte of zeros in a kilobyte, behind a header for three.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&labels[..8]).and_then(|()| io::copy(&mut io::repeat(0).take(1 << 20), &mut bomb)).unwrap();
    vec![labels, images, huge, gigabyte, packer.finish().unwrap(), bomb.finish().unwrap()]
}

fn csv(bytes: &[u8]) {
    match digits::parse(bytes) {
        Ok(examples) => assert!(examples.len() <= bytes.len()),
        Err(error) => check_told(error),
    }
}

fn lines() -> Vec<Vec<u8>> {
    let line =
        |label: u8| (0..64).map(|pixel| format!("{}.0,", pixel % 17)).collect::<String>() + &format!("{label}\n");
    vec![[line(3), line(9)].concat().into_bytes(), b"1,\"\n\x1b\"\n".to_vec()]
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![Target { name: "idx", run: idx, seeds: files }, Target { name: "csv", run: csv, seeds: lines }]
}
