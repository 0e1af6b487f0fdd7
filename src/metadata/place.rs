//! A record's place on inodes of every kind, and owners given by record.
//!
//! Only files and directories take `user.*` attributes (xattr(7)). A symbolic
//! link, fifo or socket takes `security.capability`, which means nothing on
//! one, follows it through renames and overlay's copy-up, and has room for 16
//! bytes of anybody's choice: the owner, which is all that such an inode cannot
//! say itself, and a tag.
//!
//! ```text
//! vfs_cap_data (linux/capability.h) = magic │ uid │ gid │ tag (8)
//! ```
//!
//! Inodes are named by a descriptor, which may be an `O_PATH` one: the way
//! leads through its link in /proc.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Gid, Uid, XattrFlags};
use rustix::io::Errno;

use super::record::LONGEST;
use super::{Error, Key, RECORD_XATTR, Record};

/// Holds the record of what is neither file nor directory.
const CAPABILITY: &str = "security.capability";

/// Revision 2 of the attribute, no flag set.
const REVISION: [u8; 4] = 0x0200_0000_u32.to_le_bytes();
const SHORT_TAG: usize = 8;
/// Told apart from the tag of a whole record over the same bytes.
const OWNER_OF_LINK: &[u8] = b"owner of a link";

impl Record {
    /// The record of any inode; `None` also for what others wrote.
    ///
    /// # Errors
    /// When the inode cannot be looked at.
    pub fn of(inode: BorrowedFd<'_>, key: &Key) -> Result<Option<Self>, Error> {
        let takes_any = takes_any(inode).map_err(Error::Read)?;
        let mut value = [0; LONGEST];
        let name = if takes_any { RECORD_XATTR } else { CAPABILITY };
        match rustix::fs::getxattr(link(inode), name, &mut value[..]) {
            Ok(length) if takes_any => Ok(Self::from_xattr(&value[..length], key)),
            Ok(length) => Ok(owner_of_link(&value[..length], key)
                .map(|owner| Self { owner: Some(owner), ..Self::default() })),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE | Errno::PERM | Errno::INVAL) => Ok(None),
            Err(errno) => Err(Error::Read(errno.into())),
        }
    }

    /// Writes the record onto any inode in place of an older one; an empty one
    /// takes it away. Of a link, fifo or socket the owner alone is kept.
    ///
    /// # Errors
    /// When the file system refuses the attribute.
    pub fn put(&self, inode: BorrowedFd<'_>, key: &Key) -> Result<(), Error> {
        let takes_any = takes_any(inode).map_err(Error::Write)?;
        let name = if takes_any { RECORD_XATTR } else { CAPABILITY };
        let value = match (takes_any, self.owner) {
            (true, _) if !self.is_empty() => Some(self.to_xattr(key)),
            (false, Some(owner)) => Some(link_value(owner, key)),
            _ => None,
        };
        let put = match value {
            Some(value) => rustix::fs::setxattr(link(inode), name, &value, XattrFlags::empty()),
            None => match rustix::fs::removexattr(link(inode), name) {
                Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
                other => other,
            },
        };
        put.map_err(|errno| Error::Write(errno.into()))
    }
}

/// Makes `owner` (user, group) the owner of an inode: truly where the kernel
/// lets us, else in its record. Clears setuid bits and capabilities, as
/// chown(2) does.
///
/// # Errors
/// When neither can be had.
pub fn give(inode: BorrowedFd<'_>, owner: (u32, u32), key: &Key) -> io::Result<()> {
    let record = Record::of(inode, key).map_err(Error::into_io)?;
    let recorded = match chown(inode, owner) {
        Ok(()) => None,
        // EPERM: no right to give it away. EINVAL: the id is not mapped here.
        Err(Errno::PERM | Errno::INVAL) => Some(owner),
        Err(errno) => return Err(errno.into()),
    };
    match (record, recorded) {
        (None, None) => Ok(()),
        (record, owner) => {
            let record = Record { owner, ..record.unwrap_or_default() };
            record.put(inode, key).map_err(Error::into_io)
        }
    }
}

