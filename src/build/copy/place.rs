//! The map of what a COPY writes, and its way into the layer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
pub(super) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    Source(&'a dyn SourceTree, PathBuf),
}

pub(super) struct Placed<'a> {
    pub(super) entry: Entry,
    pub(super) body: Body<'a>,
    /// Hard links of one source file share it: (copy, group).
    pub(super) group: Option<(usize, u64)>,
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
    pub(super) base: &'a Stack,
    rules: Rules,
    pub(super) placed: BTreeMap<PathBuf, Placed<'a>>,
    /// Directories of the layers below in which a name was made or replaced.
    touched: BTreeSet<PathBuf>,
    /// Hard links count inside one copy only.
    copy: usize,
}

impl<'a> Placement<'a> {
    pub(super) fn new(base: &'a Stack, rules: Rules) -> Self {
        Self { base, rules, placed: BTreeMap::new(), touched: BTreeSet::new(), copy: 0 }
    }

    /// What follows is a copy of its own.
    pub(super) fn next_copy(&mut self) {
        self.copy += 1;
    }

    /// The time of what the COPY makes.
    pub(super) fn now(&self) -> i64 {
        self.rules.now
    }

    /// What is at `path` so far, no link followed.
    pub(super) fn existing(&self, path: &Path) -> Option<Entry> {
        match self.placed.get(path) {
            Some(placed) => Some(placed.entry.clone()),
            None => self.base.get(path).map(|found| found.entry),
        }
    }

    /// A name is made or replaced at `path`: that changes the time of the
    /// directory it is in, unless the source says that one's time afterwards.
    pub(super) fn touch_parent(&mut self, path: &Path) {
        let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return };
        match self.placed.get_mut(parent) {
            Some(placed) => placed.entry.mtime = self.rules.now,
            None => drop(self.touched.insert(parent.to_owned())),
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
                self.touch_parent(path);
                self.new_parent(path, use_chmod)
            }
        };
        let entry = Entry { mtime: mtime.unwrap_or(entry.mtime), ..entry };
        self.insert(path.to_owned(), entry, Body::None, None);
        Ok(())
    }

    /// A directory that an archive puts something into without a word about it:
    /// a new one is root's, whatever `--chown` says.
    pub(super) fn implied(&mut self, path: &Path) -> Result<(), CopyError> {
        let is_new = self.existing(path).is_none();
        self.destination(path, None, false)?;
        if let Some(placed) = self.placed.get_mut(path).filter(|_| is_new) {
            (placed.entry.uid, placed.entry.gid) = (0, 0);
        }
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

    /// Anything but a directory. A socket becomes an empty file with its mode,
    /// as in BuildKit's copy of the context: a tar cannot hold one.
    pub(super) fn node(
        &mut self,
        source: &Path,
        path: PathBuf,
        node: &Node,
        from: From<'a>,
    ) -> Result<(), CopyError> {
        let kind = kind_of(&node.kind);
        match from.archive {
            // Nothing is left of what was below it.
            true => self.remove(&path),
            false => self.refuse_directory(&path)?,
        }
        let body = match kind {
            Kind::File { .. } if node.kind == NodeKind::Socket => Body::Bytes(&[]),
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
        self.touch_parent(&path);
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

    /// Forgets what is at `path` and below it. Paths sort by component, so all
    /// of it is in one place.
    fn remove(&mut self, path: &Path) {
        let below = self.placed.range(path.to_owned()..).map(|(placed, _)| placed);
        let below: Vec<PathBuf> = below.take_while(|placed| placed.starts_with(path)).cloned().collect();
        below.iter().for_each(|placed| drop(self.placed.remove(placed)));
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

    /// Existing parents are repeated, missing ones made.
    fn add_parents(&mut self) -> Result<(), CopyError> {
        let parents: BTreeSet<PathBuf> = self
            .placed
            .keys()
            .flat_map(|path| path.ancestors().skip(1))
            .filter(|parent| !parent.as_os_str().is_empty() && !self.placed.contains_key(*parent))
            .map(Path::to_owned)
            .collect();
        for path in parents.iter().filter(|path| self.base.get(path).is_none()) {
            self.touched.extend(path.parent().map(Path::to_owned));
        }
        for path in parents {
            let entry = self.parent(&path)?;
            self.insert(path, entry, Body::None, None);
        }
        Ok(())
    }

    fn parent(&self, path: &Path) -> Result<Entry, CopyError> {
        match self.base.get(path) {
            Some(found) if found.entry.kind.is_directory() => {
                let mtime = if self.touched.contains(path) { self.rules.now } else { found.entry.mtime };
                Ok(Entry { mtime, ..plain_directory(found.entry, path) })
            }
            Some(_) => Err(CopyError::NotADirectory { path: path.to_owned() }),
            None => Ok(self.new_parent(path, true)),
        }
    }

    /// BuildKit makes parents with the permissions of an octal `--chmod`, but
    /// without its special bits, and never asks a symbolic one.
    fn new_parent(&self, path: &Path, use_chmod: bool) -> Entry {
        let setgid = setgid_above(self.base, path);
        let (uid, gid) = self.rules.owner.unwrap_or((0, setgid.unwrap_or(0)));
        let mode = match &self.rules.chmod {
            Some(Chmod::Octal(bits)) if use_chmod => bits & 0o777,
            _ => 0o755,
        } | setgid.map_or(0, |_| 0o2000);
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

/// mkdir(2): a directory made in a setgid one is setgid itself, and of its group.
pub(in crate::build) fn setgid_above(base: &Stack, path: &Path) -> Option<u32> {
    let nearest = path.ancestors().skip(1).find_map(|above| base.get(above))?;
    (nearest.entry.mode & 0o2000 != 0).then_some(nearest.entry.gid)
}

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

fn kind_of(kind: &NodeKind) -> Kind {
    match kind {
        NodeKind::File { size } => Kind::File { size: *size },
        NodeKind::Directory => Kind::Directory { opaque: false },
        NodeKind::Symlink(target) => Kind::Symlink { target: target.clone() },
        NodeKind::CharacterDevice { major, minor } => Kind::CharacterDevice { major: *major, minor: *minor },
        NodeKind::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
        NodeKind::Fifo => Kind::Fifo,
        NodeKind::Socket => Kind::File { size: 0 },
    }
}
