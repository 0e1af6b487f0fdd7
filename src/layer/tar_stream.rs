//! A tar archive as a stream of [`Item`]s: ustar, GNU and pax.
//!
//! The tar crate reads the header's fields; the walk from header to header is
//! ours, because the crate's own reads extension records of any length into
//! memory and splits them at newlines, which a binary attribute may contain.
//! Where readers of tar disagree we follow Go's archive/tar, which every other
//! tool of this trade uses: links, directories and devices have no body
//! whatever their size field says; a pax record overrides a GNU one.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tar::Header;

use super::header::{OPAQUE_NAME, TAR_BLOCK, WHITEOUT_PREFIX, XATTR_KEY};
use super::pack::whiteout;
use super::path::{LONGEST_PATH, clean, to_path};
use super::{Entry, Error, Kind, is_bookkeeping};

/// Longest extension record: what Go's reader allows.
const LONGEST_RECORD: u64 = 1 << 20;

/// What one entry of a layer's tar means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// An entry; its body is next in the stream when it is a file.
    Entry(Entry),
    /// This directory hides what lower layers have in it.
    Opaque(PathBuf),
}

pub(super) struct TarStream<R> {
    reader: R,
    dialect: Dialect,
    /// Of the current entry's body, and the padding after it.
    left: u64,
    padding: u64,
    current: PathBuf,
}

/// What `.wh.` at the start of a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// An image's layer: a deletion.
    Layer,
    /// Somebody's archive: nothing.
    Archive,
}

/// What extension headers say about the entry after them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Vec<PaxRecord>,
}

/// Key and value.
type PaxRecord = (Vec<u8>, Vec<u8>);

impl<R: Read> TarStream<R> {
    pub(super) fn new(reader: R, dialect: Dialect) -> Self {
        Self { reader, dialect, left: 0, padding: 0, current: PathBuf::new() }
    }

    /// The next item; what is left of the body before it is skipped. `None` at
    /// the end of the archive.
    pub(super) fn next_item(&mut self) -> Result<Option<Item>, Error> {
        loop {
            let mut extensions = Extensions::default();
            let Some(header) = self.next_entry(&mut extensions)? else { return Ok(None) };
            let entry = entry(&header, &extensions)?;
            if let Kind::File { size } = entry.kind {
                self.expect_body(size)?;
            }
            self.current.clone_from(&entry.path);
            match self.dialect {
                Dialect::Archive => return Ok(Some(Item::Entry(entry))),
                Dialect::Layer => {
                    if let Some(item) = meaning(entry)? {
                        return Ok(Some(item));
                    }
                }
            }
        }
    }

    /// The current body: exactly as many bytes as the entry said.
    pub(super) fn body(&mut self) -> impl Read + '_ {
        Body(self)
    }

    /// Reads extension headers up to the entry they belong to.
    fn next_entry(&mut self, extensions: &mut Extensions) -> Result<Option<Header>, Error> {
        let mut extended = false;
        loop {
            let Some(header) = self.next_header()? else {
                return if extended { Err(self.truncated()) } else { Ok(None) };
            };
            extended = true;
            match header.as_old().linkflag[0] {
                b'L' => extensions.path = Some(until_nul(self.record(&header)?)),
                b'K' => extensions.link = Some(until_nul(self.record(&header)?)),
                b'x' | b'X' => extensions.pax = parse_pax(&self.record(&header)?)?,
                // Defaults for all entries: no layer tool writes any that count.
                b'g' => drop(self.record(&header)?),
                _ => return Ok(Some(header)),
            }
        }
    }

    fn next_header(&mut self) -> Result<Option<Header>, Error> {
        self.skip_body()?;
        let mut header = Header::new_old();
        let read = read_full(&mut self.reader, header.as_mut_bytes()).map_err(Error::ReadBlob)?;
        // One empty block is the end, like none at all: what follows it is
        // still hashed, by whoever owns the stream.
        if read == 0 || header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if read < TAR_BLOCK {
            return Err(self.truncated());
        }
        let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
        let field = &header.as_old().cksum;
        let field_sum: u32 = field.iter().map(|byte| u32::from(*byte)).sum();
        if number(field) != Some(i128::from(sum - field_sum + 8 * u32::from(b' '))) {
            return Err(Error::Malformed("a tar header has a wrong checksum".to_owned()));
        }
        Ok(Some(header))
    }

    fn record(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let size = field(&header.as_old().size, "size")?;
        if size > LONGEST_RECORD {
            return Err(Error::Malformed(format!("an extension record has {size} bytes")));
        }
        self.expect_body(size)?;
        let mut record = Vec::new();
        self.body().read_to_end(&mut record).map_err(Error::ReadBlob)?;
        if self.left > 0 {
            return Err(self.truncated());
        }
        Ok(record)
    }

    fn expect_body(&mut self, size: u64) -> Result<(), Error> {
        if size > i64::MAX as u64 {
            return Err(Error::Malformed(format!("an entry has {size} bytes")));
        }
        self.left = size;
        self.padding = (TAR_BLOCK as u64 - size % TAR_BLOCK as u64) % TAR_BLOCK as u64;
        Ok(())
    }

    fn skip_body(&mut self) -> Result<(), Error> {
        let rest = self.left + self.padding;
        let skipped = io::copy(&mut self.reader.by_ref().take(rest), &mut io::sink());
        let skipped = skipped.map_err(Error::ReadBlob)?;
        // Some writers leave the padding of the very last body out.
        if skipped < rest && skipped != self.left {
            return Err(self.truncated());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    pub(super) fn truncated(&self) -> Error {
        Error::Truncated { path: self.current.clone() }
    }
}

struct Body<'a, R>(&'a mut TarStream<R>);

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.reader.by_ref().take(self.0.left).read(buffer)?;
        self.0.left -= count as u64;
        Ok(count)
    }
}

