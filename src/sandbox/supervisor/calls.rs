//! From a system call's number and arguments to what it asks, and who answers.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use nix::libc;
use rustix::fs::{Mode, OFlags};

use super::change::Attribute;
use super::devices::Wanted;
use super::task;
use super::{Answer, Protection, Service, Turn, neighbours};
use crate::sandbox::mounts::open_path;
use crate::sandbox::raw::{self, Notification};

/// What a call asks for.
enum Request {
    Open { place: Place, flags: OFlags, mode: u32 },
    Status { place: Place, flags: i32, buffer: u64, extended: Option<u32> },
    FileSystem { place: Place, buffer: u64 },
    Access { place: Place, mode: u32 },
    ReadLink { place: Place, buffer: u64, size: u64 },
    ChangeMode { place: Place, mode: u32 },
    ChangeOwner { place: Place, uid: u32, gid: u32 },
    ChangeTimes { place: Place, follow: bool },
    Attribute { place: Place, follow: bool, what: Attribute },
    Link { from: Place, to: Place },
    MakeDevice { place: Place, wanted: Wanted },
    Execute { place: Place, follow: bool },
    ChangeDirectory { place: Place },
    Watch { place: Place },
    ChangeRoot { place: Place },
    ChangeIds,
    Name { buffer: u64 },
}

impl Request {
    /// The place that decides whether the kernel may do it alone, and whether a
    /// link at its end is followed; nothing where more than that decides.
    fn looked_up(&self) -> Option<(&Place, bool)> {
        Some(match self {
            Self::Open { place, flags, .. } => (place, open_follows(*flags)),
            Self::Status { place, flags, .. } => (place, flags & libc::AT_SYMLINK_NOFOLLOW == 0),
            Self::ReadLink { place, .. } => (place, false),
            Self::Attribute { place, follow, .. }
            | Self::Execute { place, follow }
            | Self::ChangeTimes { place, follow } => (place, *follow),
            Self::FileSystem { place, .. }
            | Self::Access { place, .. }
            | Self::ChangeMode { place, .. }
            | Self::ChangeOwner { place, .. }
            | Self::ChangeDirectory { place }
            | Self::Watch { place } => (place, true),
            Self::Link { .. }
            | Self::MakeDevice { .. }
            | Self::ChangeRoot { .. }
            | Self::ChangeIds
            | Self::Name { .. } => return None,
        })
    }
}

/// Whether an open follows a link at the end of its path (open(2)).
pub(super) fn open_follows(flags: OFlags) -> bool {
    !flags.contains(OFlags::NOFOLLOW) && !flags.contains(OFlags::CREATE | OFlags::EXCL)
}

/// A path in the caller's memory, and the directory it starts from.
pub(super) struct Place {
    pub(super) directory: i32,
    pub(super) path: u64,
}

/// The path that was meant.
pub(super) struct Asked {
    /// As it is from the root of the tree.
    pub(super) path: PathBuf,
    /// Where its text is, and how long that is.
    pub(super) address: u64,
    pub(super) room: usize,
}

