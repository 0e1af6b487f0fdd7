//! The layers of a stage or image as a tree that COPY can read: names and
//! metadata from the entry indexes, bytes from the unpacked layers.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::context::{self, Node, NodeKind, SourceTree};
use crate::image::{Digest, HashingReader};
use crate::layer::{Found, Kind, LowerTrees, Stack};
use crate::rootfs::LayerTree;

/// A read-only view of unpacked layers.
pub(super) struct LayersTree {
    name: String,
    stack: Stack,
    trees: Vec<PathBuf>,
}

impl LayersTree {
    /// `name` is what messages call it: ``stage `build` ``.
    pub(super) fn new(name: String, layers: &[LayerTree]) -> Self {
        Self {
            name,
            stack: Stack::new(layers.iter().map(|layer| Arc::clone(&layer.index)).collect()),
            trees: layers.iter().map(|layer| layer.tree.clone()).collect(),
        }
    }

    /// A small file's bytes, links followed inside the tree; empty when it is
    /// missing, no file, or larger than a file of its kind can be.
    pub(super) fn small_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        const LIMIT: u64 = 4 << 20;
        let mut bytes = Vec::new();
        let Ok(resolved) = self.stack.resolve(path, true) else { return Ok(bytes) };
        match resolved.found {
            Some(found) if matches!(found.entry.kind, Kind::File { size } if size <= LIMIT) => {
                self.bytes(&resolved.path)?.take(LIMIT).read_to_end(&mut bytes)?;
            }
            _ => {}
        }
        Ok(bytes)
    }

    fn unreadable(&self, path: &Path, source: io::Error) -> context::Error {
        context::Error::Read { path: path.to_owned(), tree: self.name.clone(), source }
    }

    fn bytes(&self, path: &Path) -> io::Result<File> {
        LowerTrees { stack: &self.stack, trees: &self.trees }.file(path)
    }
}

impl SourceTree for LayersTree {
    fn node(&self, path: &Path) -> Result<Option<Node>, context::Error> {
        Ok(self.stack.get(path).map(|found| node(&found)))
    }

    fn children(&self, path: &Path) -> Result<Vec<OsString>, context::Error> {
        Ok(self.stack.children(path).into_iter().map(|(name, _)| name).collect())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send + '_>, context::Error> {
        let file = self.bytes(path).map_err(|source| self.unreadable(path, source))?;
        Ok(Box::new(file))
    }

    fn content_digest(&self, path: &Path, _node: &Node) -> Result<Digest, context::Error> {
        let mut reader = HashingReader::new(self.open(path)?);
        io::copy(&mut reader, &mut io::sink()).map_err(|source| self.unreadable(path, source))?;
        Ok(reader.finish().0)
    }

    fn description(&self) -> String {
        self.name.clone()
    }
}

fn node(found: &Found) -> Node {
    let entry = &found.entry;
    let kind = match &entry.kind {
        Kind::File { size } => NodeKind::File { size: *size },
        Kind::Directory { .. } => NodeKind::Directory,
        Kind::Symlink { target } => NodeKind::Symlink(target.clone()),
        Kind::CharacterDevice { major, minor } => NodeKind::CharacterDevice { major: *major, minor: *minor },
        Kind::BlockDevice { major, minor } => NodeKind::BlockDevice { major: *major, minor: *minor },
        // A link to nothing cannot be read; as an empty file it is at least seen.
        Kind::Hardlink { .. } => NodeKind::File { size: 0 },
        Kind::Fifo => NodeKind::Fifo,
        Kind::Whiteout => unreachable!("a stack hides whiteouts"),
    };
    Node {
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
        link_group: entry_is_file(found).then(|| link_group(found)),
    }
}

fn entry_is_file(found: &Found) -> bool {
    matches!(found.entry.kind, Kind::File { .. })
}

/// Names of one file share the place of its bytes. A file with one name is a
/// group of one.
fn link_group(found: &Found) -> u64 {
    let mut hasher = DefaultHasher::new();
    (found.source_layer, &found.source_path).hash(&mut hasher);
    hasher.finish()
}