/// Whiteouts and markers told apart from entries; `None` for what is to be
/// passed over.
fn meaning(entry: Entry) -> Result<Option<Item>, Error> {
    let path = super::path::bytes(&entry.path);
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let Some((name, parents)) = names.split_last() else { return Ok(None) };
    if *name == OPAQUE_NAME && !parents.iter().any(|parent| parent.starts_with(WHITEOUT_PREFIX)) {
        return Ok(Some(Item::Opaque(entry.path.parent().unwrap_or(Path::new("")).to_owned())));
    }
    // AUFS' own files (`.wh..wh.plnk` and the like), left over in old images.
    if names.iter().any(|name| name.starts_with(b".wh..wh.")) {
        return Ok(None);
    }
    let unsafe_name = |reason| Err(Error::UnsafeName { path: entry.path.clone(), reason });
    if parents.iter().any(|parent| parent.starts_with(WHITEOUT_PREFIX)) {
        return unsafe_name("it lies below a deletion mark");
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Some(Item::Entry(entry))),
        Some(b"" | b"." | b"..") => unsafe_name("it deletes nothing that can exist"),
        Some(deleted) => {
            let path = entry.path.with_file_name(to_path(deleted));
            Ok(Some(Item::Entry(whiteout(path))))
        }
    }
}

fn entry(header: &Header, extensions: &Extensions) -> Result<Entry, Error> {
    let old = header.as_old();
    let name = extensions.value(b"path").or(extensions.path.as_deref());
    let name = name.map_or_else(|| header.path_bytes().into_owned(), <[u8]>::to_vec);
    let path = clean(&name)?;
    let kind = kind(header, extensions, &name, &path)?;
    Ok(Entry {
        kind,
        mode: (field(&old.mode, "mode")? & 0o7777) as u32,
        uid: id(extensions.number(b"uid")?.unwrap_or(field(&old.uid, "uid")?), &path)?,
        gid: id(extensions.number(b"gid")?.unwrap_or(field(&old.gid, "gid")?), &path)?,
        mtime: mtime(header, extensions)?,
        xattrs: extensions.xattrs(&path)?,
        path,
    })
}

fn kind(header: &Header, extensions: &Extensions, name: &[u8], path: &Path) -> Result<Kind, Error> {
    let unsupported = |what: String| Err(Error::Unsupported { path: path.to_owned(), what });
    if extensions.pax.iter().any(|(key, _)| key.starts_with(b"GNU.sparse.")) {
        return unsupported("a sparse file".to_owned());
    }
    Ok(match header.as_old().linkflag[0] {
        // Archives older than POSIX mark directories by the slash alone.
        b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Directory { opaque: false },
        b'0' | 0 | b'7' => {
            let size = extensions.number(b"size")?;
            Kind::File { size: size.map_or_else(|| field(&header.as_old().size, "size"), Ok)? }
        }
        b'1' => Kind::Hardlink { target: clean(&link(header, extensions))? },
        b'2' => Kind::Symlink { target: symlink_target(link(header, extensions), path)? },
        b'3' => {
            let (major, minor) = device(header);
            Kind::CharacterDevice { major, minor }
        }
        b'4' => {
            let (major, minor) = device(header);
            Kind::BlockDevice { major, minor }
        }
        b'5' => Kind::Directory { opaque: false },
        b'6' => Kind::Fifo,
        b'S' => return unsupported("a sparse file".to_owned()),
        other => return unsupported(format!("of the type `{}`", other.escape_ascii())),
    })
}

