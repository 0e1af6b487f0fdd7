//! The layers of a stage or image as a tree that COPY can read: names and
//! metadata from the entry indexes, bytes from unpacked layers where there are
//! such, else from a spool that they were taken into while the blobs streamed by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::StepError;
use crate::context::{self, Node, NodeKind, Selection, SourceTree};
use crate::image::{Digest, HashingReader};
use crate::layer::{self, Bodies, Body, Found, Kind, Spool, Stack};
use crate::rootfs::LayerTree;

/// A read-only view of layers.
pub(super) struct LayersTree {
    name: String,
    stack: Stack,
    homes: Vec<Home>,
    spool: Option<Spool>,
}

/// Where the bytes of a layer's files are.
enum Home {
    /// In this directory, as they are in the layer.
    Unpacked(PathBuf),
    /// In the spool, as far as they were asked for.
    Spooled(Bodies),
}

/// Files whose bytes have to be taken out of blobs: by layer, their names there.
pub(super) type Wanted = BTreeMap<usize, BTreeSet<PathBuf>>;

impl LayersTree {
    /// `name` is what messages call it: ``stage `build` ``. `trees` has the
    /// unpacked tree of each layer that has one.
    pub(super) fn new(name: String, stack: Stack, trees: Vec<Option<PathBuf>>) -> Self {
        let home = |tree: Option<PathBuf>| tree.map_or_else(|| Home::Spooled(HashMap::new()), Home::Unpacked);
        Self { name, stack, homes: trees.into_iter().map(home).collect(), spool: None }
    }

    /// Of layers that are all unpacked.
    pub(super) fn of_trees(name: String, layers: &[LayerTree]) -> Self {
        let stack = Stack::new(layers.iter().map(|layer| Arc::clone(&layer.index)).collect());
        Self::new(name, stack, layers.iter().map(|layer| Some(layer.tree.clone())).collect())
    }

    /// Of an archive, all of it in the spool.
    pub(super) fn of_archive(name: String, stack: Stack, spool: Spool, bodies: Bodies) -> Self {
        Self { name, stack, homes: vec![Home::Spooled(bodies)], spool: Some(spool) }
    }

    /// What a selection reads and no unpacked layer has.
    pub(super) fn wanted(&self, selection: &Selection) -> Result<Wanted, context::Error> {
        let mut wanted = Wanted::new();
        selection.walk(self, &mut |visit| {
            if visit.node.is_file() {
                self.want(visit.path, &mut wanted);
            }
            Ok(())
        })?;
        Ok(wanted)
    }

    /// The same of these files.
    pub(super) fn wanted_files(&self, paths: &BTreeSet<PathBuf>) -> Wanted {
        let mut wanted = Wanted::new();
        paths.iter().for_each(|path| self.want(path, &mut wanted));
        wanted
    }

    /// The same of small files, as [`Self::small_file`] reads them.
    pub(super) fn wanted_small(&self, paths: &[&str]) -> Wanted {
        let mut wanted = Wanted::new();
        for path in paths.iter().filter_map(|path| self.small(Path::new(path))) {
            self.want(&path, &mut wanted);
        }
        wanted
    }

    fn want(&self, path: &Path, wanted: &mut Wanted) {
        if let Some(found) = self.stack.get(path)
            && let Some(Home::Spooled(bodies)) = self.homes.get(found.source_layer)
        {
            let name = self.stack.tar_name(found.source_layer, &found.source_path);
            if !bodies.contains_key(&name) {
                wanted.entry(found.source_layer).or_default().insert(name);
            }
        }
    }

    /// Takes files out of the blob of layer number `number`, and says what diff
    /// id it has.
    pub(super) fn take(
        &mut self,
        number: usize,
        (blob, media_type): (&Path, &str),
        names: &BTreeSet<PathBuf>,
        directory: &Path,
    ) -> Result<Digest, StepError> {
        let mut spool = match self.spool.take() {
            Some(spool) => spool,
            None => Spool::create(directory).map_err(StepError::Layer)?,
        };
        let open = || std::fs::File::open(blob);
        let (taken, diff_id) = spool.take_layer(&open, media_type, names).map_err(StepError::Layer)?;
        self.spool = Some(spool);
        if let Some(Home::Spooled(bodies)) = self.homes.get_mut(number) {
            bodies.extend(taken);
        }
        Ok(diff_id)
    }

    /// A small file's bytes, links followed inside the tree; empty when it is
    /// missing, no file, or larger than a file of its kind can be.
    pub(super) fn small_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if let Some(path) = self.small(path) {
            self.bytes(&path)?.take(SMALL).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Where small files really lie: the layer and the name in it. Chains that
    /// agree in this have the same files.
    pub(super) fn places(&self, paths: &[&str]) -> Vec<Option<(usize, PathBuf)>> {
        let found = |path: &&str| self.stack.get(&self.small(Path::new(path))?);
        let place = |found: Found| (found.source_layer, found.source_path);
        paths.iter().map(|path| found(path).map(place)).collect()
    }

    fn small(&self, path: &Path) -> Option<PathBuf> {
        let resolved = self.stack.resolve(path, true).ok()?;
        let is_small = |found: Found| matches!(found.entry.kind, Kind::File { size } if size <= SMALL);
        resolved.found.is_some_and(is_small).then_some(resolved.path)
    }

    fn unreadable(&self, path: &Path, source: io::Error) -> context::Error {
        context::Error::Read { path: path.to_owned(), tree: self.name.clone(), source }
    }

    fn bytes(&self, path: &Path) -> io::Result<Box<dyn Read + Send + '_>> {
        let found = self.stack.get(path).ok_or(io::ErrorKind::NotFound)?;
        if let Some(Home::Unpacked(tree)) = self.homes.get(found.source_layer) {
            return Ok(Box::new(layer::open_in_tree(tree, &found.source_path)?));
        }
        match (&self.spool, self.body(&found)) {
            (Some(spool), Some(body)) => Ok(Box::new(spool.open(body))),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn body(&self, found: &Found) -> Option<&Body> {
        let Some(Home::Spooled(bodies)) = self.homes.get(found.source_layer) else { return None };
        bodies.get(&self.stack.tar_name(found.source_layer, &found.source_path))
    }
}

/// Bytes of the largest small file.
const SMALL: u64 = 4 << 20;

impl SourceTree for LayersTree {
    fn node(&self, path: &Path) -> Result<Option<Node>, context::Error> {
        Ok(self.stack.get(path).map(|found| node(&found)))
    }

    fn children(&self, path: &Path) -> Result<Vec<OsString>, context::Error> {
        Ok(self.stack.children(path).into_iter().map(|(name, _)| name).collect())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send + '_>, context::Error> {
        self.bytes(path).map_err(|source| self.unreadable(path, source))
    }

    fn content_digest(&self, path: &Path, _node: &Node) -> Result<Digest, context::Error> {
        if let Some(body) = self.stack.get(path).and_then(|found| self.body(&found)) {
            return Ok(body.digest);
        }
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
