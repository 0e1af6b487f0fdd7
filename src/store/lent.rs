//! Cache mounts that were lent to a RUN by renaming them into its tree, and did
//! not come back because the builder was killed.
//!
//! `mounts/<hex>.lent` is written by the sandbox just before it moves
//! `mounts/<hex>` away. Its text is the way from `mounts/` to where the cache
//! went, always below `../builds/`. Whoever may have the cache next, and every
//! start before it wipes dead builds, brings it back from there.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags};

use super::{Error, lock_file, try_lock};

/// What the sandbox calls its markers; nobody else may import its rooms' names.
const MARKER: &str = "lent";

/// One marker.
struct Lent {
    /// Name of the cache in `mounts/`.
    name: OsString,
    /// Where it went, below `builds/`. Nothing: the marker was torn.
    place: Option<PathBuf>,
}

/// Whether anything may have to be brought back.
pub(super) fn is_any(mounts: &Path) -> bool {
    fs::read_dir(mounts).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| marked(&entry.path()).is_some()))
    })
}

/// Brings back every cache whose lock nobody holds.
pub(super) fn bring_back_all(root: &Path) -> Result<(), Error> {
    let mounts = root.join("mounts");
    for lent in markers(&mounts) {
        let lock_path = mounts.join(&lent.name).with_extension("lock");
        let lock = lock_file(&lock_path)?;
        if try_lock(&lock, FlockOperation::NonBlockingLockExclusive, &lock_path)? {
            bring_back(root, &lent)?;
        }
    }
    Ok(())
}

/// Brings back the cache `name`, whose lock the caller holds, and before it
/// those that the same dead RUN had inside of it.
pub(super) fn bring_back_one(root: &Path, name: &OsStr) -> Result<(), Error> {
    let all = markers(&root.join("mounts"));
    let Some(own) = all.iter().find(|lent| lent.name == name) else { return Ok(()) };
    let inside = |lent: &&Lent| match (&own.place, &lent.place) {
        (Some(own), Some(other)) => other.starts_with(own),
        _ => lent.name == name,
    };
    all.iter().filter(inside).try_for_each(|lent| bring_back(root, lent))
}

/// The deepest places first: a cache may lie in another.
fn markers(mounts: &Path) -> Vec<Lent> {
    let entries = fs::read_dir(mounts).into_iter().flatten().flatten();
    let mut found: Vec<Lent> = entries
        .filter_map(|entry| {
            let name = marked(&entry.path())?;
            let place = fs::read(entry.path()).ok().and_then(place);
            Some(Lent { name, place })
        })
        .collect();
    found.sort_by_key(|lent| {
        std::cmp::Reverse(lent.place.as_ref().map_or(0, |place| place.components().count()))
    });
    found
}

fn marked(path: &Path) -> Option<OsString> {
    (path.extension()? == MARKER).then(|| path.file_stem().map(OsStr::to_owned))?
}

fn place(text: Vec<u8>) -> Option<PathBuf> {
    let path = PathBuf::from(OsString::from_vec(text));
    let place = path.strip_prefix("../builds").ok()?;
    let plain = place.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && place.parent().is_some()).then(|| place.to_owned())
}

fn bring_back(root: &Path, lent: &Lent) -> Result<(), Error> {
    let mounts = root.join("mounts");
    if let Some(place) = &lent.place {
        match rename_back(root, place, &mounts.join(&lent.name)) {
            // It never left, came back in time, or the RUN took it apart.
            Ok(())
            | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP)
            | Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(Error::new("bring back", &mounts.join(&lent.name), errno.into())),
        }
    }
    let marker = mounts.join(&lent.name).with_extension(MARKER);
    match fs::remove_file(&marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::new("remove", &marker, error)),
        _ => Ok(()),
    }
}

/// A RUN has been at everything on the way: no link is followed.
fn rename_back(root: &Path, place: &Path, home: &Path) -> Result<(), rustix::io::Errno> {
    let builds = File::open(root.join("builds")).map_err(|_| rustix::io::Errno::NOENT)?;
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return Ok(()) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let parent = rustix::fs::openat2(&builds, parent, flags, Mode::empty(), resolve)?;
    let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Err(rustix::io::Errno::NOTDIR);
    }
    // Takes the place of an empty directory, and of no other.
    rustix::fs::renameat(&parent, name, rustix::fs::CWD, home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(place(text.as_bytes().to_vec()), expected.map(PathBuf::from));
    }

    #[test]
    fn believes_in_places_of_builds_only() {
        check("../builds/x/step/root/var/cache", Some("x/step/root/var/cache"));
        for text in ["", "../builds", "/etc", "../blobs/x", "../builds/../blobs", "../builds/x/../../mounts"]
        {
            check(text, None);
        }
    }

    fn lend(root: &Path, name: &str, place: &str) {
        let to = root.join("builds").join(place);
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join(name), "kept").unwrap();
        fs::write(root.join(format!("mounts/{name}.lent")), format!("../builds/{place}")).unwrap();
    }

    fn state() -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("mounts")).unwrap();
        fs::create_dir(state.path().join("builds")).unwrap();
        state
    }

    #[test]
    fn brings_back_one_from_inside_another() {
        for all in [true, false] {
            let state = state();
            let root = state.path();
            lend(root, "outer", "b/root/c");
            lend(root, "inner", "b/root/c/d");
            match all {
                true => bring_back_all(root).unwrap(),
                false => bring_back_one(root, OsStr::new("outer")).unwrap(),
            }
            assert_eq!(fs::read_to_string(root.join("mounts/outer/outer")).unwrap(), "kept");
            assert_eq!(fs::read_to_string(root.join("mounts/inner/inner")).unwrap(), "kept");
            assert!(!is_any(&root.join("mounts")));
        }
    }

    #[test]
    fn a_cache_that_is_in_use_or_at_home_stays() {
        let state = state();
        let root = state.path();
        lend(root, "used", "b/root/c");
        let lock = lock_file(&root.join("mounts/used.lock")).unwrap();
        assert!(try_lock(&lock, FlockOperation::NonBlockingLockExclusive, root).unwrap());
        bring_back_all(root).unwrap();
        assert!(is_any(&root.join("mounts")) && !root.join("mounts/used").exists());
        fs::create_dir_all(root.join("mounts/used/own")).unwrap();
        drop(lock);
        // A copy of the lock may live in a process that a test beside this one starts.
        for _ in 0..500 {
            bring_back_all(root).unwrap();
            if !is_any(&root.join("mounts")) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(root.join("mounts/used/own").exists() && !root.join("mounts/used/used").exists());
    }

    #[test]
    fn follows_no_link_of_a_run() {
        let state = state();
        let root = state.path();
        fs::create_dir_all(root.join("blobs/secret")).unwrap();
        fs::create_dir_all(root.join("builds/b/root")).unwrap();
        std::os::unix::fs::symlink("../../../blobs", root.join("builds/b/root/c")).unwrap();
        fs::write(root.join("mounts/name.lent"), "../builds/b/root/c/secret").unwrap();
        bring_back_all(root).unwrap();
        assert!(root.join("blobs/secret").exists() && !root.join("mounts/name").exists());
    }
}
