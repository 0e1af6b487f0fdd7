//! Files of the layers below that have several names, followed through a RUN.
//!
//! overlayfs makes a file of its own of every name that is touched, and tells
//! nobody which file that was (`index=on` would; in a user namespace it turns
//! itself off). A name may then be renamed, or removed with all that was written
//! to it. So every such name is opened before the program starts, as a place
//! only: the descriptor means that file whatever becomes of its name, and when
//! the RUN is over it says which inode of the upper directory it is, and still
//! reads what has no name any more.
//!
//! ```text
//! notes/list    JSON, one note for each name that was touched; missing if none was
//! notes/N       a file without a name, with its metadata: N counts names
//! ```
//!
//! A RUN cannot lie about any of it: nothing is read from the files themselves.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use rustix::fs::{
    FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::mounts::link;

/// The names to follow, and where it is noted what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linked {
    /// Relative to the root, without links in them. Of very many the first are
    /// followed: each takes a descriptor (RLIMIT_NOFILE) and about a kilobyte of
    /// kernel memory meanwhile.
    pub names: Vec<PathBuf>,
    /// A directory to be, on the state volume. Made when one of the names was
    /// touched.
    pub notes: PathBuf,
}

/// What became of a name that was touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Which one, as it was before the RUN.
    pub name: PathBuf,
    /// What the upper directory has it as, under whatever name.
    pub inode: u64,
    /// When it was touched last: seconds, nanoseconds.
    pub changed: (i64, u32),
    /// It has no name any more; here it is, with owner, mode, time and attributes.
    pub saved: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    number: usize,
    inode: u64,
    changed: (i64, u32),
    is_saved: bool,
}

const LIST: &str = "list";

/// More than most images have, and 64 MiB of kernel memory. The supervisor needs
/// descriptors too, so it is half of what the process may have at most.
const MOST: usize = 65_536;

