//! The few files a CI's facts come from, behind a trait: this room has no disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Reads files; relative paths are relative to the working directory.
pub trait Files {
    /// The whole of a small file.
    ///
    /// # Errors
    /// Of kind `NotFound` when there is none; otherwise whatever the reading gave.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// At most `length` bytes from `offset` (pack files are too large to read whole).
    ///
    /// # Errors
    /// As [`Files::read`].
    fn read_at(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Names in a directory, sorted; nothing when it cannot be read.
    fn names(&self, path: &Path) -> Vec<String>;

    /// Whether `path` is a directory.
    fn is_directory(&self, path: &Path) -> bool;

    /// Whether `path` is a file.
    fn is_file(&self, path: &Path) -> bool;

    /// A small text file.
    ///
    /// # Errors
    /// As [`Files::read`], and `InvalidData` when it is not UTF-8.
    fn read_text(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.read(path)?).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

/// Files that exist in memory only: for tests, and `default()` for "no files at all".
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(pub BTreeMap<PathBuf, Vec<u8>>);

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let whole = self.read(path)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
        let end = start.saturating_add(length).min(whole.len());
        Ok(whole[start..end].to_vec())
    }

    fn names(&self, path: &Path) -> Vec<String> {
        let mut names: Vec<String> = self
            .0
            .keys()
            .filter_map(|file| file.strip_prefix(path).ok()?.iter().next()?.to_str().map(str::to_owned))
            .collect();
        names.dedup();
        names
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.0.keys().any(|file| file != path && file.starts_with(path))
    }

    fn is_file(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }
}
