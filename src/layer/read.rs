//! Looking into a layer without unpacking it.

use std::collections::{BTreeMap, BTreeSet};
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
/// them. A hard link has its bytes under its target's name, which a
/// [`super::Found`] tells.
///
/// # Errors
/// As [`index`], and when one has more than 1 MiB.
pub fn read_files(
    blob: impl Read + Send,
    media_type: &str,
    paths: &[&Path],
) -> Result<BTreeMap<PathBuf, Vec<u8>>, Error> {
    let wanted: BTreeSet<&Path> = paths.iter().copied().collect();
    let (files, _) = with_tar(blob, media_type, Dialect::Layer, |tar| {
        let mut stream = TarStream::new(tar, Dialect::Layer);
        let mut builder = IndexBuilder::default();
        let mut files = BTreeMap::new();
        while let Some(item) = stream.next_item()? {
            if let Item::Entry(entry) = &item
                && let Kind::File { size } = entry.kind
            {
                let place = builder.place(&entry.path)?;
                if wanted.contains(place.as_path()) {
                    let bytes = read_body(&mut stream, &place, size)?;
                    files.insert(place, bytes);
                }
            }
            builder.apply(item)?;
        }
        files
            .retain(|path, _| builder.get(path).is_some_and(|entry| matches!(entry.kind, Kind::File { .. })));
        Ok(files)
    })?;
    Ok(files)
}

fn read_body(stream: &mut TarStream<impl Read>, path: &Path, size: u64) -> Result<Vec<u8>, Error> {
    if size > LARGEST_FILE {
        return Err(Error::TooLarge { path: path.to_owned(), size, limit: LARGEST_FILE });
    }
    let mut bytes = Vec::new();
    stream.body().read_to_end(&mut bytes).map_err(Error::ReadBlob)?;
    if bytes.len() as u64 != size { Err(stream.truncated()) } else { Ok(bytes) }
}
