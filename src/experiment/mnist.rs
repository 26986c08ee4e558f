use super::{DataSet, Idx, IdxError};
use crate::train::{Examples, ExamplesError};
use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

const CLASSES: usize = 10;
const SIDE: usize = 28;

/// Why MNIST can't be loaded. Each says which file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum MnistError {
    /// A file is in none of the places.
    #[error(
        "{name} is missing, plain and as .gz, in {directory} and in its folder mnist: put MNIST's four files there",
        directory = .directory.display()
    )]
    Missing {
        /// The file's name, without `.gz`.
        name: &'static str,
        /// The directory that was searched.
        directory: PathBuf,
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
    #[error("{path} is not MNIST's: {source}; get it anew", path = .path.display())]
    Idx {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IdxError,
    },
    /// Images of another size.
    #[error("{path} has images of {got:?} pixels, not {SIDE} by {SIDE}; get it anew", path = .path.display())]
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
}

/// MNIST from its four IDX files, plain or compressed, in `directory` or in its folder `mnist`: shape [1, 28, 28],
/// pixels 0 to 1, 10 classes. The published files take 220 MB of memory, and 50 more while
/// they are read.
pub fn mnist(directory: &Path) -> Result<DataSet, MnistError> {
    // The small files first: what is missing is told at once.
    let test = load(directory, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")?;
    let train = load(directory, "train-images-idx3-ubyte", "train-labels-idx1-ubyte")?;
    Ok(DataSet { train, test })
}

fn load(directory: &Path, images: &'static str, labels: &'static str) -> Result<Examples, MnistError> {
    let (images_path, labels_path) = (find(directory, images)?, find(directory, labels)?);
    let labels = read::<1>(&labels_path)?;
    let images = read::<3>(&images_path)?;
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

fn find(directory: &Path, name: &'static str) -> Result<PathBuf, MnistError> {
    let folders = [directory.to_owned(), directory.join("mnist")];
    let mut candidates = folders.iter().flat_map(|folder| [folder.join(name), folder.join(format!("{name}.gz"))]);
    candidates.find(|path| path.is_file()).ok_or_else(|| MnistError::Missing { name, directory: directory.to_owned() })
}

fn read<const RANK: usize>(path: &Path) -> Result<Idx<RANK>, MnistError> {
    let file = File::open(path).map_err(|source| MnistError::Open { path: path.to_owned(), source })?;
    Idx::read(BufReader::new(file)).map_err(|source| MnistError::Idx { path: path.to_owned(), source })
}
