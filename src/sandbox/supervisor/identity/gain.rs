//! What an execution gives: setuid, setgid and file capabilities, as
//! execve(2) and capabilities(7) say. The kernel gives nothing, for the RUN has
//! no_new_privs; so the credentials wait on the task for its next program.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags};

use super::Identity;
use super::call::{Call, kind, link};
use super::credentials::Credentials;
use crate::metadata::Record;

const SETUID: u32 = 0o4000;
/// Setgid, and a group that executes.
const SETGID: u32 = 0o2010;

/// The attribute of capabilities(7), and its revision 2 and 3 with a flag.
const ATTRIBUTE: &str = "security.capability";
const REVISIONS: [u32; 2] = [0x0200_0000, 0x0300_0000];
const EFFECTIVE: u32 = 1;

/// What a file gives to whoever executes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gift {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) capabilities: Option<FileCapabilities>,
}

/// capabilities(7), "File capabilities".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileCapabilities {
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
    pub(super) effective: bool,
}

impl Identity {
    /// Lets what `inode` gives wait for the execution of it, which may still fail.
    pub(super) fn gain(&self, call: &Call<'_>, caller: &Credentials, inode: &OwnedFd) -> io::Result<()> {
        if caller.no_new_privileges {
            return Ok(());
        }
        let gift = self.gift(caller, inode)?;
        if gift == Gift::default() || is_script(inode)? || is_without(inode)? {
            return Ok(());
        }
        call.still_there()?;
        self.table.promise(call.thread(), caller.clone(), caller.executing(gift))
    }

    fn gift(&self, caller: &Credentials, inode: &OwnedFd) -> io::Result<Gift> {
        let stat = rustix::fs::fstat(inode)?;
        let record = self.record(inode)?.unwrap_or_default();
        let mode = record.mode.unwrap_or(stat.st_mode);
        let (uid, gid) = record.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let given = |bits: u32, id: u32| (mode & bits == bits).then_some(id);
        let capabilities = capabilities(inode, &record);
        let gift = Gift { uid: given(SETUID, uid), gid: given(SETGID, gid), capabilities };
        // To be who one is already gives nothing.
        let same = |id: Option<u32>, own: u32| id.filter(|id| *id != own);
        Ok(Gift {
            uid: same(gift.uid, caller.user.effective),
            gid: same(gift.gid, caller.group.effective),
            ..gift
        })
    }
}

fn capabilities(inode: &OwnedFd, record: &Record) -> Option<FileCapabilities> {
    let mut value = [0; 24];
    let on_disk = || {
        let length = rustix::fs::getxattr(link(inode), ATTRIBUTE, &mut value[..]).ok()?;
        parse(&value[..length])
    };
    record.capability.as_deref().map_or_else(on_disk, parse)
}

/// `struct vfs_cap_data`, `struct vfs_ns_cap_data` (linux/capability.h).
fn parse(value: &[u8]) -> Option<FileCapabilities> {
    let word = |at: usize| Some(u32::from_le_bytes(*value.get(4 * at..)?.first_chunk()?));
    let magic = word(0)?;
    if !REVISIONS.contains(&(magic & 0xff00_0000)) {
        return None;
    }
    let set = |low: usize| Some(u64::from(word(low)?) | u64::from(word(low + 2)?) << 32);
    let effective = magic & EFFECTIVE != 0;
    Some(FileCapabilities { permitted: set(1)?, inheritable: set(2)?, effective })
}

/// Its interpreter is what is executed.
fn is_script(inode: &OwnedFd) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut start = Vec::new();
    File::from(rustix::fs::open(link(inode), flags, Mode::empty())?).take(2).read_to_end(&mut start)?;
    Ok(start == b"#!")
}

/// Whether it lies where nothing is given (`nosuid`).
fn is_without(inode: &OwnedFd) -> io::Result<bool> {
    debug_assert!(rustix::fs::fstat(inode).is_ok_and(|stat| kind(&stat) == FileType::RegularFile));
    Ok(rustix::fs::fstatvfs(inode.as_fd())?.f_flag.contains(StatVfsMountFlags::NOSUID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_file_capabilities() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        let expected = FileCapabilities { permitted: 1 << 13 | 1 << 40, inheritable: 2, effective: true };
        let value = words(&[0x0200_0001, 1 << 13, 2, 1 << 8, 0]);
        assert_eq!(parse(&value), Some(expected));
        assert_eq!(parse(&[&words(&[0x0300_0001])[..], &value[4..], &[0; 4]].concat()), Some(expected));
        assert_eq!(parse(&words(&[0x0100_0001, 1, 1])), None);
        assert_eq!(parse(&value[..16]), None);
        assert_eq!(parse(b""), None);
    }
}
