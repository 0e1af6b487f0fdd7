//! The record itself: its fields, its bytes, and its place on an inode.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use thiserror::Error;

use super::Key;

/// The extended attribute that holds a record. Never part of a layer.
pub const RECORD_XATTR: &str = "user.coracle.record";

/// Unknown versions are foreign records: ignored.
const VERSION: u8 = 1;
const TAG: usize = 32;
/// Bytes of the shortest record: a shorter attribute is none, whatever it is called.
pub const SHORTEST: u32 = 1 + TAG as u32 + 1;
/// Longest attribute we read; larger ones are not ours (a capability is 24 bytes).
pub(super) const LONGEST: usize = 4096;

const OWNER: u8 = 1;
const MODE: u8 = 2;
const CHARACTER: u8 = 4;
const BLOCK: u8 = 8;
const CAPABILITY: u8 = 16;

/// What the file system could not hold about one inode; `None` means that the
/// inode itself tells the truth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// User and group id as the image has them.
    pub owner: Option<(u32, u32)>,
    /// Permission bits with setuid, setgid and sticky (07777).
    pub mode: Option<u32>,
    /// The inode is an empty placeholder for this device.
    pub device: Option<Device>,
    /// The value of `security.capability`.
    pub capability: Option<Vec<u8>>,
}

/// A device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Which table of devices the numbers count in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// `c`
    Character,
    /// `b`
    Block,
}

/// Why a record could not be read from or written to an inode.
#[derive(Debug, Error)]
pub enum Error {
    /// Reading failed for another reason than that there is none.
    #[error("cannot read the metadata record")]
    Read(#[source] io::Error),
    /// The file system takes no `user.*` attributes, or the inode is of a kind
    /// that takes none.
    #[error("cannot write the metadata record")]
    Write(#[source] io::Error),
}

impl Error {
    /// What the kernel answered.
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Read(error) | Self::Write(error) => error,
        }
    }
}

