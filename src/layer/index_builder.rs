//! An index from entries in a tar's order, where later ones replace earlier
//! ones and names may go through symbolic links of the same layer.
//!
//! What it makes depends on the layer alone, never on what lies below it: so an
//! index can be kept by diff id. [`super::Stack`] fits it to a chain.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::index_file::{IMPLICIT_OPAQUE, IndexWriter, decode_rest, encode_rest, implicit};
use super::path::{LONGEST_PATH, bytes, split, to_path};
use super::tar_stream::Item;
use super::{Entry, EntryIndex, Error, Kind};

/// Linux' own limit (path_resolution(7)).
pub(super) const MOST_LINKS: usize = 40;

#[derive(Default)]
pub(super) struct IndexBuilder {
    /// By [`key`], without the path.
    entries: BTreeMap<Vec<u8>, Box<[u8]>>,
    /// Names of each hard link target, so that a replaced target is found.
    links: HashMap<PathBuf, Vec<PathBuf>>,
    /// The parent resolved last and where it is: tars are mostly sorted.
    parent: Option<(PathBuf, PathBuf)>,
    /// Names that lost their file, each with the hard link that has it now.
    promoted: Vec<(PathBuf, PathBuf)>,
}

impl IndexBuilder {
    /// Adds whatever comes next in a tar.
    pub(super) fn apply(&mut self, item: Item) -> Result<(), Error> {
        match item {
            Item::Entry(entry) => self.add(entry),
            Item::Opaque(directory) => self.add_opaque(&directory),
        }
    }

    /// Adds an entry; its path becomes the place where it really lies, and so
    /// does a hard link's target.
    pub(super) fn add(&mut self, mut entry: Entry) -> Result<(), Error> {
        entry.path = self.place(&entry.path)?;
        match &entry.kind {
            Kind::Directory { .. } => self.add_directory(entry),
            Kind::Whiteout => self.add_whiteout(entry),
            Kind::Hardlink { target } => {
                let target = self.place(target)?;
                self.add_link(entry, target)
            }
            _ => {
                self.remove(&entry.path);
                self.insert(&entry)
            }
        }
    }

    /// Marks the directory as opaque.
    pub(super) fn add_opaque(&mut self, directory: &Path) -> Result<(), Error> {
        let directory = self.resolve(directory)?;
        if self.entries.contains_key(&key(&directory)) {
            return self.make_opaque(directory);
        }
        let rest = implicit(bytes(&directory), IMPLICIT_OPAQUE);
        let rest = rest.map_err(|error| Error::Malformed(error.to_string()))?;
        self.entries.insert(key(&directory), rest.into());
        Ok(())
    }

    /// Where an entry of this name really lies: its parent's links followed.
    pub(super) fn place(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let Some((parent, name)) = split(path) else { return Ok(PathBuf::new()) };
        if let Some((from, to)) = &self.parent
            && from == parent
        {
            return Ok(to.join(name));
        }
        let real = self.resolve(parent)?;
        let placed = real.join(name);
        self.parent = Some((parent.to_owned(), real));
        Ok(placed)
    }

    pub(super) fn get(&self, path: &Path) -> Option<Entry> {
        let rest = self.entries.get(&key(path))?;
        Some(decode_rest(bytes(path), rest).expect("only encode_rest fills the map"))
    }

    /// Since the last call, files whose name went while a hard link to them
    /// stayed: the old name, and the link that is the file now.
    pub(super) fn take_promoted(&mut self) -> Vec<(PathBuf, PathBuf)> {
        std::mem::take(&mut self.promoted)
    }

