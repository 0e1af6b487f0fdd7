//! The interface to whatever COPY reads from, and the walk over it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Error, Ignored};
use crate::image::Digest;

/// Files that can be selected, digested and read. Paths are relative and clean;
/// the root is the empty path, and always a directory. Shared between threads,
/// because contents are digested side by side.
pub trait SourceTree: Sync {
    /// What is at `path`, itself (`lstat`). No link is followed on the way: below
    /// a link there is nothing.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn node(&self, path: &Path) -> Result<Option<Node>, Error>;

    /// The names in the directory at `path`, sorted by their bytes.
    ///
    /// # Errors
    /// When it is not a directory, or cannot be read.
    fn children(&self, path: &Path) -> Result<Vec<OsString>, Error>;

    /// The bytes of the regular file at `path`.
    ///
    /// # Errors
    /// When it is not a regular file, or cannot be opened.
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send + '_>, Error>;

    /// The digest of those bytes. `node` is what [`SourceTree::node`] said.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn content_digest(&self, path: &Path, node: &Node) -> Result<Digest, Error>;

    /// What error messages call the tree: `the build context`, ``stage `build` ``.
    fn description(&self) -> String;

    /// The line of the ignore file that hides `path`, where something exists there.
    fn ignored(&self, path: &Path) -> Option<Ignored> {
        let _ = path;
        None
    }
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits, setuid, setgid and sticky included (`07777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification, seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Entries with the same value are hard links of one file.
    pub link_group: Option<u64>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link and where it points, unresolved.
    Symlink(PathBuf),
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket, which no layer can hold.
    Socket,
}

impl Node {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == NodeKind::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, NodeKind::File { .. })
    }
}

/// Visits `from` and everything below, parents first, in the order of `PathBuf`,
/// following no links. Depth does not matter: nothing recurses. `visit` gets the
/// path in the tree. When `from` does not exist, nothing is visited.
///
/// # Errors
/// Those of the tree, and those of `visit`, which end the walk.
pub fn walk(
    tree: &dyn SourceTree,
    from: &Path,
    visit: &mut dyn FnMut(&Path, &Node) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut pending = vec![from.to_owned()];
    while let Some(path) = pending.pop() {
        let Some(node) = tree.node(&path)? else { continue };
        visit(&path, &node)?;
        if node.is_directory() {
            pending.extend(tree.children(&path)?.into_iter().rev().map(|name| path.join(name)));
        }
    }
    Ok(())
}
