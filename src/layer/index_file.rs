//! The bytes of an entry index, on disk and in memory alike.
//!
//! ```text
//! coracle-entries-1\n                                   version in the name
//! record*    length u32 │ path length u16 │ path │ rest
//!   rest     kind u8 │ mode u16 │ uid u32 │ gid u32 │ mtime i64 │ by kind │ attributes
//!   by kind  file: size u64 · links: length u16, target · devices: major u32, minor u32
//!   attributes  count u16, then name length u16 │ value length u32 │ name │ value
//! count u64 │ CRC-32 of everything before the count u32
//! ```
//!
//! Numbers are little endian. Records are sorted as `PathBuf`s are and every
//! directory on the way to an entry has one, if need be marked as implicit: so
//! a directory's contents follow it directly, and the file can be written while
//! sorted entries stream by.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::path::{ancestors, bytes, compare, is_clean, to_path};
use super::{Entry, Kind};

pub(super) const MAGIC: &[u8] = b"coracle-entries-1\n";
/// Count and checksum.
pub(super) const TRAILER: usize = 12;

const FILE: u8 = 0;
const DIRECTORY: u8 = 1;
const OPAQUE: u8 = 2;
const SYMLINK: u8 = 3;
const HARDLINK: u8 = 4;
const CHARACTER: u8 = 5;
const BLOCK: u8 = 6;
const FIFO: u8 = 7;
const WHITEOUT: u8 = 8;
/// A directory without an entry of its own.
pub(super) const IMPLICIT: u8 = 9;
/// The same with an opaque mark.
pub(super) const IMPLICIT_OPAQUE: u8 = 10;

/// Writes an index while entries come sorted; holds one path in memory.
pub(super) struct IndexWriter<W> {
    out: W,
    checksum: crc32fast::Hasher,
    count: u64,
    /// The last record's path; its ancestors have records too.
    last: Option<Vec<u8>>,
    record: Vec<u8>,
}

impl<W: Write> IndexWriter<W> {
    pub(super) fn new(out: W) -> io::Result<Self> {
        let mut writer =
            Self { out, checksum: crc32fast::Hasher::new(), count: 0, last: None, record: Vec::new() };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    /// Adds an entry that sorts after all before it, and the directories on the
    /// way to it that nobody described.
    pub(super) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut rest = Vec::with_capacity(32);
        encode_rest(entry, &mut rest)?;
        self.append_encoded(bytes(&entry.path), &rest)
    }

    /// As [`append`](Self::append), of what [`encode_rest`] made.
    pub(super) fn append_encoded(&mut self, path: &[u8], rest: &[u8]) -> io::Result<()> {
        let last = self.last.take();
        let known = |directory: &[u8]| {
            last.as_deref().is_some_and(|last| last == directory || super::path::is_below(last, directory))
        };
        let missing: Vec<&[u8]> = ancestors(path).filter(|directory| !known(directory)).collect();
        for directory in missing {
            self.put(directory, &implicit(directory, IMPLICIT)?)?;
        }
        self.put(path, rest)?;
        self.last = Some(path.to_vec());
        Ok(())
    }

    /// Writes count and checksum.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write(&[])?;
        let checksum = self.checksum.finalize();
        self.out.write_all(&self.count.to_le_bytes())?;
        self.out.write_all(&checksum.to_le_bytes())?;
        Ok(self.out)
    }

    fn put(&mut self, path: &[u8], rest: &[u8]) -> io::Result<()> {
        let length = u32::try_from(2 + path.len() + rest.len()).map_err(|_| too_long())?;
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        record.extend_from_slice(&length.to_le_bytes());
        push_short(&mut record, path.len())?;
        record.extend_from_slice(path);
        record.extend_from_slice(rest);
        self.write(&record)?;
        self.record = record;
        self.count += 1;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.out.write_all(bytes)
    }
}

/// The rest of a directory that has no entry: [`IMPLICIT`] or
/// [`IMPLICIT_OPAQUE`].
pub(super) fn implicit(directory: &[u8], tag: u8) -> io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    encode_rest(&Entry::implicit_directory(to_path(directory)), &mut rest)?;
    rest[0] = tag;
    Ok(rest)
}

/// Everything of an entry but its path.
pub(super) fn encode_rest(entry: &Entry, rest: &mut Vec<u8>) -> io::Result<()> {
    rest.push(tag(&entry.kind));
    rest.extend_from_slice(&((entry.mode & 0o7777) as u16).to_le_bytes());
    rest.extend_from_slice(&entry.uid.to_le_bytes());
    rest.extend_from_slice(&entry.gid.to_le_bytes());
    rest.extend_from_slice(&entry.mtime.to_le_bytes());
    match &entry.kind {
        Kind::File { size } => rest.extend_from_slice(&size.to_le_bytes()),
        Kind::Symlink { target } | Kind::Hardlink { target } => {
            push_short(rest, bytes(target).len())?;
            rest.extend_from_slice(bytes(target));
        }
        Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            rest.extend_from_slice(&major.to_le_bytes());
            rest.extend_from_slice(&minor.to_le_bytes());
        }
        Kind::Directory { .. } | Kind::Fifo | Kind::Whiteout => {}
    }
    push_short(rest, entry.xattrs.len())?;
    for (name, value) in &entry.xattrs {
        push_short(rest, name.len())?;
        rest.extend_from_slice(&u32::try_from(value.len()).map_err(|_| too_long())?.to_le_bytes());
        rest.extend_from_slice(name);
        rest.extend_from_slice(value);
    }
    Ok(())
}