    /// The finished index.
    pub(super) fn finish(self) -> Result<EntryIndex, Error> {
        let write = || -> io::Result<Vec<u8>> {
            let mut writer = IndexWriter::new(Vec::new())?;
            for (mut path, rest) in self.entries {
                path.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'/');
                writer.append_encoded(&path, &rest)?;
            }
            writer.finish()
        };
        let file = write().map_err(|error| Error::Malformed(error.to_string()))?;
        EntryIndex::from_file(file).map_err(|reason| Error::Malformed(format!("no index of it: {reason}")))
    }

    /// A directory joins one that is there; over anything else of this layer
    /// it starts empty, because what it replaced hid the layers below.
    fn add_directory(&mut self, mut entry: Entry) -> Result<(), Error> {
        if let Some(before) = self.get(&entry.path) {
            let opaque = !matches!(before.kind, Kind::Directory { opaque: false });
            let asked = matches!(entry.kind, Kind::Directory { opaque: true });
            entry.kind = Kind::Directory { opaque: opaque || asked };
            if !before.kind.is_directory() {
                self.remove(&entry.path);
            }
        }
        self.insert(&entry)
    }

    /// A whiteout concerns lower layers only (OCI image spec, layer.md), so
    /// beside a directory of this layer it says that the directory is opaque,
    /// and beside anything else nothing.
    fn add_whiteout(&mut self, entry: Entry) -> Result<(), Error> {
        match self.get(&entry.path) {
            Some(before) if !before.kind.is_directory() => Ok(()),
            None if !self.has_below(&entry.path) => self.insert(&entry),
            _ => self.make_opaque(entry.path),
        }
    }

    fn add_link(&mut self, mut entry: Entry, target: PathBuf) -> Result<(), Error> {
        let refuse = |reason| Error::LinkTarget { path: entry.path.clone(), target: target.clone(), reason };
        let found = self.get(&target);
        if target == entry.path {
            return if found.is_some() { Ok(()) } else { Err(refuse("which is itself")) };
        }
        let target = match found.map(|found| found.kind) {
            Some(Kind::Directory { .. }) => return Err(refuse("which is a directory")),
            Some(Kind::Whiteout) => return Err(refuse("which this layer deletes")),
            // A link to a link shares its target, so that no chains arise.
            Some(Kind::Hardlink { target: first }) => first,
            _ => target,
        };
        if target == entry.path {
            return Ok(());
        }
        self.remove(&entry.path);
        self.links.entry(target.clone()).or_default().push(entry.path.clone());
        entry.kind = Kind::Hardlink { target };
        self.insert(&entry)
    }

    fn make_opaque(&mut self, directory: PathBuf) -> Result<(), Error> {
        let before = self.get(&directory).filter(|entry| entry.kind.is_directory());
        if before.as_ref().is_some_and(|entry| entry.kind == (Kind::Directory { opaque: true })) {
            return Ok(());
        }
        let entry = before.unwrap_or_else(|| Entry::implicit_directory(directory));
        self.insert(&Entry { kind: Kind::Directory { opaque: true }, ..entry })
    }

    fn insert(&mut self, entry: &Entry) -> Result<(), Error> {
        if bytes(&entry.path).len() > LONGEST_PATH {
            let reason = "the links on the way make it longer than 4095 bytes";
            return Err(Error::UnsafeName { path: entry.path.clone(), reason });
        }
        if matches!(entry.kind, Kind::Symlink { .. }) {
            self.parent = None;
        }
        let mut rest = Vec::with_capacity(32);
        encode_rest(entry, &mut rest).map_err(|error| Error::Malformed(error.to_string()))?;
        self.entries.insert(key(&entry.path), rest.into());
        Ok(())
    }

    /// Forgets what this layer had here and below; hard links to what goes
    /// stay files with its metadata.
    fn remove(&mut self, path: &Path) {
        let mut gone: Vec<Vec<u8>> = self.below(path).map(|(key, _)| key.clone()).collect();
        if self.entries.contains_key(&key(path)) {
            gone.push(key(path));
        }
        if gone.is_empty() {
            return;
        }
        self.parent = None;
        for key in gone {
            if let Some(rest) = self.entries.remove(&key) {
                self.promote_link(&unkey(&key), rest);
            }
        }
    }

    /// The first link to a target that goes becomes the file itself.
    fn promote_link(&mut self, target: &Path, rest: Box<[u8]>) {
        let Some(names) = self.links.remove(target) else { return };
        let is_link = |entry: &Entry| matches!(&entry.kind, Kind::Hardlink { target: to } if to == target);
        let mut names = names.into_iter().filter(|name| self.get(name).as_ref().is_some_and(is_link));
        let Some(first) = names.next() else { return };
        let others: Vec<PathBuf> = names.collect();
        self.entries.insert(key(&first), rest);
        self.promoted.push((target.to_owned(), first.clone()));
        for name in &others {
            let mut entry = self.get(name).expect("it was found above and nothing removed it");
            entry.kind = Kind::Hardlink { target: first.clone() };
            let mut rest = Vec::new();
            encode_rest(&entry, &mut rest).expect("a path of at most 4095 bytes can be encoded");
            self.entries.insert(key(name), rest.into());
        }
        self.links.insert(first, others);
    }

    fn has_below(&self, path: &Path) -> bool {
        self.below(path).next().is_some()
    }

    fn below(&self, path: &Path) -> impl Iterator<Item = (&Vec<u8>, &Box<[u8]>)> {
        let (mut from, mut to) = (key(path), key(path));
        from.push(0);
        to.push(1);
        let range = if path.as_os_str().is_empty() {
            (Bound::Excluded(Vec::new()), Bound::Unbounded)
        } else {
            (Bound::Included(from), Bound::Excluded(to))
        };
        self.entries.range::<Vec<u8>, _>(range)
    }

    /// A directory's real place: links of this layer followed inside the root.
    /// What the layer does not have is taken for a directory, and what it
    /// deletes becomes a new one.
    fn resolve(&mut self, directory: &Path) -> Result<PathBuf, Error> {
        let mut walk = Walk::new(directory);
        while let Some(name) = walk.next() {
            let here = walk.at.join(&name);
            match self.get(&here).map(|entry| entry.kind) {
                None | Some(Kind::Directory { .. }) => walk.at = here,
                Some(Kind::Whiteout) => {
                    self.make_opaque(here.clone())?;
                    walk.at = here;
                }
                Some(Kind::Symlink { target }) => walk.follow(&target)?,
                Some(_) => return Err(Error::NotADirectory { path: here, wanted: directory.to_owned() }),
            }
        }
        Ok(walk.at)
    }
}

