//! Mount points: found inside the root, made where they are missing, and gone
//! again afterwards without a trace.
//!
//! A target is walked component by component with a descriptor for each, links
//! followed by hand, so that `..` and absolute links stay inside the root
//! whatever the image holds. What is missing is made and noted as a [`Stub`];
//! the directory it was made in gets its times back at once. After the RUN the
//! builder removes the stubs, again keeping the times: so a time that RUN
//! itself changed stays changed, and one it did not stays as it was.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, Timestamps};
use serde::{Deserialize, Serialize};

use super::mounts::{link, open_path};
use super::protections::{Protection, Protections};

/// As many links as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// A mount point that was not in the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stub {
    /// Relative to the root, without any link in it.
    #[serde(with = "super::message::path")]
    pub(super) path: PathBuf,
    /// Not a file.
    pub(super) directory: bool,
}

/// What must lie at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Directory,
    File,
}

/// The root of a RUN, mounted but not yet `/`.
pub(super) struct Rooted {
    root: OwnedFd,
    mount: u64,
    stubs: Vec<Stub>,
    pub(super) protections: Protections,
}

impl Rooted {
    /// The root lies at `path`, on a mount of its own.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = open_path(path)?;
        let protections = Protections::default();
        Ok(Self { mount: mount_id(root.as_fd())?, root, stubs: Vec::new(), protections })
    }

    /// For a RUN under these.
    pub(super) fn under(self, protections: Protections) -> Self {
        Self { protections, ..self }
    }

    /// The root itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The root itself, and what was made in it.
    pub(super) fn into_stubs(self) -> (OwnedFd, Vec<Stub>) {
        (self.root, self.stubs)
    }

    /// Opens `target` inside the root; nothing if it is not there.
    pub(super) fn find(&mut self, target: &str) -> io::Result<Option<OwnedFd>> {
        match self.walk(Path::new(target), None) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens `target` inside the root, making what is missing.
    pub(super) fn place(&mut self, target: &Path, want: Want) -> io::Result<OwnedFd> {
        self.walk(target, Some(want))
    }

    fn walk(&mut self, target: &Path, want: Option<Want>) -> io::Result<OwnedFd> {
        if !self.protections.keep(Protection::Targets) {
            return self.walk_as_written(target, want);
        }
        let mut way: Vec<(OsString, OwnedFd)> = Vec::new();
        let mut ahead = components(target);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                way.pop();
                continue;
            }
            let found = open_below(self.last(&way), &name);
            let fd = match (found, want) {
                (Err(error), Some(want)) if error.kind() == io::ErrorKind::NotFound => {
                    let want = if ahead.is_empty() { want } else { Want::Directory };
                    self.make(&way, &name, want)?
                }
                (found, _) => found?,
            };
            if file_type(fd.as_fd())? != FileType::Symlink {
                way.push((name, fd));
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let text = rustix::fs::readlinkat(&fd, "", Vec::new())?;
            let text = Path::new(OsStr::from_bytes(text.as_bytes()));
            if text.is_absolute() {
                way.clear();
            }
            for component in components(text).into_iter().rev() {
                ahead.push_front(component);
            }
        }
        match way.pop() {
            Some((_, fd)) => Ok(fd),
            None => self.root.try_clone(),
        }
    }

    /// What a naive program does: the kernel follows the links, in its own root.
    fn walk_as_written(&self, target: &Path, want: Option<Want>) -> io::Result<OwnedFd> {
        let path = link(&self.root).join(target.strip_prefix("/").unwrap_or(target));
        match want {
            Some(Want::Directory) => std::fs::create_dir_all(&path)?,
            Some(Want::File) if !path.exists() => {
                std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
                std::fs::File::create(&path)?;
            }
            _ => {}
        }
        open_path(&path)
    }

    fn last<'a>(&'a self, way: &'a [(OsString, OwnedFd)]) -> BorrowedFd<'a> {
        way.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }

    fn make(&mut self, way: &[(OsString, OwnedFd)], name: &OsStr, want: Want) -> io::Result<OwnedFd> {
        let parent = self.last(way);
        let times = times(parent)?;
        match want {
            Want::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
            Want::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?);
            }
        }
        rustix::fs::utimensat(rustix::fs::CWD, link(&parent), &times, AtFlags::empty())?;
        // Below a mount of ours (a cache, say) it is none of the root's business.
        if mount_id(parent)? == self.mount {
            let path = way.iter().map(|(name, _)| name.as_os_str()).chain([name]).collect();
            self.stubs.push(Stub { path, directory: want == Want::Directory });
        }
        open_below(self.last(way), name)
    }
}

