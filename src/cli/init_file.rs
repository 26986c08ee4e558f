//! `--init FILE`, and its metadata, which `--out` keeps, across restarts too.

use crate::{
    durable_file,
    node::{Checkpoint, Origin},
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
    let (saved, annotations) = read_as_it_is(path)?;
    let weights = from_saved(model, &saved.with_annotations(annotations.clone()));
    let weights = weights.map_err(|error| anyhow!("--init {} {error}", path.display()))?;
    Ok((weights.with_annotations(Annotations::default()), annotations))
}

/// The weights of a file, whatever they are, and its metadata.
pub(super) fn read_as_it_is(path: &Path) -> anyhow::Result<(Weights, Annotations)> {
    let file = SafetensorsFile::open(path).with_context(|| format!("--init {}", path.display()))?;
    let weights = read_all(&file).map_err(|error| anyhow!("--init {error}"))?;
    let annotations = weights.annotations().clone();
    Ok((weights.with_annotations(Annotations::default()), annotations))
}

/// Keeps the metadata of the file that a run begins from, unless it has begun. Comes before the first checkpoint, from
/// which the run goes on after a kill.
pub(super) fn keep(run_dir: &Path, given: &Annotations) -> anyhow::Result<()> {
    if Checkpoint::path(run_dir).exists() {
        return Ok(());
    }
    let path = run_dir.join(KEPT);
    let failed = || format!("{} can't be used", path.display());
    if given.is_empty() {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(failed),
            _ => Ok(()),
        };
    }
    let json = serde_json::to_vec(given)?;
    durable_file::replace(&path, false, |out| out.write_all(&json)).with_context(failed)
}

/// The metadata of the file that this run began from, given now (`given`) or when the run first started.
pub(super) fn kept(run_dir: &Path, origin: Origin, given: &Annotations) -> anyhow::Result<Annotations> {
    if origin != Origin::Checkpoint {
        return Ok(given.clone());
    }
    let path = run_dir.join(KEPT);
    read_kept(&path).with_context(|| format!("{} can't be used", path.display()))
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
        keep(dir.path(), &given).unwrap();
        assert_eq!(kept(dir.path(), Origin::Init, &given).unwrap(), given);
        let checkpoint = Checkpoint::path(dir.path());
        fs::write(&checkpoint, "").unwrap();
        keep(dir.path(), &none).unwrap();
        assert_eq!(kept(dir.path(), Origin::Checkpoint, &none).unwrap(), given);
        fs::remove_file(&checkpoint).unwrap();
        keep(dir.path(), &none).unwrap();
        assert_eq!(kept(dir.path(), Origin::Seed, &none).unwrap(), none);
        assert_eq!(kept(dir.path(), Origin::Checkpoint, &none).unwrap(), none);
    }
}
