//! A shared directory whose files go bad when told to.

use super::{Peer, federation, keypair};
use peerfold::{
    folder::{Author, LocalFolder, SharedFolder},
    weights::{DType, SignedEntry, Tensor, TensorSpec, Weights},
};
use std::{fs, path::PathBuf, sync::Arc};
use tempfile::TempDir;

pub struct Share(TempDir);

impl Share {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn peer(&self, number: usize) -> Peer {
        let author = Author::in_memory(keypair(number), federation());
        let folder: Arc<dyn SharedFolder> = Arc::new(LocalFolder::open(self.0.path(), author).unwrap());
        Peer { id: folder.author(), folder }
    }

    /// The file of a value.
    pub fn file(&self, entry: &SignedEntry) -> PathBuf {
        let author_dir = self.0.path().join(federation().to_string()).join(entry.key.author().to_string());
        author_dir.join(format!("{}.value", entry.root().unwrap()))
    }
}

/// Changes a bit in the middle of a file.
pub fn damage(file: &PathBuf) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Weights of several chunks.
pub fn large(value: f32) -> Weights {
    let spec = TensorSpec { name: "kernel".to_owned(), dtype: DType::F32, shape: vec![600_000] };
    Weights::new(vec![Tensor { spec, data: value.to_le_bytes().repeat(600_000).into() }]).unwrap()
}
