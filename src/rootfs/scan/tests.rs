//! What is a suspect and what is not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::{Timespec, Timestamps, XattrFlags};

use super::*;

/// A tree and where its list goes.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap() };
        for name in ["", "d", "d/e", "d-x"] {
            fs::create_dir_all(bench.path(name)).unwrap();
        }
        for name in ["a", "b", "d/a", "d/e/a", "d-x/a"] {
            fs::write(bench.path(name), "old").unwrap();
        }
        fs::hard_link(bench.path("d/a"), bench.path("h1")).unwrap();
        fs::hard_link(bench.path("d/a"), bench.path("z")).unwrap();
        symlink("a", bench.path("l")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("root").join(name)
    }

    /// Names of suspects (`a+b`: one file), directories with a slash, names
    /// that are gone with a minus.
    fn after(&self, change: impl FnOnce(&Self)) -> Vec<String> {
        let root = self.path("");
        let disk = Disk::open(&root, &Key::from_bytes([1; 32])).unwrap();
        let before = Snapshot::of(&disk, self.directory.path()).unwrap();
        change(self);
        let found = before.compare(&disk, self.directory.path()).unwrap();
        let text = |path: &Path| path.display().to_string();
        let groups = found.groups.iter();
        let groups =
            groups.map(|group| group.names.iter().map(|name| text(name)).collect::<Vec<_>>().join("+"));
        let directories = found.directories.keys().map(|path| format!("{}/", text(path)));
        let gone = found.gone.iter().flat_map(|(directory, names)| {
            names.iter().map(|name| format!("-{}", text(&directory.join(name))))
        });
        groups.chain(directories).chain(gone).collect()
    }
}

#[track_caller]
fn check(expected: &[&str], change: impl FnOnce(&Bench)) {
    let bench = Bench::new();
    assert_eq!(bench.after(change), expected);
    let left = fs::read_dir(bench.directory.path()).unwrap().count();
    assert_eq!(left, 1, "lists go when they are dropped");
}

#[test]
fn the_clock_is_past_what_was_seen() {
    let wait = |time: SystemTime| {
        let time = time.duration_since(UNIX_EPOCH).unwrap();
        let started = Instant::now();
        wait_for_the_clock((time.as_secs().try_into().unwrap(), time.subsec_nanos()));
        started.elapsed()
    };
    let now = SystemTime::now();
    wait(now);
    assert!(SystemTime::now() >= now + TICK);
    let long_ago = wait(now - Duration::from_secs(5));
    assert!(long_ago < TICK, "{long_ago:?}");
    let set_back = wait(now + Duration::from_secs(3600));
    assert!(set_back < Duration::from_secs(1), "{set_back:?}");
}

#[test]
fn nothing_changed() {
    check(&[], |_| {});
    check(&[], |bench| {
        fs::read(bench.path("a")).unwrap();
        fs::read_dir(bench.path("d")).unwrap().count();
        fs::read_link(bench.path("l")).unwrap();
    });
}

#[test]
fn whatever_touches_an_inode_shows() {
    check(&["a"], |bench| fs::write(bench.path("a"), "new").unwrap());
    check(&["a"], |bench| fs::set_permissions(bench.path("a"), PermissionsExt::from_mode(0o600)).unwrap());
    check(&["d/e/"], |bench| {
        fs::set_permissions(bench.path("d/e"), PermissionsExt::from_mode(0o700)).unwrap();
    });
    // Written, and every time that can be set put back.
    check(&["b"], |bench| {
        let stat = rustix::fs::stat(bench.path("b")).unwrap();
        fs::write(bench.path("b"), "odd").unwrap();
        let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec as _),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
        };
        let file = fs::File::open(bench.path("b")).unwrap();
        rustix::fs::futimens(file, &times).unwrap();
    });
    check(&["b"], |bench| {
        let path = bench.path("b");
        rustix::fs::setxattr(path, "user.mine", b"1", XattrFlags::empty()).unwrap();
    });
    check(&["l", "/"], |bench| {
        fs::remove_file(bench.path("l")).unwrap();
        symlink("b", bench.path("l")).unwrap();
    });
}

#[test]
fn a_file_comes_with_all_its_names() {
    check(&["d/a+h1+z"], |bench| fs::write(bench.path("z"), "new").unwrap());
    check(&["d/a+h1+y+z", "/"], |bench| fs::hard_link(bench.path("z"), bench.path("y")).unwrap());
    check(&["a+d/e/n", "d/e/"], |bench| fs::hard_link(bench.path("a"), bench.path("d/e/n")).unwrap());
    check(&["d/a+h1", "/", "-z"], |bench| fs::remove_file(bench.path("z")).unwrap());
    check(&["d/a+z", "h1", "/"], |bench| {
        fs::copy(bench.path("h1"), bench.path("new")).unwrap();
        fs::rename(bench.path("new"), bench.path("h1")).unwrap();
    });
}

#[test]
fn what_is_gone_is_said_once() {
    check(&["h1+z", "/", "-d"], |bench| fs::remove_dir_all(bench.path("d")).unwrap());
    check(&["d", "h1+z", "/"], |bench| {
        fs::remove_dir_all(bench.path("d")).unwrap();
        fs::write(bench.path("d"), "").unwrap();
    });
    check(&["a/x", "/", "a/"], |bench| {
        fs::remove_file(bench.path("a")).unwrap();
        fs::create_dir(bench.path("a")).unwrap();
        fs::write(bench.path("a/x"), "").unwrap();
    });
    check(&["d/e/", "d-x/", "-d/e/a", "-d-x/a"], |bench| {
        fs::remove_file(bench.path("d/e/a")).unwrap();
        fs::remove_file(bench.path("d-x/a")).unwrap();
    });
}
