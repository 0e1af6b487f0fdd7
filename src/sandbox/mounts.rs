//! Mounts between descriptors: source and target are open before anything is
//! mounted, so no path is looked up twice and no link is followed in between.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::{MsFlags, mount};
use rustix::fs::{Mode, OFlags};

use super::sys;

/// Opens `path` as a place, without reading rights.
pub(super) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// A path that means `fd` to the kernel, as long as the old /proc is in view.
pub(super) fn link(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Nothing mounted from here on shows outside; what is unmounted outside goes
/// away here too.
pub(super) fn make_private() -> io::Result<()> {
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)?)
}

/// Binds `source`, with everything mounted in it: a mount that came from
/// outside the user namespace may not be left behind (EINVAL).
pub(super) fn bind(source: &impl AsRawFd, target: &impl AsRawFd) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    Ok(mount(Some(&link(source)), &link(target), None::<&str>, flags, None::<&str>)?)
}

/// Binds one directory of the state volume, without what is mounted in it:
/// there is nothing but what this RUN mounted itself.
pub(super) fn bind_bare(source: &impl AsRawFd, target: &impl AsRawFd) -> io::Result<()> {
    Ok(mount(Some(&link(source)), &link(target), None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// A new file system of type `kind`.
pub(super) fn new(kind: &str, target: &impl AsRawFd, flags: MsFlags, options: &str) -> io::Result<()> {
    Ok(mount(Some(kind), &link(target), Some(kind), flags, Some(options))?)
}

/// Makes the mount that `fd` is on read-only, and those below it.
pub(super) fn read_only(fd: &OwnedFd) -> io::Result<()> {
    match sys::restrict_mounts(fd.as_fd(), libc::MOUNT_ATTR_RDONLY) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => remount(fd, MsFlags::MS_RDONLY),
        other => other,
    }
}

/// Device nodes in the mount that `fd` is on, and in those below it, are names only.
pub(super) fn without_devices(fd: &OwnedFd) -> io::Result<()> {
    match sys::restrict_mounts(fd.as_fd(), libc::MOUNT_ATTR_NODEV) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => remount(fd, MsFlags::MS_NODEV),
        other => other,
    }
}

/// Moves the mount that is the working directory over `/` and goes into it.
/// Nothing is above it then, and what it covers has no name any more, so that
/// it holds like pivot_root(2), which Docker's seccomp profile always refuses.
pub(super) fn move_to_root() -> io::Result<()> {
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    Ok(nix::unistd::chroot(".")?)
}

/// Before Linux 5.12: this mount alone, keeping the flags that a user
/// namespace may not clear.
fn remount(fd: &OwnedFd, flag: MsFlags) -> io::Result<()> {
    let flags = rustix::fs::fstatvfs(fd)?.f_flag;
    let mut kept = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flag;
    for (flag, mount_flag) in [
        (rustix::fs::StatVfsMountFlags::RDONLY, MsFlags::MS_RDONLY),
        (rustix::fs::StatVfsMountFlags::NOSUID, MsFlags::MS_NOSUID),
        (rustix::fs::StatVfsMountFlags::NODEV, MsFlags::MS_NODEV),
        (rustix::fs::StatVfsMountFlags::NOEXEC, MsFlags::MS_NOEXEC),
        (rustix::fs::StatVfsMountFlags::NOATIME, MsFlags::MS_NOATIME),
        (rustix::fs::StatVfsMountFlags::RELATIME, MsFlags::MS_RELATIME),
    ] {
        if flags.contains(flag) {
            kept |= mount_flag;
        }
    }
    Ok(mount(None::<&str>, &link(fd), None::<&str>, kept, None::<&str>)?)
}

/// Nothing that is executed, no device, no setuid.
pub(super) const INERT: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
