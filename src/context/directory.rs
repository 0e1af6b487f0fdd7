//! A local directory as a tree: the build context, or a named one.
//!
//! Every directory is listed once, through handles, and every entry looked at
//! once; what was seen then is what the build sees. Only contents are read
//! later, and digested as they are read.

mod listing;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use self::listing::{Child, Listing, Shown};
use super::handles::Handles;
use super::stat_index::{self, Known, Stat, nanoseconds};
use super::{Error, Ignore, Ignored, Node, NodeKind, SourceTree, Stop, resolve};
use crate::image::{Digest, Hasher};

/// The one extended attribute that is kept: BuildKit drops `user.*`, and the
/// others are the business of the machine that holds the context.
const CAPABILITY: &str = "security.capability";

/// A context directory seen through its ignore file. Owners are 0:0, modes are
/// kept with setuid, setgid and sticky.
pub struct DirectoryContext {
    description: String,
    handles: Handles,
    ignore: Ignore,
    index_path: Option<PathBuf>,
    /// What the index said when it was opened.
    known: HashMap<PathBuf, Known>,
    seen: Mutex<Seen>,
    stop: Option<Stop>,
}

/// What this build has found so far.
#[derive(Default)]
struct Seen {
    listings: HashMap<PathBuf, Arc<Listing>>,
    /// Whether an excluded directory has anything to show after all.
    shown: HashMap<PathBuf, bool>,
    /// Device and inode of files with several names → their group.
    links: HashMap<(u64, u64), u64>,
    /// Read in this build, and whether the file was at rest: only then may the
    /// index keep it.
    read: HashMap<PathBuf, (Known, bool)>,
}

impl DirectoryContext {
    /// Opens the context at `directory`. `stat_index` is a file, which need not
    /// exist: digests found there are used where the file has not changed.
    ///
    /// # Errors
    /// When `directory` cannot be opened. A damaged index is no error.
    pub fn open(directory: &Path, ignore: Ignore, stat_index: Option<&Path>) -> Result<Self, Error> {
        let handles =
            Handles::open(directory).map_err(|source| Error::Open { path: directory.to_owned(), source })?;
        Ok(Self {
            description: "the build context".to_owned(),
            handles,
            ignore,
            index_path: stat_index.map(Path::to_owned),
            known: stat_index.map(stat_index::load).unwrap_or_default(),
            seen: Mutex::default(),
            stop: None,
        })
    }

    /// The same with another name in error messages.
    #[must_use]
    pub fn described_as(self, description: String) -> Self {
        Self { description, ..self }
    }

    /// The same, with an end to everything once `stop` says so.
    #[must_use]
    pub fn stopped_by(self, stop: Stop) -> Self {
        Self { stop: Some(stop), ..self }
    }

    fn check_stop(&self) -> Result<(), Error> {
        match self.stop.as_ref().is_some_and(|stop| stop()) {
            true => Err(Error::Stopped { tree: self.description.clone() }),
            false => Ok(()),
        }
    }