impl Record {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the record of an open inode (not an `O_PATH` descriptor, which
    /// fgetxattr(2) refuses). A forged record, one of another state directory
    /// and one of an unknown version are `None`.
    ///
    /// # Errors
    /// When the attribute cannot be read.
    pub fn read(fd: BorrowedFd<'_>, key: &Key) -> Result<Option<Self>, Error> {
        let mut value = vec![0; LONGEST];
        match rustix::fs::fgetxattr(fd, RECORD_XATTR, &mut value[..]) {
            Ok(length) => Ok(Self::from_xattr(&value[..length], key)),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(None),
            Err(errno) => Err(Error::Read(errno.into())),
        }
    }

    /// Writes the record onto an open inode, in place of an older one. Do it
    /// before a mode that forbids writing is set: an ordinary user's `user.*`
    /// attributes need the write permission (xattr(7)).
    ///
    /// # Errors
    /// When the file system refuses the attribute.
    pub fn write(&self, fd: BorrowedFd<'_>, key: &Key) -> Result<(), Error> {
        rustix::fs::fsetxattr(fd, RECORD_XATTR, &self.to_xattr(key), XattrFlags::empty())
            .map_err(|errno| Error::Write(errno.into()))
    }

    /// The attribute's value, for a caller that reads all attributes at once.
    pub fn from_xattr(value: &[u8], key: &Key) -> Option<Self> {
        let (version, rest) = value.split_first()?;
        let (tag, body) = rest.split_at_checked(TAG)?;
        if *version != VERSION || !key.verifies(body, tag) {
            return None;
        }
        Self::from_body(body)
    }

    /// The attribute's value.
    pub fn to_xattr(&self, key: &Key) -> Vec<u8> {
        let body = self.to_body();
        let mut value = vec![VERSION];
        value.extend_from_slice(&key.authenticate(&body));
        value.extend_from_slice(&body);
        value
    }

    fn to_body(&self) -> Vec<u8> {
        let mut body = vec![self.presence()];
        if let Some((uid, gid)) = self.owner {
            body.extend_from_slice(&uid.to_le_bytes());
            body.extend_from_slice(&gid.to_le_bytes());
        }
        if let Some(mode) = self.mode {
            body.extend_from_slice(&mode.to_le_bytes());
        }
        if let Some(device) = self.device {
            body.extend_from_slice(&device.major.to_le_bytes());
            body.extend_from_slice(&device.minor.to_le_bytes());
        }
        if let Some(capability) = &self.capability {
            body.extend_from_slice(capability);
        }
        body
    }

    fn presence(&self) -> u8 {
        let device = match self.device.map(|device| device.kind) {
            None => 0,
            Some(DeviceKind::Character) => CHARACTER,
            Some(DeviceKind::Block) => BLOCK,
        };
        let flag = |present: bool, bit: u8| if present { bit } else { 0 };
        flag(self.owner.is_some(), OWNER)
            | flag(self.mode.is_some(), MODE)
            | device
            | flag(self.capability.is_some(), CAPABILITY)
    }

    fn from_body(body: &[u8]) -> Option<Self> {
        let (&presence, mut rest) = body.split_first()?;
        let mut record = Self::default();
        if presence & OWNER != 0 {
            record.owner = Some((take(&mut rest)?, take(&mut rest)?));
        }
        if presence & MODE != 0 {
            record.mode = Some(take(&mut rest)?);
        }
        let kind = match presence & (CHARACTER | BLOCK) {
            0 => None,
            CHARACTER => Some(DeviceKind::Character),
            BLOCK => Some(DeviceKind::Block),
            _ => return None,
        };
        if let Some(kind) = kind {
            record.device = Some(Device { kind, major: take(&mut rest)?, minor: take(&mut rest)? });
        }
        if presence & CAPABILITY != 0 {
            record.capability = Some(std::mem::take(&mut rest).to_vec());
        }
        rest.is_empty().then_some(record)
    }
}

fn take(rest: &mut &[u8]) -> Option<u32> {
    let (number, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;

    fn key() -> Key {
        Key::from_bytes([3; 32])
    }

    fn null() -> Record {
        let device = Device { kind: DeviceKind::Character, major: 1, minor: 3 };
        Record { device: Some(device), ..Record::default() }
    }

    #[test]
    fn round_trips() {
        let full = Record {
            owner: Some((0, u32::MAX)),
            mode: Some(0o4755),
            device: Some(Device { kind: DeviceKind::Block, major: 8, minor: 1 }),
            capability: Some(vec![1, 0, 0, 2, 0]),
        };
        for record in [Record::default(), null(), full] {
            assert_eq!(Record::from_xattr(&record.to_xattr(&key()), &key()), Some(record));
        }
    }

    /// Who listens for records that are set hears of no shorter value.
    #[test]
    fn none_is_shorter() {
        let shortest = Record::default().to_xattr(&key());
        assert_eq!(shortest.len(), SHORTEST as usize);
        assert_eq!(Record::from_xattr(&shortest[..shortest.len() - 1], &key()), None);
        assert!(null().to_xattr(&key()).len() > SHORTEST as usize);
    }

    #[test]
    fn what_a_run_wrote_is_no_record() {
        let good = null().to_xattr(&key());
        let foreign = null().to_xattr(&Key::from_bytes([4; 32]));
        let mut other_minor = good.clone();
        *other_minor.last_mut().unwrap() ^= 1;
        let mut other_version = good.clone();
        other_version[0] = 2;
        let longer = [&good[..], b"x"].concat();
        let cases = [&foreign[..], &other_minor, &other_version, &longer, &good[..20], b"", b"\x01"];
        for value in cases {
            assert_eq!(Record::from_xattr(value, &key()), None, "{value:?}");
        }
    }

    #[test]
    fn lies_on_the_inode_and_survives_a_rename() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("null.dpkg-new"), directory.path().join("null"));
        let file = File::create(&old).unwrap();
        assert_eq!(Record::read(file.as_fd(), &key()).unwrap(), None);
        null().write(file.as_fd(), &key()).unwrap();
        std::fs::rename(&old, &new).unwrap();
        let found = Record::read(File::open(&new).unwrap().as_fd(), &key()).unwrap();
        assert_eq!(found, Some(null()));
    }

    #[test]
    fn an_oversized_foreign_attribute_is_no_record() {
        let file = tempfile::tempfile().unwrap();
        let written = rustix::fs::fsetxattr(&file, RECORD_XATTR, &[1; LONGEST + 1], XattrFlags::empty());
        // ext4 may refuse so large a value; then there is simply none.
        assert!(written.is_ok() || written == Err(Errno::NOSPC));
        assert_eq!(Record::read(file.as_fd(), &key()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_body_parses_without_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut value = vec![VERSION];
            value.extend_from_slice(&key().authenticate(&body));
            value.extend_from_slice(&body);
            if let Some(record) = Record::from_xattr(&value, &key()) {
                prop_assert_eq!(Record::from_xattr(&record.to_xattr(&key()), &key()), Some(record));
            }
        }
    }
}
