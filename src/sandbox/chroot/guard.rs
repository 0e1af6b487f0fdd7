//! What a mount would have refused at once is found after the RUN: writes to a
//! read-only mount, and a tmpfs that grew beyond its size.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::limits::used;
use crate::sandbox::Error;

/// One thing to look at after the RUN.
pub(super) enum Guard {
    Unchanged { target: PathBuf, before: Inventory },
    Size { target: PathBuf, size: u64 },
}

/// Everything below a directory: type and mode, owner, size, times, inode.
type Inventory = BTreeMap<PathBuf, [i64; 9]>;

impl Guard {
    /// Nothing at `place` may change.
    pub(super) fn unchanged(target: &Path, place: &Path) -> io::Result<Self> {
        Ok(Self::Unchanged { target: target.to_owned(), before: inventory(place)? })
    }

    /// What the RUN did against it. A place that cannot be read any more was
    /// changed.
    pub(super) fn find(&self, place: &Path) -> Option<Error> {
        match self {
            Self::Unchanged { target, before } => {
                let after = inventory(place).unwrap_or_default();
                let changed = before
                    .iter()
                    .find(|(path, facts)| after.get(*path) != Some(*facts))
                    .or_else(|| after.iter().find(|(path, _)| !before.contains_key(*path)));
                changed.map(|(path, _)| Error::ReadOnlyChanged { target: target.clone(), path: path.clone() })
            }
            Self::Size { target, size } => {
                let used = fs::File::open(place).and_then(|open| used(open.as_fd(), 0)).unwrap_or(0);
                (used > *size).then(|| Error::TmpfsFull { target: target.clone(), used, size: *size })
            }
        }
    }
}

fn inventory(place: &Path) -> io::Result<Inventory> {
    let mut found = Inventory::new();
    let top = fs::metadata(place)?;
    if !top.is_dir() {
        found.insert(PathBuf::new(), facts(&top));
        return Ok(found);
    }
    let mut ahead = vec![PathBuf::new()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(place.join(&directory))? {
            let entry = entry?;
            let (path, metadata) = (directory.join(entry.file_name()), entry.metadata()?);
            if metadata.is_dir() {
                ahead.push(path.clone());
            }
            found.insert(path, facts(&metadata));
        }
    }
    Ok(found)
}

fn facts(metadata: &fs::Metadata) -> [i64; 9] {
    // Directories count nothing of a size: they take what the file system likes.
    let size = if metadata.is_dir() { 0 } else { metadata.size() };
    [
        metadata.mode().into(),
        metadata.uid().into(),
        metadata.gid().into(),
        size.cast_signed(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
        metadata.ino().cast_signed(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_changed() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        fs::write(directory.path().join("a/file"), "text").unwrap();
        let guard = Guard::unchanged(Path::new("/t"), directory.path()).unwrap();
        assert!(guard.find(directory.path()).is_none());
        fs::write(directory.path().join("a/file"), "next").unwrap();
        let found = guard.find(directory.path()).unwrap().to_string();
        assert_eq!(found, "`/t` is mounted read-only, and the RUN changed `a/file` in it");
    }

    #[test]
    fn adds_up_a_tmpfs() {
        let directory = tempfile::tempdir().unwrap();
        let guard = Guard::Size { target: "/t".into(), size: 4 };
        fs::write(directory.path().join("file"), "text").unwrap();
        assert!(guard.find(directory.path()).is_none());
        fs::write(directory.path().join("more"), "x").unwrap();
        assert!(matches!(guard.find(directory.path()), Some(Error::TmpfsFull { used: 5, .. })));
    }
}
