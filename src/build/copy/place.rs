//! The map of what a COPY writes, and its way into the layer.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{CopyError, chmod};
use crate::context::{Node, NodeKind, SourceTree};
use crate::layer::{Entry, Kind, LayerWriter, Stack};
use crate::plan::Chmod;

/// What `--chmod` and `--chown` change.
pub(super) struct Rules {
    pub(super) chmod: Option<Chmod>,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) now: i64,
}

/// Hard links of one source file share it: tree, group in it.
type Group = (usize, u64);

/// Where an entry's bytes come from.
enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    Source(&'a dyn SourceTree, PathBuf),
}

struct Placed<'a> {
    entry: Entry,
    body: Body<'a>,
    group: Option<Group>,
}

/// Target path → what goes there. A sorted map, because a layer is sorted.
pub(super) struct Placement<'a> {
    base: &'a Stack,
    rules: Rules,
    placed: BTreeMap<PathBuf, Placed<'a>>,
}

impl<'a> Placement<'a> {
    pub(super) fn new(base: &'a Stack, rules: Rules) -> Self {
        Self { base, rules, placed: BTreeMap::new() }
    }

    /// A directory. One that exists keeps its metadata unless `overwrite`.
    pub(super) fn directory(
        &mut self,
        path: PathBuf,
        node: &Node,
        keep_owner: bool,
        overwrite: bool,
    ) -> Result<(), CopyError> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        match self.existing(&path) {
            Some(there) if !matches!(there.kind, Kind::Directory { .. }) => {
                return Err(CopyError::NotADirectory { path });
            }
            Some(there) if !overwrite => {
                self.insert(
                    path,
                    Entry { kind: Kind::Directory { opaque: false }, ..there },
                    Body::None,
                    None,
                );
                return Ok(());
            }
            _ => {}
        }
        let entry = self.entry(&path, Kind::Directory { opaque: false }, node, keep_owner);
        self.insert(path, entry, Body::None, None);
        Ok(())
    }

    /// Anything but a directory. A socket is left out: a tar cannot hold one.
    pub(super) fn node(
        &mut self,
        tree: &'a dyn SourceTree,
        source: &Path,
        path: PathBuf,
        node: &Node,
        keep_owner: bool,
    ) -> Result<(), CopyError> {
        let Some((kind, body, group)) = parts(tree, source, node) else { return Ok(()) };
        self.refuse_directory(&path)?;
        let entry = self.entry(&path, kind, node, keep_owner);
        self.insert(path, entry, body, group);
        Ok(())
    }

    /// An entry of an archive: its parents' links are followed, and what is in
    /// its way goes, unless both are directories. `--chmod` is not for it, as in
    /// BuildKit.
    pub(super) fn unpacked(
        &mut self,
        tree: &'a dyn SourceTree,
        source: &Path,
        path: &Path,
        node: &Node,
    ) -> Result<(), CopyError> {
        let path = self.real(path)?;
        let Some((kind, body, group)) = parts(tree, source, node) else { return Ok(()) };
        let entry = Entry { mode: node.mode, ..self.entry(&path, kind, node, true) };
        self.replace(path, entry, body, group);
        Ok(())
    }

    /// The path with the links of its parents followed, as they are in the base.
    fn real(&self, path: &Path) -> Result<PathBuf, CopyError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(path.to_owned());
        };
        if self.placed.get(parent).is_some_and(|placed| placed.entry.kind.is_directory()) {
            return Ok(path.to_owned());
        }
        let target = |source| CopyError::Target { path: path.to_owned(), source };
        let resolved = self.base.resolve(parent, true).map_err(target)?;
        Ok(resolved.path.join(name))
    }

    fn replace(&mut self, path: PathBuf, entry: Entry, body: Body<'a>, group: Option<Group>) {
        if !entry.kind.is_directory() && self.existing(&path).is_some_and(|there| there.kind.is_directory()) {
            self.placed.retain(|placed, _| !placed.starts_with(&path));
        }
        self.insert(path, entry, body, group);
    }

    /// A file whose bytes are at hand.
    pub(super) fn bytes(
        &mut self,
        path: PathBuf,
        content: &'a [u8],
        mode: u32,
        mtime: i64,
    ) -> Result<(), CopyError> {
        self.refuse_directory(&path)?;
        let node = Node {
            kind: NodeKind::File { size: content.len() as u64 },
            mode,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: BTreeMap::new(),
            link_group: None,
        };
        let entry = self.entry(&path, Kind::File { size: content.len() as u64 }, &node, false);
        self.insert(path, entry, Body::Bytes(content), None);
        Ok(())
    }

    /// Writes everything, parents included, as one sorted stream.
    pub(super) fn write(mut self, writer: &mut LayerWriter) -> Result<(), CopyError> {
        self.add_parents()?;
        self.link_groups();
        for placed in self.placed.values() {
            write_one(placed, writer)?;
        }
        Ok(())
    }

    fn insert(&mut self, path: PathBuf, entry: Entry, body: Body<'a>, group: Option<Group>) {
        self.placed.insert(path, Placed { entry, body, group });
    }

    /// What is at `path` so far, no link followed.
    fn existing(&self, path: &Path) -> Option<Entry> {
        match self.placed.get(path) {
            Some(placed) => Some(placed.entry.clone()),
            None => self.base.get(path).map(|found| found.entry.clone()),
        }
    }

    fn refuse_directory(&self, path: &Path) -> Result<(), CopyError> {
        let is_directory = |entry: Entry| matches!(entry.kind, Kind::Directory { .. });
        if path.as_os_str().is_empty() || self.existing(path).is_some_and(is_directory) {
            return Err(CopyError::IsADirectory { path: path.to_owned() });
        }
        Ok(())
    }

    fn entry(&self, path: &Path, kind: Kind, node: &Node, keep_owner: bool) -> Entry {
        let is_directory = matches!(kind, Kind::Directory { .. });
        let is_link = matches!(kind, Kind::Symlink { .. });
        let own = if keep_owner { (node.uid, node.gid) } else { (0, 0) };
        let (uid, gid) = self.rules.owner.unwrap_or(own);
        let mode = match &self.rules.chmod {
            Some(chmod) if !is_link => chmod::apply(chmod, node.mode, is_directory),
            _ => node.mode,
        };
        Entry { path: path.to_owned(), kind, mode, uid, gid, mtime: node.mtime, xattrs: node.xattrs.clone() }
    }

    /// Existing parents are repeated as they are, missing ones made.
    fn add_parents(&mut self) -> Result<(), CopyError> {
        let mut missing = BTreeMap::new();
        for path in self.placed.keys() {
            for parent in path.ancestors().skip(1) {
                if parent.as_os_str().is_empty()
                    || self.placed.contains_key(parent)
                    || missing.contains_key(parent)
                {
                    continue;
                }
                missing.insert(parent.to_owned(), self.parent(parent)?);
            }
        }
        for (path, entry) in missing {
            self.insert(path, entry, Body::None, None);
        }
        Ok(())
    }

    fn parent(&self, path: &Path) -> Result<Entry, CopyError> {
        match self.base.get(path) {
            Some(found) if matches!(found.entry.kind, Kind::Directory { .. }) => Ok(Entry {
                path: path.to_owned(),
                kind: Kind::Directory { opaque: false },
                ..found.entry.clone()
            }),
            Some(_) => Err(CopyError::NotADirectory { path: path.to_owned() }),
            None => Ok(self.new_parent(path)),
        }
    }

    fn new_parent(&self, path: &Path) -> Entry {
        let node = Node {
            kind: NodeKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: self.rules.now,
            xattrs: BTreeMap::new(),
            link_group: None,
        };
        self.entry(path, Kind::Directory { opaque: false }, &node, false)
    }

    /// Of each group of hard links the first name stays a file, the others
    /// become links to it.
    fn link_groups(&mut self) {
        let mut first: HashMap<Group, PathBuf> = HashMap::new();
        for (path, placed) in &mut self.placed {
            let Some(group) = placed.group else { continue };
            if let Some(target) = first.get(&group) {
                placed.entry.kind = Kind::Hardlink { target: target.clone() };
                placed.body = Body::None;
            } else {
                first.insert(group, path.clone());
            }
        }
    }
}

