//! `--init FILE`, and its metadata, which `--out` keeps, across restarts too.

use crate::{
    durable_file,
    node::Origin,
    train::{Model, from_saved},
    weights::{Annotations, MAX_ANNOTATION_BYTES, SafetensorsFile, Weights, read_all},
};
use anyhow::{Context, anyhow};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// The file in which a run keeps the metadata of the file it began from.
const KEPT: &str = "init-metadata.json";
/// Longest such file: JSON writes a control character as six bytes.
const MAX_KEPT_BYTES: u64 = 8 * MAX_ANNOTATION_BYTES as u64;

/// The weights of a file in burn's layout, separate from its metadata: only weights are published and compared.
pub(super) fn read(path: &Path, model: Model) -> anyhow::Result<(Weights, Annotations)> {
    let place = || format!("--init {}", path.display());
    let file = SafetensorsFile::open(path).with_context(place)?;
    let saved = read_all(&file).map_err(|error| anyhow!("--init {error}"))?;
    let weights = from_saved(model, &saved).map_err(|error| anyhow!("{} {error}", place()))?;
    let annotations = weights.annotations().clone();
    Ok((weights.with_annotations(Annotations::default()), annotations))
}

/// The metadata of the file that this run began from, given now (`given`) or when the run first started.
pub(super) fn kept(run_dir: &Path, origin: Origin, given: &Annotations) -> anyhow::Result<Annotations> {
    let path = run_dir.join(KEPT);
    let failed = || format!("{} can't be used", path.display());
    if origin == Origin::Checkpoint {
        return read_kept(&path).with_context(failed);
    }
    if given.is_empty() {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(failed),
            _ => return Ok(Annotations::default()),
        }
    }
    let json = serde_json::to_vec(given)?;
    durable_file::replace(&path, false, |out| out.write_all(&json)).with_context(failed)?;
    Ok(given.clone())
}

fn read_kept(path: &Path) -> anyhow::Result<Annotations> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Annotations::default()),
        file => file?,
    };
    let mut json = Vec::new();
    file.take(MAX_KEPT_BYTES).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn metadata_is_kept_over_restarts_and_forgotten_with_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let given = Annotations::default().with("site", "ward \u{7}").unwrap();
        let none = Annotations::default();
        assert_eq!(kept(dir.path(), Origin::Checkpoint, &given).unwrap(), none);
        assert_eq!(kept(dir.path(), Origin::Init, &given).unwrap(), given);
        assert_eq!(kept(dir.path(), Origin::Checkpoint, &none).unwrap(), given);
        assert_eq!(kept(dir.path(), Origin::Seed, &none).unwrap(), none);
        assert_eq!(kept(dir.path(), Origin::Checkpoint, &none).unwrap(), none);
    }
}
