//! Plain storage: how every inode of the tree was before the RUN, compared
//! with how it is after.
//!
//! The change time cannot be set back, so an inode whose fingerprint is the
//! same was not touched, whatever was done to its other times; a link's target
//! cannot change without a new inode. One whose fingerprint moved is only a
//! suspect: the plan decides, and reads the content of those alone of which
//! nothing else moved.
//!
//! The fingerprints lie in a sorted file, and are compared as a merge with a
//! walk over the tree: memory holds what changed, not what is there.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::metadata::Key;

use super::Error;
use super::disk::{Disk, What};
use super::fingerprint::{Fingerprint, Fingerprints, Reader, Writer, to_path};
use super::plan::{Findings, Group};
use super::walk::{Step, is_directory, walk};

/// Every name of a tree and the inode behind it, as they were.
#[derive(Debug)]
pub struct Snapshot {
    inodes: Fingerprints,
}

/// Kernels before 6.13 stamp changes with the time of the last timer tick,
/// 10 ms at the slowest.
const TICK: Duration = Duration::from_millis(10);

impl Snapshot {
    /// Looks at everything below `root`, then makes sure that whatever comes
    /// next has a later change time than what was seen. The list lies in
    /// `directory`, which is not below `root`.
    ///
    /// # Errors
    /// When the tree cannot be read or the list not be written.
    pub fn take(root: &Path, directory: &Path) -> Result<Self, Error> {
        Self::of(&Disk::open(root, &Key::from_bytes([0; 32]))?, directory)
    }

    /// How many names changed below `root` since: new, gone, or another inode
    /// or change time. What [`super::Rootfs::pack`] looks at more closely.
    ///
    /// # Errors
    /// When the tree or the list cannot be read.
    pub fn count_suspects(&self, root: &Path, directory: &Path) -> Result<usize, Error> {
        let found = self.compare(&Disk::open(root, &Key::from_bytes([0; 32]))?, directory)?;
        let names = found.groups.iter().map(|group| group.names.len()).sum::<usize>();
        Ok(names + found.directories.len() + found.gone.values().map(BTreeSet::len).sum::<usize>())
    }

    pub(super) fn of(disk: &Disk, directory: &Path) -> Result<Self, Error> {
        let mut writer = Writer::create(directory)?;
        let mut newest = (0, 0);
        walk(disk.root(), &mut |step| {
            if !step.is_of_layers {
                return Ok(());
            }
            let fingerprint = Fingerprint::of(step.stat);
            newest = newest.max(fingerprint.changed);
            writer.append(step.path, &fingerprint)
        })?;
        wait_for_the_clock(newest);
        Ok(Self { inodes: writer.finish()? })
    }

    /// What moved since. `directory` is for what is written meanwhile.
    pub(super) fn compare(&self, disk: &Disk, directory: &Path) -> Result<Findings, Error> {
        let mut merge = Merge {
            disk,
            old: self.inodes.read()?,
            found: Findings::default(),
            covered: None,
            linked: Writer::create(directory)?,
            suspects: HashMap::new(),
        };
        walk(disk.root(), &mut |step| merge.visit(&step))?;
        merge.pass_up_to(None)?;
        merge.finish()
    }
}

fn wait_for_the_clock((seconds, nanoseconds): (i64, u32)) {
    let newest = Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds);
    let safe = UNIX_EPOCH + newest + TICK;
    // A clock that was set back is not waited for.
    if let Ok(wait) = safe.duration_since(SystemTime::now())
        && wait <= 2 * TICK
    {
        thread::sleep(wait);
    }
}

struct Merge<'a> {
    disk: &'a Disk,
    old: Reader<'a>,
    found: Findings,
    /// Nothing of what was below this path is there any more.
    covered: Option<Vec<u8>>,
    /// Every name that shares its file.
    linked: Writer,
    /// Inode → which group of the findings it is, of files with several names.
    suspects: HashMap<u64, usize>,
}

impl Merge<'_> {
    fn visit(&mut self, step: &Step<'_>) -> Result<(), Error> {
        let path = step.path.as_os_str().as_encoded_bytes();
        if !step.is_of_layers {
            // What was there under its name is passed with the next one.
            self.found.strangers.push(step.path.to_owned());
            return Ok(());
        }
        self.pass_up_to(Some(path))?;
        let now = Fingerprint::of(step.stat);
        if now.links > 1 {
            self.linked.append(step.path, &now)?;
        }
        match self.old.current() {
            Some((old, before)) if old == path => {
                let is_same = *before == now;
                if is_directory(before.mode) && !is_directory(now.mode) {
                    self.covered = Some(path.to_owned());
                }
                self.old.advance()?;
                if is_same { Ok(()) } else { self.suspect(step, &now) }
            }
            _ => self.suspect(step, &now),
        }
    }

    /// Passes the records before `path`, or all that are left: names that are
    /// gone.
    fn pass_up_to(&mut self, path: Option<&[u8]>) -> Result<(), Error> {
        while let Some((old, _)) = self.old.current() {
            if path.is_some_and(|path| compare(old, path) != Ordering::Less) {
                break;
            }
            if !self.covered.as_deref().is_some_and(|covered| is_below(old, covered)) {
                let gone = to_path(old);
                if let (Some(parent), Some(name)) = (gone.parent(), gone.file_name()) {
                    self.found.gone.entry(parent.to_owned()).or_default().insert(name.to_owned());
                }
                self.covered = Some(old.to_owned());
            }
            self.old.advance()?;
        }
        Ok(())
    }

    fn suspect(&mut self, step: &Step<'_>, now: &Fingerprint) -> Result<(), Error> {
        if now.links > 1 && self.suspects.contains_key(&now.inode) {
            return Ok(());
        }
        let inspected = match step.name.is_empty() {
            true => self.disk.get(step.path)?,
            false => self.disk.inspect(step.parent, step.name, step.path)?,
        };
        let Some(What::Entry(entry)) = inspected.map(|inspected| inspected.what) else { return Ok(()) };
        if entry.kind.is_directory() {
            self.found.directories.insert(step.path.to_owned(), entry);
            return Ok(());
        }
        if now.links > 1 {
            self.suspects.insert(now.inode, self.found.groups.len());
        }
        self.found.groups.push(Group::of_name(step.path, entry));
        Ok(())
    }

    /// A file that moved comes with all its names, of which some may have been
    /// seen before it was known that it did.
    fn finish(self) -> Result<Findings, Error> {
        let mut found = self.found;
        if self.suspects.is_empty() {
            return Ok(found);
        }
        let linked = self.linked.finish()?;
        let mut names = linked.read()?;
        while let Some((path, inode)) = names.current() {
            if let Some(group) = self.suspects.get(&inode.inode).and_then(|at| found.groups.get_mut(*at)) {
                group.names.insert(to_path(path));
            }
            names.advance()?;
        }
        Ok(found)
    }
}

/// The order of `PathBuf`: `/` comes before every other byte.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let order = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    one.iter().map(order).cmp(other.iter().map(order))
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.len() > directory.len()
        && path.starts_with(directory)
        && (directory.is_empty() || path[directory.len()] == b'/')
}

#[cfg(test)]
mod tests;
