//! Reads IDX files of unsigned bytes, MNIST's format, plain or gzipped. Never allocates on a header's word alone.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// Most bytes of elements in a file: 1 GiB, twenty times MNIST's larger file.
pub const MAX_IDX_BYTES: usize = 1 << 30;

const UNSIGNED_BYTES: u8 = 0x08;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// How much is allocated on the word of a header. The rest is allocated as it arrives.
const TRUSTED_BYTES: usize = 1 << 20;

/// Why a file isn't an IDX file of bytes.
#[derive(Debug, thiserror::Error)]
pub enum IdxError {
    /// Reading failed, or the compression is damaged.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    /// It begins with something else.
    #[error("it begins with the bytes {} where {} are expected", hexadecimal(got), hexadecimal(expected))]
    Magic {
        /// The first four bytes.
        got: [u8; 4],
        /// What they should be.
        expected: [u8; 4],
    },
    /// The header announces more than [`MAX_IDX_BYTES`].
    #[error(
        "its header announces {} elements, more than {MAX_IDX_BYTES}",
        dimensions.iter().map(u32::to_string).collect::<Vec<_>>().join(" by ")
    )]
    TooLarge {
        /// The dimensions.
        dimensions: Vec<u32>,
    },
    /// It ends too early.
    #[error(
        "it is {}", if *got == 0 && *expected == 4 { "empty".to_owned() } else { format!("cut short: {got} of {expected} bytes") }
    )]
    Truncated {
        /// Bytes found, of the part that is missing some.
        got: usize,
        /// Bytes of that part.
        expected: usize,
    },
    /// There is something after the elements.
    #[error("something stands behind its {expected} elements")]
    Trailing {
        /// Elements announced.
        expected: usize,
    },
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// The content of an IDX file of unsigned bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx<const RANK: usize> {
    /// Its dimensions, row-major.
    pub dimensions: [usize; RANK],
    /// Its elements, as many as the dimensions say.
    pub elements: Vec<u8>,
}

impl<const RANK: usize> Idx<RANK> {
    /// Reads a file, plain or compressed with gzip, whichever its first bytes tell.
    ///
    /// Memory grows with what is there, not with what the header announces. A file with other dimensions, too few bytes
    /// or too many, or a wrong checksum is an error.
    pub fn read(mut file: impl BufRead) -> Result<Self, IdxError> {
        if !file.fill_buf()?.starts_with(&GZIP_MAGIC) {
            return Self::read_plain(&mut file);
        }
        let mut unpacked = GzDecoder::new(file);
        let idx = Self::read_plain(&mut unpacked)?;
        match unpacked.into_inner().fill_buf()? {
            [] => Ok(idx),
            _ => Err(IdxError::Trailing { expected: idx.elements.len() }),
        }
    }

    fn read_plain(file: &mut impl Read) -> Result<Self, IdxError> {
        let expected = [0, 0, UNSIGNED_BYTES, RANK as u8];
        let got = read_word(file)?;
        if got != expected {
            return Err(IdxError::Magic { got, expected });
        }
        let mut sides = [0u32; RANK];
        for side in &mut sides {
            *side = u32::from_be_bytes(read_word(file)?);
        }
        let count = sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side as usize));
        let count = count.filter(|&count| count <= MAX_IDX_BYTES);
        let expected = count.ok_or_else(|| IdxError::TooLarge { dimensions: sides.to_vec() })?;
        let mut elements = Vec::with_capacity(expected.min(TRUSTED_BYTES));
        // One more byte shows whether anything follows, and makes the decompressor check the checksum.
        file.take(expected as u64 + 1).read_to_end(&mut elements)?;
        match elements.len() {
            got if got < expected => Err(IdxError::Truncated { got, expected }),
            got if got > expected => Err(IdxError::Trailing { expected }),
            _ => Ok(Self { dimensions: sides.map(|side| side as usize), elements }),
        }
    }
}

