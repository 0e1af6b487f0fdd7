//! How inodes were, as a sorted file: a tree of a million names does not fit
//! into the memory that a build may use.
//!
//! ```text
//! record*   shared u16 │ length u16 │ the path behind what it shares with the one before │
//!           inode u64 │ links u32 │ mode u32 │ uid u32 │ gid u32 │ size i64 │ mtime │ ctime
//!   times   seconds i64 │ nanoseconds u32
//! ```
//!
//! Numbers are little endian; paths are sorted as `PathBuf`s are. Only the
//! process that wrote the file reads it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::Stat;
use tempfile::TempPath;

use super::Error;
use super::walk::is_directory;

/// What the kernel tells of an inode without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) inode: u64,
    /// Names of a file. Directories count what is in them, so theirs is 1.
    pub(super) links: u32,
    pub(super) mode: u32,
    uid: u32,
    gid: u32,
    size: i64,
    modified: (i64, u32),
    pub(super) changed: (i64, u32),
}

const FIXED: usize = 8 + 4 * 4 + 8 + 2 * 12;

impl Fingerprint {
    pub(super) fn of(stat: &Stat) -> Self {
        let links = u32::try_from(stat.st_nlink).unwrap_or(u32::MAX);
        Self {
            inode: stat.st_ino,
            links: if is_directory(stat.st_mode) { 1 } else { links },
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime, stat.st_ctime_nsec as u32),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.inode.to_le_bytes());
        for number in [self.links, self.mode, self.uid, self.gid] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.size.to_le_bytes());
        for (seconds, nanoseconds) in [self.modified, self.changed] {
            out.extend_from_slice(&seconds.to_le_bytes());
            out.extend_from_slice(&nanoseconds.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8; FIXED]) -> Self {
        let mut rest = &bytes[..];
        Self {
            inode: u64::from_le_bytes(take(&mut rest)),
            links: u32::from_le_bytes(take(&mut rest)),
            mode: u32::from_le_bytes(take(&mut rest)),
            uid: u32::from_le_bytes(take(&mut rest)),
            gid: u32::from_le_bytes(take(&mut rest)),
            size: i64::from_le_bytes(take(&mut rest)),
            modified: (i64::from_le_bytes(take(&mut rest)), u32::from_le_bytes(take(&mut rest))),
            changed: (i64::from_le_bytes(take(&mut rest)), u32::from_le_bytes(take(&mut rest))),
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, tail) = rest.split_first_chunk().expect("FIXED is the sum of what decode takes");
    *rest = tail;
    *head
}

/// A finished file of fingerprints; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Fingerprints {
    file: File,
    path: TempPath,
}

/// Writes one; the paths come sorted.
pub(super) struct Writer {
    out: BufWriter<File>,
    path: TempPath,
    last: Vec<u8>,
    record: Vec<u8>,
}

const BUFFER: usize = 64 << 10;

impl Writer {
    /// A new file in `directory`.
    pub(super) fn create(directory: &Path) -> Result<Self, Error> {
        let made = tempfile::Builder::new().prefix("inodes-").tempfile_in(directory);
        let (file, path) = made.map_err(Error::index(directory))?.into_parts();
        let out = BufWriter::with_capacity(BUFFER, file);
        Ok(Self { out, path, last: Vec::new(), record: Vec::new() })
    }

    pub(super) fn append(&mut self, path: &Path, fingerprint: &Fingerprint) -> Result<(), Error> {
        let bytes = path.as_os_str().as_encoded_bytes();
        let same = self.last.iter().zip(bytes).take_while(|(one, other)| one == other).count();
        let shared = u16::try_from(same).unwrap_or(u16::MAX);
        let rest = &bytes[usize::from(shared)..];
        // A RUN can make paths that no layer holds and no call takes at once.
        let length = u16::try_from(rest.len()).map_err(|_| io::ErrorKind::InvalidFilename.into());
        let length = length.map_err(Error::read::<io::Error>(path))?;
        self.record.clear();
        self.record.extend_from_slice(&shared.to_le_bytes());
        self.record.extend_from_slice(&length.to_le_bytes());
        self.record.extend_from_slice(rest);
        fingerprint.encode(&mut self.record);
        self.last.truncate(usize::from(shared));
        self.last.extend_from_slice(rest);
        self.out.write_all(&self.record).map_err(Error::index(&self.path))
    }

    pub(super) fn finish(self) -> Result<Fingerprints, Error> {
        let file = self.out.into_inner().map_err(|error| error.into_error());
        Ok(Fingerprints { file: file.map_err(Error::index(&self.path))?, path: self.path })
    }
}

impl Fingerprints {
    /// Reads it from the start, the first record at once.
    pub(super) fn read(&self) -> Result<Reader<'_>, Error> {
        (&self.file).rewind().map_err(Error::index(&self.path))?;
        let from = BufReader::with_capacity(BUFFER, &self.file);
        let mut reader = Reader { from, file: &self.path, path: Vec::new(), current: None };
        reader.advance()?;
        Ok(reader)
    }
}

/// Goes through the records.
pub(super) struct Reader<'a> {
    from: BufReader<&'a File>,
    file: &'a Path,
    path: Vec<u8>,
    current: Option<Fingerprint>,
}

impl Reader<'_> {
    /// The record it is at; none at the end.
    pub(super) fn current(&self) -> Option<(&[u8], &Fingerprint)> {
        self.current.as_ref().map(|fingerprint| (self.path.as_slice(), fingerprint))
    }

    pub(super) fn advance(&mut self) -> Result<(), Error> {
        self.current = self.next().map_err(Error::index(self.file))?;
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<Fingerprint>> {
        let mut head = [0; 4];
        match self.from.read(&mut head[..1])? {
            0 => return Ok(None),
            _ => self.from.read_exact(&mut head[1..])?,
        }
        let [shared, length] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_le_bytes);
        self.path.resize(usize::from(shared) + usize::from(length), 0);
        self.from.read_exact(&mut self.path[usize::from(shared)..])?;
        let mut fixed = [0; FIXED];
        self.from.read_exact(&mut fixed)?;
        Ok(Some(Fingerprint::decode(&fixed)))
    }
}

/// The path that a record has.
pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes))
}
