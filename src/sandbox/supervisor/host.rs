//! The host name of a RUN where none can be set: where there is no uts namespace,
//! or the container's profile refuses sethostname(2). What a RUN makes of its host
//! name is in the image, so it must not be the container's.

use std::io;
use std::mem::offset_of;
use std::path::Path;

use nix::libc;

use super::{Answer, Service, task};
use crate::sandbox::raw::{self, Notification};

/// Where the host name is in /proc (proc_sys_kernel(5)).
pub(super) const IN_PROC: &str = "sys/kernel/hostname";

/// Domains of personality(2) in which uname(2) tells of another machine or release.
const LINUX32: u32 = 0x8;
const DOMAIN: u32 = 0xff;
const OLD_RELEASE: u32 = 0x0002_0000;

impl Service {
    /// uname(2), with the RUN's host name.
    pub(super) fn name(&self, notification: &Notification, buffer: u64) -> io::Result<Answer> {
        let path = format!("/proc/{}/personality", notification.thread);
        let personality = task::look_at(notification.thread, || std::fs::read_to_string(Path::new(&path)))?;
        if tells_otherwise(&personality) {
            return Ok(Answer::GoOn);
        }
        let name = named(raw::uname_bytes()?, &self.tree.host);
        Ok(self.put(notification, buffer, &name, 0))
    }
}

fn tells_otherwise(personality: &str) -> bool {
    u32::from_str_radix(personality.trim(), 16)
        .is_ok_and(|personality| personality & DOMAIN == LINUX32 || personality & OLD_RELEASE != 0)
}

/// The same with another node name, which the kernel keeps below 65 bytes.
fn named(mut all: raw::UnameBytes, host: &str) -> raw::UnameBytes {
    let field = &mut all[offset_of!(libc::utsname, nodename)..offset_of!(libc::utsname, release)];
    let host = &host.as_bytes()[..host.len().min(field.len() - 1)];
    field.fill(0);
    field[..host.len()].copy_from_slice(host);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_node_name_changes() {
        let before = raw::uname_bytes().unwrap();
        let after = named(before, "short");
        let (from, to) = (offset_of!(libc::utsname, nodename), offset_of!(libc::utsname, release));
        assert_eq!(&after[from..from + 6], b"short\0");
        assert_eq!((&after[..from], &after[to..]), (&before[..from], &before[to..]));
        let long = named(before, &"x".repeat(90));
        assert_eq!((long[to - 2], long[to - 1]), (b'x', 0));
    }

    #[test]
    fn other_personalities_are_left_to_the_kernel() {
        assert!(tells_otherwise("00000008\n") && tells_otherwise("00020000\n"));
        assert!(!tells_otherwise("00000000\n") && !tells_otherwise("00040000\n"));
    }
}