fn request(notification: &Notification) -> Option<Request> {
    let a = notification.arguments;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel reads these arguments as 32 bits, too")]
    let int = |number: usize| a[number] as u32;
    let flags = |number| OFlags::from_bits_retain(int(number));
    let at = |directory: usize, path: usize| Place { directory: int(directory).cast_signed(), path: a[path] };
    let plain = |path: usize| Place { directory: libc::AT_FDCWD, path: a[path] };
    let follows = |number: usize| int(number) & libc::AT_SYMLINK_NOFOLLOW.cast_unsigned() == 0;
    let attribute = |follow, what| Request::Attribute { place: plain(0), follow, what };
    Some(match notification.call {
        libc::SYS_openat => Request::Open { place: at(0, 1), flags: flags(2), mode: int(3) },
        libc::SYS_newfstatat => {
            Request::Status { place: at(0, 1), flags: int(3).cast_signed(), buffer: a[2], extended: None }
        }
        libc::SYS_statx => Request::Status {
            place: at(0, 1),
            flags: int(2).cast_signed(),
            buffer: a[4],
            extended: Some(int(3)),
        },
        libc::SYS_statfs => Request::FileSystem { place: plain(0), buffer: a[1] },
        libc::SYS_readlinkat => Request::ReadLink { place: at(0, 1), buffer: a[2], size: a[3] },
        libc::SYS_faccessat | libc::SYS_faccessat2 => Request::Access { place: at(0, 1), mode: int(2) },
        libc::SYS_fchmodat => Request::ChangeMode { place: at(0, 1), mode: int(2) },
        libc::SYS_fchownat => Request::ChangeOwner { place: at(0, 1), uid: int(2), gid: int(3) },
        libc::SYS_utimensat if a[1] != 0 => Request::ChangeTimes { place: at(0, 1), follow: follows(3) },
        libc::SYS_linkat => Request::Link { from: at(0, 1), to: at(2, 3) },
        libc::SYS_mknodat => {
            Request::MakeDevice { place: at(0, 1), wanted: Wanted { mode: int(2), device: int(3).into() } }
        }
        libc::SYS_getxattr => attribute(true, Attribute::Get),
        libc::SYS_lgetxattr => attribute(false, Attribute::Get),
        libc::SYS_removexattr => attribute(true, Attribute::Remove),
        libc::SYS_lremovexattr => attribute(false, Attribute::Remove),
        libc::SYS_execve => Request::Execute { place: plain(0), follow: true },
        libc::SYS_execveat => Request::Execute { place: at(0, 1), follow: follows(4) },
        libc::SYS_chdir => Request::ChangeDirectory { place: plain(0) },
        libc::SYS_inotify_add_watch => Request::Watch { place: plain(1) },
        libc::SYS_chroot => Request::ChangeRoot { place: plain(0) },
        libc::SYS_uname => Request::Name { buffer: a[0] },
        libc::SYS_setuid
        | libc::SYS_setgid
        | libc::SYS_setreuid
        | libc::SYS_setregid
        | libc::SYS_setresuid
        | libc::SYS_setresgid
        | libc::SYS_setfsuid
        | libc::SYS_setfsgid => Request::ChangeIds,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => Request::Open { place: plain(0), flags: flags(1), mode: int(2) },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
            Request::Open { place: plain(0), flags, mode: int(1) }
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_stat => Request::Status { place: plain(0), flags: 0, buffer: a[1], extended: None },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_lstat => Request::Status {
            place: plain(0),
            flags: libc::AT_SYMLINK_NOFOLLOW,
            buffer: a[1],
            extended: None,
        },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_access => Request::Access { place: plain(0), mode: int(1) },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_readlink => Request::ReadLink { place: plain(0), buffer: a[1], size: a[2] },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod => Request::ChangeMode { place: plain(0), mode: int(1) },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chown => Request::ChangeOwner { place: plain(0), uid: int(1), gid: int(2) },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mknod => {
            Request::MakeDevice { place: plain(0), wanted: Wanted { mode: int(1), device: int(2).into() } }
        }
        _ => return None,
    })
}

impl Service {
    /// Whatever cannot be read or understood goes on in the kernel, which has
    /// no /proc, no device and no secret to give away.
    pub(super) fn answer(&self, notification: &Notification, turn: &mut Turn<'_>) -> Answer {
        if let Some(process) = neighbours::named(notification.call, notification.arguments) {
            return self.about(process);
        }
        if let Some(answer) = self.answer_named(notification, turn) {
            return answer;
        }
        if let Some(answer) = self.set_or_list(notification, turn) {
            return answer;
        }
        let Some(request) = request(notification) else { return Answer::GoOn };
        // Most are nothing of ours, which is told at once.
        let asked =
            request.looked_up().map(|(place, follow)| (self.asked(notification.thread, place), follow));
        if let Some((Ok(asked), follow)) = &asked
            && self.tree.is_plain(&asked.path, *follow)
        {
            return Answer::GoOn;
        }
        turn.end();
        let known = Cell::new(asked.map(|(asked, _)| asked));
        self.answer_request(notification, request, &known).unwrap_or(Answer::GoOn)
    }