/// Removes what [`Rooted::place`] made below `root`, as far as it is still
/// what was made: RUN may have changed everything. Never follows a link.
pub(super) fn remove_stubs(root: &Path, stubs: &[Stub]) -> io::Result<()> {
    for stub in stubs.iter().rev() {
        match remove_stub(root, stub) {
            // Gone, moved, replaced or filled by RUN: then it is RUN's.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENOTEMPTY | libc::EEXIST)
                ) => {}
            other => other?,
        }
    }
    Ok(())
}

fn remove_stub(root: &Path, stub: &Stub) -> io::Result<()> {
    let mut parent = open_path(root)?;
    let mut names = components(&stub.path);
    let Some(last) = names.pop_back() else { return Ok(()) };
    for name in names {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        parent = rustix::fs::openat(&parent, &name, flags, Mode::empty())?;
    }
    let stat = rustix::fs::statat(&parent, &last, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory if stub.directory => AtFlags::REMOVEDIR,
        FileType::RegularFile if !stub.directory && stat.st_size == 0 && stat.st_nlink == 1 => {
            AtFlags::empty()
        }
        _ => return Ok(()),
    };
    let before = times(parent.as_fd())?;
    rustix::fs::unlinkat(&parent, &last, flags)?;
    Ok(rustix::fs::utimensat(rustix::fs::CWD, link(&parent), &before, AtFlags::empty())?)
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

fn open_below(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

pub(super) fn file_type(fd: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

pub(super) fn times(fd: BorrowedFd<'_>) -> io::Result<Timestamps> {
    let stat = rustix::fs::fstat(fd)?;
    let time = |seconds, nanoseconds: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0) as _,
    };
    Ok(Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as u64),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as u64),
    })
}

/// Which mount `fd` is on (Linux 5.8; 0 before, which is every mount alike).
fn mount_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::statx(fd, c"", flags, StatxFlags::MNT_ID)?.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn rooted(directory: &tempfile::TempDir) -> Rooted {
        Rooted::open(directory.path()).unwrap()
    }

    #[track_caller]
    fn check(target: &str, expected: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        symlink("../../../../run/resolv", directory.path().join("etc/resolv.conf")).unwrap();
        symlink("/", directory.path().join("up")).unwrap();
        symlink("loop", directory.path().join("loop")).unwrap();
        let etc = directory.path().join("etc");
        let before = [directory.path(), &etc].map(|path| fs::metadata(path).unwrap().modified().unwrap());
        let mut rooted = rooted(&directory);
        rooted.place(Path::new(target), Want::File).unwrap();
        let (_, stubs) = rooted.into_stubs();
        let made: Vec<_> = stubs.iter().map(|stub| stub.path.to_str().unwrap()).collect();
        assert_eq!(made, expected);
        for path in expected {
            assert!(directory.path().join(path).exists(), "{path}");
        }
        remove_stubs(directory.path(), &stubs).unwrap();
        for path in expected {
            assert!(!directory.path().join(path).exists(), "{path}");
        }
        let after = [directory.path(), &etc].map(|path| fs::metadata(path).unwrap().modified().unwrap());
        assert_eq!(before, after);
    }

    #[test]
    fn makes_and_removes_mount_points_inside_the_root() {
        check("/etc/hosts", &["etc/hosts"]);
        check("/etc/resolv.conf", &["run", "run/resolv"]);
        check("a/b/../c", &["a", "a/b", "a/c"]);
        check("/up/../../up/etc/x", &["etc/x"]);
        check("../../x", &["x"]);
    }

    #[test]
    fn refuses_endless_links() {
        let directory = tempfile::tempdir().unwrap();
        symlink("loop", directory.path().join("loop")).unwrap();
        let error = rooted(&directory).place(Path::new("/loop/x"), Want::File).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn leaves_what_run_made_of_a_stub() {
        let directory = tempfile::tempdir().unwrap();
        let mut rooted = rooted(&directory);
        rooted.place(Path::new("/cache"), Want::Directory).unwrap();
        rooted.place(Path::new("/file"), Want::File).unwrap();
        let (_, stubs) = rooted.into_stubs();
        fs::write(directory.path().join("cache/kept"), "").unwrap();
        fs::remove_file(directory.path().join("file")).unwrap();
        symlink("/etc/passwd", directory.path().join("file")).unwrap();
        remove_stubs(directory.path(), &stubs).unwrap();
        assert!(directory.path().join("cache/kept").exists());
        assert!(directory.path().join("file").is_symlink());
    }
}
