//! Entries as tar headers: ustar where it can hold them (POSIX.1-2017, pax,
//! "ustar Interchange Format"), extended records in front where it cannot.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use tar::{EntryType, Header};

use super::path::bytes;
use super::{Entry, Error, Kind, is_bookkeeping};

/// tar's unit.
pub(super) const TAR_BLOCK: usize = 512;
/// What deletes a name of lower layers (OCI image spec, layer.md#whiteouts).
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// What hides everything that lower layers have in its directory.
pub(super) const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// Keys of attributes in extended records, as every layer tool writes them.
pub(super) const XATTR_KEY: &str = "SCHILY.xattr.";

/// Largest id in seven octal digits.
const LARGEST_ID: u32 = 0o7_777_777;
/// Largest size and time in eleven octal digits.
const LARGEST_NUMBER: u64 = 0o77_777_777_777;

/// Extended records by key: sorted, so that the bytes are always the same.
type Pax = BTreeMap<String, Vec<u8>>;

/// The headers in front of an entry's body.
pub(super) fn encode(entry: &Entry) -> Result<Vec<u8>, Error> {
    let mut header = Header::new_ustar();
    let mut pax = Pax::new();
    set_name(&mut header, &mut pax, &tar_name(entry));
    set_numbers(&mut header, &mut pax, entry);
    set_kind(&mut header, &mut pax, entry)?;
    set_xattrs(&mut pax, entry)?;
    if pax.values().any(|value| value.len() > 1 << 20) {
        return Err(unrepresentable(entry, "an attribute is larger than 1 MiB".to_owned()));
    }
    let mut encoded = encode_pax(entry, &pax)?;
    header.set_cksum();
    encoded.extend_from_slice(header.as_bytes());
    Ok(encoded)
}

/// The marker that makes a directory opaque.
pub(super) fn opaque_marker(directory: &Entry) -> Entry {
    let path = directory.path.join(std::ffi::OsStr::from_bytes(OPAQUE_NAME));
    Entry { kind: Kind::File { size: 0 }, mode: 0, ..Entry::implicit_directory(path) }
}

fn tar_name(entry: &Entry) -> Vec<u8> {
    let path = bytes(&entry.path);
    match entry.kind {
        Kind::Directory { .. } => [path, b"/"].concat(),
        Kind::Whiteout => {
            let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            [&path[..at], WHITEOUT_PREFIX, &path[at..]].concat()
        }
        _ => path.to_vec(),
    }
}

/// A name of up to 100 bytes goes in `name`; a longer one is cut at a slash
/// into `prefix` and `name`; one that has no such slash, or that is not ASCII
/// and so would be read in the reader's own charset, in a record.
fn set_name(header: &mut Header, pax: &mut Pax, name: &[u8]) {
    let ustar = header.as_ustar_mut().expect("made as ustar");
    match cut(name) {
        Some((prefix, rest)) if name.is_ascii() => {
            ustar.prefix[..prefix.len()].copy_from_slice(prefix);
            ustar.name[..rest.len()].copy_from_slice(rest);
        }
        _ => {
            // Readers without pax see the beginning.
            let shown = name.len().min(ustar.name.len());
            ustar.name[..shown].copy_from_slice(&name[..shown]);
            pax.insert("path".to_owned(), name.to_vec());
        }
    }
}

fn cut(name: &[u8]) -> Option<(&[u8], &[u8])> {
    const NAME: usize = 100;
    const PREFIX: usize = 155;
    if name.len() <= NAME {
        return Some((b"", name));
    }
    let last = name.len() - 1;
    let slashes = (1..last.min(PREFIX + 1)).rev().filter(|at| name[*at] == b'/');
    let at = slashes.take_while(|at| last - at <= NAME).last()?;
    Some((&name[..at], &name[at + 1..]))
}

