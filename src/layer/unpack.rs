//! From a blob to a tree in overlay form.
//!
//! The result is an overlay lower directory: a whiteout is a character device
//! 0:0, an opaque directory has `user.overlay.opaque` = `y` (kernel,
//! filesystems/overlayfs.rst, "whiteouts and opaque directories"), and what the
//! file system refuses to hold lies in a [`metadata::Record`](crate::metadata).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::image::Digest;
use crate::metadata::Key;

use super::decompress::with_tar;
use super::index_builder::IndexBuilder;
use super::tar_stream::{Dialect, Item, TarStream};
use super::tree::Tree;
use super::{Entry, EntryIndex, Error, Stack};

/// The layers below the one that is unpacked.
pub trait Below {
    /// What a container would see at this path, no link followed; a hard link
    /// as the file it names.
    fn get(&self, path: &Path) -> Option<Entry>;

    /// The names directly below this directory.
    fn children(&self, directory: &Path) -> Vec<OsString>;

    /// The bytes of the regular file at this path.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + '_>>;
}

/// A chain of unpacked layers, as [`Below`].
pub struct LowerTrees<'a> {
    /// Their indexes.
    pub stack: &'a Stack,
    /// Their trees, bottom first: one for each layer of the stack.
    pub trees: &'a [PathBuf],
}

impl Below for LowerTrees<'_> {
    fn get(&self, path: &Path) -> Option<Entry> {
        self.stack.get(path).map(|found| found.entry)
    }

    fn children(&self, directory: &Path) -> Vec<OsString> {
        self.stack.children(directory).into_iter().map(|(name, _)| name).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.file(path)?))
    }
}

impl LowerTrees<'_> {
    /// Opens the regular file at this path, no link followed.
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    pub fn file(&self, path: &Path) -> io::Result<File> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let found = self.stack.get(path).ok_or_else(missing)?;
        let tree = self.trees.get(found.source_layer).ok_or_else(missing)?;
        open_in_tree(tree, &found.source_path)
    }
}

/// Opens a regular file of an unpacked layer by its real path, a
/// [`Found`](super::Found)'s `source_path`. No link is followed: one on the way
/// is not ours.
///
/// # Errors
/// When there is none, or it cannot be opened.
pub fn open_in_tree(tree: &Path, path: &Path) -> io::Result<File> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(tree, directory, Mode::empty())?;
    for name in path.parent().unwrap_or(Path::new("")) {
        at = rustix::fs::openat(&at, name, directory, Mode::empty())?;
    }
    let name = path.file_name().ok_or(io::ErrorKind::NotFound)?;
    let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(&at, name, file, Mode::empty())?))
}

/// What unpacking needs beside the blob.
#[derive(Clone, Debug)]
pub struct UnpackOptions {
    /// Authenticates the records on placeholders.
    pub record_key: Key,
}

/// What unpacking found.
#[derive(Debug)]
pub struct Unpacked {
    /// Of the whole tar; the caller compares it with the image's config.
    pub diff_id: Digest,
    /// What the layer contains; the same that [`super::index`] makes.
    pub index: EntryIndex,
    /// Whether the tree depends on the layers below: then it belongs to the
    /// chain and not to the diff id. Also set when `below` was `None` and
    /// something had to be guessed.
    pub looked_below: bool,
}

/// Unpacks a layer into an empty directory, whose files nobody else touches
/// meanwhile. Where a parent has no entry, is a symbolic link of a lower layer
/// or a hard link names a lower file, `below` is asked. Whatever the tar says,
/// nothing outside `into` is read or written.
///
/// Owners that cannot be set (one id mapped only) and capabilities that cannot
/// be written become records; attributes of other namespaces that are refused
/// stay in the index alone.
///
/// # Errors
/// For malformed blobs, unsafe names, and what the file system refuses. What
/// was unpacked until then stays for the caller to remove.
pub fn unpack(
    blob: impl Read + Send,
    media_type: &str,
    into: BorrowedFd<'_>,
    below: Option<&dyn Below>,
    options: &UnpackOptions,
) -> Result<Unpacked, Error> {
    unpack_as(Dialect::Layer, blob, media_type, into, below, options)
}

/// Unpacks an archive that is no layer: ADD's, or a build context. As [`unpack`],
/// but bzip2 and xz are understood too, and names that begin with `.wh.` are
/// files like others.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_archive(
    archive: impl Read + Send,
    into: BorrowedFd<'_>,
    options: &UnpackOptions,
) -> Result<Unpacked, Error> {
    unpack_as(Dialect::Archive, archive, "", into, None, options)
}

fn unpack_as(
    dialect: Dialect,
    blob: impl Read + Send,
    media_type: &str,
    into: BorrowedFd<'_>,
    below: Option<&dyn Below>,
    options: &UnpackOptions,
) -> Result<Unpacked, Error> {
    let ((builder, looked_below), diff_id) = with_tar(blob, media_type, dialect, |tar| {
        let mut stream = TarStream::new(tar, dialect);
        let mut builder = IndexBuilder::default();
        let mut tree = Tree::new(into, below, &options.record_key)?;
        while let Some(item) = stream.next_item()? {
            match &item {
                Item::Entry(entry) => tree.add(entry, &mut stream.body())?,
                Item::Opaque(directory) => tree.add_opaque(directory)?,
            }
            builder.apply(item)?;
        }
        Ok((builder, tree.finish()?))
    })?;
    Ok(Unpacked { diff_id, index: builder.finish()?, looked_below })
}