/// Kind, body and group of hard links; `None` for a socket.
fn parts<'a>(
    tree: &'a dyn SourceTree,
    source: &Path,
    node: &Node,
) -> Option<(Kind, Body<'a>, Option<Group>)> {
    let kind = kind_of(&node.kind)?;
    let of_tree = |group| (std::ptr::from_ref(tree).cast::<()>() as usize, group);
    let body = match kind {
        Kind::File { .. } => Body::Source(tree, source.to_owned()),
        _ => Body::None,
    };
    Some((kind, body, node.link_group.map(of_tree)))
}

fn write_one(placed: &Placed<'_>, writer: &mut LayerWriter) -> Result<(), CopyError> {
    let mut bytes;
    let mut opened;
    let body: Option<&mut dyn Read> = match &placed.body {
        Body::None => None,
        Body::Bytes(content) => {
            bytes = *content;
            Some(&mut bytes)
        }
        Body::Source(tree, path) => {
            opened = tree.open(path).map_err(CopyError::Source)?;
            Some(&mut *opened)
        }
    };
    writer.append(&placed.entry, body).map_err(CopyError::Write)
}

fn kind_of(kind: &NodeKind) -> Option<Kind> {
    Some(match kind {
        NodeKind::File { size } => Kind::File { size: *size },
        NodeKind::Directory => Kind::Directory { opaque: false },
        NodeKind::Symlink(target) => Kind::Symlink { target: target.clone() },
        NodeKind::CharacterDevice { major, minor } => Kind::CharacterDevice { major: *major, minor: *minor },
        NodeKind::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
        NodeKind::Fifo => Kind::Fifo,
        NodeKind::Socket => return None,
    })
}