    /// What the first place of it was found to mean is `known`.
    fn answer_request(
        &self,
        notification: &Notification,
        request: Request,
        known: &Cell<Option<io::Result<Asked>>>,
    ) -> io::Result<Answer> {
        let thread = notification.thread;
        let asked = |place: &Place| known.take().unwrap_or_else(|| self.asked(thread, place));
        match request {
            Request::ChangeIds => {
                // What cannot be kept makes later reads fail, which go on.
                let _ = self.memories.keep(thread, || self.is_waiting(notification));
                Ok(self.change_ids(notification).unwrap_or(Answer::GoOn))
            }
            Request::MakeDevice { .. } if !self.protections.keep(Protection::ServedNodes) => Ok(Answer::GoOn),
            Request::MakeDevice { place, wanted } => {
                let (root, asked) = self.asked_anywhere(thread, &place)?;
                if !self.is_waiting(notification) {
                    return Ok(Answer::GoOn);
                }
                self.make_device(thread, root.as_ref(), &asked.path, wanted)
            }
            Request::ChangeRoot { place }
                if !self.may_chroot && self.protections.keep(Protection::OneRoot) =>
            {
                self.change_root(thread, &asked(&place)?.path)
            }
            Request::ChangeRoot { .. } => {
                self.changed_root.store(true, Ordering::SeqCst);
                Ok(Answer::GoOn)
            }
            Request::Open { place, flags, mode } => match asked(&place) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.open_device_of_a_child(notification, &place, flags)
                }
                asked => self.open(notification, &asked?, flags, mode),
            },
            Request::Status { place, flags, buffer, extended } => {
                self.status(notification, &asked(&place)?.path, flags, buffer, extended)
            }
            Request::FileSystem { place, buffer } => {
                self.file_system(notification, &asked(&place)?.path, buffer)
            }
            Request::Access { place, mode } => self.access(thread, &asked(&place)?.path, mode),
            Request::ReadLink { place, buffer, size } => {
                self.read_link(notification, &asked(&place)?.path, buffer, size)
            }
            Request::ChangeMode { place, mode } => self.change_mode(thread, &asked(&place)?.path, mode),
            Request::ChangeOwner { place, uid, gid } => {
                self.change_owner(thread, &asked(&place)?.path, uid, gid)
            }
            Request::ChangeTimes { place, follow } => {
                self.change_times(notification, &asked(&place)?.path, follow)
            }
            Request::Attribute { place, follow, what } => {
                self.attribute(notification, &asked(&place)?.path, follow, what)
            }
            Request::Link { from, to } => self.link(thread, &asked(&from)?.path, &asked(&to)?.path),
            Request::Execute { place, follow } => self.execute(notification, &asked(&place)?, follow),
            Request::ChangeDirectory { place } => self.change_directory(notification, &asked(&place)?),
            Request::Watch { place } => self.watch(notification, &asked(&place)?),
            Request::Name { buffer } => self.name(notification, buffer),
        }
    }

    /// Nothing where it cannot be traced: then what it forks cannot be read.
    fn change_ids(&self, notification: &Notification) -> Option<Answer> {
        let traced = self.revives.then(|| task::trace(notification.thread).ok())??;
        if self.is_waiting(notification) {
            return Some(Answer::ChangeIds(traced));
        }
        // The caller is gone, and its number may be somebody else's.
        traced.let_go();
        None
    }

    /// A process that was forked by one that had changed its ids cannot be read
    /// (apt's child, which takes its terminal). What its parent had at that
    /// place is believed if it is a device that is served, and nothing else.
    fn open_device_of_a_child(
        &self,
        notification: &Notification,
        place: &Place,
        flags: OFlags,
    ) -> io::Result<Answer> {
        let text = self.memories.read_inherited_text(notification.thread, place.path)?;
        let path = task::path(&text);
        if !path.starts_with("/dev") {
            return Ok(Answer::GoOn);
        }
        self.open_served_only(notification.thread, path, flags)
    }

    /// Only callers whose root is the RUN's see /proc.
    fn asked(&self, thread: i32, place: &Place) -> io::Result<Asked> {
        match self.asked_anywhere(thread, place)? {
            (None, asked) => Ok(asked),
            (Some(_), _) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// With the caller's own root, if it has another one.
    pub(super) fn asked_anywhere(&self, thread: i32, place: &Place) -> io::Result<(Option<OwnedFd>, Asked)> {
        let text = self.memories.read_text(thread, place.path)?;
        if text.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (address, room) = (place.path, text.len());
        let path = task::path(&text);
        let root = if self.changed_root.load(Ordering::SeqCst) { self.other_root(thread)? } else { None };
        if path.is_absolute() {
            let path = path.to_owned();
            return Ok((root.map(|(fd, _)| fd), Asked { path, address, room }));
        }
        let base = task::base(thread, place.directory)?;
        let mut inside = self.tree.inside(&base).ok_or(io::ErrorKind::NotFound)?;
        if let Some((_, root)) = &root {
            inside = Path::new("/").join(inside.strip_prefix(root).map_err(io::Error::other)?);
        }
        Ok((root.map(|(fd, _)| fd), Asked { path: inside.join(path), address, room }))
    }

    /// Whether it sees another /proc than the RUN's.
    pub(super) fn has_other_root(&self, thread: i32) -> io::Result<bool> {
        Ok(self.may_chroot && self.other_root(thread)?.is_some())
    }

    /// The root of a caller that has left the RUN's by chroot(2), and its path.
    fn other_root(&self, thread: i32) -> io::Result<Option<(OwnedFd, PathBuf)>> {
        let link = format!("/proc/{thread}/root");
        let text = task::read_link(thread, &link)?;
        let inside = self.tree.inside(&text).ok_or(io::ErrorKind::NotFound)?;
        if inside == Path::new("/") {
            return Ok(None);
        }
        Ok(Some((task::look_at(thread, || open_path(Path::new(&link)))?, inside)))
    }

    /// To where it is already: a success. Anywhere else two roots would lead
    /// out of both.
    fn change_root(&self, thread: i32, path: &Path) -> io::Result<Answer> {
        // Root alone has CAP_SYS_CHROOT elsewhere.
        if task::Identity::of(thread)?.uid != 0 {
            return Ok(Answer::Error(libc::EPERM));
        }
        let found = self.tree.look(path, true)?;
        let [found, root] = [rustix::fs::fstat(found)?, rustix::fs::fstat(&self.tree.root)?];
        let same = found.st_ino == root.st_ino && found.st_dev == root.st_dev;
        Ok(if same { Answer::Value(0) } else { Answer::Error(libc::EPERM) })
    }

    /// Whether what was read of the caller was really the caller's.
    pub(super) fn is_waiting(&self, notification: &Notification) -> bool {
        raw::is_waiting(self.listener.as_fd(), notification.id)
    }
}

/// The mode of a new file.
pub(super) fn masked(mode: u32, umask: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777 & !umask)
}
