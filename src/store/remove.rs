//! Removing trees that a build left: any modes, any depth, hostile names.
//!
//! Nothing recurses and two handles are open at a time: a directory that is not
//! empty is moved up beside the tree's root first, so that depth goes away
//! instead of being walked. Links are unlinked, never followed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, chmodat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::Error;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes whatever is at `path`; that nothing is there is no error.
///
/// # Errors
/// When something cannot be removed: it belongs to an id that is not mapped
/// here, or is a mount point.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    remove(path).map_err(|error| Error::new("remove", path, error))
}

fn remove(path: &Path) -> io::Result<()> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EPERM is what POSIX says for a directory, EISDIR what Linux does.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let root = open_directory(CWD, path.as_os_str())?;
    empty(root.as_fd())?;
    drop(root);
    unlinkat(CWD, path, AtFlags::REMOVEDIR)?;
    Ok(())
}

/// Empties `root`: each round removes what it lists and brings up one level of
/// what is below.
fn empty(root: BorrowedFd<'_>) -> io::Result<()> {
    let mut moved = 0;
    loop {
        let names = names(root)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if removed(root, &name)? {
                continue;
            }
            let directory = open_directory(root, &name)?;
            for child in self::names(directory.as_fd())? {
                if !removed(directory.as_fd(), &child)? {
                    move_up(directory.as_fd(), &child, root, &mut moved)?;
                }
            }
            drop(directory);
            unlinkat(root, &name, AtFlags::REMOVEDIR)?;
        }
    }
}

/// Removes a file, a link or an empty directory; `false` for a full directory.
fn removed(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Moves a full directory into `root`, under a name that is free there.
fn move_up(from: BorrowedFd<'_>, name: &OsStr, root: BorrowedFd<'_>, moved: &mut u64) -> io::Result<()> {
    let mut accessible = false;
    loop {
        *moved += 1;
        match renameat(from, name, root, format!(".moved-{moved}")) {
            Ok(()) => return Ok(()),
            // Something of the tree has that name.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            // Moving a directory changes its `..`, so that it must be writable.
            Err(Errno::ACCESS) if !accessible => {
                make_accessible(from, name)?;
                accessible = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens a directory for listing and changing, whatever its mode was.
fn open_directory(above: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    // Its owner needs all three bits even to remove what is in it. Without the
    // right to change them, the right to everything may still be there.
    let changed = make_accessible(above, name);
    match openat(above, name, DIRECTORY, Mode::empty()) {
        Ok(directory) => Ok(directory),
        Err(Errno::ACCESS) => changed.and(Err(Errno::ACCESS.into())),
        Err(error) => Err(error.into()),
    }
}

/// `name` is a directory, and no link: a link would have been unlinked.
fn make_accessible(above: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(chmodat(above, name, Mode::RWXU, AtFlags::empty())?)
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn removes_what_is_hard_to_remove() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir_all(root.join(".moved-1/full")).unwrap();
        fs::write(root.join(".moved-2"), "x").unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        symlink(outside.path(), root.join("a/link")).unwrap();
        symlink(outside.path(), root.join("link")).unwrap();
        for mode in [("a/b/c", 0o0), ("a/b", 0o0), ("a", 0o100)] {
            fs::set_permissions(root.join(mode.0), fs::Permissions::from_mode(mode.1)).unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert!(outside.path().join("kept").exists());
        remove_tree(&root).unwrap();
    }

    #[test]
    fn depth_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut handle = open_directory(CWD, root.as_os_str()).unwrap();
        for _ in 0..1_200 {
            rustix::fs::mkdirat(&handle, "deep", Mode::RWXU).unwrap();
            handle = open_directory(handle.as_fd(), OsStr::new("deep")).unwrap();
        }
        drop(handle);
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn a_link_or_a_file_is_removed_itself() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("kept");
        fs::create_dir(&kept).unwrap();
        let link = directory.path().join("link");
        symlink(&kept, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(kept.exists() && link.symlink_metadata().is_err());
    }
}
