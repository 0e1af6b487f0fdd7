//! Tests that need more than one file of the room: tars made by hand, a place
//! to unpack them into with something precious beside it, and what came out.

mod escapes;
mod hostile;
mod index;
mod pack;
mod spool;
mod stack;
mod unpack;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::*;
use crate::image::media_type;
use crate::metadata::{Key, Record};

pub(super) fn key() -> Key {
    Key::from_bytes([9; 32])
}

pub(super) fn options() -> UnpackOptions {
    UnpackOptions { record_key: key() }
}

/// Owner for entries: our own, so that an ordinary user can set it too.
pub(super) fn own() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

pub(super) fn entry(path: &str, kind: Kind) -> Entry {
    let (uid, gid) = own();
    let mode = if kind.is_directory() { 0o755 } else { 0o644 };
    Entry { kind, mode, uid, gid, mtime: 1_000, ..Entry::implicit_directory(path.into()) }
}

pub(super) fn file(path: &str, size: u64) -> Entry {
    entry(path, Kind::File { size })
}

pub(super) fn directory(path: &str) -> Entry {
    entry(path, Kind::Directory { opaque: false })
}

pub(super) fn symlink(path: &str, target: &str) -> Entry {
    Entry { mode: 0o777, ..entry(path, Kind::Symlink { target: target.into() }) }
}

pub(super) fn hardlink(path: &str, target: &str) -> Entry {
    entry(path, Kind::Hardlink { target: target.into() })
}

/// A tar by hand: nothing is checked, names are as given.
#[derive(Default)]
pub(super) struct RawTar(Vec<u8>);

impl RawTar {
    pub(super) fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        let (uid, gid) = own();
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_size(size);
        header.set_mtime(1_000);
        header.as_old_mut().linkflag[0] = kind;
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        header
    }

    pub(super) fn push(mut self, header: &tar::Header, body: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn add(self, kind: u8, name: &str, link: &str, body: &str) -> Self {
        let header = Self::header(kind, name.as_bytes(), link.as_bytes(), body.len() as u64);
        self.push(&header, body.as_bytes())
    }

    pub(super) fn file(self, name: &str, body: &str) -> Self {
        self.add(b'0', name, "", body)
    }

    pub(super) fn directory(self, name: &str) -> Self {
        self.add(b'5', name, "", "")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.add(b'2', name, target, "")
    }

    pub(super) fn hardlink(self, name: &str, target: &str) -> Self {
        self.add(b'1', name, target, "")
    }

    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut builder = tar::Builder::new(self.0);
        builder.append_pax_extensions(records.iter().copied()).unwrap();
        Self(std::mem::take(builder.get_mut()))
    }

    pub(super) fn done(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A directory to unpack into, with a neighbour that nothing may touch.
pub(super) struct Bench {
    outer: tempfile::TempDir,
}

const PRECIOUS: &[u8] = b"precious";

impl Bench {
    pub(super) fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("root")).unwrap();
        fs::write(outer.path().join("precious"), PRECIOUS).unwrap();
        Self { outer }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.outer.path().join("root")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.outer.path().join(name)
    }

    pub(super) fn unpack(&self, tar: &[u8]) -> Result<Unpacked, Error> {
        self.unpack_over(tar, None)
    }

    /// Unpacks, checks that nothing outside the root changed, and that an
    /// index made without unpacking is the same.
    pub(super) fn unpack_over(&self, tar: &[u8], below: Option<&dyn Below>) -> Result<Unpacked, Error> {
        let root = fs::File::open(self.root()).unwrap();
        let unpacked = unpack(tar, media_type::LAYER, root.as_fd(), below, &options());
        self.check_outside();
        if let Ok(unpacked) = &unpacked {
            let (index, diff_id) = index(tar, media_type::LAYER).unwrap();
            assert!(index == unpacked.index);
            assert_eq!(diff_id, unpacked.diff_id);
        }
        unpacked
    }

    pub(super) fn check_outside(&self) {
        let mut names: Vec<_> =
            fs::read_dir(self.outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["precious", "root"]);
        let precious = self.path("precious");
        assert_eq!(fs::read(&precious).unwrap(), PRECIOUS);
        let metadata = fs::metadata(&precious).unwrap();
        assert_eq!(metadata.nlink(), 1, "somebody linked to it");
        assert_eq!(metadata.permissions().mode() & 0o7000, 0);
    }

    /// The tree, one word a path: `d755`, `f644:body`, `l:target`, `w` …
    pub(super) fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        describe(&self.root(), Path::new(""), &mut tree);
        tree
    }

    pub(super) fn word(&self, path: &str) -> String {
        self.tree().get(path).cloned().unwrap_or_else(|| "nothing".to_owned())
    }

    pub(super) fn record(&self, path: &str) -> Option<Record> {
        Record::read(fs::File::open(self.root().join(path)).unwrap().as_fd(), &key()).unwrap()
    }
}

fn describe(root: &Path, below: &Path, tree: &mut BTreeMap<String, String>) {
    for child in fs::read_dir(root.join(below)).unwrap() {
        let name = below.join(child.unwrap().file_name());
        let full = root.join(&name);
        tree.insert(name.to_string_lossy().into_owned(), word(&full));
        if fs::symlink_metadata(&full).unwrap().is_dir() {
            describe(root, &name, tree);
        }
    }
}

fn word(path: &Path) -> String {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mode = metadata.permissions().mode() & 0o7777;
    let kind = metadata.file_type();
    if kind.is_dir() {
        let mut value = [0; 8];
        let opaque = rustix::fs::getxattr(path, "user.overlay.opaque", &mut value[..]) == Ok(1);
        format!("d{mode:o}{}", if opaque { "!" } else { "" })
    } else if kind.is_symlink() {
        format!("l:{}", fs::read_link(path).unwrap().display())
    } else if kind.is_char_device() && metadata.rdev() == 0 {
        "w".to_owned()
    } else if kind.is_fifo() {
        format!("p{mode:o}")
    } else {
        format!("f{mode:o}:{}", String::from_utf8_lossy(&fs::read(path).unwrap_or_default()))
    }
}
