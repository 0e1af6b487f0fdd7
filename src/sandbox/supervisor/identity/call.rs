//! A call that waits: its arguments, its caller's memory, and the places it names.
//!
//! A path is read once and walked here, from the caller's own root, working
//! directory or descriptor, with openat2(2) below a descriptor and without the
//! magic links of /proc: nothing is reached that the caller could not reach.
//! What such a walk does not find is left to the kernel.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::sandbox::raw::{self, Notification};

/// Longest path, with its end (PATH_MAX).
const LONGEST: usize = 4096;
const PAGE: u64 = 4096;

/// `PROC_SUPER_MAGIC` of statfs(2).
const PROC: u64 = 0x9fa0;

/// One call and the listener it came over.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) listener: BorrowedFd<'a>,
    pub(super) notification: &'a Notification,
}

/// A path and the directory it starts from; without a path, a descriptor.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) directory: i32,
    pub(super) path: PathBuf,
}

impl<'a> Call<'a> {
    pub(super) fn thread(&self) -> i32 {
        self.notification.thread
    }

    pub(super) fn long(&self, number: usize) -> u64 {
        self.notification.arguments[number]
    }

    /// As 32 bits, which is all the kernel reads of most arguments.
    pub(super) fn int(&self, number: usize) -> u32 {
        self.long(number) as u32
    }

    /// Whether the caller still waits, so that its number means it.
    pub(super) fn is_waiting(&self) -> bool {
        raw::is_waiting(self.listener, self.notification.id)
    }

    /// What was opened by the caller's number is the caller's.
    ///
    /// # Errors
    /// `ESRCH` when it has gone.
    pub(super) fn still_there(&self) -> io::Result<()> {
        if self.is_waiting() { Ok(()) } else { Err(errno(libc::ESRCH)) }
    }

    /// The path in argument `path`, from where argument `directory` says.
    pub(super) fn place_at(&self, directory: usize, path: usize) -> io::Result<Place> {
        self.place(self.int(directory).cast_signed(), path)
    }

    /// The path in an argument, from the working directory.
    pub(super) fn place_here(&self, path: usize) -> io::Result<Place> {
        self.place(libc::AT_FDCWD, path)
    }

    /// Likewise, where an empty path is an error without this flag.
    ///
    /// # Errors
    /// `ENOENT`, which the kernel tells.
    pub(super) fn place_with(&self, directory: usize, path: usize, flags: i32) -> io::Result<Place> {
        let place = self.place_at(directory, path)?;
        let is_missing = place.path.as_os_str().is_empty() && flags & libc::AT_EMPTY_PATH == 0;
        if is_missing { Err(errno(libc::ENOENT)) } else { Ok(place) }
    }