/// The order of paths as byte order: `/` as the smallest byte, which no name
/// contains.
fn key(path: &Path) -> Vec<u8> {
    bytes(path).iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

fn unkey(key: &[u8]) -> PathBuf {
    let path: Vec<u8> = key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
    to_path(&path)
}

/// A walk along a path inside a root: `..` never climbs above it, absolute
/// links start at it.
pub(super) struct Walk {
    wanted: PathBuf,
    /// The real place so far.
    pub(super) at: PathBuf,
    ahead: VecDeque<OsString>,
    links: usize,
}

impl Walk {
    pub(super) fn new(path: &Path) -> Self {
        let mut walk = Self { wanted: path.to_owned(), at: PathBuf::new(), ahead: VecDeque::new(), links: 0 };
        walk.push(path);
        walk
    }

    /// The next name to look up in `at`; `..` is walked here.
    pub(super) fn next(&mut self) -> Option<OsString> {
        loop {
            let name = self.ahead.pop_front()?;
            if name != ".." {
                return Some(name);
            }
            self.at.pop();
        }
    }

    /// Whether nothing is left to look up.
    pub(super) fn is_done(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Goes on at a link's target.
    pub(super) fn follow(&mut self, target: &Path) -> Result<(), Error> {
        self.links += 1;
        if self.links > MOST_LINKS || bytes(target).len() > LONGEST_PATH {
            return Err(Error::SymlinkLoop { path: self.wanted.clone() });
        }
        if target.has_root() {
            self.at = PathBuf::new();
        }
        self.push(target);
        Ok(())
    }

    fn push(&mut self, path: &Path) {
        let names = bytes(path).split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        for name in names.rev() {
            self.ahead.push_front(OsStr::from_bytes(name).to_owned());
        }
    }
}
