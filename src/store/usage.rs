//! How much of the disk a state directory takes.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Error, Store};

/// Bytes on disk, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Layers, configs, manifests.
    pub blobs: u64,
    /// Unpacked trees and entry indexes.
    pub trees: u64,
    /// Cache mounts.
    pub mounts: u64,
    /// Builds that are running, or were killed.
    pub builds: u64,
    /// Cache entries and stat indexes.
    pub cache: u64,
}

impl Usage {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.blobs + self.trees + self.mounts + self.builds + self.cache
    }
}

impl Store {
    /// Measures the state directory. What cannot be looked at counts as nothing.
    ///
    /// # Errors
    /// When the directory itself cannot be read.
    pub fn usage(&self) -> Result<Usage, Error> {
        std::fs::read_dir(&self.root).map_err(|error| Error::new("read", &self.root, error))?;
        let sum = |names: &[&str]| names.iter().map(|name| bytes_below(&self.root.join(name))).sum();
        Ok(Usage {
            blobs: sum(&["blobs"]),
            trees: sum(&["trees", "entries"]),
            mounts: sum(&["mounts"]),
            builds: sum(&["builds"]),
            cache: sum(&["cache", "contexts"]),
        })
    }
}

/// Hard links count once.
fn bytes_below(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut seen = HashSet::new();
    let mut pending: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        if found.nlink() < 2 || found.is_dir() || seen.insert((found.dev(), found.ino())) {
            bytes += found.blocks() * 512;
        }
        if found.is_dir()
            && let Ok(entries) = std::fs::read_dir(&path)
        {
            pending.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }
    bytes
}