fn read_word(file: &mut impl Read) -> Result<[u8; 4], IdxError> {
    let mut word = Vec::with_capacity(4);
    file.take(4).read_to_end(&mut word)?;
    word.try_into().map_err(|word: Vec<u8>| IdxError::Truncated { got: word.len(), expected: 4 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    fn encode(dimensions: &[u32], elements: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, UNSIGNED_BYTES, dimensions.len() as u8];
        dimensions.iter().for_each(|side| file.extend(side.to_be_bytes()));
        file.extend(elements);
        file
    }

    fn pack(plain: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(plain).unwrap();
        packer.finish().unwrap()
    }

    fn read<const RANK: usize>(bytes: &[u8]) -> Result<Idx<RANK>, IdxError> {
        Idx::read(bytes)
    }

    #[test]
    fn lying_headers_are_errors() {
        let file = encode(&[2, 2], &[1, 2, 3, 4]);
        assert_eq!(read::<2>(&file).unwrap(), Idx { dimensions: [2, 2], elements: vec![1, 2, 3, 4] });
        assert!(matches!(read::<3>(&file), Err(IdxError::Magic { .. })));
        let floats = [&[0, 0, 0x0d, 2], &file[4..]].concat();
        assert!(matches!(read::<2>(&floats), Err(IdxError::Magic { .. })));
        for dimensions in [[u32::MAX, u32::MAX], [1 << 16, 1 << 15]] {
            assert!(matches!(read::<2>(&encode(&dimensions, &[])), Err(IdxError::TooLarge { .. })));
        }
        // Announces 1 GiB, has nothing.
        let huge = encode(&[1 << 30], &[]);
        assert!(matches!(read::<1>(&huge), Err(IdxError::Truncated { got: 0, expected: 0x4000_0000 })));
    }

    #[test]
    fn garbage_behind_is_an_error_in_both_forms() {
        let file = encode(&[3], &[1, 2, 3]);
        let longer = [file.as_slice(), &[0]].concat();
        assert!(matches!(read::<1>(&longer), Err(IdxError::Trailing { expected: 3 })));
        assert!(matches!(read::<1>(&pack(&longer)), Err(IdxError::Trailing { expected: 3 })));
        let behind_gzip = [pack(&file).as_slice(), b"x"].concat();
        assert!(matches!(read::<1>(&behind_gzip), Err(IdxError::Trailing { expected: 3 })));
    }

    #[test]
    fn a_wrong_checksum_is_an_error() {
        let mut packed = pack(&encode(&[3], &[1, 2, 3]));
        let checksum = packed.len() - 8;
        packed[checksum] ^= 1;
        assert!(matches!(read::<1>(&packed), Err(IdxError::Io(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(dimensions in proptest::array::uniform3(0u32..6), seed: u8) {
            let count = dimensions.iter().product::<u32>();
            let elements: Vec<u8> = (0..count).map(|index| seed.wrapping_add(index as u8)).collect();
            let file = encode(&dimensions, &elements);
            let expected = Idx { dimensions: dimensions.map(|side| side as usize), elements };
            prop_assert_eq!(&read::<3>(&pack(&file)).unwrap(), &expected);
            prop_assert_eq!(read::<3>(&file).unwrap(), expected);
        }

        #[test]
        fn every_shorter_file_is_an_error(elements in proptest::collection::vec(any::<u8>(), 0..40)) {
            let file = encode(&[elements.len() as u32], &elements);
            let packed = pack(&file);
            for cut in 0..file.len() {
                let truncated = matches!(read::<1>(&file[..cut]), Err(IdxError::Truncated { .. }));
                prop_assert!(truncated);
            }
            for cut in 0..packed.len() {
                prop_assert!(read::<1>(&packed[..cut]).is_err());
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), rank in 0u8..4, packed: bool) {
            let file = [&[0, 0, UNSIGNED_BYTES, rank], bytes.as_slice()].concat();
            let file = if packed { [&GZIP_MAGIC, &bytes[..]].concat() } else { file };
            let _ = (read::<1>(&file), read::<3>(&file), read::<3>(&bytes));
        }
    }
}