/// Whether a RUN that lists or asks for the attributes of an inode must not
/// see this one: it is a record.
pub fn is_hidden(attribute: &[u8], is_link: bool) -> bool {
    attribute.starts_with(b"user.coracle.") || (is_link && attribute == CAPABILITY.as_bytes())
}

fn chown(inode: BorrowedFd<'_>, (uid, gid): (u32, u32)) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(inode, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
}

fn link(inode: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", inode.as_raw_fd())
}

/// Files and directories take `user.*`, other inodes do not.
pub fn takes_any(inode: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(inode)?.st_mode);
    Ok(matches!(kind, FileType::RegularFile | FileType::Directory))
}

fn link_value(owner: (u32, u32), key: &Key) -> Vec<u8> {
    let mut value = REVISION.to_vec();
    value.extend_from_slice(&owner_bytes(owner));
    value.extend_from_slice(&short_tag(owner, key));
    value
}

/// The kernel shows it as revision 3, four bytes longer, to other namespaces.
fn owner_of_link(value: &[u8], key: &Key) -> Option<(u32, u32)> {
    let (_, rest) = value.split_first_chunk::<4>()?;
    let (uid, rest) = rest.split_first_chunk::<4>()?;
    let (gid, rest) = rest.split_first_chunk::<4>()?;
    let owner = (u32::from_le_bytes(*uid), u32::from_le_bytes(*gid));
    (rest.get(..SHORT_TAG)? == short_tag(owner, key)).then_some(owner)
}

fn short_tag(owner: (u32, u32), key: &Key) -> [u8; SHORT_TAG] {
    let tag = key.authenticate(&[OWNER_OF_LINK, &owner_bytes(owner)].concat());
    *tag.first_chunk().expect("32 bytes begin with 8")
}

fn owner_bytes((uid, gid): (u32, u32)) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&uid.to_le_bytes());
    bytes[4..].copy_from_slice(&gid.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    fn key() -> Key {
        Key::from_bytes([3; 32])
    }

    fn handle(path: &Path) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    }

    #[test]
    fn links_say_their_owner_and_others_cannot() {
        let value = link_value((1000, 44), &key());
        assert_eq!(owner_of_link(&value, &key()), Some((1000, 44)));
        assert_eq!(owner_of_link(&[&value[..], &[0; 4]].concat(), &key()), Some((1000, 44)));
        assert_eq!(owner_of_link(&value, &Key::from_bytes([4; 32])), None);
        for length in 0..value.len() {
            assert_eq!(owner_of_link(&value[..length], &key()), None);
        }
        let mut other = value;
        other[4] ^= 1;
        assert_eq!(owner_of_link(&other, &key()), None);
    }

    #[test]
    fn lies_on_a_file_and_goes_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        File::create(&path).unwrap();
        let inode = handle(&path);
        let record = Record { owner: Some((5, 6)), mode: Some(0o4755), ..Record::default() };
        record.put(inode.as_fd(), &key()).unwrap();
        assert_eq!(Record::of(inode.as_fd(), &key()).unwrap(), Some(record));
        Record::default().put(inode.as_fd(), &key()).unwrap();
        assert_eq!(Record::of(inode.as_fd(), &key()).unwrap(), None);
        Record::default().put(inode.as_fd(), &key()).unwrap();
    }

    /// Writing needs CAP_SETFCAP, which an ordinary user has in a namespace only.
    #[test]
    fn lies_on_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("link");
        symlink("nowhere", &path).unwrap();
        let inode = handle(&path);
        assert_eq!(Record::of(inode.as_fd(), &key()).unwrap(), None);
        let record = Record { owner: Some((5, 6)), ..Record::default() };
        if record.put(inode.as_fd(), &key()).is_ok() {
            assert_eq!(Record::of(inode.as_fd(), &key()).unwrap(), Some(record));
        }
    }

    #[test]
    fn hides_records_and_nothing_else() {
        for (name, is_link, expected) in [
            (RECORD_XATTR, false, true),
            ("user.coracle.linked", false, true),
            (CAPABILITY, true, true),
            (CAPABILITY, false, false),
            ("user.mine", false, false),
        ] {
            assert_eq!(is_hidden(name.as_bytes(), is_link), expected, "{name}");
        }
    }
}
