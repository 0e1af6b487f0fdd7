//! Mounts without mount(2): what lies at a target is renamed aside, something
//! else takes its name, and after the RUN everything goes back.
//!
//! ```text
//! <step>/root/…      the tree of the RUN
//! <step>/aside/N     what lay at the target of swap N
//! ```
//!
//! No process of a RUN lives while anything is moved. Whatever the RUN did to
//! the names meanwhile, what was lent to it (a cache, say) is found again by
//! its descriptor. Directories keep their times.
//!
//! While something is lent, `<home>.lent` beside its home holds the way from
//! there to where it is. If this process is killed, the owner of the state
//! directory finds a cache by it (the room `store`).

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD};

use super::guard::Guard;
use crate::sandbox::Error;
use crate::sandbox::mounts::{link, open_path};
use crate::sandbox::protections::Protections;
use crate::sandbox::target::{Rooted, Stub, Want, remove_stubs, times};

/// Everything that was swapped for one RUN. Dropped, it is undone too.
pub(super) struct Swaps {
    root: PathBuf,
    aside: PathBuf,
    rooted: Option<Rooted>,
    done: Vec<Swap>,
}

struct Swap {
    parent: OwnedFd,
    name: OsString,
    /// What took the place.
    put: OwnedFd,
    /// Where that goes back to; nowhere: it is removed.
    home: Option<PathBuf>,
    aside: PathBuf,
    guard: Option<Guard>,
}