fn set_numbers(header: &mut Header, pax: &mut Pax, entry: &Entry) {
    let mut number = |key: &str, value: i128, largest: u64| {
        let fits = u64::try_from(value).ok().filter(|value| *value <= largest);
        if fits.is_none() {
            pax.insert(key.to_owned(), value.to_string().into_bytes());
        }
        fits.unwrap_or(0)
    };
    let size = if let Kind::File { size } = entry.kind { size } else { 0 };
    let (uid, gid) = (entry.uid.into(), entry.gid.into());
    header.set_uid(number("uid", uid, LARGEST_ID.into()));
    header.set_gid(number("gid", gid, LARGEST_ID.into()));
    header.set_mtime(number("mtime", entry.mtime.into(), LARGEST_NUMBER));
    header.set_size(number("size", size.into(), LARGEST_NUMBER));
    header.set_mode(entry.mode);
}

fn set_kind(header: &mut Header, pax: &mut Pax, entry: &Entry) -> Result<(), Error> {
    let kind = match &entry.kind {
        Kind::File { .. } | Kind::Whiteout => EntryType::Regular,
        Kind::Directory { .. } => EntryType::Directory,
        Kind::Symlink { target } => {
            set_target(header, pax, bytes(target));
            EntryType::Symlink
        }
        Kind::Hardlink { target } => {
            set_target(header, pax, bytes(target));
            EntryType::Link
        }
        Kind::CharacterDevice { major, minor } => {
            set_device(header, entry, *major, *minor)?;
            EntryType::Char
        }
        Kind::BlockDevice { major, minor } => {
            set_device(header, entry, *major, *minor)?;
            EntryType::Block
        }
        Kind::Fifo => EntryType::Fifo,
    };
    header.set_entry_type(kind);
    Ok(())
}

fn set_target(header: &mut Header, pax: &mut Pax, target: &[u8]) {
    let field = &mut header.as_ustar_mut().expect("made as ustar").linkname;
    let shown = target.len().min(field.len());
    field[..shown].copy_from_slice(&target[..shown]);
    if target.len() > field.len() || !target.is_ascii() {
        pax.insert("linkpath".to_owned(), target.to_vec());
    }
}

fn set_device(header: &mut Header, entry: &Entry, major: u32, minor: u32) -> Result<(), Error> {
    if major > LARGEST_ID || minor > LARGEST_ID {
        return Err(unrepresentable(entry, format!("its device number {major}:{minor} is too large")));
    }
    let ustar = header.as_ustar_mut().expect("made as ustar");
    ustar.set_device_major(major);
    ustar.set_device_minor(minor);
    Ok(())
}

fn set_xattrs(pax: &mut Pax, entry: &Entry) -> Result<(), Error> {
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| !is_bookkeeping(name)) {
        let text = std::str::from_utf8(name).ok().filter(|text| !text.contains(['=', '\0', '\n']));
        let text = text.ok_or_else(|| {
            unrepresentable(entry, format!("its attribute `{}` has no name in a tar", name.escape_ascii()))
        })?;
        pax.insert(format!("{XATTR_KEY}{text}"), value.clone());
    }
    Ok(())
}

/// The records as an entry of their own; nothing when there are none.
fn encode_pax(entry: &Entry, pax: &Pax) -> Result<Vec<u8>, Error> {
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions(pax.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
        .map_err(|error| unrepresentable(entry, error.to_string()))?;
    Ok(std::mem::take(builder.get_mut()))
}

fn unrepresentable(entry: &Entry, reason: String) -> Error {
    Error::Unrepresentable { path: entry.path.clone(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_at_a_slash() {
        let check = |name: &str, expected: Option<(usize, usize)>| {
            let found = cut(name.as_bytes()).map(|(prefix, rest)| (prefix.len(), rest.len()));
            assert_eq!(found, expected, "{name}");
        };
        let a = |count| "a".repeat(count);
        check("short", Some((0, 5)));
        check(&a(100), Some((0, 100)));
        check(&a(101), None);
        check(&format!("{}/{}", a(10), a(100)), Some((10, 100)));
        check(&format!("{}/{}", a(155), a(100)), Some((155, 100)));
        check(&format!("{}/{}", a(156), a(100)), None);
        check(&format!("{}/{}", a(10), a(101)), None);
        check(&format!("{}/{}/", a(60), a(60)), Some((60, 61)));
        check(&format!("{}/", a(100)), None);
        check(&format!("d/{}/e/{}", a(60), a(60)), Some((62, 62)));
    }
}
