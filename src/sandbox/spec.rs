//! What a RUN needs, said completely: nothing is looked up later.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::limit::Ulimit;
use super::linked::Linked;
use super::protections::Protections;
use crate::metadata::Key;
use crate::secret::Secret;

/// One command and the world it runs in.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// The file tree it sees as `/`.
    pub root: Root,
    /// Program and arguments; the program is looked up in `PATH` of `env`,
    /// inside the root, unless it has a slash.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Directory inside the root; made, for `uid`, where it is missing.
    pub cwd: PathBuf,
    /// User id, as seen inside.
    pub uid: u32,
    /// Group id, as seen inside.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Mounted in this order, over the usual /proc, /dev and /sys.
    pub mounts: Vec<MountSpec>,
    /// The host name it sees. /etc/hostname is the image's, as in BuildKit.
    pub hostname: String,
    /// The content of /etc/hosts, which is read-only where mounts can be had.
    pub hosts: Vec<u8>,
    /// The content of /etc/resolv.conf, read-only like /etc/hosts.
    pub resolv_conf: Vec<u8>,
    /// A network namespace with nothing but a loopback device.
    pub network_none: bool,
    /// Heredoc scripts: each becomes `/dev/pipes/NAME`, mode 0755.
    pub scripts: Vec<(String, Vec<u8>)>,
    /// Resource limits besides the usual ones; the last of a name counts.
    pub ulimits: Vec<Ulimit>,
    /// Authenticates the records of devices that the RUN makes; without it
    /// they are refused where the kernel refuses them.
    pub record_key: Option<Key>,
    /// All of them, but in tests of what they are worth.
    pub protections: Protections,
}

/// The file tree of a RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// overlayfs; all directories on the state volume.
    Overlay {
        /// Read-only directories in overlay form, topmost first. A repeated
        /// one counts once, at its topmost place. May be empty.
        lowers: Vec<PathBuf>,
        /// Takes what the RUN writes.
        upper: PathBuf,
        /// An empty directory beside `upper`.
        work: PathBuf,
        /// Names in `lowers` that are to be followed.
        linked: Linked,
    },
    /// A directory that is written in place.
    Plain(PathBuf),
}

impl Root {
    /// The names to follow, where there are any.
    pub(super) fn linked(&self) -> Option<&Linked> {
        match self {
            Self::Overlay { linked, .. } if !linked.names.is_empty() => Some(linked),
            _ => None,
        }
    }
}

/// Something mounted for the RUN. Targets are paths inside the root; symbolic
/// links in them are followed inside the root only. What is missing of a
/// target is made, and gone afterwards.
#[derive(Clone, Debug)]
pub enum MountSpec {
    /// A file or directory of the builder's.
    Bind {
        /// Path as the builder sees it.
        source: PathBuf,
        /// Path inside the root.
        target: PathBuf,
        /// Writes are refused.
        read_only: bool,
    },
    /// Like a writable bind, but what is written is thrown away.
    ScratchBind {
        /// Path as the builder sees it; never written.
        source: PathBuf,
        /// An empty directory on the state volume, which takes the writes.
        scratch: PathBuf,
        /// Path inside the root.
        target: PathBuf,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Path inside the root.
        target: PathBuf,
        /// Bytes it may hold; the kernel's default is half the memory.
        size: Option<u64>,
        /// Mode of its root directory.
        mode: u32,
    },
    /// A file in memory, read-only, that no disk ever holds.
    File {
        /// What is in it.
        content: Secret,
        /// Path inside the root.
        target: PathBuf,
        /// Permission bits.
        mode: u32,
        /// Owner, as seen inside.
        uid: u32,
        /// Group, as seen inside.
        gid: u32,
    },
}

impl MountSpec {
    /// Where it is mounted.
    pub fn target(&self) -> &Path {
        match self {
            Self::Bind { target, .. }
            | Self::ScratchBind { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::File { target, .. } => target,
        }
    }
}

/// How a RUN ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code; 0 is success.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// Which of its two streams a RUN wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}
