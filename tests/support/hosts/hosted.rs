//! The folder that a host opens: the only place that knows how to open it.

use super::host::Setup;
use peerfold::{
    folder::{Author, CachedFolder, CachedOptions},
    home::Home,
    p2p::{NetworkSettings, listen_address},
    weights::{ChunkHash, FederationId},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Instead of a minute, which no test has.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// A folder, and what it needs to live.
pub struct Hosted {
    pub folder: CachedFolder,
    _home: Home,
}

/// Opens it.
pub fn open(setup: &Setup) -> Result<Hosted, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let home = Home::open(&setup.home).map_err(|error| text(&error))?;
    let author = Author::from_home(&home, setup.federation);
    let network = NetworkSettings {
        listen: setup.listen.iter().map(|address| listen_address(address).unwrap()).collect(),
        bootstrap: setup.bootstrap.iter().map(|address| address.parse().unwrap()).collect(),
        no_mdns: !setup.mdns,
        sync_every: SYNC_EVERY,
        ..NetworkSettings::default()
    };
    let dir = cache_dir(&setup.home, setup.federation);
    let options = CachedOptions { network: Some(network.into()), layout: setup.layout, ..CachedOptions::new(dir) };
    let folder = CachedFolder::open(author, options).map_err(|error| text(&error))?;
    Ok(Hosted { folder, _home: home })
}

/// Where the cache of a home keeps a chunk.
pub fn chunk_file(home: &Path, federation: FederationId, chunk: ChunkHash) -> PathBuf {
    let name = chunk.to_string();
    cache_dir(home, federation).join("blobs").join(&name[..2]).join(name)
}

fn cache_dir(home: &Path, federation: FederationId) -> PathBuf {
    home.join("runs").join(federation.to_string()).join("cache")
}
