//! MNIST: finding its four files where people usually put them, and loading them.

use super::{DataSet, Idx, IdxError};
use crate::{
    file_format::FileFormat,
    train::{Examples, ExamplesError},
};
use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

const CLASSES: usize = 10;
const SIDE: usize = 28;
/// MNIST's four files, as they were published.
const FILES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
/// Where they are looked for, beside the directory itself: torchvision makes `MNIST/raw`.
const FOLDERS: [&str; 6] = ["", "mnist", "raw", "MNIST/raw", "mnist/raw", "MNIST"];
/// How many names are reported of what is in the directory instead, and how many are looked at.
const TOLD: usize = 8;
const LOOKED_AT: usize = 1000;

/// Why MNIST can't be loaded. Each says which file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum MnistError {
    /// Files are missing from all of the places.
    #[error(
        "{names} {are} missing in {directory} and its folders mnist, raw and MNIST/raw ({found}): put MNIST's four files \
         there, plain or as .gz, {example} or {dotted}",
        names = .names.join(", "), are = if .names.len() == 1 { "is" } else { "are" },
        directory = .directory.display(), example = FILES[0], dotted = dotted(FILES[0])
    )]
    Missing {
        /// All files that are missing, by the names that they were published under.
        names: Vec<&'static str>,
        /// The directory that was searched.
        directory: PathBuf,
        /// What lies there instead, in words.
        found: String,
    },
    /// A file can't be opened.
    #[error("{path} can't be opened: {source}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file isn't what its name says.
    #[error(
        "{path} is not MNIST's: {what}; get it anew", path = .path.display(),
        what = .format.map_or_else(|| .source.to_string(), |format| format!("it is {format}"))
    )]
    Idx {
        /// The file.
        path: PathBuf,
        /// What it is instead, where its first bytes say so.
        format: Option<FileFormat>,
        /// What is wrong.
        source: IdxError,
    },
    /// Images of another size.
    #[error(
        "{path} has images of {height} by {width} pixels, not {SIDE} by {SIDE}; get it anew", path = .path.display(),
        height = .got[0], width = .got[1]
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Height and width.
        got: [usize; 2],
    },
    /// Two files that don't belong together.
    #[error(
        "{images_path} has {images} images, but {labels_path} has {labels} labels; get both anew",
        images_path = .images_path.display(), labels_path = .labels_path.display()
    )]
    Count {
        /// The file of images.
        images_path: PathBuf,
        /// Images in it.
        images: usize,
        /// The file of labels.
        labels_path: PathBuf,
        /// Labels in it.
        labels: usize,
    },
    /// A label above 9.
    #[error("{path} is not MNIST's: {source}; get it anew", path = .path.display())]
    Labels {
        /// The file.
        path: PathBuf,
        /// Which label.
        source: ExamplesError,
    },
    /// Several files are wrong, each in its way.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<MnistError>),
}

/// MNIST from its four IDX files, plain or compressed, in `directory` or where torchvision and others put them in it:
/// shape [1, 28, 28], pixels 0 to 1, 10 classes. The published files take 220 MB of memory, and 50 more while
/// they are read.
pub fn mnist(directory: &Path) -> Result<DataSet, MnistError> {
    let [train_images, train_labels, test_images, test_labels] = find_all(directory)?;
    // The small files first, so that errors in them are reported at once.
    match (load(test_images, test_labels), load(train_images, train_labels)) {
        (Ok(test), Ok(train)) => Ok(DataSet { train, test }),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(test), Err(train)) => Err(several([test, train])),
    }
}

/// Several errors as one, flattening those that are already several.
fn several(errors: [MnistError; 2]) -> MnistError {
    let each = |error| match error {
        MnistError::Several(errors) => errors,
        error => vec![error],
    };
    MnistError::Several(errors.into_iter().flat_map(each).collect())
}