    /// Writes what was learnt to the stat index, if anything was.
    ///
    /// # Errors
    /// When the index cannot be written: worth a warning, not the build.
    pub fn save_stat_index(&self) -> Result<(), Error> {
        let Some(path) = &self.index_path else { return Ok(()) };
        let seen = self.seen();
        if !seen.read.values().any(|(_, settled)| *settled) {
            return Ok(());
        }
        let fresh =
            seen.read.iter().filter(|(_, (_, settled))| *settled).map(|(path, (known, _))| (path, known));
        let kept =
            self.known.iter().filter(|(path, _)| !seen.read.contains_key(*path) && seen.may_exist(path));
        stat_index::save(path, fresh.chain(kept))
            .map_err(|source| Error::StatIndex { path: path.clone(), source })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn unreadable(&self, path: &Path, source: io::Error) -> Error {
        let tree = self.description.clone();
        let path = path.to_owned();
        match rustix::io::Errno::from_io_error(&source) {
            Some(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => Error::Changed { path, tree },
            _ => Error::Read { path, tree, source },
        }
    }

    /// The listing of a directory, from memory or from the disk. Those above it
    /// are listed first, from the top, however deep it is.
    fn listing(&self, path: &Path) -> Result<Arc<Listing>, Error> {
        if let Some(listing) = self.listed(path) {
            return Ok(listing);
        }
        let mut ancestors: Vec<&Path> =
            path.ancestors().take_while(|ancestor| self.listed(ancestor).is_none()).collect();
        let mut above = path.ancestors().nth(ancestors.len()).and_then(|ancestor| self.listed(ancestor));
        while let Some(next) = ancestors.pop() {
            above = Some(self.list(next, above.as_deref())?);
        }
        Ok(above.expect("the path itself was the last to be listed"))
    }

    fn listed(&self, path: &Path) -> Option<Arc<Listing>> {
        self.seen().listings.get(path).cloned()
    }

    /// Lists a directory; `above` is its parent's listing.
    fn list(&self, path: &Path, above: Option<&Listing>) -> Result<Arc<Listing>, Error> {
        self.check_stop()?;
        let child = above.and_then(|above| above.get(path.file_name()?));
        let inherited = child.map(|child| child.inherited.clone()).unwrap_or_default();
        let listing = self
            .handles
            .with_directory(path, |directory| listing::read(directory, path, &self.ignore, &inherited))
            .map_err(|source| self.unreadable(path, source))?;
        let listing = Arc::new(listing);
        self.seen().listings.insert(path.to_owned(), listing.clone());
        Ok(listing)
    }

    /// Whether the child is part of the context.
    fn is_shown(&self, path: &Path, child: &Child) -> Result<bool, Error> {
        match child.shown {
            Shown::Yes => Ok(true),
            Shown::IfAnythingBelow => self.has_anything_below(path),
        }
    }

    /// Whether an exception brings back something below an excluded directory.
    fn has_anything_below(&self, path: &Path) -> Result<bool, Error> {
        if let Some(shown) = self.seen().shown.get(path) {
            return Ok(*shown);
        }
        let mut found = None;
        let mut pending = vec![path.to_owned()];
        while let Some(directory) = pending.pop() {
            // What is excluded may be closed to us, and that is no error.
            let Ok(listing) = self.listing(&directory) else { continue };
            if listing.children.iter().any(|child| child.shown == Shown::Yes) {
                found = Some(directory);
                break;
            }
            let maybe = listing.children.iter().filter(|child| child.shown == Shown::IfAnythingBelow);
            pending.extend(maybe.map(|child| directory.join(&child.name)));
        }
        let mut seen = self.seen();
        for above in
            found.iter().flat_map(|found| found.ancestors()).take_while(|above| above.starts_with(path))
        {
            seen.shown.insert(above.to_owned(), true);
        }
        seen.shown.entry(path.to_owned()).or_insert(found.is_some());
        Ok(found.is_some())
    }

    fn child(&self, path: &Path) -> Result<Option<(Arc<Listing>, usize)>, Error> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        if !self.is_listable(parent)? {
            return Ok(None);
        }
        let listing = self.listing(parent)?;
        Ok(listing.position(name).map(|position| (listing, position)))
    }

    /// Whether `path` is a directory of the context, its ancestors too.
    fn is_listable(&self, path: &Path) -> Result<bool, Error> {
        if self.seen().listings.contains_key(path) {
            return Ok(true);
        }
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for pair in ancestors.windows(2) {
            let name = pair[1].file_name().unwrap_or_default();
            match self.listing(pair[0])?.get(name) {
                Some(child) if child.kind == NodeKind::Directory => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn to_node(&self, path: &Path, child: &Child) -> Result<Node, Error> {
        let mut xattrs = BTreeMap::new();
        if matches!(child.kind, NodeKind::File { .. }) {
            let capability = self.capability(path, child)?;
            if !capability.is_empty() {
                xattrs.insert(CAPABILITY.as_bytes().to_vec(), capability);
            }
        }
        let link_group = child.linked.then(|| {
            let mut seen = self.seen();
            let next = seen.links.len() as u64;
            *seen.links.entry((child.stat.device, child.stat.inode)).or_insert(next)
        });
        Ok(Node {
            kind: child.kind.clone(),
            mode: listing::permissions(&child.stat),
            uid: 0,
            gid: 0,
            mtime: child.stat.mtime.0,
            xattrs,
            link_group,
        })
    }

    fn capability(&self, path: &Path, child: &Child) -> Result<Vec<u8>, Error> {
        if let Some(known) = self.remembered(path, &child.stat) {
            return Ok(known.capability);
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        self.handles
            .with_directory(parent, |directory| listing::capability(directory, &child.name))
            .map_err(|source| self.unreadable(path, source))
    }

    /// What is known of this version of a file, from the index or from this build.
    fn remembered(&self, path: &Path, stat: &Stat) -> Option<Known> {
        let known = self.known.get(path).filter(|known| known.stat == *stat);
        known.cloned().or_else(|| {
            let seen = self.seen();
            seen.read.get(path).map(|(known, _)| known).filter(|known| known.stat == *stat).cloned()
        })
    }

    /// Reads and digests a file. What was read counts; it is remembered only
    /// where the file stood still meanwhile.
    fn read(&self, path: &Path) -> Result<Digest, Error> {
        let failed = |source| self.unreadable(path, source);
        let started = now();
        let mut file = self.handles.open_file(path).map_err(failed)?;
        let before = listing::stat_of(&file).map_err(failed)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            self.check_stop()?;
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        let digest = hasher.finish();
        let capability = listing::capability_of(&file).map_err(failed)?;
        let settled = listing::stat_of(&file).map_err(failed)? == before && before.at_rest(started);
        let known = Known { stat: before, digest, capability };
        self.seen().read.insert(path.to_owned(), (known, settled));
        Ok(digest)
    }
}

impl Seen {
    /// Whether nothing that was listed speaks against `path`.
    fn may_exist(&self, path: &Path) -> bool {
        path.ancestors().all(|part| match (part.parent(), part.file_name()) {
            (Some(parent), Some(name)) => {
                self.listings.get(parent).is_none_or(|listing| listing.position(name).is_some())
            }
            _ => true,
        })
    }
}

/// The file at `path` below the directory `root`, links followed inside `root`
/// only; `None` where there is none, or a directory. For the Dockerfile and the ignore file, which
/// are read whether they are ignored or not.
///
/// # Errors
/// When `root` cannot be opened, or what is there is not a readable file.
pub fn read_inside(root: &Path, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    let tree = DirectoryContext::open(root, Ignore::default(), None)?;
    let path = resolve(&tree, path)?;
    match tree.node(&path)? {
        None => return Ok(None),
        Some(node) if node.is_directory() => return Ok(None),
        Some(_) => {}
    }
    let mut bytes = Vec::new();
    match tree.open(&path)?.read_to_end(&mut bytes) {
        Ok(_) => Ok(Some(bytes)),
        Err(source) => Err(tree.unreadable(&path, source)),
    }
}

/// A file that cannot be read on once the build has been told to stop.
struct Stopping<'a> {
    file: std::fs::File,
    stop: &'a Stop,
}

impl Read for Stopping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.stop)() {
            // Not `Interrupted`, which readers take as leave to try again.
            true => Err(io::Error::other("the build was interrupted")),
            false => self.file.read(buffer),
        }
    }
}

/// The clock that file systems stamp with, in nanoseconds since 1970.
fn now() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    nanoseconds((now.tv_sec, now.tv_nsec))
}

