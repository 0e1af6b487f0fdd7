//! The stat family: what the kernel says, with what the record knows better.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use rustix::fs::FileType;

use super::call::{self, Call, Place, errno};
use super::credentials::Credentials;
use super::{Identity, REFUSED, foreign};
use crate::metadata::{Device, DeviceKind, Record};
use crate::sandbox::raw;
use crate::sandbox::supervisor::Answer;

/// What a call of the family wants.
struct Request {
    /// Nothing where the caller may not go.
    inode: Option<OwnedFd>,
    buffer: u64,
    flags: i32,
    /// The mask of statx(2), which fills another structure.
    extended: Option<u32>,
}

impl Identity {
    pub(super) fn status(&self, call: &Call<'_>) -> io::Result<Answer> {
        let caller = self.caller(call);
        let Request { inode, buffer, flags, extended } = self.status_request(call, &caller)?;
        let Some(inode) = inode else { return Ok(REFUSED) };
        let stat = rustix::fs::fstat(&inode)?;
        let record = match call::kind(&stat) {
            FileType::Directory if self.is_in_proc(&stat) => self.record_of_task(&inode),
            _ => self.record(&inode)?,
        };
        let Some(record) = record else { return Ok(Answer::GoOn) };
        let flags = flags | libc::AT_EMPTY_PATH;
        let is_foreign = call.notification.call < 0;
        let bytes = match extended {
            None => raw::stat_bytes(inode.as_fd(), c"", flags)
                .map(|bytes| told(bytes, &record))
                .map(|bytes| if is_foreign { foreign::stat64(&bytes) } else { bytes }),
            Some(mask) => {
                raw::statx_bytes(inode.as_fd(), c"", flags, mask).map(|bytes| told_extended(bytes, &record))
            }
        };
        let written = bytes.and_then(|bytes| call.write(buffer, &bytes));
        Ok(match written {
            Ok(()) => Answer::Value(0),
            Err(error) => Answer::Error(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }

    fn status_request(&self, call: &Call<'_>, caller: &Credentials) -> io::Result<Request> {
        let find = |place: &Place, follow| match caller.overrides() && self.loose.is_empty() {
            // What is missing is asked for all the time.
            true => call.find(place, follow).map(Some),
            false => self.inode(call, caller, place, follow),
        };
        let at = |directory, path, flags: i32| {
            find(&call.place_with(directory, path, flags)?, flags & libc::AT_SYMLINK_NOFOLLOW == 0)
        };
        let plain = |inode, buffer| Request { inode, buffer, flags: 0, extended: None };
        Ok(match call.notification.call {
            libc::SYS_fstat | foreign::FSTAT64 => plain(Some(call.descriptor_in(0)?), call.long(1)),
            libc::SYS_newfstatat | foreign::FSTATAT64 => {
                let flags = call.int(3).cast_signed();
                Request { flags, ..plain(at(0, 1, flags)?, call.long(2)) }
            }
            libc::SYS_statx => {
                let flags = call.int(2).cast_signed();
                let extended = Some(call.int(3));
                Request { flags, extended, ..plain(at(0, 1, flags)?, call.long(4)) }
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat | foreign::STAT64 => plain(find(&call.named(0)?, true)?, call.long(1)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lstat | foreign::LSTAT64 => plain(find(&call.named(0)?, false)?, call.long(1)),
            _ => return Err(errno(libc::ENOSYS)),
        })
    }
}

/// `mode` with what the record has of it: type of a device, permissions.
fn mode(mode: u32, record: &Record) -> u32 {
    let kind = match record.device.map(|device| device.kind) {
        None => mode & libc::S_IFMT,
        Some(DeviceKind::Character) => libc::S_IFCHR,
        Some(DeviceKind::Block) => libc::S_IFBLK,
    };
    kind | record.mode.unwrap_or(mode & 0o7777)
}

/// What stat(2) filled in, or with `extended` statx(2), as the record has it.
pub(in crate::sandbox::supervisor) fn with_record(
    bytes: Vec<u8>,
    record: &Record,
    extended: bool,
) -> Vec<u8> {
    if extended { told_extended(bytes, record) } else { told(bytes, record) }
}

/// `struct stat`.
fn told(mut bytes: Vec<u8>, record: &Record) -> Vec<u8> {
    let (at, of_mode) = (offset_of!(libc::stat, st_uid), offset_of!(libc::stat, st_mode));
    if let Some((uid, gid)) = record.owner {
        set(&mut bytes, at, &uid.to_ne_bytes());
        set(&mut bytes, offset_of!(libc::stat, st_gid), &gid.to_ne_bytes());
    }
    let now = u32::from_ne_bytes(get(&bytes, of_mode));
    set(&mut bytes, of_mode, &mode(now, record).to_ne_bytes());
    if let Some(Device { major, minor, .. }) = record.device {
        let device: u64 = rustix::fs::makedev(major, minor);
        set(&mut bytes, offset_of!(libc::stat, st_rdev), &device.to_ne_bytes());
    }
    bytes
}

/// `struct statx`.
fn told_extended(mut bytes: Vec<u8>, record: &Record) -> Vec<u8> {
    if let Some((uid, gid)) = record.owner {
        set(&mut bytes, offset_of!(libc::statx, stx_uid), &uid.to_ne_bytes());
        set(&mut bytes, offset_of!(libc::statx, stx_gid), &gid.to_ne_bytes());
    }
    let of_mode = offset_of!(libc::statx, stx_mode);
    let now = u16::from_ne_bytes(get(&bytes, of_mode));
    let new = mode(now.into(), record) as u16;
    set(&mut bytes, of_mode, &new.to_ne_bytes());
    if let Some(Device { major, minor, .. }) = record.device {
        set(&mut bytes, offset_of!(libc::statx, stx_rdev_major), &major.to_ne_bytes());
        set(&mut bytes, offset_of!(libc::statx, stx_rdev_minor), &minor.to_ne_bytes());
    }
    bytes
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has this length")
}

fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let device = Device { kind: DeviceKind::Character, major: 1, minor: 259 };
        Record { owner: Some((33, 44)), mode: Some(0o4711), device: Some(device), capability: None }
    }

    #[test]
    fn tells_what_the_record_knows() {
        let file = tempfile::tempfile().unwrap();
        let bytes = raw::stat_bytes(file.as_fd(), c"", libc::AT_EMPTY_PATH).unwrap();
        let new = told(bytes.clone(), &record());
        let word = |bytes: &[u8], at| u32::from_ne_bytes(get(bytes, at));
        assert_eq!(word(&new, offset_of!(libc::stat, st_uid)), 33);
        assert_eq!(word(&new, offset_of!(libc::stat, st_gid)), 44);
        assert_eq!(word(&new, offset_of!(libc::stat, st_mode)), libc::S_IFCHR | 0o4711);
        let device = u64::from_ne_bytes(get(&new, offset_of!(libc::stat, st_rdev)));
        assert_eq!((rustix::fs::major(device), rustix::fs::minor(device)), (1, 259));
        assert_eq!(told(bytes.clone(), &Record::default()), bytes);
    }

    #[test]
    fn tells_it_in_the_longer_structure_too() {
        let file = tempfile::tempfile().unwrap();
        let mask = libc::STATX_BASIC_STATS;
        let bytes = raw::statx_bytes(file.as_fd(), c"", libc::AT_EMPTY_PATH, mask).unwrap();
        let new = told_extended(bytes.clone(), &record());
        let word = |at| u32::from_ne_bytes(get(&new, at));
        assert_eq!(word(offset_of!(libc::statx, stx_uid)), 33);
        assert_eq!(word(offset_of!(libc::statx, stx_gid)), 44);
        assert_eq!(word(offset_of!(libc::statx, stx_rdev_minor)), 259);
        let mode = u16::from_ne_bytes(get(&new, offset_of!(libc::statx, stx_mode)));
        assert_eq!(u32::from(mode), libc::S_IFCHR | 0o4711);
        assert_eq!(told_extended(bytes.clone(), &Record::default()), bytes);
    }
}
