//! What one layer contains, without its bytes.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::index_file::{IMPLICIT, IMPLICIT_OPAQUE, IndexWriter, check, decode_rest, take_record};
use super::path::{bytes, compare, is_below};
use super::{Entry, Error};

/// The entries of one layer, sorted. It stays encoded in memory (about 30 bytes
/// an entry beside its path) and decodes what is asked for.
#[derive(Clone, Debug)]
pub struct EntryIndex {
    /// The whole file, as described in `index_file`.
    file: Vec<u8>,
    /// Where each record starts.
    offsets: Vec<u32>,
}

impl EntryIndex {
    /// An index of these entries, in any order; the last of a path wins.
    ///
    /// # Errors
    /// When a name or attribute is longer than a file system allows.
    pub fn from_entries(entries: impl IntoIterator<Item = Entry>) -> io::Result<Self> {
        let mut sorted: Vec<Entry> = entries.into_iter().collect();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        let mut writer = IndexWriter::new(Vec::new())?;
        for (at, entry) in sorted.iter().enumerate() {
            if sorted.get(at + 1).is_none_or(|next| next.path != entry.path) {
                writer.append(entry)?;
            }
        }
        Self::from_file(writer.finish()?)
            .map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))
    }

    /// Reads and checks an index file.
    ///
    /// # Errors
    /// When it cannot be read, is damaged or of another version.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let file = fs::read(path).map_err(|source| Error::IndexFile { path: path.to_owned(), source })?;
        Self::from_file(file).map_err(|reason| Error::IndexDamaged { path: path.to_owned(), reason })
    }

    /// Writes it to `path`, at once or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || {
            let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
            temporary.write_all(&self.file)?;
            temporary.persist(path).map_err(|error| error.error)
        };
        write().map(drop).map_err(|source| Error::IndexFile { path: path.to_owned(), source })
    }

    /// The layer's entry of this path; `None` also for directories that exist
    /// only because something lies below them.
    pub fn get(&self, path: &Path) -> Option<Entry> {
        let at = self.locate(bytes(path)).ok()?;
        (!self.is_implicit(at)).then(|| self.entry_at(at))
    }

    /// What this layer has directly below a directory, sorted by name, with
    /// whiteouts and implicit directories.
    pub fn children(&self, directory: &Path) -> Vec<(OsString, Entry)> {
        let directory = bytes(directory);
        let mut at = match self.locate(directory) {
            Ok(at) => at + 1,
            Err(at) if directory.is_empty() => at,
            Err(_) => return Vec::new(),
        };
        let mut children = Vec::new();
        while at < self.offsets.len() && is_below(self.path_at(at), directory) {
            let entry = self.entry_at(at);
            children.push((entry.path.file_name().unwrap_or_default().to_owned(), entry));
            at = self.subtree_end(at);
        }
        children
    }

    /// The layer's entries, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.offsets.len()).filter(|at| !self.is_implicit(*at)).map(|at| self.entry_at(at))
    }

    /// Whether the layer changes nothing.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// How many entries it has, implicit directories counted.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn from_file(file: Vec<u8>) -> Result<Self, &'static str> {
        let offsets = check(&file)?;
        Ok(Self { file, offsets })
    }

    pub(super) fn record(&self, at: usize) -> (&[u8], &[u8]) {
        let mut rest = &self.file[self.offsets[at] as usize..];
        take_record(&mut rest).expect("every record was checked when the index was made")
    }

    pub(super) fn path_at(&self, at: usize) -> &[u8] {
        self.record(at).0
    }

    pub(super) fn entry_at(&self, at: usize) -> Entry {
        let (path, rest) = self.record(at);
        decode_rest(path, rest).expect("every record was checked when the index was made")
    }

    pub(super) fn is_implicit(&self, at: usize) -> bool {
        self.record(at).1.first() == Some(&IMPLICIT)
    }

    /// Whether it is an opaque directory without an entry of its own: what lies
    /// below it in lower layers is gone, its metadata stays theirs.
    pub(super) fn is_implicit_opaque(&self, at: usize) -> bool {
        self.record(at).1.first() == Some(&IMPLICIT_OPAQUE)
    }

    /// The position of a path's record, or where it would be.
    pub(super) fn locate(&self, path: &[u8]) -> Result<usize, usize> {
        let positions = 0..self.offsets.len();
        search(positions, |at| compare(self.path_at(at), path))
    }

    /// The first position after everything below the record at `at`.
    pub(super) fn subtree_end(&self, at: usize) -> usize {
        let directory = self.path_at(at);
        end_of(at + 1, self.offsets.len(), |at| is_below(self.path_at(at), directory))
    }
}

/// Binary search over positions.
pub(super) fn search(
    range: std::ops::Range<usize>,
    order: impl Fn(usize) -> std::cmp::Ordering,
) -> Result<usize, usize> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match order(middle) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Ok(middle),
        }
    }
    Err(low)
}

/// The first position from `start` on that is not inside, where those inside
/// come first. It doubles its steps, because most subtrees are small.
pub(super) fn end_of(start: usize, length: usize, inside: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut step) = (start, 1);
    while low < length && inside(low) {
        let next = low.saturating_add(step).min(length);
        if next == length || !inside(next) {
            return last_inside(low, next, inside);
        }
        (low, step) = (next, step * 2);
    }
    low
}

fn last_inside(mut low: usize, mut high: usize, inside: impl Fn(usize) -> bool) -> usize {
    low += 1;
    while low < high {
        let middle = low + (high - low) / 2;
        if inside(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

impl PartialEq for EntryIndex {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl Eq for EntryIndex {}
