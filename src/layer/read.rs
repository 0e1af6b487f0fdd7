//! Looking into a layer without unpacking it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::image::Digest;

use super::decompress::{decoder, with_tar};
use super::index_builder::IndexBuilder;
use super::tar_stream::{Dialect, Item, TarStream};
use super::{EntryIndex, Error, Kind};

/// What [`read_files`] reads of one file at most, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// What a layer contains, and its diff id.
///
/// # Errors
/// When the blob cannot be read, is malformed or holds unsafe names.
pub fn index(blob: impl Read + Send, media_type: &str) -> Result<(EntryIndex, Digest), Error> {
    let (builder, diff_id) = with_tar(blob, media_type, Dialect::Layer, |tar| {
        let mut stream = TarStream::new(tar, Dialect::Layer);
        let mut builder = IndexBuilder::default();
        while let Some(item) = stream.next_item()? {
            builder.apply(item)?;
        }
        Ok(builder)
    })?;
    Ok((builder.finish()?, diff_id))
}

/// Whether a file is a tar, plain or compressed by gzip, bzip2, xz or zstd: what
/// ADD unpacks. Decided by its first header, as Docker does.
///
/// # Errors
/// When it cannot be read; a damaged archive is none.
pub fn is_archive(file: impl Read + Send) -> Result<bool, Error> {
    let decoder = decoder(file, "", Dialect::Archive)?;
    match TarStream::new(decoder, Dialect::Archive).next_item() {
        Ok(item) => Ok(item.is_some()),
        Err(Error::ReadBlob(source)) if source.raw_os_error().is_some() => Err(Error::ReadBlob(source)),
        Err(Error::ReadBlob(_) | Error::Malformed(_) | Error::Truncated { .. }) => Ok(false),
        // Only an archive can hold what we refuse.
        Err(_) => Ok(true),
    }
}

/// The bytes of some regular files of a layer (`etc/passwd`), as far as it has
/// them under these names. A hard link has its bytes under its target's name,
/// which a [`super::Found`] tells.
///
/// # Errors
/// As [`index`], and when one has more than 1 MiB.
pub fn read_files(
    blob: impl Read + Send,
    media_type: &str,
    paths: &[&Path],
) -> Result<BTreeMap<PathBuf, Vec<u8>>, Error> {
    let wanted: BTreeSet<&Path> = paths.iter().copied().collect();
    let taken =
        take(blob, media_type, Dialect::Layer, &|path| wanted.contains(path), &mut |path, size, body| {
            read_body(path, size, body)
        })?;
    Ok(taken.bodies.into_iter().filter(|(path, _)| wanted.contains(path.as_path())).collect())
}

fn read_body(path: &Path, size: u64, body: &mut dyn Read) -> Result<Vec<u8>, Error> {
    if size > LARGEST_FILE {
        return Err(Error::TooLarge { path: path.to_owned(), size, limit: LARGEST_FILE });
    }
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes).map_err(Error::ReadBlob)?;
    if bytes.len() as u64 != size { Err(Error::Truncated { path: path.to_owned() }) } else { Ok(bytes) }
}

/// What [`take`] made of a tar.
pub(super) struct Taken<T> {
    /// Of the files that are there in the end, by their real path.
    pub(super) bodies: HashMap<PathBuf, T>,
    /// As [`IndexBuilder::take_promoted`], of the whole tar.
    pub(super) promoted: Vec<(PathBuf, PathBuf)>,
    pub(super) index: IndexBuilder,
    pub(super) diff_id: Digest,
}

/// Gets a file's real path, its size and its bytes.
pub(super) type Keep<'a, T> = dyn FnMut(&Path, u64, &mut dyn Read) -> Result<T, Error> + 'a;

/// Reads a tar once, and gives the bodies of the files that are `wanted` to
/// `keep`, with their real path and size. A file of an archive must be there
/// before a hard link to it.
pub(super) fn take<T: Clone>(
    blob: impl Read + Send,
    media_type: &str,
    dialect: Dialect,
    wanted: &dyn Fn(&Path) -> bool,
    keep: &mut Keep<'_, T>,
) -> Result<Taken<T>, Error> {
    let ((mut bodies, promoted, index), diff_id) = with_tar(blob, media_type, dialect, |tar| {
        let mut stream = TarStream::new(tar, dialect);
        let mut builder = IndexBuilder::default();
        let (mut bodies, mut promoted) = (HashMap::new(), Vec::new());
        while let Some(item) = stream.next_item()? {
            let mut body = None;
            if let Item::Entry(entry) = &item {
                match &entry.kind {
                    Kind::File { size } => {
                        let place = builder.place(&entry.path)?;
                        if wanted(&place) {
                            let kept = keep(&place, *size, &mut stream.body())?;
                            body = Some((place, kept));
                        }
                    }
                    Kind::Hardlink { target } if dialect == Dialect::Archive => {
                        check_target(&mut builder, &entry.path, target)?;
                    }
                    _ => {}
                }
            }
            builder.apply(item)?;
            for (gone, link) in builder.take_promoted() {
                if let Some(body) = bodies.get(&gone).cloned() {
                    bodies.insert(link.clone(), body);
                }
                promoted.push((gone, link));
            }
            bodies.extend(body);
        }
        Ok((bodies, promoted, builder))
    })?;
    bodies.retain(|path, _| index.get(path).is_some_and(|entry| matches!(entry.kind, Kind::File { .. })));
    Ok(Taken { bodies, promoted, index, diff_id })
}

/// What it names must be there by now, as link(2) would have it.
fn check_target(builder: &mut IndexBuilder, path: &Path, target: &Path) -> Result<(), Error> {
    let place = builder.place(target)?;
    match builder.get(&place) {
        Some(_) => Ok(()),
        None => {
            let (path, target) = (path.to_owned(), target.to_owned());
            Err(Error::LinkTarget { path, target, reason: "which does not exist" })
        }
    }
}
