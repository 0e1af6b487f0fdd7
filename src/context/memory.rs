//! A tree in memory: for tests, and for sources that have no directory, such as
//! a heredoc or a download.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Error, Node, NodeKind, SourceTree};
use crate::image::Digest;

/// Nodes by path, and the bytes of the files.
#[derive(Clone, Debug)]
pub struct MemoryTree {
    description: String,
    nodes: BTreeMap<PathBuf, (Node, Vec<u8>)>,
}

impl Default for MemoryTree {
    fn default() -> Self {
        Self::new("the build context")
    }
}

impl MemoryTree {
    /// An empty tree; `description` is what errors call it.
    pub fn new(description: &str) -> Self {
        let root = node(NodeKind::Directory, 0o755);
        Self {
            description: description.to_owned(),
            nodes: BTreeMap::from([(PathBuf::new(), (root, Vec::new()))]),
        }
    }

    /// Adds a file, mode 0644, with the directories above it.
    #[must_use]
    pub fn file(self, path: impl AsRef<Path>, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        let kind = NodeKind::File { size: content.len() as u64 };
        self.put(path.as_ref(), node(kind, 0o644), content)
    }

    /// Adds a directory, mode 0755, with those above it.
    #[must_use]
    pub fn directory(self, path: impl AsRef<Path>) -> Self {
        self.put(path.as_ref(), node(NodeKind::Directory, 0o755), Vec::new())
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: impl AsRef<Path>, target: impl Into<PathBuf>) -> Self {
        self.put(path.as_ref(), node(NodeKind::Symlink(target.into()), 0o777), Vec::new())
    }

    /// Adds or replaces any node.
    #[must_use]
    pub fn put(mut self, path: &Path, node: Node, content: Vec<u8>) -> Self {
        for parent in path.ancestors().skip(1) {
            self.nodes
                .entry(parent.to_owned())
                .or_insert_with(|| (self::node(NodeKind::Directory, 0o755), Vec::new()));
        }
        self.nodes.insert(path.to_owned(), (node, content));
        self
    }

    fn content(&self, path: &Path) -> Result<&[u8], Error> {
        match self.nodes.get(path) {
            Some((node, content)) if node.is_file() => Ok(content),
            _ => Err(self.unreadable(path, io::ErrorKind::NotFound)),
        }
    }

    fn unreadable(&self, path: &Path, kind: io::ErrorKind) -> Error {
        Error::Read { path: path.to_owned(), tree: self.description.clone(), source: kind.into() }
    }
}

fn node(kind: NodeKind, mode: u32) -> Node {
    Node { kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new(), link_group: None }
}

impl SourceTree for MemoryTree {
    fn node(&self, path: &Path) -> Result<Option<Node>, Error> {
        Ok(self.nodes.get(path).map(|(node, _)| node.clone()))
    }

    fn children(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        if !self.nodes.get(path).is_some_and(|(node, _)| node.is_directory()) {
            return Err(self.unreadable(path, io::ErrorKind::NotADirectory));
        }
        // Paths are ordered by component: what is below a directory follows it.
        let below = self.nodes.range(path.to_owned()..).map(|(other, _)| other);
        let below = below.take_while(|other| other.starts_with(path));
        let below = below.filter(|other| other.parent() == Some(path));
        Ok(below.filter_map(|other| other.file_name()).map(OsString::from).collect())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send + '_>, Error> {
        Ok(Box::new(self.content(path)?))
    }

    fn content_digest(&self, path: &Path, _node: &Node) -> Result<Digest, Error> {
        Ok(Digest::of(self.content(path)?))
    }

    fn description(&self) -> String {
        self.description.clone()
    }
}
