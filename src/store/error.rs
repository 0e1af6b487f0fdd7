//! What can be wrong with a state directory, in the user's terms.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error as ThisError;

/// How to choose another state directory.
const ELSEWHERE: &str = "choose another state directory with `--state-dir` or `CORACLE_STATE_DIR`";

/// Why the state directory cannot be used.
#[derive(Debug, ThisError)]
pub enum Error {
    /// No permission, or a read-only file system.
    #[error("the state directory is not writable (`{}`): {ELSEWHERE}", path.display())]
    NotWritable {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No space left, or the quota is used up.
    #[error("there is no space left for the state directory (`{}`): free some, or {ELSEWHERE}", path.display())]
    Full {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something on the way is not a directory.
    #[error("the state directory `{}` is not a directory: {ELSEWHERE}", path.display())]
    NotDirectory {
        /// What was tried.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Written by another version of coracle.
    #[error(
        "the state directory `{}` has a layout this version does not know (`{found}`): remove the directory, or {ELSEWHERE}",
        path.display()
    )]
    Version {
        /// The state directory.
        path: PathBuf,
        /// What its version file says.
        found: String,
    },
    /// A default below a shared temporary directory that another may have made.
    #[error("the state directory `{}` cannot be trusted, because {reason}: remove it, or {ELSEWHERE}", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A purge was asked for while builds run.
    #[error("the state directory `{}` is in use by a build", path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
    },
    /// A build was asked for while a purge runs.
    #[error("the state directory `{}` is being purged; try again", path.display())]
    BeingPurged {
        /// The state directory.
        path: PathBuf,
    },
    /// A purge of something else.
    #[error("`{}` is not a state directory of coracle, nothing was removed", path.display())]
    NotState {
        /// What was given.
        path: PathBuf,
    },
    /// A blob is not what its name says.
    #[error("`{}` in the state directory is damaged", path.display())]
    Damaged {
        /// The blob.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot {action} `{}` in the state directory", path.display())]
    Failed {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Sorts a failure into the cases a user can do something about.
    pub(super) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { path, source }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, source },
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                Self::NotDirectory { path, source }
            }
            _ => Self::Failed { action, path, source },
        }
    }
}
