//! Files with several names, which overlayfs takes apart.
//!
//! A lower file that is written, or only touched, under one of its names is
//! copied up under that name alone; the others go on showing the lower file, or
//! become copies of their own when they are touched too. Elsewhere they would
//! have stayed one file. So they become one again: each attribute, and the
//! content, is that of the copy that changed it, and of the one touched last
//! where several did.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::layer::{Entry, Found, Kind};

use super::Error;
use super::before::{Before, Source};
use super::disk::{Disk, Inspected, What};
use super::plan::Group;

/// An inode of the upper directory.
pub(super) struct Part {
    pub(super) group: Group,
    /// Where it was copied up from a file with several names, the first of them.
    pub(super) linked: Option<PathBuf>,
    /// When it was touched last.
    pub(super) changed: (i64, u32),
}

/// The files that the parts are, with all their names.
pub(super) fn rejoin(
    parts: impl Iterator<Item = Part>,
    before: &Before,
    disk: &Disk,
) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    let mut of_one_file: BTreeMap<Source, (Found, Vec<Part>)> = BTreeMap::new();
    for part in parts {
        match part.linked.as_deref().and_then(|file| lower_file(&part.group, file, before)) {
            Some(old) => {
                let source = (old.source_layer, old.source_path.clone());
                of_one_file.entry(source).or_insert_with(|| (old, Vec::new())).1.push(part);
            }
            None => groups.push(part.group),
        }
    }
    for (old, parts) in of_one_file.into_values() {
        let group = join(&old, parts, before, disk)?;
        let split_off = split_off(&group, &old, before, disk)?;
        groups.push(Group { split_off, ..group });
    }
    Ok(groups)
}

/// The file that one of the names was, if it is the one that was copied up: a
/// file may have been renamed over a name of another.
fn lower_file(group: &Group, first: &Path, before: &Before) -> Option<Found> {
    let old = group.names.iter().filter_map(|name| before.get(name));
    let is_it = |old: &Found| {
        let is_file = matches!(old.entry.kind, Kind::File { .. });
        is_file && (old.source_path == first || before.group(old).iter().any(|name| name == first))
    };
    old.into_iter().find(is_it)
}

fn join(old: &Found, mut parts: Vec<Part>, before: &Before, disk: &Disk) -> Result<Group, Error> {
    parts.sort_by_key(|part| part.changed);
    let several = parts.len() > 1;
    let mut joined: Option<Group> = None;
    for Part { group, .. } in parts {
        joined = Some(match joined {
            None if !several => group,
            // The first one, seen against the lower file, like all others.
            None => {
                let start = Group { entry: old.entry.clone(), rejoined: true, ..group.clone() };
                with(start, group, old, before, disk)?
            }
            Some(joined) => with(joined, group, old, before, disk)?,
        });
    }
    Ok(joined.expect("a file is kept together with its first part"))
}

/// `joined` with what `part` changed.
fn with(mut joined: Group, part: Group, old: &Found, before: &Before, disk: &Disk) -> Result<Group, Error> {
    let (new, was) = (&part.entry, &old.entry);
    take_changed(&mut joined.entry, new, was);
    if new.kind != was.kind || !has_content(&part, old, before, disk)? {
        joined.entry.kind = new.kind.clone();
        joined.body = part.body;
    }
    joined.shows_lower &= part.shows_lower;
    joined.names.extend(part.names);
    Ok(joined)
}

fn has_content(part: &Group, old: &Found, before: &Before, disk: &Disk) -> Result<bool, Error> {
    let file = disk.file(&part.body).map_err(Error::read(&part.body))?;
    before.has_content(old, file).map_err(Error::read(&part.body))
}

fn take_changed(joined: &mut Entry, new: &Entry, was: &Entry) {
    let take = |joined: &mut u32, new: u32, was: u32| {
        if new != was {
            *joined = new;
        }
    };
    take(&mut joined.mode, new.mode, was.mode);
    take(&mut joined.uid, new.uid, was.uid);
    take(&mut joined.gid, new.gid, was.gid);
    if new.mtime != was.mtime {
        joined.mtime = new.mtime;
    }
    for name in new.xattrs.keys().chain(was.xattrs.keys()) {
        match (new.xattrs.get(name), was.xattrs.get(name)) {
            (new, was) if new == was => {}
            (Some(value), _) => drop(joined.xattrs.insert(name.clone(), value.clone())),
            (None, _) => drop(joined.xattrs.remove(name)),
        }
    }
}

/// The other names of the file, as far as they still show the lower one.
fn split_off(group: &Group, old: &Found, before: &Before, disk: &Disk) -> Result<BTreeSet<PathBuf>, Error> {
    let mut others = BTreeSet::new();
    for other in before.group(old) {
        if !group.names.contains(&other) && shows_lower(disk, &other)? {
            others.insert(other);
        }
    }
    Ok(others)
}

/// Whether the upper leaves `path` to the layers below.
fn shows_lower(disk: &Disk, path: &Path) -> Result<bool, Error> {
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    for ancestor in ancestors {
        match disk.get(ancestor)? {
            None => return Ok(true),
            Some(Inspected { what: What::Entry(entry), opaque: false, .. }) if entry.kind.is_directory() => {}
            Some(_) => return Ok(false),
        }
    }
    Ok(false)
}
