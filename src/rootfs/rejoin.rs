//! Files with several names, which overlayfs takes apart.
//!
//! A lower file that is written, renamed or only touched under one of its names
//! is copied up under that name alone; the others go on showing the lower file,
//! or become copies of their own when they are touched too. Elsewhere they would
//! have stayed one file. So they become one again: each attribute, and the
//! content, is that of the copy that changed it, and of the one touched last
//! where several did. A copy that lost its name counts too, as long as the file
//! has another. Which copy is of which file the sandbox has followed
//! ([`crate::sandbox::Linked`]): nothing in the tree is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::layer::{Entry, Found, Kind};
use crate::sandbox::Touched;

use super::Error;
use super::before::{Before, Source};
use super::disk::{Disk, Inspected, What};
use super::plan::{Body, Group};

/// An inode of the upper directory, or one that was there.
pub(super) struct Part {
    pub(super) group: Group,
    /// When it was touched last.
    pub(super) changed: (i64, u32),
}

/// The files that the inodes are, with all their names.
pub(super) fn rejoin(
    mut inodes: BTreeMap<u64, Part>,
    touched: &[Touched],
    before: &Before,
    disk: &Disk,
) -> Result<Vec<Group>, Error> {
    let mut of_one_file: BTreeMap<Source, (Found, Vec<Part>)> = BTreeMap::new();
    for touched in touched {
        let Some(old) = before.get(&touched.name) else { continue };
        let part = match &touched.saved {
            Some(saved) => saved_part(saved, touched.changed, disk)?,
            None => inodes.remove(&touched.inode),
        };
        if let Some(part) = part {
            let source = (old.source_layer, old.source_path.clone());
            of_one_file.entry(source).or_insert_with(|| (old, Vec::new())).1.push(part);
        }
    }
    let mut groups: Vec<Group> = inodes.into_values().map(|part| part.group).collect();
    for (old, parts) in of_one_file.into_values() {
        let group = join(&old, parts, before, disk)?;
        groups.extend(with_others(group, &old, before, disk)?);
    }
    Ok(groups)
}

/// What was written to a name that is gone.
fn saved_part(saved: &Path, changed: (i64, u32), disk: &Disk) -> Result<Option<Part>, Error> {
    let (Some(parent), Some(name)) = (saved.parent(), saved.file_name()) else { return Ok(None) };
    let parent = File::open(parent).map_err(Error::read(parent))?;
    let inspected = disk.inspect(parent.as_fd(), name, saved)?;
    let Some(What::Entry(entry)) = inspected.map(|inspected| inspected.what) else { return Ok(None) };
    let names = BTreeSet::new();
    let body = Body::Saved(saved.to_owned());
    // Of it nothing is in the tree.
    let group = Group { names, body, rejoined: true, shows_lower: true, ..Group::of_name(saved, entry) };
    Ok(Some(Part { group, changed }))
}

/// The other names of the file, as far as they still show the lower one; none
/// when no name at all is left.
fn with_others(group: Group, old: &Found, before: &Before, disk: &Disk) -> Result<Option<Group>, Error> {
    let others = split_off(&group, old, before, disk)?;
    Ok(match (group.names.is_empty(), others.is_empty()) {
        (false, _) => Some(Group { split_off: others, ..group }),
        (true, false) => Some(Group { names: others, shows_lower: false, ..group }),
        (true, true) => None,
    })
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
    let is_file = matches!(new.kind, Kind::File { .. });
    if new.kind != was.kind || (is_file && !has_content(&part, old, before, disk)?) {
        joined.entry.kind = new.kind.clone();
        joined.body = part.body;
    }
    joined.shows_lower &= part.shows_lower;
    joined.names.extend(part.names);
    Ok(joined)
}

fn has_content(part: &Group, old: &Found, before: &Before, disk: &Disk) -> Result<bool, Error> {
    let file = part.body.open(disk)?;
    before.has_content(old, file).map_err(Error::read(&old.entry.path))
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