impl Swaps {
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        let aside = root.with_file_name("aside");
        fs::create_dir(&aside)?;
        // The aside directory is there from now on: dropping removes it.
        let mut swaps = Self { root: root.to_owned(), aside, rooted: None, done: Vec::new() };
        swaps.rooted = Some(Rooted::open(root)?);
        Ok(swaps)
    }

    /// For a RUN under these.
    pub(super) fn under(mut self, protections: Protections) -> Self {
        self.rooted = self.rooted.take().map(|rooted| rooted.under(protections));
        self
    }

    /// `make` makes something new at the path it is given.
    pub(super) fn cover(
        &mut self,
        target: &Path,
        want: Want,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        self.swap(target, want, None, make)
    }

    /// Lends `home`, a file or directory on the same file system.
    pub(super) fn lend(&mut self, target: &Path, home: &Path) -> io::Result<()> {
        let want = if fs::metadata(home)?.is_dir() { Want::Directory } else { Want::File };
        self.swap(target, want, Some(home.to_owned()), |place| {
            // Nothing is at the place now, so that there is no moment in which
            // the marker would lead to something of the RUN's.
            fs::write(marker(home), way(home, place)?.as_os_str().as_encoded_bytes())?;
            fs::rename(home, place).or_else(|error| fs::remove_file(marker(home)).and(Err(error)))
        })
    }

    /// Looks after the RUN whether the last swap was treated as it should.
    pub(super) fn guard_last(&mut self, guard: impl FnOnce(&Path) -> io::Result<Guard>) -> io::Result<()> {
        if let Some(last) = self.done.last_mut() {
            last.guard = Some(guard(&link(&last.put))?);
        }
        Ok(())
    }

    fn swap(
        &mut self,
        target: &Path,
        want: Want,
        home: Option<PathBuf>,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let rooted = self.rooted.as_mut().expect("only `restore`, which consumes, takes it");
        let old = fs::read_link(link(&rooted.place(target, want)?))?;
        let (Some(parent), Some(name)) = (old.parent(), old.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if old == self.root {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let parent = open_path(parent)?;
        let before = times(parent.as_fd())?;
        let aside = self.aside.join(self.done.len().to_string());
        fs::rename(&old, &aside)?;
        if let Err(error) = make(&old) {
            fs::rename(&aside, &old)?;
            return Err(error);
        }
        rustix::fs::utimensat(CWD, link(&parent), &before, AtFlags::empty())?;
        let put = open_path(&old)?;
        self.done.push(Swap { parent, name: name.to_owned(), put, home, aside, guard: None });
        Ok(())
    }

    /// Puts everything back, and says what a RUN should not have done.
    ///
    /// # Errors
    /// When something cannot be put back; else what the guards found.
    pub(super) fn undo(mut self) -> Result<(), Error> {
        let found = self.done.iter().filter_map(|swap| swap.guard.as_ref()?.find(&link(&swap.put))).next();
        self.restore().map_err(|source| Error::Prepare {
            action: "put back what was covered in".to_owned(),
            path: self.root.clone(),
            source,
        })?;
        found.map_or(Ok(()), Err)
    }

    fn restore(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        while let Some(swap) = self.done.pop() {
            // One that fails must not keep the others from going back.
            result = result.and(swap.undo());
        }
        if let Some(rooted) = self.rooted.take() {
            let (_, stubs): (_, Vec<Stub>) = rooted.into_stubs();
            result = result.and(remove_stubs(&self.root, &stubs));
            result = result.and(fs::remove_dir_all(&self.aside));
        }
        result
    }
}

impl Drop for Swaps {
    fn drop(&mut self) {
        // After `undo` there is nothing left; on an error before the RUN the
        // tree is not used any more.
        let _ = self.restore();
    }
}

impl Swap {
    fn undo(self) -> io::Result<()> {
        let before = times(self.parent.as_fd())?;
        let place = link(&self.parent).join(&self.name);
        let there = fs::symlink_metadata(&place);
        if let Some(home) = &self.home {
            self.bring_home(home, &place, there.as_ref().ok())?;
        }
        remove(&place)?;
        match fs::rename(&self.aside, &place) {
            // The RUN removed the directory that it lay in.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        Ok(rustix::fs::utimensat(CWD, link(&self.parent), &before, AtFlags::empty())?)
    }

    fn bring_home(&self, home: &Path, place: &Path, there: Option<&Metadata>) -> io::Result<()> {
        let put = fs::metadata(link(&self.put))?;
        if put.nlink() == 0 {
            // Removed by the RUN, which no mount would have allowed.
            return fs::remove_file(marker(home));
        }
        let same = there.is_some_and(|there| there.ino() == put.ino() && there.dev() == put.dev());
        let from = if same { place.to_owned() } else { fs::read_link(link(&self.put))? };
        fs::rename(from, home)?;
        fs::remove_file(marker(home))
    }
}

/// Says where `home` is while it is lent.
fn marker(home: &Path) -> PathBuf {
    let mut name = home.as_os_str().to_owned();
    name.push(".lent");
    name.into()
}

/// From the directory of `home` to `place`, so that it holds wherever the state
/// directory is mounted next.
fn way(home: &Path, place: &Path) -> io::Result<PathBuf> {
    let from = fs::canonicalize(home.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
    let common = from.components().zip(place.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    Ok(up.chain(place.components().skip(common)).collect())
}

fn remove(place: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(place) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(place),
        Ok(_) => fs::remove_file(place),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree {
        directory: tempfile::TempDir,
    }

    impl Tree {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir_all(directory.path().join("root/etc")).unwrap();
            fs::write(directory.path().join("root/etc/hosts"), "old").unwrap();
            fs::create_dir(directory.path().join("cache")).unwrap();
            fs::write(directory.path().join("cache/kept"), "kept").unwrap();
            Self { directory }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.directory.path().join(path)
        }

        fn swaps(&self) -> Swaps {
            let mut swaps = Swaps::new(&self.path("root")).unwrap();
            swaps.cover(Path::new("/etc/hosts"), Want::File, |place| fs::write(place, "new")).unwrap();
            swaps.lend(Path::new("/var/cache"), &self.path("cache")).unwrap();
            swaps
        }

        fn check_restored(&self) {
            assert_eq!(fs::read_to_string(self.path("root/etc/hosts")).unwrap(), "old");
            assert_eq!(fs::read_to_string(self.path("cache/kept")).unwrap(), "kept");
            assert!(!self.path("root/var").exists());
            assert!(!self.path("aside").exists());
            assert!(!self.path("cache.lent").exists());
        }
    }

    #[test]
    fn puts_everything_back_with_its_times() {
        let tree = Tree::new();
        let before = fs::metadata(tree.path("root/etc")).unwrap().modified().unwrap();
        let swaps = tree.swaps();
        assert_eq!(fs::read_to_string(tree.path("root/etc/hosts")).unwrap(), "new");
        assert_eq!(fs::read_to_string(tree.path("root/var/cache/kept")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(tree.path("cache.lent")).unwrap(), "root/var/cache");
        swaps.undo().unwrap();
        tree.check_restored();
        assert_eq!(fs::metadata(tree.path("root/etc")).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn puts_back_what_was_moved_replaced_or_dropped() {
        let tree = Tree::new();
        let swaps = tree.swaps();
        fs::rename(tree.path("root/var/cache"), tree.path("root/moved")).unwrap();
        fs::remove_file(tree.path("root/etc/hosts")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.path("root/etc/hosts")).unwrap();
        drop(swaps);
        tree.check_restored();
        assert!(!tree.path("root/moved").exists());
    }
}
