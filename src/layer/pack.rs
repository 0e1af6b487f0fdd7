//! Writing a layer: entries in, a blob and its index out, in one pass.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use crate::image::Layer;

use super::compress::BlobWriter;
use super::header::{TAR_BLOCK, WHITEOUT_PREFIX, encode, opaque_marker};
use super::index_file::{IMPLICIT_OPAQUE, IndexWriter, implicit};
use super::path::{bytes, is_clean};
use super::{Compression, Entry, Error, Kind, is_bookkeeping};

/// How a layer is written. Threads change its speed, never its bytes.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// gzip or plain.
    pub compression: Compression,
    /// Later times than this become this (`SOURCE_DATE_EPOCH`), in seconds
    /// since the epoch.
    pub clamp: Option<i64>,
    /// How many threads compress; 0 counts as 1.
    pub threads: usize,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { compression: Compression::default(), clamp: None, threads: 1 }
    }
}

/// A finished layer in two temporary files that the caller renames.
#[derive(Debug)]
pub struct PackedLayer {
    /// Its digests, size and media type.
    pub layer: Layer,
    /// The blob.
    pub blob: PathBuf,
    /// The [`super::EntryIndex`] as a file.
    pub entries: PathBuf,
}

/// Writes one layer: tar → diff id → compression → digest → temporary file,
/// and the entry index beside it. Dropped unfinished it leaves no files.
pub struct LayerWriter {
    directory: PathBuf,
    options: PackOptions,
    blob: BlobWriter,
    blob_path: TempPath,
    index: IndexWriter<BufWriter<File>>,
    index_path: TempPath,
    last: Option<PathBuf>,
    buffer: Vec<u8>,
}

const BUFFER: usize = 128 << 10;

