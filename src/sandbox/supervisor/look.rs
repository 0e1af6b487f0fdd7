//! Whether the kernel may find a path by itself, told in as few system calls as
//! can be: nearly every path is such a one.
//!
//! ```text
//! no link on the way      one look without links: found or not, it is where its text says
//! a link of `/` (/lib)    the same, with the text of the link in its place
//! other links             one look through them, and where the kernel says that it led
//! ```
//!
//! What this cannot tell is walked ([`walk`](super::walk)).

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};

use super::walk::{Inode, Tree};
use crate::sandbox::mounts::link;

/// So many entries of `/` are looked at.
const MOST: usize = 256;

/// The symbolic links in `/` of a tree, as they were at first: `/lib` is most
/// often one, and in most paths. A link never changes its text, so one that is
/// still the same inode says the same.
#[derive(Default)]
pub(super) struct RootLinks(Vec<RootLink>);

struct RootLink {
    name: OsString,
    /// From `/`, past /proc.
    text: PathBuf,
    inode: Inode,
    /// Held so that its number stays its own.
    _held: OwnedFd,
}

impl RootLinks {
    /// Those of `root`. What cannot be read is not in it, and costs time only.
    pub(super) fn of(root: &OwnedFd) -> Self {
        Self::find(root).unwrap_or_default()
    }

    fn find(root: &OwnedFd) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(root, ".", flags, Mode::empty())?;
        let mut found = Vec::new();
        for entry in Dir::read_from(&directory)?.take(MOST) {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(entry.file_type(), FileType::Symlink | FileType::Unknown) {
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let held = rustix::fs::openat(root, name, flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&held)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                continue;
            }
            let text = rustix::fs::readlinkat(&held, "", Vec::new())?;
            let text = Path::new("/").join(super::task::path(text.as_bytes()));
            if is_literal(&text) {
                let name = super::task::path(name.to_bytes()).as_os_str().to_owned();
                found.push(RootLink { name, text, inode: (stat.st_dev, stat.st_ino), _held: held });
            }
        }
        Ok(Self(found))
    }

    /// `path` with the link that it starts with replaced.
    fn replace(&self, root: &OwnedFd, path: &Path) -> Option<PathBuf> {
        let mut components = path.components();
        let (Some(Component::RootDir), Some(Component::Normal(first))) =
            (components.next(), components.next())
        else {
            return None;
        };
        let rest = components.as_path();
        // At its end a link may be meant itself.
        if rest.as_os_str().is_empty() {
            return None;
        }
        let known = self.0.iter().find(|known| known.name == first)?;
        let stat = rustix::fs::statat(root, first, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (inode(&stat) == known.inode).then(|| known.text.join(rest))
    }
}

/// What a look without links said.
enum Seen {
    Found(OwnedFd),
    Nothing,
    ALink,
}

impl Tree {
    /// Whether `path`, absolute inside the tree, leads to nothing of ours. It may
    /// do so where this is false: that is for [`Tree::resolve`] to say.
    pub(super) fn is_plain(&self, path: &Path, follow: bool) -> bool {
        // There is nothing to be found there.
        if path.starts_with("/proc") {
            return false;
        }
        let follow = follow || ends_as_directory(path);
        if is_literal(path) {
            let replaced = self.root_links.replace(&self.root, path);
            match self.see(replaced.as_deref().unwrap_or(path), follow) {
                Seen::Found(fd) => return self.is_nothing_of_ours(&fd),
                Seen::Nothing => return true,
                Seen::ALink => {}
            }
        }
        match self.look(path, follow) {
            Ok(fd) => !self.is_in_proc(&fd) && self.is_nothing_of_ours(&fd),
            Err(_) => false,
        }
    }