fn load(images_path: PathBuf, labels_path: PathBuf) -> Result<Examples, MnistError> {
    let (labels, images) = match (read::<1>(&labels_path), read::<3>(&images_path)) {
        (Ok(labels), Ok(images)) => (labels, images),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error),
        (Err(labels), Err(images)) => return Err(several([labels, images])),
    };
    let [count, height, width] = images.dimensions;
    if [height, width] != [SIDE, SIDE] {
        return Err(MnistError::Size { path: images_path, got: [height, width] });
    }
    if count != labels.elements.len() {
        return Err(MnistError::Count { images_path, images: count, labels_path, labels: labels.elements.len() });
    }
    let features = images.elements.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
    Examples::new(features, [1, SIDE, SIDE], labels.elements, CLASSES)
        .map_err(|source| MnistError::Labels { path: labels_path, source })
}

/// The name of a file as mirrors have it: train-images.idx3-ubyte.
fn dotted(name: &str) -> String {
    name.replacen("-idx", ".idx", 1)
}

/// The paths of all four, from one folder if one has them all.
fn find_all(directory: &Path) -> Result<[PathBuf; 4], MnistError> {
    let folders = FOLDERS.map(|folder| directory.join(folder));
    let in_folder = |folder: &PathBuf| FILES.map(|name| find(folder, name));
    let found = folders.each_ref().map(in_folder);
    let whole = found.iter().find(|files| files.iter().all(Option::is_some)).cloned();
    let best = whole.unwrap_or_else(|| {
        let first = |file: usize| found.iter().find_map(|files| files[file].clone());
        [0, 1, 2, 3].map(first)
    });
    let missing = FILES.into_iter().zip(&best).filter(|(_, path)| path.is_none());
    let names: Vec<&'static str> = missing.map(|(name, _)| name).collect();
    match best {
        [Some(a), Some(b), Some(c), Some(d)] => Ok([a, b, c, d]),
        _ => {
            let found = what_lies_in(&folders, directory);
            Err(MnistError::Missing { names, directory: directory.to_owned(), found })
        }
    }
}

/// A file in a folder: plain or compressed, under its own name or a mirror's, or in a folder of its name, as an archive
/// of Kaggle's unpacks.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let names = [name.to_owned(), dotted(name)];
    let files = names.iter().flat_map(|name| [name.clone(), format!("{name}.gz")]);
    let nested = names.iter().map(|folder| format!("{folder}/{folder}"));
    files.chain(nested).map(|file| folder.join(file)).find(|path| path.is_file())
}

/// What there is instead of what is missing, in words.
fn what_lies_in(folders: &[PathBuf], directory: &Path) -> String {
    if !directory.is_dir() {
        return "there is no such directory".to_owned();
    }
    let mut names = Vec::new();
    for folder in folders {
        let Ok(files) = fs::read_dir(folder) else { continue };
        names.extend(files.take(LOOKED_AT).filter_map(|file| {
            let path = file.ok()?.path();
            let mark = if path.is_dir() { "/" } else { "" };
            let name = path.strip_prefix(directory).unwrap_or(&path).display().to_string();
            // Anybody may have chosen the names.
            Some(format!("{}{mark}", name.escape_debug()))
        }));
    }
    names.sort_unstable();
    names.dedup();
    match names.len() {
        0 => "it is empty".to_owned(),
        count if count <= TOLD => format!("there are {}", names.join(", ")),
        count => format!("there are {} and {} more", names[..TOLD].join(", "), count - TOLD),
    }
}

fn read<const RANK: usize>(path: &Path) -> Result<Idx<RANK>, MnistError> {
    let open = || File::open(path).map_err(|source| MnistError::Open { path: path.to_owned(), source });
    let wrong = |source| {
        let mut head = Vec::new();
        let read = open().map(|file| file.take(FileFormat::HEAD_BYTES as u64).read_to_end(&mut head));
        // It may well be compressed; then the error is inside.
        let format = read.ok().and_then(|_| FileFormat::of(&head)).filter(|format| *format != FileFormat::Gzip);
        MnistError::Idx { path: path.to_owned(), format, source }
    };
    Idx::read(BufReader::new(open()?)).map_err(wrong)
}
