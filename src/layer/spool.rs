//! Bytes of files, taken out of a tar that can only be read from front to back.
//!
//! A COPY writes its layer in the order of the target's names, but a layer or
//! an archive gives its files in the order of its own. So the wanted ones go
//! into one temporary file while the tar streams by, once, and are read from
//! there in whatever order. Only places and digests are held in memory.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::image::{Digest, Hasher};

use super::read::take;
use super::tar_stream::Dialect;
use super::{EntryIndex, Error};

/// A temporary file with the bytes of files, one after the other. It goes when
/// this is dropped.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    file: BufWriter<File>,
    end: u64,
    buffer: Vec<u8>,
    _path: TempPath,
}

/// Where a file's bytes are in a [`Spool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    start: u64,
    size: u64,
    /// Of the bytes.
    pub digest: Digest,
}

/// Files of one layer or archive by their real path in it.
pub type Bodies = HashMap<PathBuf, Body>;

const BUFFER: usize = 128 << 10;

impl Spool {
    /// An empty one in `directory`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(directory: &Path) -> Result<Self, Error> {
        let made = tempfile::Builder::new().prefix("spool-").tempfile_in(directory);
        let (file, path) = made.map_err(write_failed(directory))?.into_parts();
        let file = BufWriter::with_capacity(2 * BUFFER, file);
        Ok(Self { directory: directory.to_owned(), file, end: 0, buffer: vec![0; BUFFER], _path: path })
    }

    /// Takes the `wanted` files of a layer, by the names that
    /// [`super::Stack::tar_name`] says, and its diff id. A name that is no file
    /// of the layer is left out.
    ///
    /// # Errors
    /// When the blob cannot be read, is malformed or holds unsafe names, and
    /// when the bytes cannot be written.
    pub fn take_layer(
        &mut self,
        open: &dyn Fn() -> io::Result<File>,
        media_type: &str,
        wanted: &BTreeSet<PathBuf>,
    ) -> Result<(Bodies, Digest), Error> {
        let mut sources = wanted.clone();
        loop {
            let blob = open().map_err(Error::ReadBlob)?;
            let is_wanted = |path: &Path| sources.contains(path);
            let taken = take(blob, media_type, Dialect::Layer, &is_wanted, &mut |path, size, body| {
                self.add(path, size, body)
            })?;
            self.flush()?;
            // A hard link may have become the file after its target's bytes
            // had passed: those are wanted too.
            let before = sources.len();
            for (gone, link) in taken.promoted.iter().rev() {
                if sources.contains(link) {
                    sources.insert(gone.clone());
                }
            }
            let complete = wanted.iter().all(|path| taken.bodies.contains_key(path));
            if complete || sources.len() == before {
                return Ok((taken.bodies, taken.diff_id));
            }
        }
    }

    /// Takes all files of an archive that ADD unpacks, and says what it holds.
    ///
    /// # Errors
    /// As [`Spool::take_layer`], and for a hard link to nothing.
    pub fn take_archive(&mut self, archive: impl Read + Send) -> Result<(EntryIndex, Bodies), Error> {
        let taken = take(archive, "", Dialect::Archive, &|_| true, &mut |path, size, body| {
            self.add(path, size, body)
        })?;
        self.flush()?;
        Ok((taken.index.finish()?, taken.bodies))
    }

    /// The bytes of a file that this spool took.
    pub fn open(&self, body: &Body) -> impl Read + Send + '_ {
        Reader { file: self.file.get_ref(), at: body.start, left: body.size }
    }

    fn add(&mut self, path: &Path, size: u64, body: &mut dyn Read) -> Result<Body, Error> {
        let start = self.end;
        let mut hasher = Hasher::new();
        loop {
            let count = match body.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::ReadBlob(error)),
            };
            hasher.update(&self.buffer[..count]);
            let written = self.file.write_all(&self.buffer[..count]);
            written.map_err(write_failed(&self.directory))?;
            self.end += count as u64;
        }
        if self.end - start != size {
            return Err(Error::Truncated { path: path.to_owned() });
        }
        Ok(Body { start, size, digest: hasher.finish() })
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.flush().map_err(write_failed(&self.directory))
    }
}

fn write_failed(directory: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Spool { directory: directory.to_owned(), source }
}

/// Readers of one file do not share its position.
struct Reader<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