    /// From the working directory, where an empty path is an error.
    ///
    /// # Errors
    /// `ENOENT`, which the kernel tells.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn named(&self, path: usize) -> io::Result<Place> {
        let place = self.place_here(path)?;
        if place.path.as_os_str().is_empty() { Err(errno(libc::ENOENT)) } else { Ok(place) }
    }

    fn place(&self, directory: i32, path: usize) -> io::Result<Place> {
        let text = self.text(self.long(path))?;
        Ok(Place { directory, path: Path::new(OsStr::from_bytes(&text)).to_owned() })
    }

    /// What the descriptor in an argument names.
    pub(super) fn descriptor_in(&self, argument: usize) -> io::Result<OwnedFd> {
        let opened = self.descriptor(self.int(argument).cast_signed())?;
        self.still_there()?;
        Ok(opened)
    }

    /// As an O_PATH handle, which may be of a symbolic link.
    pub(super) fn find(&self, place: &Place, follow: bool) -> io::Result<OwnedFd> {
        let found = self.walk(place, follow)?;
        self.still_there()?;
        Ok(found)
    }

    fn walk(&self, place: &Place, follow: bool) -> io::Result<OwnedFd> {
        let path = place.path.as_path();
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        if path.is_absolute() {
            return open_in(&self.root()?, path, flags, ResolveFlags::IN_ROOT);
        }
        let base = self.descriptor(place.directory)?;
        if path.as_os_str().is_empty() {
            return Ok(base);
        }
        match open_in(&base, path, flags, ResolveFlags::BENEATH) {
            // Over `..` or an absolute link: from the root, then.
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) => open_in(
                &self.root()?,
                &self.inside(place.directory)?.join(path),
                flags,
                ResolveFlags::IN_ROOT,
            ),
            other => other,
        }
    }

    /// The directory that holds a name, and the name.
    ///
    /// # Errors
    /// `EINVAL` for what is no name that could be made.
    pub(super) fn parent(&self, place: &Place) -> io::Result<(OwnedFd, OsString)> {
        let (above, name) = place.split()?;
        let found = self.find(&above, true)?;
        if is_proc(&found)? { Err(errno(libc::EINVAL)) } else { Ok((found, name)) }
    }

    pub(super) fn root(&self) -> io::Result<OwnedFd> {
        open_link(&format!("/proc/{}/root", self.thread()))
    }

    pub(super) fn descriptor(&self, number: i32) -> io::Result<OwnedFd> {
        open_link(&self.link(number))
    }

    /// What a process has open under a number; the caller itself, or another one
    /// of the RUN.
    pub(super) fn descriptor_of(&self, process: i32, number: i32) -> io::Result<OwnedFd> {
        let opened = open_link(&format!("/proc/{process}/fd/{number}"))?;
        self.still_there()?;
        Ok(opened)
    }

    /// The descriptor that the path of an open starts from.
    pub(super) fn start_of_path(&self) -> i32 {
        match self.notification.call {
            libc::SYS_openat => self.int(0).cast_signed(),
            _ => libc::AT_FDCWD,
        }
    }

    fn link(&self, number: i32) -> String {
        match number {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.thread()),
            number => format!("/proc/{}/fd/{number}", self.thread()),
        }
    }

    /// A directory of the caller's, as its path below the caller's root.
    pub(super) fn inside(&self, directory: i32) -> io::Result<PathBuf> {
        let (outer, root) =
            (fs::read_link(self.link(directory))?, fs::read_link(format!("/proc/{}/root", self.thread()))?);
        let inner = outer.strip_prefix(&root).map_err(|_| errno(libc::ENOENT))?;
        Ok(Path::new("/").join(inner))
    }

    /// Bits that new files do not get.
    pub(super) fn umask(&self) -> io::Result<u32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.thread()))?;
        let text = status.lines().find_map(|line| line.strip_prefix("Umask:")).map(str::trim);
        let umask = text.and_then(|text| u32::from_str_radix(text, 8).ok());
        umask.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Whether a process or thread id in an argument means the caller itself.
    pub(super) fn is_self(&self, id: u32) -> io::Result<bool> {
        if id == 0 {
            return Ok(true);
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.thread()))?;
        let own = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name))?;
            text.split_whitespace().last()?.parse::<u32>().ok()
        };
        // The last number is that of the innermost pid namespace.
        Ok([own("NSpid:"), own("NStgid:")].contains(&Some(id)))
    }

    /// The text that ends with a zero byte at `address`.
    pub(super) fn text(&self, address: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < LONGEST {
            let at = address + text.len() as u64;
            // Not beyond a page: the next one may not exist.
            let mut piece = [0; 256];
            let length = (PAGE - at % PAGE).min(256) as usize;
            let count = self.read_some(at, &mut piece[..length])?;
            if let Some(end) = piece[..count].iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return Ok(text);
            }
            if count == 0 {
                return Err(errno(libc::EFAULT));
            }
            text.extend_from_slice(&piece[..count]);
        }
        Err(errno(libc::ENAMETOOLONG))
    }

    /// Fills `bytes` from `address`.
    pub(super) fn read(&self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        if self.read_some(address, bytes)? == bytes.len() { Ok(()) } else { Err(errno(libc::EFAULT)) }
    }

    /// Numbers of 32 bits from `address` on.
    pub(super) fn read_numbers(&self, address: u64, count: usize) -> io::Result<Vec<u32>> {
        let mut bytes = vec![0; 4 * count];
        self.read(address, &mut bytes)?;
        Ok(bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().expect("4 bytes"))).collect())
    }

    fn read_some(&self, address: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let remote = [RemoteIoVec { base: base(address)?, len: bytes.len() }];
        let pid = Pid::from_raw(self.thread());
        match process_vm_readv(pid, &mut [IoSliceMut::new(bytes)], &remote) {
            Ok(count) => Ok(count),
            Err(nix::errno::Errno::EPERM | nix::errno::Errno::ENOSYS) => {
                self.memory()?.read_at(bytes, address)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes into the memory of the caller, if it is still there.
    ///
    /// # Errors
    /// `EFAULT` where there is no memory.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        self.still_there()?;
        let remote = [RemoteIoVec { base: base(address)?, len: bytes.len() }];
        let pid = Pid::from_raw(self.thread());
        let count = match process_vm_writev(pid, &[IoSlice::new(bytes)], &remote) {
            Ok(count) => count,
            Err(nix::errno::Errno::EPERM | nix::errno::Errno::ENOSYS) => {
                self.memory()?.write_at(bytes, address)?
            }
            Err(error) => return Err(error.into()),
        };
        if count == bytes.len() { Ok(()) } else { Err(errno(libc::EFAULT)) }
    }

    /// Numbers of 32 bits, one after the other.
    pub(super) fn write_numbers(&self, address: u64, numbers: &[u32]) -> io::Result<()> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        self.write(address, &bytes)
    }

    /// Some profiles refuse process_vm_readv(2), which asks for the same rights.
    fn memory(&self) -> io::Result<File> {
        File::options().read(true).write(true).open(format!("/proc/{}/mem", self.thread()))
    }
}

fn base(address: u64) -> io::Result<usize> {
    usize::try_from(address).map_err(io::Error::other)
}

fn open_link(path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_in(directory: &OwnedFd, path: &Path, flags: OFlags, within: ResolveFlags) -> io::Result<OwnedFd> {
    let resolve = within | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
        // Somebody renamed something on the way (openat2(2)).
        Err(Errno::AGAIN) => {
            Ok(rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
        }
        other => Ok(other?),
    }
}

/// What lies in /proc belongs to the kernel.
pub(super) fn is_proc(handle: &OwnedFd) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(handle)?.f_type as u64 == PROC)
}

/// The type in a mode.
pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A path that means what `handle` names.
pub(super) fn link(handle: &impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd())
}

pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
