//! Where the state directory is when nobody says.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Error, create_directory};

/// Chooses the state directory: `CORACLE_STATE_DIR`, else `coracle` below
/// `XDG_DATA_HOME`, else below `~/.local/share`, else `coracle-<uid>` below the
/// temporary directory. A home that cannot be written to is passed over, as CI
/// images often have one; what was chosen in so many words is not. Empty
/// variables and relative homes count as unset.
///
/// # Errors
/// When only the temporary directory is left and what is there is not ours:
/// another user owns it, others may write to it, or it is a link.
pub fn locate(environment: &BTreeMap<String, String>) -> Result<PathBuf, Error> {
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(chosen) = value("CORACLE_STATE_DIR") {
        return Ok(chosen);
    }
    let data = value("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let home = value("HOME").filter(|path| path.is_absolute()).map(|home| home.join(".local/share"));
    for candidate in [data, home].into_iter().flatten().map(|path| path.join("coracle")) {
        if create_directory(&candidate).is_ok() && is_writable(&candidate) {
            return Ok(candidate);
        }
    }
    let temporary = value("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
    private_directory(&temporary.join(format!("coracle-{}", rustix::process::geteuid().as_raw())))
}

fn is_writable(directory: &Path) -> bool {
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_ok()
}

/// A temporary directory is everybody's: what is there under our name may be a
/// trap, and a directory that others can write to may become one.
fn private_directory(path: &Path) -> Result<PathBuf, Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(path.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::new("create", path, error)),
    }
    let found = std::fs::symlink_metadata(path).map_err(|error| Error::new("look at", path, error))?;
    let reason = if found.is_symlink() {
        "it is a symbolic link"
    } else if !found.is_dir() {
        "it is not a directory"
    } else if found.uid() != rustix::process::geteuid().as_raw() {
        "another user owns it"
    } else if found.mode() & 0o077 != 0 {
        "other users can open it"
    } else {
        return Ok(path.to_owned());
    };
    Err(Error::NotOurs { path: path.to_owned(), reason })
}
