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

/// Where an entry's bytes come from.
enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    Source(&'a dyn SourceTree, PathBuf),
}

struct Placed<'a> {
    entry: Entry,
    body: Body<'a>,
    /// Hard links of one source file share it: (copy, group).
    group: Option<(usize, u64)>,
}

/// What a node is placed with.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) tree: &'a dyn SourceTree,
    /// Owners count (`--from`, archives); else everything is 0:0.
    pub(super) keep_owner: bool,
    /// From an archive: `--chmod` does not count, and what is of another kind
    /// is replaced.
    pub(super) archive: bool,
}

/// Target path → what goes there. A sorted map, because a layer is sorted.
pub(super) struct Placement<'a> {
    base: &'a Stack,
    rules: Rules,
    placed: BTreeMap<PathBuf, Placed<'a>>,
    /// Hard links count inside one copy only.
    copy: usize,
}

impl<'a> Placement<'a> {
    pub(super) fn new(base: &'a Stack, rules: Rules) -> Self {
        Self { base, rules, placed: BTreeMap::new(), copy: 0 }
    }

    /// What follows is a copy of its own.
    pub(super) fn next_copy(&mut self) {
        self.copy += 1;
    }

    /// What is at `path` so far, no link followed.
    pub(super) fn existing(&self, path: &Path) -> Option<Entry> {
        match self.placed.get(path) {
            Some(placed) => Some(placed.entry.clone()),
            None => self.base.get(path).map(|found| found.entry),
        }
    }

    /// Whether a directory is there by now.
    pub(super) fn is_directory(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.existing(path).is_some_and(|there| there.kind.is_directory())
    }

    /// The destination itself, into which contents merge: it stays as it is,
    /// and is made like a parent, whatever the source's root looks like.
    pub(super) fn destination(
        &mut self,
        path: &Path,
        mtime: Option<i64>,
        use_chmod: bool,
    ) -> Result<(), CopyError> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let entry = match self.existing(path) {
            Some(there) if there.kind.is_directory() => plain_directory(there, path),
            Some(_) => return Err(CopyError::NotADirectory { path: path.to_owned() }),
            None => {
                let made = self.new_parent(path, use_chmod);
                Entry { mtime: mtime.unwrap_or(made.mtime), ..made }
            }
        };
        self.insert(path.to_owned(), entry, Body::None, None);
        Ok(())
    }

    /// A directory below the destination. One that exists gets the source's
    /// metadata, and keeps what attributes it has besides.
    pub(super) fn directory(&mut self, path: PathBuf, node: &Node, from: From<'_>) -> Result<(), CopyError> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let there = self.existing(&path);
        let is_other = there.as_ref().is_some_and(|there| !there.kind.is_directory());
        if is_other && !from.archive {
            return Err(CopyError::NotADirectory { path });
        }
        let there = there.filter(|_| !is_other);
        let mut entry = self.entry(&path, DIRECTORY, node, from);
        for (name, value) in there.into_iter().flat_map(|there| there.xattrs) {
            entry.xattrs.entry(name).or_insert(value);
        }
        self.insert(path, entry, Body::None, None);
        Ok(())
    }

    /// With `--parents`, a directory above an item: one that exists gets the
    /// source's mode and nothing else.
    pub(super) fn parent_of_item(
        &mut self,
        path: PathBuf,
        node: &Node,
        from: From<'_>,
    ) -> Result<(), CopyError> {
        match self.existing(&path) {
            Some(there) if there.kind.is_directory() => {
                let entry = Entry { mode: node.mode, ..plain_directory(there, &path) };
                self.insert(path, entry, Body::None, None);
                Ok(())
            }
            _ => self.directory(path, node, from),
        }
    }

    /// Anything but a directory. A socket is left out: a tar cannot hold one.
    pub(super) fn node(
        &mut self,
        source: &Path,
        path: PathBuf,
        node: &Node,
        from: From<'a>,
    ) -> Result<(), CopyError> {
        let Some(kind) = kind_of(&node.kind) else { return Ok(()) };
        match from.archive {
            // Nothing is left of what was below it.
            true => self.placed.retain(|placed, _| !placed.starts_with(&path)),
            false => self.refuse_directory(&path)?,
        }
        let body = match kind {
            Kind::File { .. } => Body::Source(from.tree, source.to_owned()),
            _ => Body::None,
        };
        let entry = self.entry(&path, kind, node, from);
        let group = node.link_group.map(|group| (self.copy, group));
        self.insert(path, entry, body, group);
        Ok(())
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
        let kind = Kind::File { size: content.len() as u64 };
        let (uid, gid) = self.rules.owner.unwrap_or((0, 0));
        let mode = self.rules.chmod.as_ref().map_or(mode, |chmod| chmod::apply(chmod, mode, false));
        let entry = Entry { path: path.clone(), kind, mode, uid, gid, mtime, xattrs: BTreeMap::new() };
        self.insert(path, entry, Body::Bytes(content), None);
        Ok(())
    }

    /// Where `path` leads in the layers below, links followed.
    pub(super) fn real(&self, path: &Path) -> Result<PathBuf, CopyError> {
        let resolved = self.base.resolve(path, true);
        let found = resolved.map_err(|source| CopyError::Target { path: path.to_owned(), source })?;
        Ok(found.path)
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

    fn insert(&mut self, path: PathBuf, entry: Entry, body: Body<'a>, group: Option<(usize, u64)>) {
        self.placed.insert(path, Placed { entry, body, group });
    }

    fn refuse_directory(&self, path: &Path) -> Result<(), CopyError> {
        match self.is_directory(path) {
            true => Err(CopyError::IsADirectory { path: path.to_owned() }),
            false => Ok(()),
        }
    }

    fn entry(&self, path: &Path, kind: Kind, node: &Node, from: From<'_>) -> Entry {
        let is_link = matches!(kind, Kind::Symlink { .. });
        let own = if from.keep_owner { (node.uid, node.gid) } else { (0, 0) };
        let (uid, gid) = self.rules.owner.unwrap_or(own);
        let mode = match &self.rules.chmod {
            Some(chmod) if !is_link && !from.archive => chmod::apply(chmod, node.mode, kind.is_directory()),
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
            Some(found) if found.entry.kind.is_directory() => Ok(plain_directory(found.entry, path)),
            Some(_) => Err(CopyError::NotADirectory { path: path.to_owned() }),
            None => Ok(self.new_parent(path, true)),
        }
    }

    /// BuildKit makes parents with the permissions of an octal `--chmod`, but
    /// without its special bits, and never asks a symbolic one.
    fn new_parent(&self, path: &Path, use_chmod: bool) -> Entry {
        let (uid, gid) = self.rules.owner.unwrap_or((0, 0));
        let mode = match &self.rules.chmod {
            Some(Chmod::Octal(bits)) if use_chmod => bits & 0o777,
            _ => 0o755,
        };
        let mtime = self.rules.now;
        Entry { mode, uid, gid, mtime, ..Entry::implicit_directory(path.to_owned()) }
    }

    /// Of each group of hard links the first name stays a file, the others
    /// become links to it.
    fn link_groups(&mut self) {
        let mut first: HashMap<(usize, u64), PathBuf> = HashMap::new();
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

const DIRECTORY: Kind = Kind::Directory { opaque: false };

/// What is said about a directory that exists, without what is said about the
/// layers below it.
fn plain_directory(there: Entry, path: &Path) -> Entry {
    Entry { path: path.to_owned(), kind: DIRECTORY, ..there }
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
