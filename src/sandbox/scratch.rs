//! Where the probe tries things: a directory on the state volume that removes
//! itself. Its lock tells one that is in use from one that a kill left behind.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::Error;

const PREFIX: &str = ".probe-";

/// A directory of one start, held by both of its processes.
pub(super) struct Scratch {
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes one below `state_dir`, which is made if it is missing.
    pub(super) fn below(state_dir: &Path) -> Result<Self, Error> {
        let unusable = |source| Error::StateDirectory { path: state_dir.to_owned(), source };
        fs::create_dir_all(state_dir).map_err(unusable)?;
        loop {
            let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(state_dir).map_err(unusable)?;
            // Another start may have swept it before it was locked.
            if let Some(lock) = lock(made.path()).map_err(unusable)? {
                return Ok(Self { directory: made, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// `None` when another has it or it is gone.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let directory = match File::open(path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let own = directory.metadata()?;
    let named = fs::symlink_metadata(path);
    Ok(named.is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())).then_some(directory))
}

/// Removes what killed starts left below `state_dir`. What cannot be removed
/// stays: it is small and in nobody's way.
pub(super) fn sweep(state_dir: &Path) {
    let Ok(entries) = fs::read_dir(state_dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && let Ok(Some(_lock)) = lock(&entry.path())
        {
            // The next start tries again.
            let _ = remove(&entry.path());
        }
    }
}

/// overlayfs leaves a work directory of mode 0, and what is of mode 0 is not
/// removed by an ordinary user.
fn remove(scratch: &Path) -> io::Result<()> {
    let work: PathBuf = scratch.join("work/work");
    // Nothing is there before the probe.
    let _ = fs::set_permissions(&work, fs::Permissions::from_mode(0o700));
    fs::remove_dir_all(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(state: &Path) -> usize {
        fs::read_dir(state).unwrap().count()
    }

    #[test]
    fn sweeps_what_nobody_holds() {
        let state = tempfile::tempdir().unwrap();
        let held = Scratch::below(state.path()).unwrap();
        let dead = state.path().join(".probe-dead");
        fs::create_dir_all(dead.join("work/work")).unwrap();
        fs::set_permissions(dead.join("work/work"), fs::Permissions::from_mode(0o0)).unwrap();
        fs::create_dir(state.path().join("blobs")).unwrap();
        sweep(state.path());
        assert!(held.path().exists() && !dead.exists());
        drop(held);
        assert_eq!(left(state.path()), 1);
    }
}
