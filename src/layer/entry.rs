//! One file, directory, link, device or deletion of a layer.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// An entry of a layer, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, without `.` and `..`; the root itself is empty.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky: 07777.
    pub mode: u32,
    /// Owner as seen inside the image.
    pub uid: u32,
    /// Group as seen inside the image.
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: i64,
    /// Extended attributes by full name (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
    },
    /// A directory.
    Directory {
        /// Hides everything that lower layers have below it.
        opaque: bool,
    },
    /// A symbolic link.
    Symlink {
        /// As readlink(2) gives it.
        target: PathBuf,
    },
    /// Another name of a file of this layer or of one below. The metadata of
    /// the entry itself does not count, its target's does.
    Hardlink {
        /// Relative to the root.
        target: PathBuf,
    },
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// What lower layers have here is gone.
    Whiteout,
}

impl Kind {
    /// Whether it is a directory, opaque or not.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }

    /// Equal up to a directory's opaqueness, which says something about lower
    /// layers and nothing about the directory.
    fn same(&self, other: &Self) -> bool {
        self == other || (self.is_directory() && other.is_directory())
    }
}

impl Entry {
    /// A directory nobody described: made for what lies below it.
    pub fn implicit_directory(path: PathBuf) -> Self {
        Self {
            path,
            kind: Kind::Directory { opaque: false },
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        }
    }

    /// Whether type, size, mode, owner, time, attributes, link target or device
    /// number differ: the definition of a change, apart from a file's content.
    /// The path is not compared (`cp -a f g; mv g f` changes nothing), nor the
    /// mode of symbolic links, which Linux does not keep.
    pub fn changed_from(&self, before: &Self) -> bool {
        let mode_matters = !matches!(self.kind, Kind::Symlink { .. });
        !self.kind.same(&before.kind)
            || (mode_matters && self.mode != before.mode)
            || (self.uid, self.gid) != (before.uid, before.gid)
            || self.mtime != before.mtime
            || self.xattrs != before.xattrs
    }
}

/// Whether an extended attribute describes a tree on disk and not the image:
/// overlay's marks, in both of its namespaces, and our own records. Such names
/// are never taken from a tar nor put in one.
pub fn is_bookkeeping(name: &[u8]) -> bool {
    [&b"user.overlay."[..], b"trusted.overlay.", b"user.coracle."].iter().any(|mark| name.starts_with(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Entry {
        Entry { kind: Kind::File { size: 3 }, mode: 0o644, ..Entry::implicit_directory("a".into()) }
    }

    #[test]
    fn a_change_is_what_an_image_can_show() {
        let check = |after: Entry, expected: bool| {
            assert_eq!(after.changed_from(&file()), expected, "{after:?}");
        };
        check(file(), false);
        check(Entry { path: "b".into(), ..file() }, false);
        check(Entry { mode: 0o4644, ..file() }, true);
        check(Entry { uid: 1, ..file() }, true);
        check(Entry { gid: 1, ..file() }, true);
        check(Entry { mtime: 1, ..file() }, true);
        check(Entry { kind: Kind::File { size: 4 }, ..file() }, true);
        check(Entry { kind: Kind::Fifo, ..file() }, true);
        check(Entry { xattrs: [(b"user.a".to_vec(), vec![])].into(), ..file() }, true);
    }

    #[test]
    fn opaqueness_and_link_modes_are_no_change() {
        let directory = Entry::implicit_directory("d".into());
        let opaque = Entry { kind: Kind::Directory { opaque: true }, ..directory.clone() };
        assert!(!opaque.changed_from(&directory));
        let link = |target: &str, mode| Entry {
            kind: Kind::Symlink { target: target.into() },
            mode,
            ..Entry::implicit_directory("l".into())
        };
        assert!(!link("x", 0o777).changed_from(&link("x", 0o755)));
        assert!(link("x", 0o777).changed_from(&link("y", 0o777)));
    }

    #[test]
    fn bookkeeping_names() {
        for (name, expected) in [
            ("user.overlay.opaque", true),
            ("trusted.overlay.redirect", true),
            ("user.coracle.record", true),
            ("user.overlayed", false),
            ("security.capability", false),
        ] {
            assert_eq!(is_bookkeeping(name.as_bytes()), expected, "{name}");
        }
    }
}
