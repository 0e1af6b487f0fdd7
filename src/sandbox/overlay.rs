//! overlayfs inside a user namespace: exactly `userxattr`, and `volatile`
//! where the kernel has it; nothing else is allowed there.
//!
//! Every directory is named through its descriptor (`/proc/self/fd/N`): no
//! limit on the length of a path, no trouble with colons in one, and RUN's
//! mountinfo shows no path of the host.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use nix::mount::{MsFlags, mount};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::mounts::{link, open_path};

/// How many lower directories overlayfs takes (OVL_MAX_STACK in the kernel).
pub const MOST_LOWERS: usize = 500;

/// The directories of one overlay, opened.
#[derive(Debug)]
pub(super) struct Stack {
    /// Topmost first, each once.
    lowers: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
}

impl Stack {
    /// Opens them. A lower that comes twice counts once, at its topmost place:
    /// the kernel answers ELOOP to a repeated one.
    pub(super) fn open(
        lowers: &[impl AsRef<Path>],
        upper: impl AsRef<Path>,
        work: impl AsRef<Path>,
    ) -> io::Result<Self> {
        let mut seen = Vec::new();
        let mut opened = Vec::new();
        for lower in lowers {
            let fd = open_path(lower.as_ref())?;
            let stat = rustix::fs::fstat(&fd)?;
            if !seen.contains(&(stat.st_dev, stat.st_ino)) {
                seen.push((stat.st_dev, stat.st_ino));
                opened.push(fd);
            }
        }
        Ok(Self { lowers: opened, upper: open_path(upper.as_ref())?, work: open_path(work.as_ref())? })
    }

    /// How many different lowers there are.
    pub(super) fn lowers(&self) -> usize {
        self.lowers.len()
    }

    /// Mounts it onto `target`, a directory. Without a lower there is nothing
    /// to overlay, and the upper itself is bound.
    pub(super) fn mount(&self, target: &OwnedFd) -> io::Result<()> {
        if self.lowers.is_empty() {
            return super::mounts::bind_bare(&self.upper, target);
        }
        match self.mount_by_fsconfig(target) {
            // `lowerdir+` came with Linux 6.8 (EINVAL before), fsopen with 5.2.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
                self.mount_by_options(target)
            }
            other => other,
        }
    }

    fn mount_by_fsconfig(&self, target: &OwnedFd) -> io::Result<()> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for lower in &self.lowers {
            fsconfig_set_string(context.as_fd(), "lowerdir+", link(lower))?;
        }
        fsconfig_set_string(context.as_fd(), "upperdir", link(&self.upper))?;
        fsconfig_set_string(context.as_fd(), "workdir", link(&self.work))?;
        fsconfig_set_flag(context.as_fd(), "userxattr")?;
        // Before Linux 5.10 there is no `volatile`; then syncs cost what they cost.
        let _ = fsconfig_set_flag(context.as_fd(), "volatile");
        fsconfig_create(context.as_fd())?;
        let mounted = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(mounted.as_fd(), c"", target.as_fd(), c"", flags)?)
    }

    /// mount(2) cuts its options at a page and splits them at colons: so the
    /// names are bare descriptor numbers, relative to /proc/self/fd.
    fn mount_by_options(&self, target: &OwnedFd) -> io::Result<()> {
        let mut options = String::from("userxattr,lowerdir=");
        for (place, lower) in self.lowers.iter().enumerate() {
            let colon = if place == 0 { "" } else { ":" };
            let _ = write!(options, "{colon}{}", lower.as_raw_fd());
        }
        let _ = write!(options, ",upperdir={},workdir={}", self.upper.as_raw_fd(), self.work.as_raw_fd());
        let before = open_path(Path::new("."))?;
        nix::unistd::chdir("/proc/self/fd")?;
        let mount = |options: &str| {
            mount(
                Some("overlay"),
                &link(target),
                Some("overlay"),
                MsFlags::empty(),
                Some(OsStr::new(options)),
            )
        };
        let result = mount(&format!("{options},volatile")).or_else(|_| mount(&options));
        nix::unistd::fchdir(&before)?;
        Ok(result?)
    }
}
