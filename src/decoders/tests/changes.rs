//! Changes of valid bytes: the same every time, by the target's name and the number of the change.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Longest input.
const MAX_BYTES: usize = 256 << 10;

/// Numbers that lengths, counts and offsets are made, in each of the forms that the formats have.
const EXTREMES: [u64; 12] =
    [0, 1, 0x7f, 0xff, 0xffff, 0x10000, 0x7fff_ffff, 0xffff_fffe, 0xffff_ffff, 1 << 60, i64::MAX as u64, u64::MAX];

/// Bytes that mean something in one of the texts.
const WORDS: [&[u8]; 16] = [
    b"\n",
    b"\x1b[31m",
    b"\"",
    b"\\u0007",
    b"{",
    b"[",
    b"=",
    b",",
    b"/",
    b"%2F",
    b"\xff\xfe",
    b"\xf0\x9f\x98\x80",
    b"-1",
    b"1e999",
    b"NaN",
    b"\0",
];

pub(super) struct Changes<'a> {
    seeds: &'a [Vec<u8>],
    name: &'a str,
    random: ChaCha8Rng,
}

fn leb128(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

impl<'a> Changes<'a> {
    pub(super) fn new(name: &'a str, seeds: &'a [Vec<u8>]) -> Self {
        Self { seeds, name, random: ChaCha8Rng::from_seed([0; 32]) }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.random.next_u64() % bound.max(1) as u64) as usize
    }

    /// The change of this number.
    pub(super) fn next(&mut self, number: u64) -> Vec<u8> {
        let seed = blake3::Hasher::new().update(self.name.as_bytes()).update(&number.to_le_bytes()).finalize();
        self.random = ChaCha8Rng::from_seed(*seed.as_bytes());
        let chosen = self.below(self.seeds.len());
        let mut bytes = self.seeds[chosen].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes.truncate(MAX_BYTES);
        bytes
    }

    /// A place in the bytes: often near the beginning, where the lengths are.
    fn place(&mut self, bytes: &[u8]) -> usize {
        let within = if self.below(2) == 0 { bytes.len().min(48) } else { bytes.len() };
        self.below(within + 1).min(bytes.len())
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.place(bytes);
        match self.below(10) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (self.random.next_u64() % 8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.random.next_u64() as u8;
                }
            }
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 1 + self.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let random: Vec<u8> = (0..=self.below(16)).map(|_| self.random.next_u64() as u8).collect();
                bytes.splice(at..at, random);
            }
            5 | 6 => self.put_number(bytes, at),
            7 => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            8 => {
                // A part of it many times, so that depths and counts grow.
                let end = (at + 1 + self.below(40)).min(bytes.len());
                let times = 1 << self.below(10);
                let part = bytes[at..end].repeat(times);
                bytes.splice(at..at, part);
            }
            _ => {
                let other = self.below(self.seeds.len());
                let other = &self.seeds[other];
                let from = (self.random.next_u64() % (other.len() as u64 + 1)) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
        bytes.truncate(MAX_BYTES);
    }

    /// Puts an extreme number over what is there, or in its place.
    fn put_number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let number = EXTREMES[self.below(EXTREMES.len())];
        let (written, over) = match self.below(6) {
            0 => (number.to_le_bytes()[..2].to_vec(), 2),
            1 => (number.to_le_bytes()[..4].to_vec(), 4),
            2 => (number.to_be_bytes()[4..].to_vec(), 4),
            3 => (number.to_le_bytes().to_vec(), 8),
            4 => {
                // As long as the number there.
                let length = bytes[at..].iter().take(9).take_while(|byte| **byte >= 0x80).count() + 1;
                (leb128(number), length)
            }
            _ => {
                let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                (number.to_string().into_bytes(), digits)
            }
        };
        let end = (at + over).min(bytes.len());
        bytes.splice(at..end, written);
    }
}
