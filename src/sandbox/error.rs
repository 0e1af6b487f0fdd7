//! What can go wrong on the way into a RUN.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::{Refusal, Rung};

/// Why the sandbox could not be entered, or a RUN not be started.
#[derive(Debug, Error)]
pub enum Error {
    /// The state directory cannot be used.
    #[error("the state directory `{path}` is not usable")]
    StateDirectory {
        /// The directory.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A forced rung that this program cannot do yet.
    #[error("isolation `{0}` is not built yet (`namespaces`, `mounts`, `single`, `chroot` and `none` are)")]
    NotBuilt(Rung),
    /// A forced rung that cannot be had here.
    #[error("isolation {0}")]
    Refused(Refusal),
    /// Overlay storage was demanded and cannot be had here.
    #[error("overlay storage cannot be had here: {0}")]
    OverlayRefused(Refusal),
    /// The first process could not do what it must outside the namespace.
    #[error("could not {action}")]
    Enter {
        /// What was attempted.
        action: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A RUN on a machine where no rung works.
    #[error("RUN cannot run here: {}", list(refusals))]
    NoRung {
        /// Every rung that was tried.
        refusals: Vec<Refusal>,
    },
    /// The builder could not start or follow the RUN.
    #[error("could not {action}")]
    Start {
        /// What was attempted.
        action: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// Something inside the new namespaces failed before the program ran.
    #[error("could not {action} `{path}` for the RUN")]
    Prepare {
        /// What was attempted.
        action: String,
        /// The path or name it was attempted on.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A limit that this process may not set.
    #[error(
        "the limit `{limit}` cannot be set: at most {highest} can be had here, and only the machine's own root \
         raises it (ask for less, or start the build container with a higher one)"
    )]
    Limit {
        /// As asked for, with both values.
        limit: String,
        /// The hard limit of the builder.
        highest: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A read-only mount that was written to, found after the RUN.
    #[error("`{target}` is mounted read-only, and the RUN changed `{path}` in it")]
    ReadOnlyChanged {
        /// The mount.
        target: PathBuf,
        /// What changed, below it.
        path: PathBuf,
    },
    /// More processes at once than any build needs; the RUN was ended.
    #[error("the RUN was ended: it had more than {limit} processes at once")]
    TooManyProcesses {
        /// As many as it may have.
        limit: usize,
    },
    /// A tmpfs that held more than it may, where the kernel has none.
    #[error("the tmpfs `{target}` held {used} bytes, and its size is {size}")]
    TmpfsFull {
        /// The mount.
        target: PathBuf,
        /// Bytes in it.
        used: u64,
        /// Bytes it may hold.
        size: u64,
    },
    /// More lower directories than overlayfs takes.
    #[error("overlayfs takes 500 lower directories, and this image has {count} layers")]
    TooManyLowers {
        /// How many there are, repeated ones counted once.
        count: usize,
    },
    /// `network=none` without the means for it.
    #[error("RUN --network=none needs a network namespace, which cannot be had here")]
    NoNetworkNamespace {
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The program is neither in `PATH` nor at the path given.
    #[error("`{program}` not found in the image")]
    NotFound {
        /// As the instruction has it.
        program: String,
    },
    /// The program is there but cannot be executed.
    #[error("`{program}` cannot be executed")]
    NotExecutable {
        /// The path tried.
        program: String,
        /// What the kernel answered: its format, its interpreter, its mode.
        #[source]
        source: io::Error,
    },
    /// The stub vanished without a word.
    #[error("the process that carries the RUN died ({0})")]
    StubDied(String),
    /// Somebody asked for the end.
    #[error("the RUN was cancelled")]
    Cancelled,
}

impl Error {
    /// The exit code a shell, and Docker, give for this: 127 for a program
    /// that is not found, 126 for one that cannot be executed.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::NotFound { .. } => Some(127),
            Self::NotExecutable { .. } => Some(126),
            _ => None,
        }
    }
}

fn list(refusals: &[Refusal]) -> String {
    if refusals.is_empty() {
        return "isolation `none` was asked for".to_owned();
    }
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