impl SourceTree for DirectoryContext {
    fn node(&self, path: &Path) -> Result<Option<Node>, Error> {
        if path.as_os_str().is_empty() {
            let stat =
                listing::stat_of(self.handles.root()).map_err(|source| self.unreadable(path, source))?;
            return Ok(Some(listing::root(&stat)));
        }
        let Some((listing, position)) = self.child(path)? else { return Ok(None) };
        let child = &listing.children[position];
        match self.is_shown(path, child)? {
            true => self.to_node(path, child).map(Some),
            false => Ok(None),
        }
    }

    fn children(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        let listing = self.listing(path)?;
        let mut names = Vec::with_capacity(listing.children.len());
        for child in &listing.children {
            if child.shown == Shown::Yes || self.is_shown(&path.join(&child.name), child)? {
                names.push(child.name.clone());
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send + '_>, Error> {
        self.check_stop()?;
        let file = self.handles.open_file(path).map_err(|source| self.unreadable(path, source))?;
        match &self.stop {
            Some(stop) => Ok(Box::new(Stopping { file, stop })),
            None => Ok(Box::new(file)),
        }
    }

    fn content_digest(&self, path: &Path, _node: &Node) -> Result<Digest, Error> {
        if let Some((listing, position)) = self.child(path)?
            && let Some(known) = self.remembered(path, &listing.children[position].stat)
        {
            return Ok(known.digest);
        }
        self.read(path)
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn ignored(&self, path: &Path) -> Option<Ignored> {
        let found = self.ignore.excluded_by(path)?;
        self.handles.exists(path).then_some(found)
    }
}

#[cfg(test)]
mod tests;
