//! Directories of unfinished builds.
//!
//! `<id>.lock` is made and locked before `<id>/`, and removed after it, so that a
//! directory whose lock is free or missing belongs to nobody alive.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::{Error, Store, lock_file, random_bytes, remove_tree, try_lock};
use crate::image::Digest;

/// A directory of one build, empty at first, 0700. Dropping it removes it with
/// all that is in it; if the process is killed, the next [`Store::open`] does.
#[derive(Debug)]
pub struct BuildDirectory {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl BuildDirectory {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now, and says whether that worked.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn close(self) -> Result<(), Error> {
        remove_tree(&self.path)
    }
}

impl Drop for BuildDirectory {
    fn drop(&mut self) {
        // Nobody is left to tell; the next start sweeps what stayed behind.
        if remove_tree(&self.path).is_ok() {
            let _ = std::fs::remove_file(&self.lock_path);
        }
    }
}

impl Store {
    /// A new directory for what this build has not finished.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn build_directory(&self) -> Result<BuildDirectory, Error> {
        loop {
            let name = Digest::of(random_bytes()?).short();
            let path = self.root.join("builds").join(&name);
            let lock_path = path.with_extension("lock");
            let Some(lock) = take(&lock_path)? else { continue };
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(|error| Error::new("create", &path, error))?;
            return Ok(BuildDirectory { path, lock_path, _lock: lock });
        }
    }
}

/// Locks the file at `path`; `None` when another has it, or removed it while we
/// were waiting for nothing: a lock on a file without a name keeps nobody out.
fn take(path: &Path) -> Result<Option<File>, Error> {
    let lock = lock_file(path)?;
    if !try_lock(&lock, FlockOperation::NonBlockingLockExclusive, path)? {
        return Ok(None);
    }
    let own = lock.metadata().map_err(|error| Error::new("look at", path, error))?;
    match std::fs::symlink_metadata(path) {
        Ok(named) if named.ino() == own.ino() && named.dev() == own.dev() => Ok(Some(lock)),
        _ => Ok(None),
    }
}

/// Removes what dead builds left. What cannot be removed stays: it is in
/// nobody's way but the disk's, and may belong to ids that are not mapped now.
pub(super) fn sweep(builds: &Path) {
    let Ok(entries) = std::fs::read_dir(builds) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        match path.extension().and_then(OsStr::to_str) {
            Some("lock") => sweep_one(&path.with_extension(""), &path),
            _ if path.is_dir() => sweep_one(&path, &path.with_extension("lock")),
            _ => sweep_file(&path),
        }
    }
}

fn sweep_one(directory: &Path, lock_path: &Path) {
    let Ok(Some(_lock)) = take(lock_path) else { return };
    if remove_tree(directory).is_ok() {
        // Whoever else sees it meanwhile sweeps it.
        let _ = std::fs::remove_file(lock_path);
    }
}

/// Small files on their way to a name live for moments: one that is a day old
/// was left by a kill.
fn sweep_file(path: &Path) {
    if is_older(path, 24 * 60 * 60) {
        // The next start tries again.
        let _ = std::fs::remove_file(path);
    }
}

/// The sandbox tries mounts in scratch directories that live for moments.
pub(super) fn sweep_probes(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".probe-") && is_older(&entry.path(), 10 * 60) {
            // The next start tries again.
            let _ = remove_tree(&entry.path());
        }
    }
}

fn is_older(path: &Path, seconds: u64) -> bool {
    let found = std::fs::symlink_metadata(path);
    let age = found.ok().and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
    age.is_some_and(|age| age.as_secs() > seconds)
}