impl Linked {
    /// After the RUN.
    ///
    /// # Errors
    /// When there are notes that cannot be read.
    pub fn touched(&self) -> io::Result<Vec<Touched>> {
        let text = match fs::read(self.notes.join(LIST)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let notes: Vec<Note> = serde_json::from_slice(&text)?;
        notes.into_iter().map(|note| self.understand(&note)).collect()
    }

    fn understand(&self, note: &Note) -> io::Result<Touched> {
        let name = self.names.get(note.number).ok_or(io::ErrorKind::InvalidData)?.clone();
        let saved = note.is_saved.then(|| self.notes.join(note.number.to_string()));
        Ok(Touched { name, inode: note.inode, changed: note.changed, saved })
    }
}

/// In the process that becomes the RUN, while nothing else is mounted in its
/// root: shows it to the stub, and waits until that has opened the names.
pub(super) fn show(root: BorrowedFd<'_>, stub: &UnixStream) -> io::Result<()> {
    let descriptors = [root];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(stub, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    let mut stub = stub;
    stub.read_exact(&mut [0])
}

/// The names, opened; in the stub.
pub(super) struct Followed {
    files: Vec<(usize, OwnedFd, u64)>,
    notes: PathBuf,
}

impl Followed {
    /// Nothing where nothing is to be followed, or when the child failed before.
    pub(super) fn open(linked: Option<&Linked>, child: &UnixStream) -> io::Result<Option<Self>> {
        let Some(linked) = linked else { return Ok(None) };
        let Some(root) = receive(child)? else { return Ok(None) };
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let most = usize::try_from(limit / 2).unwrap_or(MOST).min(MOST);
        let mut files = Vec::new();
        for (number, name) in linked.names.iter().enumerate().take(most) {
            if let Some(file) = open_below(&root, name)? {
                let inode = rustix::fs::fstat(&file)?.st_ino;
                files.push((number, file, inode));
            }
        }
        let mut child = child;
        child.write_all(&[0])?;
        Ok(Some(Self { files, notes: linked.notes.clone() }))
    }

    /// When no process of the RUN is left.
    pub(super) fn note(&self) -> io::Result<()> {
        let mut notes = Vec::new();
        for (number, file, inode) in &self.files {
            let now = rustix::fs::fstat(file)?;
            // The copy of a file with several names shows its own inode number
            // (Documentation/filesystems/overlayfs, "Inode properties").
            if now.st_ino == *inode {
                continue;
            }
            // What a link says cannot change.
            let is_file = FileType::from_raw_mode(now.st_mode) == FileType::RegularFile;
            let is_saved = now.st_nlink == 0;
            if is_saved && !is_file {
                continue;
            }
            if is_saved {
                make_directory(&self.notes)?;
                save(file, &now, &self.notes.join(number.to_string()))?;
            }
            let changed = (now.st_ctime, now.st_ctime_nsec as u32);
            notes.push(Note { number: *number, inode: now.st_ino, changed, is_saved });
        }
        if notes.is_empty() {
            return Ok(());
        }
        make_directory(&self.notes)?;
        fs::write(self.notes.join(LIST), serde_json::to_vec(&notes)?)
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn receive(child: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(child, &mut [IoSliceMut::new(&mut [0])], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let root = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(root)
}

/// What is not there as it should be is not followed: the index of a layer may
/// say more than its tree holds.
fn open_below(root: &OwnedFd, name: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match rustix::fs::openat2(root, name, flags, Mode::empty(), within) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Owner first, mode after the attributes, time last: each undoes something of
/// the one before.
fn save(file: &OwnedFd, stat: &Stat, to: &Path) -> io::Result<()> {
    let from = File::open(link(file))?;
    let to = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    copy_data(&from, &to, stat.st_size.cast_unsigned())?;
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    copy_attributes(from.as_fd(), to.as_fd())?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    };
    Ok(rustix::fs::futimens(&to, &times)?)
}

/// Without its holes: a RUN may have made a file larger than the disk.
fn copy_data(from: &File, to: &File, size: u64) -> io::Result<()> {
    to.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(()),
            start => start?,
        };
        at = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        rustix::fs::seek(from, SeekFrom::Start(start))?;
        rustix::fs::seek(to, SeekFrom::Start(start))?;
        let mut to = to;
        io::copy(&mut from.take(at - start), &mut to)?;
    }
    Ok(())
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // XATTR_LIST_MAX and XATTR_SIZE_MAX.
    let (mut list, mut value) = (vec![0; 65_536], vec![0; 65_536]);
    let length = match rustix::fs::flistxattr(from, &mut list[..]) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    for name in list[..length].split(|byte| *byte == 0).filter(|name| is_copied(name)) {
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

/// What an image can have, and our own records.
fn is_copied(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn saves_files_without_their_holes() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        let file = File::create(&from).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"text", 1 << 30).unwrap();
        file.set_len(1 << 40).unwrap();
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o4711)).unwrap();
        let place = super::super::mounts::open_path(&from).unwrap();
        fs::remove_file(&from).unwrap();
        save(&place, &rustix::fs::fstat(&place).unwrap(), &to).unwrap();
        let saved = fs::metadata(&to).unwrap();
        assert_eq!((saved.len(), saved.mode() & 0o7777), (1 << 40, 0o4711));
        assert!(saved.blocks() < 100, "{} blocks", saved.blocks());
        let mut text = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&File::open(&to).unwrap(), &mut text, 1 << 30).unwrap();
        assert_eq!(&text, b"text");
    }

    #[test]
    fn reads_its_notes() {
        let directory = tempfile::tempdir().unwrap();
        let linked = Linked { names: vec!["a".into(), "b".into()], notes: directory.path().into() };
        assert_eq!(linked.touched().unwrap(), []);
        let note = Note { number: 1, inode: 7, changed: (8, 9), is_saved: true };
        fs::write(directory.path().join(LIST), serde_json::to_vec(&[note]).unwrap()).unwrap();
        let saved = Some(directory.path().join("1"));
        let expected = Touched { name: "b".into(), inode: 7, changed: (8, 9), saved };
        assert_eq!(linked.touched().unwrap(), [expected]);
    }
}
