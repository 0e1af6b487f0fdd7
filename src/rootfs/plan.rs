//! From what was found on disk to what goes into the layer: the one
//! definition of a change, for both kinds of storage.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::image::{Digest, HashingReader};
use crate::layer::{Entry, Found, Kind, LayerWriter, PackedLayer};

use super::Error;
use super::before::Before;
use super::disk::{Disk, What};

/// What may have changed; it is decided here whether it did.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Files, links, devices: one for each inode.
    pub(super) groups: Vec<Group>,
    /// Directories, by path.
    pub(super) directories: BTreeMap<PathBuf, Entry>,
    /// Old names that are no longer there, by directory.
    pub(super) gone: BTreeMap<PathBuf, BTreeSet<OsString>>,
    /// Sockets, and what overlayfs would take for a deletion: no layer holds them.
    pub(super) strangers: Vec<PathBuf>,
}

/// All names of one inode.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Never empty.
    pub(super) names: BTreeSet<PathBuf>,
    pub(super) body: Body,
    /// Its path does not count.
    pub(super) entry: Entry,
    /// Names below that still show the old file, though they are names of this
    /// one: overlayfs splits a group when one name is written.
    pub(super) split_off: BTreeSet<PathBuf>,
    /// Taken away from an overlay's upper, it would look the same.
    pub(super) shows_lower: bool,
    /// On disk it is several inodes, which overlayfs made of one.
    pub(super) rejoined: bool,
}

/// Where a file's bytes lie.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Under this name of the tree.
    Tree(PathBuf),
    /// It has no name there any more, but other names of it were left.
    Saved(PathBuf),
}

impl Body {
    pub(super) fn open(&self, disk: &Disk) -> Result<File, Error> {
        match self {
            Self::Tree(path) => disk.file(path).map_err(Error::read(path)),
            Self::Saved(path) => File::open(path).map_err(Error::read(path)),
        }
    }
}

impl Group {
    /// A file of which no other name is known.
    pub(super) fn of_name(name: &Path, entry: Entry) -> Self {
        Self {
            names: BTreeSet::from([name.to_owned()]),
            body: Body::Tree(name.to_owned()),
            entry,
            split_off: BTreeSet::new(),
            shows_lower: false,
            rejoined: false,
        }
    }
}

/// The layer, sorted.
#[derive(Debug, Default)]
pub(super) struct Plan {
    entries: BTreeMap<PathBuf, Planned>,
}

#[derive(Debug)]
struct Planned {
    entry: Entry,
    /// Of a file.
    body: Option<Body>,
}

/// Decides what goes into the layer.
pub(super) fn plan(found: &Findings, before: &Before, disk: &Disk) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    for group in &found.groups {
        if is_changed(group, before, disk)? {
            plan.add_group(group);
        }
    }
    for (path, entry) in &found.directories {
        let old = before.get(path);
        if !path.as_os_str().is_empty() && old.is_none_or(|old| entry.changed_from(&old.entry)) {
            plan.add(path.clone(), entry.clone(), None);
        }
    }
    for (directory, gone) in &found.gone {
        plan.add_gone(directory, gone, found, before, disk)?;
    }
    plan.add_parents(found, before, disk)?;
    Ok(plan)
}

/// Whether a file changed or gained a name.
fn is_changed(group: &Group, before: &Before, disk: &Disk) -> Result<bool, Error> {
    let names = group.names.union(&group.split_off);
    let old: Option<Vec<Found>> = names.map(|name| before.get(name)).collect();
    let Some(old) = old else { return Ok(true) };
    let Some(first) = old.first() else { return Ok(false) };
    let same_file =
        |found: &Found| found.source_layer == first.source_layer && found.source_path == first.source_path;
    if !old.iter().all(same_file) || group.entry.changed_from(&first.entry) {
        return Ok(true);
    }
    if !matches!(group.entry.kind, Kind::File { .. }) {
        return Ok(false);
    }
    let file = group.body.open(disk)?;
    Ok(!before.has_content(first, file).map_err(Error::read(&first.entry.path))?)
}

impl Plan {
    fn add(&mut self, path: PathBuf, entry: Entry, body: Option<Body>) {
        self.entries.insert(path.clone(), Planned { entry: Entry { path, ..entry }, body });
    }

    /// The first name is the file, the others are links to it.
    fn add_group(&mut self, group: &Group) {
        let mut names = group.names.union(&group.split_off);
        let Some(first) = names.next() else { return };
        let is_file = matches!(group.entry.kind, Kind::File { .. });
        self.add(first.clone(), group.entry.clone(), is_file.then(|| group.body.clone()));
        for name in names {
            let kind = Kind::Hardlink { target: first.clone() };
            self.add(name.clone(), Entry { kind, ..group.entry.clone() }, None);
        }
    }

