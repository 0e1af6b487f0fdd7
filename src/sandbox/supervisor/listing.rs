//! Directories of /proc as a RUN gets them: scratch directories inside its own
//! tree, filled with the allowed names.
//!
//! A descriptor of a directory of the real /proc would let a RUN climb out of
//! its root with `..`. These lie at `/proc/…` of the tree under their own
//! names, so that what is later opened below such a descriptor is known by its
//! path again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::proc::{self, Node};
use super::walk::Tree;

/// Opens the scratch directory for what is `shown` below /proc and lies at
/// `path` of the real one, as it should look now.
pub(super) fn open(tree: &Tree, path: &str, shown: &str, thread: i32) -> io::Result<OwnedFd> {
    let directory = reach(tree, shown)?;
    let wanted: BTreeMap<String, Node> = proc::names(tree, path, shown, thread)?.into_iter().collect();
    for name in present(&directory)? {
        // Aliases stay: somebody may be about to use one.
        if !wanted.contains_key(&name) && !name.starts_with('.') {
            remove(&directory, &name)?;
        }
    }
    for (name, node) in &wanted {
        make(tree, &directory, name, node)?;
    }
    Ok(directory)
}

/// Never through a link: RUN can write here too.
fn reach(tree: &Tree, path: &str) -> io::Result<OwnedFd> {
    let mut at = "/proc".to_owned();
    let mut directory = below(tree, &at)?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match rustix::fs::mkdirat(&directory, part, Mode::from_raw_mode(0o555)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        at = format!("{at}/{part}");
        directory = below(tree, &at)?;
    }
    Ok(directory)
}

fn below(tree: &Tree, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    tree.open_with(Path::new(path), flags, ResolveFlags::NO_SYMLINKS)
}

fn present(directory: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        if let Ok(name) = entry?.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn remove(directory: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        // A process that is gone, with what was shown of it: it stays as an
        // empty name if something is in it, until the RUN is over.
        Err(Errno::ISDIR) => match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        },
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn make(tree: &Tree, directory: &OwnedFd, name: &str, node: &Node) -> io::Result<()> {
    let made = match node {
        Node::Listing { .. } => rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o555)),
        // The kernel would lead everybody to the same process: it finds nothing,
        // and the path is walked here.
        Node::Link { .. } if matches!(name, "self" | "thread-self") => {
            link(directory, name, Path::new(".of"))
        }
        Node::Link { text } => link(directory, name, text),
        // What a call that is not heard finds there is the right file, if it
        // has a name in the tree.
        Node::Place { text, .. } => {
            return replace_link(directory, name, &tree.inside(text).unwrap_or_default());
        }
        Node::File { .. } | Node::Made { .. } | Node::Numbered { .. } => {
            let mode = Mode::from_raw_mode(0o444);
            rustix::fs::mknodat(directory, name, FileType::RegularFile, mode, 0)
        }
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn link(directory: &OwnedFd, name: &str, text: &Path) -> Result<(), Errno> {
    let text = text.as_os_str();
    rustix::fs::symlinkat(if text.is_empty() { OsStr::new("?") } else { text }, directory, name)
}

/// It may lead elsewhere by now.
fn replace_link(directory: &OwnedFd, name: &str, text: &Path) -> io::Result<()> {
    let before = rustix::fs::readlinkat(directory, name, Vec::new());
    if before.is_ok_and(|before| before.as_bytes() == text.as_os_str().as_encoded_bytes()) {
        return Ok(());
    }
    remove(directory, name)?;
    match link(directory, name, text) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