fn link(header: &Header, extensions: &Extensions) -> Vec<u8> {
    let link = extensions.value(b"linkpath").or(extensions.link.as_deref());
    link.map_or_else(|| until_nul(header.as_old().linkname.to_vec()), <[u8]>::to_vec)
}

/// Any target is allowed: it is never followed outside the root.
fn symlink_target(target: Vec<u8>, path: &Path) -> Result<PathBuf, Error> {
    if target.is_empty() || target.len() > LONGEST_PATH || target.contains(&0) {
        let reason = "its link target is empty, contains a NUL byte or is longer than 4095 bytes";
        return Err(Error::UnsafeName { path: path.to_owned(), reason });
    }
    Ok(to_path(&target))
}

fn device(header: &Header) -> (u32, u32) {
    // Some writers leave the fields blank, which means 0.
    let read = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
    (read(header.device_major()), read(header.device_minor()))
}

/// Ids are 32 bits wide, and the largest means "leave it" to chown(2).
fn id(number: u64, path: &Path) -> Result<u32, Error> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| Error::Malformed(format!("`{}` has the owner or group {number}", path.display())))
}

fn mtime(header: &Header, extensions: &Extensions) -> Result<i64, Error> {
    let malformed = || Error::Malformed("an entry has no valid time".to_owned());
    match extensions.value(b"mtime") {
        Some(text) => {
            // `seconds.fraction`: the fraction is cut off.
            let whole = text.split(|byte| *byte == b'.').next().unwrap_or_default();
            std::str::from_utf8(whole).ok().and_then(|text| text.parse().ok()).ok_or_else(malformed)
        }
        None => {
            number(&header.as_old().mtime).and_then(|time| i64::try_from(time).ok()).ok_or_else(malformed)
        }
    }
}

impl Extensions {
    /// The last record of a key; an empty one takes it back (POSIX, pax).
    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.pax.iter().rev().find(|(name, _)| name == key)?;
        Some(found.1.as_slice()).filter(|value| !value.is_empty())
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>, Error> {
        let parse = |value: &[u8]| std::str::from_utf8(value).ok()?.parse().ok();
        let malformed = || Error::Malformed(format!("the record `{}` is no number", key.escape_ascii()));
        self.value(key).map(|value| parse(value).ok_or_else(malformed)).transpose()
    }

    fn xattrs(&self, path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut xattrs = BTreeMap::new();
        for (key, value) in &self.pax {
            let Some(name) = key.strip_prefix(XATTR_KEY.as_bytes()) else { continue };
            // XATTR_NAME_MAX and XATTR_SIZE_MAX of Linux.
            if name.is_empty() || name.len() > 255 || name.contains(&0) || value.len() > 65536 {
                let what = format!("with an attribute of {} bytes", value.len());
                return Err(Error::Unsupported { path: path.to_owned(), what });
            }
            if !is_bookkeeping(name) {
                xattrs.insert(name.to_vec(), value.clone());
            }
        }
        Ok(xattrs)
    }
}

/// Records of the form `LENGTH KEY=VALUE\n`, the length counting all of it.
fn parse_pax(mut bytes: &[u8]) -> Result<Vec<PaxRecord>, Error> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (key, value, rest) =
            pax_record(bytes).ok_or_else(|| Error::Malformed("a pax record is malformed".to_owned()))?;
        records.push((key.to_vec(), value.to_vec()));
        bytes = rest;
    }
    Ok(records)
}

fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(10).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let body = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], rest))
}

fn field(bytes: &[u8], name: &str) -> Result<u64, Error> {
    let malformed = || Error::Malformed(format!("an entry has no valid {name}"));
    number(bytes).and_then(|number| u64::try_from(number).ok()).ok_or_else(malformed)
}

/// A numeric field: octal digits between blanks, nothing at all for 0, or
/// base 256 in two's complement when the first bit is set (GNU).
fn number(bytes: &[u8]) -> Option<i128> {
    let (&first, rest) = bytes.split_first()?;
    if first & 0x80 != 0 {
        // The first byte holds the mark and seven bits of the number.
        let start = i128::from(((first << 1) as i8) >> 1);
        return Some(rest.iter().fold(start, |number, byte| number << 8 | i128::from(*byte)));
    }
    let text = until_nul(bytes.to_vec());
    let digits = text.trim_ascii();
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'7' => Some(number << 3 | i128::from(digit - b'0')),
        _ => None,
    })
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