fn tag(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } => FILE,
        Kind::Directory { opaque: false } => DIRECTORY,
        Kind::Directory { opaque: true } => OPAQUE,
        Kind::Symlink { .. } => SYMLINK,
        Kind::Hardlink { .. } => HARDLINK,
        Kind::CharacterDevice { .. } => CHARACTER,
        Kind::BlockDevice { .. } => BLOCK,
        Kind::Fifo => FIFO,
        Kind::Whiteout => WHITEOUT,
    }
}

fn push_short(out: &mut Vec<u8>, number: usize) -> io::Result<()> {
    out.extend_from_slice(&u16::try_from(number).map_err(|_| too_long())?.to_le_bytes());
    Ok(())
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a name or attribute is too long for an entry index")
}

/// Undoes [`encode_rest`]. `None` when the bytes are not what it makes.
pub(super) fn decode_rest(path: &[u8], mut rest: &[u8]) -> Option<Entry> {
    let rest = &mut rest;
    let [tag] = take(rest)?;
    let mode = u32::from(u16::from_le_bytes(take(rest)?));
    let uid = u32::from_le_bytes(take(rest)?);
    let gid = u32::from_le_bytes(take(rest)?);
    let mtime = i64::from_le_bytes(take(rest)?);
    let kind = decode_kind(tag, rest)?;
    let xattrs = decode_xattrs(rest)?;
    (rest.is_empty() && mode <= 0o7777).then(|| Entry {
        path: to_path(path),
        kind,
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    })
}

fn decode_kind(tag: u8, rest: &mut &[u8]) -> Option<Kind> {
    Some(match tag {
        FILE => Kind::File { size: u64::from_le_bytes(take(rest)?) },
        DIRECTORY | IMPLICIT => Kind::Directory { opaque: false },
        OPAQUE | IMPLICIT_OPAQUE => Kind::Directory { opaque: true },
        SYMLINK => Kind::Symlink { target: to_path(take_short(rest)?) },
        HARDLINK => {
            let target = take_short(rest).filter(|target| is_clean(target))?;
            Kind::Hardlink { target: to_path(target) }
        }
        CHARACTER => Kind::CharacterDevice {
            major: u32::from_le_bytes(take(rest)?),
            minor: u32::from_le_bytes(take(rest)?),
        },
        BLOCK => Kind::BlockDevice {
            major: u32::from_le_bytes(take(rest)?),
            minor: u32::from_le_bytes(take(rest)?),
        },
        FIFO => Kind::Fifo,
        WHITEOUT => Kind::Whiteout,
        _ => return None,
    })
}

fn decode_xattrs(rest: &mut &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let count = u16::from_le_bytes(take(rest)?);
    let mut xattrs = BTreeMap::new();
    for _ in 0..count {
        let name_length = usize::from(u16::from_le_bytes(take(rest)?));
        let value_length = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
        let name = take_slice(rest, name_length)?.to_vec();
        xattrs.insert(name, take_slice(rest, value_length)?.to_vec());
    }
    Some(xattrs)
}

/// Where the records of a whole index file start, checked from front to back.
/// What is wrong, where something is.
pub(super) fn check(file: &[u8]) -> Result<Vec<u32>, &'static str> {
    let records = file.strip_prefix(MAGIC).ok_or("it does not start as an index of this version does")?;
    let (_, trailer) = file.split_last_chunk::<TRAILER>().ok_or("it is too short")?;
    let records = records.len().checked_sub(TRAILER).map(|end| &records[..end]).ok_or("it is too short")?;
    let (count, checksum) = trailer.split_at(8);
    if crc32fast::hash(&file[..file.len() - TRAILER]).to_le_bytes() != checksum {
        return Err("its checksum is wrong");
    }
    let offsets = check_records(records)?;
    if (offsets.len() as u64).to_le_bytes() != count {
        return Err("it does not have as many records as it says");
    }
    Ok(offsets)
}

fn check_records(records: &[u8]) -> Result<Vec<u32>, &'static str> {
    let mut offsets = Vec::new();
    let mut rest = records;
    let mut last: Option<&[u8]> = None;
    while !rest.is_empty() {
        let offset = MAGIC.len() + (records.len() - rest.len());
        offsets.push(u32::try_from(offset).map_err(|_| "it is larger than 4 GiB")?);
        let (path, body) = take_record(&mut rest).ok_or("a record is cut off")?;
        if !is_clean(path) {
            return Err("a path in it is no clean relative path");
        }
        if last.is_some_and(|last| compare(last, path).is_ge()) {
            return Err("it is not sorted");
        }
        if decode_rest(path, body).is_none() {
            return Err("a record makes no sense");
        }
        last = Some(path);
    }
    Ok(offsets)
}

/// Path and rest of the record at the front.
pub(super) fn take_record<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let length = usize::try_from(u32::from_le_bytes(take(bytes)?)).ok()?;
    let mut record = take_slice(bytes, length)?;
    let path = take_short(&mut record)?;
    Some((path, record))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_slice<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(u16::from_le_bytes(take(rest)?));
    take_slice(rest, length)
}
