//! MNIST as published, and all the ways in which its files can be wrong.
//!
//! The files are looked for in `$PEERFOLD_DATA`, else in `../shared/data`; without them the tests that need them say
//! so and pass.

use peerfold::experiment::{IdxError, MnistError, mnist};
use std::{fs, path::PathBuf};

fn published() -> Option<PathBuf> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let directory = std::env::var_os("PEERFOLD_DATA").map_or_else(default, PathBuf::from);
    if directory.join("mnist").is_dir() {
        return Some(directory);
    }
    eprintln!("skipped: there is no MNIST in {}/mnist; set PEERFOLD_DATA", directory.display());
    None
}

#[test]
fn mnist_is_the_published_one() {
    let Some(directory) = published() else { return };
    let set = mnist(&directory).unwrap();
    assert_eq!(set.train.histogram(), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    assert_eq!(set.test.histogram(), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    assert_eq!((set.train.len(), set.test.len(), set.train.shape()), (60_000, 10_000, [1, 28, 28]));
    let pixels = set.train.image(0);
    assert!(pixels.iter().all(|pixel| (0.0..=1.0).contains(pixel)) && pixels.contains(&(3.0 / 255.0)));
    // Named directly, the folder gives the same.
    assert_eq!(mnist(&directory.join("mnist")).unwrap().test, set.test);
}

fn idx(dimensions: &[u32], elements: usize) -> Vec<u8> {
    let header = [0, 0, 8, dimensions.len() as u8].into_iter();
    header
        .chain(dimensions.iter().flat_map(|side| side.to_be_bytes()))
        .chain((0..elements).map(|n| n as u8 % 10))
        .collect()
}

/// A directory with small files of MNIST's form.
fn small() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (prefix, count) in [("train", 20u32), ("t10k", 10)] {
        let write = |name: &str, file: Vec<u8>| fs::write(directory.path().join(format!("{prefix}-{name}")), file);
        write("images-idx3-ubyte", idx(&[count, 28, 28], count as usize * 784)).unwrap();
        write("labels-idx1-ubyte", idx(&[count], count as usize)).unwrap();
    }
    directory
}

fn broken(file: &str, content: Vec<u8>) -> MnistError {
    let directory = small();
    fs::write(directory.path().join(file), content).unwrap();
    let error = mnist(directory.path()).unwrap_err();
    let message = error.to_string();
    assert!(message.contains(file) && message.contains("get") && !message.contains('\n'), "{message}");
    error
}

#[test]
fn wrong_files_are_named_with_what_to_do() {
    assert_eq!(mnist(small().path()).unwrap().train.len(), 20);
    let (images, labels) = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    let is =
        |error, expected: fn(&IdxError) -> bool| matches!(error, MnistError::Idx { source, .. } if expected(&source));
    let whole = idx(&[20], 20);
    for cut in 0..whole.len() {
        assert!(is(broken(labels, whole[..cut].to_vec()), |error| matches!(error, IdxError::Truncated { .. })));
    }
    let longer = [whole.as_slice(), b"x"].concat();
    assert!(is(broken(labels, longer), |error| matches!(error, IdxError::Trailing { .. })));
    // Labels where images should be, and the other way round.
    assert!(is(broken(images, whole), |error| matches!(error, IdxError::Magic { .. })));
    assert!(is(broken(labels, idx(&[1, 28, 28], 784)), |error| matches!(error, IdxError::Magic { .. })));
    let huge = idx(&[u32::MAX, u32::MAX, u32::MAX], 784);
    assert!(is(broken(images, huge), |error| matches!(error, IdxError::TooLarge { .. })));
    assert!(is(broken(images, b"\x1f\x8bgarbage".to_vec()), |error| matches!(error, IdxError::Io(_))));
    assert!(matches!(broken(images, idx(&[20, 14, 56], 20 * 784)), MnistError::Size { got: [14, 56], .. }));
    assert!(matches!(broken(labels, idx(&[19], 19)), MnistError::Count { images: 20, labels: 19, .. }));
    let unknown = [&idx(&[20], 0)[..], &[10; 20]].concat();
    assert!(matches!(broken(labels, unknown), MnistError::Labels { .. }));
}

#[test]
fn missing_files_are_all_named_with_what_is_there_instead() {
    let directory = small();
    fs::remove_file(directory.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let error = mnist(directory.path()).unwrap_err().to_string();
    for part in ["t10k-labels-idx1-ubyte is missing", &directory.path().to_string_lossy(), "t10k-images-idx3-ubyte, "] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    fs::remove_file(directory.path().join("train-images-idx3-ubyte")).unwrap();
    fs::write(directory.path().join("a\u{1b}.zip"), "").unwrap();
    let error = mnist(directory.path()).unwrap_err().to_string();
    for part in
        ["train-images-idx3-ubyte, t10k-labels-idx1-ubyte are missing", "a\\u{1b}.zip", "put MNIST's four files"]
    {
        assert!(error.contains(part) && !error.contains('\u{1b}'), "{part} is not in: {error}");
    }
    let nowhere = mnist(&directory.path().join("nowhere")).unwrap_err().to_string();
    assert!(nowhere.contains("there is no such directory"), "{nowhere}");
    let empty = tempfile::tempdir().unwrap();
    assert!(mnist(empty.path()).unwrap_err().to_string().contains("it is empty"));
}

#[test]
fn files_are_found_under_their_names_of_mirrors_and_where_torchvision_puts_them() {
    let expected = mnist(small().path()).unwrap().train;
    for folder in ["", "mnist", "raw", "MNIST/raw"] {
        for dotted in [false, true] {
            let (from, to) = (small(), tempfile::tempdir().unwrap());
            let inside = to.path().join(folder);
            fs::create_dir_all(&inside).unwrap();
            for file in fs::read_dir(from.path()).unwrap() {
                let file = file.unwrap();
                let name = file.file_name().into_string().unwrap();
                let name = if dotted { name.replace("-idx", ".idx") } else { name };
                let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut packer, &fs::read(file.path()).unwrap()).unwrap();
                fs::write(inside.join(format!("{name}.gz")), packer.finish().unwrap()).unwrap();
            }
            assert_eq!(mnist(to.path()).unwrap().train, expected, "{folder} {dotted}");
        }
    }
    // A folder that has them all comes before one that has some.
    let directory = small();
    fs::create_dir(directory.path().join("mnist")).unwrap();
    for file in fs::read_dir(small().path()).unwrap() {
        let file = file.unwrap();
        fs::write(directory.path().join("mnist").join(file.file_name()), fs::read(file.path()).unwrap()).unwrap();
    }
    fs::write(directory.path().join("train-labels-idx1-ubyte"), "").unwrap();
    assert!(mnist(directory.path()).is_err(), "what is empty in the first folder is told, not passed over");
}

#[test]
fn files_that_are_something_else_are_told_all_at_once() {
    let directory = small();
    fs::write(directory.path().join("train-images-idx3-ubyte"), "<!DOCTYPE html><html>").unwrap();
    fs::write(directory.path().join("train-labels-idx1-ubyte"), "").unwrap();
    fs::write(directory.path().join("t10k-labels-idx1-ubyte"), "version https://git-lfs.github.com/spec/v1").unwrap();
    let error = mnist(directory.path()).unwrap_err().to_string();
    for part in [
        "train-images-idx3-ubyte is not MNIST's: it is a web page",
        "train-labels-idx1-ubyte is not MNIST's: it is empty",
        "t10k-labels-idx1-ubyte is not MNIST's: it is a Git LFS pointer",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}