impl LayerWriter {
    /// Starts a layer in temporary files of `directory`.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn create(directory: &Path, options: PackOptions) -> Result<Self, Error> {
        let failed = |source| Error::WriteBlob { directory: directory.to_owned(), source };
        let file = |suffix| temporary(directory, suffix).map(NamedTempFile::into_parts).map_err(failed);
        let (blob_file, blob_path) = file(".blob")?;
        let (index_file, index_path) = file(".entries")?;
        Ok(Self {
            directory: directory.to_owned(),
            options,
            blob: BlobWriter::new(blob_file, options.compression, options.threads),
            blob_path,
            index: IndexWriter::new(BufWriter::new(index_file)).map_err(failed)?,
            index_path,
            last: None,
            buffer: vec![0; BUFFER],
        })
    }

    /// The latest time that an entry gets.
    pub fn clamp(&self) -> Option<i64> {
        self.options.clamp
    }

    /// Adds an entry. They come sorted as `PathBuf`s are, parents first. Only a
    /// file has a body, of exactly `size` bytes. The root itself is not written
    /// (its entry makes tools change the directory they unpack into), its
    /// opaque mark is.
    ///
    /// # Errors
    /// [`Error::Changed`] when the body is shorter or longer;
    /// [`Error::ReservedName`], [`Error::Unsorted`] and
    /// [`Error::Unrepresentable`] for what no layer can hold. The layer is
    /// useless after any error.
    pub fn append(&mut self, entry: &Entry, body: Option<&mut dyn Read>) -> Result<(), Error> {
        self.check_name(entry)?;
        let entry = self.normalised(entry);
        if !entry.path.as_os_str().is_empty() {
            self.write(&encode(&entry)?)?;
            if let Kind::File { size } = entry.kind {
                self.copy(&entry.path, size, body)?;
            }
        }
        let opaque = matches!(entry.kind, Kind::Directory { opaque: true });
        if opaque {
            self.write(&encode(&opaque_marker(&entry))?)?;
        }
        let indexed = match (entry.path.as_os_str().is_empty(), opaque) {
            (false, _) => self.index.append(&entry),
            (true, true) => {
                implicit(b"", IMPLICIT_OPAQUE).and_then(|rest| self.index.append_encoded(b"", &rest))
            }
            (true, false) => Ok(()),
        };
        indexed.map_err(|source| self.write_failed(source))?;
        self.last = Some(entry.path);
        Ok(())
    }

    /// Ends the archive and closes both files.
    ///
    /// # Errors
    /// When the last bytes cannot be written.
    pub fn finish(mut self) -> Result<PackedLayer, Error> {
        // Two empty blocks end an archive.
        self.write(&[0; 2 * TAR_BLOCK])?;
        let directory = self.directory;
        let failed = |source| Error::WriteBlob { directory: directory.clone(), source };
        let written = self.blob.finish().map_err(failed)?;
        self.index.finish().and_then(|mut file| file.flush()).map_err(failed)?;
        let keep = |path: TempPath| path.keep().map_err(|error| failed(error.error));
        let layer = Layer {
            diff_id: written.diff_id,
            digest: written.digest,
            size: written.size,
            media_type: self.options.compression.media_type().to_owned(),
        };
        Ok(PackedLayer { layer, blob: keep(self.blob_path)?, entries: keep(self.index_path)? })
    }

    fn check_name(&self, entry: &Entry) -> Result<(), Error> {
        let path = &entry.path;
        if !is_clean(bytes(path)) {
            let reason = "its path is no clean relative path".to_owned();
            return Err(Error::Unrepresentable { path: path.clone(), reason });
        }
        let reserved = |part: Component<'_>| part.as_os_str().as_bytes().starts_with(WHITEOUT_PREFIX);
        if path.components().any(reserved) {
            return Err(Error::ReservedName { path: path.clone() });
        }
        match &self.last {
            Some(last) if last.cmp(path) != Ordering::Less => {
                Err(Error::Unsorted { path: path.clone(), after: last.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The entry as the layer will have it: what Linux does not keep is set to
    /// one value, so that equal trees give equal bytes.
    fn normalised(&self, entry: &Entry) -> Entry {
        if entry.kind == Kind::Whiteout {
            return whiteout(entry.path.clone());
        }
        if entry.path.as_os_str().is_empty() {
            return Entry { kind: entry.kind.clone(), ..Entry::implicit_directory(PathBuf::new()) };
        }
        let mut entry = entry.clone();
        entry.mode &= 0o7777;
        if matches!(entry.kind, Kind::Symlink { .. }) {
            entry.mode = 0o777;
        }
        entry.mtime = self.options.clamp.map_or(entry.mtime, |clamp| entry.mtime.min(clamp));
        entry.xattrs.retain(|name, _| !is_bookkeeping(name));
        entry
    }

    fn copy(&mut self, path: &Path, size: u64, body: Option<&mut dyn Read>) -> Result<(), Error> {
        let changed = |found: String| Error::Changed { path: path.to_owned(), expected: size, found };
        let mut nothing = io::empty();
        let body = body.unwrap_or(&mut nothing);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = size;
        loop {
            let count = read(body, &mut buffer)
                .map_err(|source| Error::ReadBody { path: path.to_owned(), source })?;
            match (count as u64, left) {
                (0, 0) => break,
                (0, _) => return Err(changed((size - left).to_string())),
                (count, left) if count > left => return Err(changed("more".to_owned())),
                _ => {}
            }
            self.write(&buffer[..count])?;
            left -= count as u64;
        }
        self.buffer = buffer;
        let padding = (TAR_BLOCK - (size % TAR_BLOCK as u64) as usize) % TAR_BLOCK;
        self.write(&[0; TAR_BLOCK][..padding])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.blob.write_all(bytes).map_err(|source| self.write_failed(source))
    }

    fn write_failed(&self, source: io::Error) -> Error {
        Error::WriteBlob { directory: self.directory.clone(), source }
    }
}

/// A deletion has no owner, mode or time.
pub(super) fn whiteout(path: PathBuf) -> Entry {
    Entry { kind: Kind::Whiteout, mode: 0, ..Entry::implicit_directory(path) }
}

fn temporary(directory: &Path, suffix: &str) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix("layer-").suffix(suffix).tempfile_in(directory)
}

fn read(body: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match body.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
