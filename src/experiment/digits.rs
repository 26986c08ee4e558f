//! The handwritten 8×8 digits that are embedded in the program, and their split into training and test examples.

use super::DataSet;
use crate::train::{Draws, Examples};
use flate2::read::GzDecoder;
use std::io::Read;

/// See assets/digits8x8/SOURCE.txt.
const FILE: &[u8] = include_bytes!("../../assets/digits8x8/digits.csv.gz");
const CLASSES: usize = 10;
const PIXELS: usize = 64;
/// The darkest pixel in the file.
const DARKEST: f32 = 16.0;
/// Fixed, not a run's seed, so that everybody measures with the same examples.
const SPLIT_SEED: u64 = 0;

/// The handwritten digits of 8×8 pixels that are embedded in the program: 1,797 images, pixels 0 to 1, shape [1, 8, 8],
/// 10 classes.
///
/// A fifth of each class, drawn once and for all, is the test set: 359 examples.
pub fn digits() -> DataSet {
    let all = read();
    let mut is_test = vec![false; all.len()];
    for class in 0..CLASSES as u8 {
        let mut members: Vec<usize> = (0..all.len()).filter(|&index| all.labels()[index] == class).collect();
        Draws::new("digits test set", SPLIT_SEED, &[class]).shuffle(&mut members);
        let fifth = (members.len() + 2) / 5;
        members[..fifth].iter().for_each(|&index| is_test[index] = true);
    }
    let (test, train): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(|&index| is_test[index]);
    DataSet { train: all.select(&train), test: all.select(&test) }
}

fn read() -> Examples {
    parse(GzDecoder::new(FILE)).expect("the embedded file is whole: a test reads it")
}

/// Examples of one a line: the pixels and the class, between commas.
pub(super) fn parse(file: impl Read) -> Result<Examples, String> {
    let mut lines = csv::ReaderBuilder::new().has_headers(false).from_reader(file);
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for line in lines.deserialize::<Vec<f32>>() {
        let line = line.map_err(|error| error.to_string())?;
        let [pixels @ .., label] = &line[..] else { return Err("a line is empty".to_owned()) };
        if pixels.len() != PIXELS {
            return Err(format!("a line has {} numbers, and not {}", line.len(), PIXELS + 1));
        }
        features.extend(pixels.iter().map(|pixel| pixel / DARKEST));
        labels.push(*label as u8);
    }
    Examples::new(features, [1, 8, 8], labels, CLASSES).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_published_one() {
        let all = read();
        assert_eq!(all.histogram(), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let pixels: Vec<f32> = (0..all.len()).flat_map(|index| all.image(index).to_vec()).collect();
        assert!(pixels.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
        assert_eq!(pixels.iter().copied().fold(0.0, f32::max), 1.0);
    }

    #[test]
    fn a_fifth_of_each_class_is_for_measuring() {
        let set = digits();
        assert_eq!(set.train.len() + set.test.len(), 1797);
        assert_eq!(set.test.histogram(), [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]);
        assert_eq!(digits().test, set.test);
    }
}
