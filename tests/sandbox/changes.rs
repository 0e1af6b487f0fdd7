//! What a comparison of times or sizes would miss, and what it would take for a
//! change: done to the tree of a plain step from outside, where everything can
//! be done.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use coracle::sandbox::Storage;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

use super::bench::Bench;
use super::rootfs::{Line, names};

/// Does something and gives back the file's times, to the nanosecond.
fn keeping_times(path: &Path, work: impl FnOnce(&Path)) {
    let stat = fs::symlink_metadata(path).unwrap();
    work(path);
    let time = |tv_sec, nanoseconds: i64| Timespec { tv_sec, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(stat.atime(), stat.atime_nsec()),
        last_modification: time(stat.mtime(), stat.mtime_nsec()),
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Writes into the file itself: inode, size and times stay.
fn overwrite(path: &Path, bytes: &[u8]) {
    keeping_times(path, |path| {
        OpenOptions::new().write(true).open(path).unwrap().write_all(bytes).unwrap();
    });
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// Version 2, CAP_NET_RAW (linux/capability.h).
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub(crate) fn finds_what_times_hide(bench: &Bench) {
    let check = |expected: &[&str], change: &dyn Fn(&Path)| {
        let storage = Storage::Plain { reason: "a test".to_owned() };
        let layer = Line::new(bench, storage).change(&|root| change(&root.join("w")));
        assert_eq!(names(&layer), expected, "{layer:?}");
        layer
    };
    check(&[], &|_| {});
    check(&["w directory", "w/f file"], &|w| overwrite(&w.join("f"), b"odd\n"));
    let layer = check(&["w directory", "w/f file"], &|w| {
        keeping_times(&w.join("f"), |path| set(path, "security.capability", &NET_RAW));
    });
    assert!(layer[1].contains("security.capability"), "{layer:?}");
    let layer = check(&["w directory", "w/f file"], &|w| {
        keeping_times(&w.join("f"), |path| set(path, "user.mine", b"1"));
    });
    assert!(layer[1].contains("user.mine"), "{layer:?}");
    check(&["w directory", "w/d directory"], &|w| set(&w.join("d"), "user.mine", b"1"));
    check(&["w directory", "w/f file", "w/g hardlink"], &|w| {
        keeping_times(w, |w| fs::hard_link(w.join("f"), w.join("g")).unwrap());
    });
    check(&["w directory", "w/one whiteout"], &|w| {
        keeping_times(w, |w| fs::remove_file(w.join("one")).unwrap());
    });
    check(&["w directory", "w/f file"], &|w| {
        keeping_times(&w.join("f"), |path| {
            fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap()
        });
    });
}

/// A change time that moved says where to look, and no more.
pub(crate) fn takes_no_touch_for_a_change(bench: &Bench) {
    let check = |change: &dyn Fn(&Path)| {
        let storage = Storage::Plain { reason: "a test".to_owned() };
        let mut line = Line::new(bench, storage);
        assert_eq!(names(&line.change(&|root| change(&root.join("w")))), [""; 0]);
        // Nor may it come back in the next step.
        assert_eq!(names(&line.change(&|_| {})), [""; 0]);
    };
    check(&|w| overwrite(&w.join("f"), b"old\n"));
    check(&|w| overwrite(&w.join("two"), b"old\n"));
    check(&|w| fs::set_permissions(w.join("f"), PermissionsExt::from_mode(0o644)).unwrap());
    check(&|w| {
        set(&w.join("f"), "user.mine", b"1");
        rustix::fs::removexattr(w.join("f"), "user.mine").unwrap();
    });
    check(&|w| {
        keeping_times(w, |w| {
            fs::hard_link(w.join("f"), w.join("g")).unwrap();
            fs::remove_file(w.join("g")).unwrap();
        })
    });
    check(&|w| {
        keeping_times(w, |w| {
            fs::rename(w.join("f"), w.join("g")).unwrap();
            fs::rename(w.join("g"), w.join("f")).unwrap();
        })
    });
    // Another inode that looks the same.
    check(&|w| {
        keeping_times(w, |w| {
            fs::copy(w.join("f"), w.join("g")).unwrap();
            let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, w.join("g"), &times, AtFlags::empty()).unwrap();
            fs::rename(w.join("g"), w.join("f")).unwrap();
        })
    });
}
