//! What a COPY writes as it was: it is left out of the layer, as BuildKit does,
//! whose layers are differences. `COPY package.json .` and `COPY . .` is the usual
//! case: the second layer has everything but package.json.
//!
//! A file is unchanged when kind, mode, owner, size, time (in seconds), attributes
//! and content are; for a directory the time does not count. Names of one file
//! stay together.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::CopyError;
use super::place::{Body, Placed, Placement};
use crate::context::{self, SourceTree};
use crate::layer::{Entry, Kind};

/// Where the bytes of files below are read: asked once, for all of them.
pub(in crate::build) type Below<'a> =
    dyn Fn(&BTreeSet<PathBuf>) -> Result<Box<dyn SourceTree>, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// Takes everything unchanged out of `placement`.
///
/// # Errors
/// When one of the two versions of a file cannot be read.
pub(super) fn leave_out(placement: &mut Placement<'_>, below: &Below<'_>) -> Result<(), CopyError> {
    let mut same = alike(placement);
    let files: BTreeSet<PathBuf> = same.iter().filter(|path| has_content(placement, path)).cloned().collect();
    if !files.is_empty() {
        let tree = below(&files).map_err(CopyError::Below)?;
        for path in files {
            if !same_content(placement, tree.as_ref(), &path)? {
                same.remove(&path);
            }
        }
    }
    keep_groups_whole(placement, &mut same);
    placement.placed.retain(|path, _| !same.contains(path));
    drop_empty_directories(placement);
    Ok(())
}

/// Entries other than directories that look as they did.
fn alike(placement: &Placement<'_>) -> BTreeSet<PathBuf> {
    let candidates = placement.placed.iter().filter(|(_, placed)| !placed.entry.kind.is_directory());
    let unchanged = candidates.filter(|(path, placed)| {
        placement.base.get(path).is_some_and(|found| {
            let (old, new) = (&found.entry, &placed.entry);
            old.kind == new.kind && old.mtime == new.mtime && same_metadata(old, new)
        })
    });
    unchanged.map(|(path, _)| path.clone()).collect()
}

fn same_metadata(old: &Entry, new: &Entry) -> bool {
    (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid) && old.xattrs == new.xattrs
}

fn has_content(placement: &Placement<'_>, path: &Path) -> bool {
    placement
        .placed
        .get(path)
        .is_some_and(|placed| matches!(placed.entry.kind, Kind::File { size } if size > 0))
}

fn same_content(placement: &Placement<'_>, below: &dyn SourceTree, path: &Path) -> Result<bool, CopyError> {
    let Some(Placed { body, .. }) = placement.placed.get(path) else { return Ok(false) };
    let old = below.open(path).map_err(CopyError::Source)?;
    let new: Box<dyn Read + '_> = match body {
        Body::None => return Ok(false),
        Body::Bytes(content) => Box::new(*content),
        Body::Source(tree, source) => tree.open(source).map_err(CopyError::Source)?,
    };
    same_bytes(old, new).map_err(|source| {
        let (path, tree) = (path.to_owned(), below.description());
        CopyError::Source(context::Error::Read { path, tree, source })
    })
}

fn same_bytes(one: impl Read, other: impl Read) -> io::Result<bool> {
    let (mut one, mut other) = (BufReader::new(one).bytes(), BufReader::new(other).bytes());
    loop {
        match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(true),
            (a, b) if a != b => return Ok(false),
            _ => {}
        }
    }
}

fn keep_groups_whole(placement: &Placement<'_>, same: &mut BTreeSet<PathBuf>) {
    let mut groups: HashMap<(usize, u64), Vec<&PathBuf>> = HashMap::new();
    for (path, placed) in &placement.placed {
        if let Some(group) = placed.group {
            groups.entry(group).or_default().push(path);
        }
    }
    for names in groups.into_values() {
        if !names.iter().all(|name| same.contains(*name)) {
            for name in names {
                same.remove(name);
            }
        }
    }
}

/// From the deepest up: a directory that is as it was, and has nothing below it
/// that is not. Sorted as paths, what follows a directory first is below it.
fn drop_empty_directories(placement: &mut Placement<'_>) {
    let mut kept: Option<PathBuf> = None;
    let mut unchanged = BTreeSet::new();
    for (path, placed) in placement.placed.iter().rev() {
        let is_needed = kept.as_ref().is_some_and(|kept| kept.starts_with(path));
        let is_same = placed.entry.kind.is_directory()
            && placement.base.get(path).is_some_and(|found| {
                found.entry.kind.is_directory() && same_metadata(&found.entry, &placed.entry)
            });
        match is_same && !is_needed {
            true => drop(unchanged.insert(path.clone())),
            false => kept = Some(path.clone()),
        }
    }
    placement.placed.retain(|path, _| !unchanged.contains(path));
}