    /// Without links a path leads where its text says, or nowhere.
    fn see(&self, path: &Path, follow: bool) -> Seen {
        match self.open_with(path, super::walk::place(follow), ResolveFlags::NO_SYMLINKS) {
            Ok(fd) => Seen::Found(fd),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ENAMETOOLONG) => Seen::Nothing,
                _ => Seen::ALink,
            },
        }
    }

    fn is_nothing_of_ours(&self, fd: &OwnedFd) -> bool {
        let Ok(stat) = rustix::fs::fstat(fd) else { return false };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => !self.is_served(inode(&stat)) && self.device(fd, &stat).is_none(),
            FileType::Directory => {
                self.terminals.tidy(inode(&stat));
                true
            }
            _ => true,
        }
    }

    /// Whether the place lies in /proc of the tree, or nobody can tell.
    fn is_in_proc(&self, fd: &OwnedFd) -> bool {
        let mut room = [MaybeUninit::uninit(); libc::PATH_MAX as usize];
        let Ok((text, _)) = rustix::fs::readlinkat_raw(rustix::fs::CWD, link(fd), &mut room) else {
            return true;
        };
        let text = super::task::path(text);
        text.strip_prefix(&self.path).is_ok_and(|inside| inside.starts_with("proc"))
    }
}

/// `link/` means what the link leads to, and so does `link/.`.
pub(super) fn ends_as_directory(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    text.ends_with(b"/") || text.ends_with(b"/.")
}

/// Whether its text, as long as there is no link on the way, leads past /proc.
fn is_literal(path: &Path) -> bool {
    !path.components().any(|component| component.as_os_str() == "proc")
}

fn inode(stat: &Stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::numbers::Numbers;
    use super::super::walk::{Served, Target};
    use super::*;
    use crate::sandbox::mounts::open_path;

    fn tree(at: &Path) -> Tree {
        for directory in ["usr/lib/deep", "proc", "dev", "home"] {
            fs::create_dir_all(at.join(directory)).unwrap();
        }
        for file in ["usr/lib/file", "dev/null", "home/procure"] {
            fs::write(at.join(file), "").unwrap();
        }
        for (text, name) in [
            ("usr/lib", "lib"),
            ("/proc", "other"),
            ("/proc/self/exe", "home/program"),
            ("../proc/self", "home/own"),
            ("../usr/lib/file", "home/link"),
            ("../usr/lib", "home/libraries"),
            ("nowhere", "home/dangling"),
        ] {
            symlink(text, at.join(name)).unwrap();
        }
        let mut tree = Tree::open(open_path(at).unwrap(), Numbers::Ours, None).unwrap();
        tree.serve(Path::new("/dev/null"), Served::Device("/dev/null".into())).unwrap();
        fs::hard_link(at.join("dev/null"), at.join("home/null")).unwrap();
        tree
    }

    #[track_caller]
    fn check(tree: &Tree, path: &str, expected: bool) {
        for follow in [true, false] {
            let plain = tree.is_plain(Path::new(path), follow);
            let native = matches!(
                tree.resolve(Path::new(path), follow, std::process::id().cast_signed()),
                Ok(Target::Native)
            );
            assert!(!plain || native, "{path} ({follow}) is not plain");
            assert!(!follow || plain == expected, "{path}: {plain}");
        }
    }

    #[test]
    fn knows_what_is_plain_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree(directory.path());
        for path in [
            "/",
            "/usr/lib/file",
            "/usr/lib/absent",
            "/usr/lib/file/below",
            "/usr/lib/absent/deep",
            "/lib/file",
            "/lib/absent",
            "/lib/deep/../file",
            "/home/link",
            "/home/libraries/file",
            "/home/procure",
            "/../../usr/./lib//deep/",
        ] {
            check(&tree, path, true);
        }
        for path in [
            "/proc",
            "/proc/",
            "/proc/self/exe",
            "/proc/absent",
            "/other",
            "/other/self/status",
            "/usr/../proc/self",
            "/home/program",
            "/home/own",
            "/home/own/status",
            "/home/dangling",
            "/home/libraries/absent",
            "/lib/../../proc/self",
            "/dev/null",
            "/home/null",
        ] {
            check(&tree, path, false);
        }
    }

    #[test]
    fn a_link_that_was_replaced_leads_where_it_leads_now() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree(directory.path());
        check(&tree, "/lib/absent", true);
        fs::remove_file(directory.path().join("lib")).unwrap();
        symlink("proc/self", directory.path().join("lib")).unwrap();
        check(&tree, "/lib/exe", false);
        check(&tree, "/lib/absent", false);
    }
}