    fn add_gone(
        &mut self,
        directory: &Path,
        gone: &BTreeSet<OsString>,
        found: &Findings,
        before: &Before,
        disk: &Disk,
    ) -> Result<(), Error> {
        let old = before.names(directory);
        let gone: Vec<&OsString> = old.iter().filter(|name| gone.contains(*name)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        if gone.len() == old.len() {
            let mut entry = directory_entry(directory, found, before, disk)?;
            entry.kind = Kind::Directory { opaque: true };
            self.add(directory.to_owned(), entry, None);
            return Ok(());
        }
        for name in gone {
            self.add(directory.join(name), whiteout(), None);
        }
        Ok(())
    }

    /// Tools make a missing parent 0755 and root's, and turn a link into a
    /// directory: so every parent is said again.
    fn add_parents(&mut self, found: &Findings, before: &Before, disk: &Disk) -> Result<(), Error> {
        let mut missing = BTreeSet::new();
        for path in self.entries.keys() {
            for parent in path.ancestors().skip(1) {
                if !parent.as_os_str().is_empty() && !self.entries.contains_key(parent) {
                    missing.insert(parent.to_owned());
                }
            }
        }
        for path in missing {
            let entry = directory_entry(&path, found, before, disk)?;
            self.add(path, entry, None);
        }
        Ok(())
    }

    /// Writes it, with the digest of each file's bytes where they are wanted.
    pub(super) fn write(
        &self,
        mut writer: LayerWriter,
        disk: &Disk,
        digests_wanted: bool,
    ) -> Result<(PackedLayer, Vec<(PathBuf, Digest)>), Error> {
        let mut digests = Vec::new();
        for (path, planned) in &self.entries {
            let Some(body) = &planned.body else {
                writer.append(&planned.entry, None).map_err(Error::Layer)?;
                continue;
            };
            let mut file = body.open(disk)?;
            if digests_wanted {
                let mut hashing = HashingReader::new(file);
                writer.append(&planned.entry, Some(&mut hashing)).map_err(Error::Layer)?;
                digests.push((path.clone(), hashing.finish().0));
            } else {
                let file: &mut dyn Read = &mut file;
                writer.append(&planned.entry, Some(file)).map_err(Error::Layer)?;
            }
        }
        Ok((writer.finish().map_err(Error::Layer)?, digests))
    }

    /// Gives what is on disk the times that the layer has, if these are clamped: what
    /// a later step does not change must not seem to differ from the layer.
    pub(super) fn settle_times(&self, disk: &Disk, clamp: Option<i64>) -> Result<(), Error> {
        let Some(latest) = clamp else { return Ok(()) };
        for (path, planned) in &self.entries {
            let is_of_its_own = !matches!(planned.entry.kind, Kind::Whiteout | Kind::Hardlink { .. });
            if is_of_its_own && planned.entry.mtime > latest {
                settle_time(disk, path, latest).map_err(Error::write(path))?;
            }
        }
        Ok(())
    }

    /// Whether the layer says anything about this path.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.entries.contains_key(path)
    }
}

/// A parent that the layer says again need not be in an overlay's upper.
fn settle_time(disk: &Disk, path: &Path, latest: i64) -> io::Result<()> {
    let set = || -> io::Result<()> {
        let (parent, name) = disk.parent(path)?;
        let times = super::upper::modified(latest);
        Ok(rustix::fs::utimensat(parent, name, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
    };
    match set() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// A directory as it is now: found, on disk, or, where an overlay's upper has
/// it not, as it was.
fn directory_entry(path: &Path, found: &Findings, before: &Before, disk: &Disk) -> Result<Entry, Error> {
    if let Some(entry) = found.directories.get(path) {
        return Ok(entry.clone());
    }
    match disk.get(path)?.map(|inspected| inspected.what) {
        Some(What::Entry(entry)) if entry.kind.is_directory() => Ok(entry),
        _ => {
            let entry = before.get(path).map(|found| found.entry);
            let entry = entry.unwrap_or_else(|| Entry::implicit_directory(path.to_owned()));
            Ok(Entry { kind: Kind::Directory { opaque: false }, ..entry })
        }
    }
}

fn whiteout() -> Entry {
    Entry { kind: Kind::Whiteout, mode: 0, ..Entry::implicit_directory(PathBuf::new()) }
}
