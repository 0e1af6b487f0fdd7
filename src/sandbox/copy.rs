//! A throw-away copy of a directory, for scratch binds where overlayfs is not
//! to be had. Owners, modes, times and links as they are; nobody else touches
//! either side meanwhile.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, lchown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

/// Copies `source`, file or directory, to `target`, which must not exist.
pub(super) fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(source)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        fs::create_dir(target)?;
        for entry in fs::read_dir(source)? {
            let name = entry?.file_name();
            copy(&source.join(&name), &target.join(&name))?;
        }
    } else if kind.is_symlink() {
        symlink(fs::read_link(source)?, target)?;
    } else if kind.is_file() {
        // copy_file_range(2) underneath, which shares blocks where it can.
        fs::copy(source, target)?;
    } else if kind.is_fifo() {
        rustix::fs::mknodat(CWD, target, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    } else {
        // Sockets mean nothing without their process; devices cannot be made.
        return Ok(());
    }
    copy_metadata(&metadata, target)
}

fn copy_metadata(metadata: &Metadata, target: &Path) -> io::Result<()> {
    lchown(target, Some(metadata.uid()), Some(metadata.gid()))?;
    if !metadata.is_symlink() {
        fs::set_permissions(target, metadata.permissions())?;
    }
    let time = |tv_sec, nanoseconds: i64| Timespec { tv_sec, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_names_links_and_times() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("file"), "text").unwrap();
        symlink("/nowhere", from.join("link")).unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::new(7, 9);
        fs::File::open(&from).unwrap().set_modified(old).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "text");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere"));
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), old);
    }
}
