//! The stat index of a context: which file had which contents, so that an
//! unchanged file is not read again.
//!
//! ```text
//! "coracle-stat-2\n"
//! per file: path length u32, path, Stat (8 × u64/i64), content sha256,
//!           capability length u16, capability
//! sha256 of everything above
//! ```
//!
//! A digest is used again only when device, inode, size, mode, mtime and ctime
//! are the same to the nanosecond, and the file had come to rest before it was
//! read and before the index was written (git's racy-clean rule): a file changed
//! in the tick of the clock in which it was read has the times of the version
//! that was read. What cannot be read as an index is no index, silently: it only
//! saves time.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::image::Digest;

const MAGIC: &[u8] = b"coracle-stat-2\n";
/// A clock tick is at most 10 ms (CONFIG_HZ=100); twice that to be sure.
const TICK: i128 = 20_000_000;
/// File systems without nanoseconds (ext3, FAT, some NFS) step by up to 2 s.
const COARSE_TICK: i128 = 2_000_000_000;

/// What identifies a version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mode: u64,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, i64),
    pub(super) ctime: (i64, i64),
}

/// What is known of one version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) stat: Stat,
    pub(super) digest: Digest,
    /// `security.capability`; empty when it has none.
    pub(super) capability: Vec<u8>,
}

impl Stat {
    /// Whether the file was at rest at `moment` (nanoseconds since 1970).
    pub(super) fn at_rest(&self, moment: i128) -> bool {
        let coarse = self.mtime.1 == 0 && self.ctime.1 == 0;
        let margin = if coarse { COARSE_TICK } else { TICK };
        nanoseconds(self.mtime.max(self.ctime)) + margin < moment
    }
}

pub(super) fn nanoseconds(time: (i64, i64)) -> i128 {
    i128::from(time.0) * 1_000_000_000 + i128::from(time.1)
}

/// Reads the index at `path`; empty where there is none, or none that is whole.
pub(super) fn load(path: &Path) -> HashMap<PathBuf, Known> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return HashMap::new() };
    let Ok(bytes) = std::fs::read(path) else { return HashMap::new() };
    let written = nanoseconds((metadata.mtime(), metadata.mtime_nsec()));
    let mut entries = parse(&bytes).unwrap_or_default();
    entries.retain(|_, known| known.stat.at_rest(written));
    entries
}

/// Writes the index: a new file beside it, then a rename.
pub(super) fn save<'a>(
    path: &Path,
    entries: impl Iterator<Item = (&'a PathBuf, &'a Known)>,
) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    for (path, known) in entries {
        put(&mut bytes, path, known);
    }
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn put(bytes: &mut Vec<u8>, path: &Path, known: &Known) {
    let path = path.as_os_str().as_bytes();
    let (Ok(path_length), Ok(capability_length)) =
        (u32::try_from(path.len()), u16::try_from(known.capability.len()))
    else {
        return; // Not worth an index entry.
    };
    bytes.extend_from_slice(&path_length.to_le_bytes());
    bytes.extend_from_slice(path);
    let stat = &known.stat;
    for number in [stat.device, stat.inode, stat.size, stat.mode] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for number in [stat.mtime.0, stat.mtime.1, stat.ctime.0, stat.ctime.1] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(known.digest.as_bytes());
    bytes.extend_from_slice(&capability_length.to_le_bytes());
    bytes.extend_from_slice(&known.capability);
}

fn parse(bytes: &[u8]) -> Option<HashMap<PathBuf, Known>> {
    let (body, sum) = bytes.split_last_chunk::<32>()?;
    let mut rest = body.strip_prefix(MAGIC)?;
    if Digest::of(body).as_bytes() != sum {
        return None;
    }
    let mut entries = HashMap::new();
    while !rest.is_empty() {
        let (path, known) = take_entry(&mut rest)?;
        entries.insert(path, known);
    }
    Some(entries)
}

fn take_entry(rest: &mut &[u8]) -> Option<(PathBuf, Known)> {
    let length = u32::from_le_bytes(take_array(rest)?);
    let path = take(rest, usize::try_from(length).ok()?)?.to_vec();
    let mut number = || take_array(rest).map(u64::from_le_bytes);
    let stat = Stat {
        device: number()?,
        inode: number()?,
        size: number()?,
        mode: number()?,
        mtime: (number()?.cast_signed(), number()?.cast_signed()),
        ctime: (number()?.cast_signed(), number()?.cast_signed()),
    };
    let digest = Digest::from_bytes(take_array(rest)?);
    let length = u16::from_le_bytes(take_array(rest)?);
    let capability = take(rest, usize::from(length))?.to_vec();
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    Some((path, Known { stat, digest, capability }))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(mtime: (i64, i64), ctime: (i64, i64)) -> Known {
        let stat = Stat { device: 1, inode: 2, size: 3, mode: 0o100_644, mtime, ctime };
        Known { stat, digest: Digest::of("x"), capability: vec![1, 2] }
    }

    #[test]
    fn only_files_at_rest_are_trusted() {
        let second = 1_000_000_000;
        for (mtime, ctime, moment, expected) in [
            ((10, 5), (10, 5), 11 * second, true),
            ((10, 5), (10, 5), 10 * second + 5, false),
            ((10, 5), (10, 5), 10 * second + 15_000_000, false),
            ((10, 5), (12, 5), 11 * second, false),
            ((10, 0), (10, 0), 11 * second, false),
            ((10, 0), (10, 0), 13 * second, true),
            ((99, 5), (10, 5), 50 * second, false),
        ] {
            assert_eq!(known(mtime, ctime).stat.at_rest(moment), expected, "{mtime:?} {ctime:?} {moment}");
        }
    }

    #[test]
    fn writes_what_it_reads_and_drops_what_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let entries = HashMap::from([(PathBuf::from("a/b"), known((10, 5), (11, 6)))]);
        save(&path, entries.iter()).unwrap();
        assert_eq!(load(&path), entries);

        let good = std::fs::read(&path).unwrap();
        for cut in (0..good.len()).step_by(5) {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(load(&path).is_empty(), "cut at {cut}");
        }
        for place in (0..good.len()).step_by(5) {
            let mut bad = good.clone();
            bad[place] ^= 0x41;
            std::fs::write(&path, &bad).unwrap();
            assert!(load(&path).is_empty(), "changed at {place}");
        }
        assert!(load(&directory.path().join("missing")).is_empty());
    }

    #[test]
    fn an_index_as_old_as_a_file_says_nothing_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let future = known((4_000_000_000, 5), (4_000_000_000, 5));
        save(&path, [(&PathBuf::from("a"), &future)].into_iter()).unwrap();
        assert!(load(&path).is_empty());
    }
}
