//! The state directory: everything that outlives a build, and the place where
//! builds keep what is unfinished.
//!
//! ```text
//! <root>/version            layout version; another one is refused
//! <root>/lock               shared while building, exclusive while purging
//! <root>/index.lock         exclusive while index.json or record-key changes
//! <root>/record-key         authenticates records on inodes (metadata), 0600
//! <root>/oci-layout, index.json, blobs/sha256/<hex>
//! <root>/entries/<hex>      what each layer contains, by diff id
//! <root>/trees/<map>/<hex>  unpacked trees; owners on disk depend on the id map
//! <root>/contexts/<hex>     stat index of a context, by its path
//! <root>/cache/<hex>        step key → its result; URL → what was there
//! <root>/mounts/<hex>/      cache mounts, by id; <hex>.lock, and <hex>.lent while moved into a RUN
//! <root>/builds/<id>/       unfinished; <id>.lock is held while its build lives
//! <root>/.probe-<id>/       the sandbox makes and sweeps it
//! ```
//!
//! Everything is published by rename, and publishing twice is no error: two
//! builds that make the same thing both succeed. Nothing is synced to disk; what
//! a crash of the machine tore is told by its size or digest and counts as
//! missing. Directories are 0700.

mod blobs;
mod builds;
mod cache;
mod error;
mod images;
mod lent;
mod locate;
mod remove;
mod usage;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::image::Digest;

pub use builds::BuildDirectory;
pub use cache::{CacheEntry, Download};
pub use error::Error;
pub use locate::locate;
pub use remove::remove_tree;
pub use usage::Usage;

/// What `version` holds. The layout changes only together with it.
const VERSION: &str = "coracle state 1\n";

const DIRECTORIES: [&str; 7] = ["blobs/sha256", "entries", "trees", "contexts", "cache", "mounts", "builds"];

/// An open state directory. While it lives, nobody purges.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Below `trees/`.
    trees: PathBuf,
    id_map: String,
    /// Holds the shared lock.
    _lock: File,
}

/// Holds a cache mount for one user at a time (`sharing=locked`).
#[derive(Debug)]
pub struct MountLock {
    _lock: File,
}

impl Store {
    /// Opens the state directory at `root`, creating what is missing, and sweeps
    /// what dead builds left. `id_map` is a short name (letters, digits, `-`) for
    /// the mapping of user ids: trees and caches made under another are not seen.
    ///
    /// # Errors
    /// When it cannot be created or written, has another version, or is being
    /// purged; the error names the path.
    pub fn open(root: &Path, id_map: &str) -> Result<Self, Error> {
        create_directory(root)?;
        check_version(root)?;
        let lock = lock_file(&root.join("lock"))?;
        if !try_lock(&lock, FlockOperation::NonBlockingLockShared, &root.join("lock"))? {
            return Err(Error::BeingPurged { path: root.to_owned() });
        }
        for directory in DIRECTORIES {
            create_directory(&root.join(directory))?;
        }
        let trees = root.join("trees").join(id_map);
        create_directory(&trees)?;
        let store = Self { root: root.to_owned(), trees, id_map: id_map.to_owned(), _lock: lock };
        store.publish("oci-layout", images::LAYOUT)?;
        if lent::is_any(&store.root.join("mounts")) {
            let _lock = store.small_lock()?;
            lent::bring_back_all(&store.root)?;
        }
        builds::sweep(&store.root.join("builds"));
        Ok(store)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The unpacked tree with this id, if there is one: read-only for everyone.
    pub fn tree(&self, id: &Digest) -> Option<PathBuf> {
        let path = self.trees.join(id.hex());
        path.is_dir().then_some(path)
    }

    /// Publishes the tree in `temporary` (on the same file system) under `id`. If
    /// another build was first, its tree stays, and `temporary` where it is.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn adopt_tree(&self, temporary: &Path, id: &Digest) -> Result<PathBuf, Error> {
        let path = self.trees.join(id.hex());
        match std::fs::rename(temporary, &path) {
            Err(error) if self.tree(id).is_none() => Err(Error::new("rename a tree to", &path, error)),
            _ => Ok(path),
        }
    }

    /// Where the entry index of a layer is, or would be.
    pub fn entries_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("entries").join(diff_id.hex())
    }

    /// Publishes an entry index.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn adopt_entries(&self, temporary: &Path, diff_id: &Digest) -> Result<(), Error> {
        rename(temporary, &self.entries_path(diff_id))
    }

    /// The stat index of the context at `context` (absolute, links resolved).
    pub fn stat_index_path(&self, context: &Path) -> PathBuf {
        self.root.join("contexts").join(Digest::of(context.as_os_str().as_encoded_bytes()).hex())
    }

    /// The directory of the cache mount `id`, created empty (0755) if it is new.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn mount_directory(&self, id: &str) -> Result<PathBuf, Error> {
        let path = self.root.join("mounts").join(self.mount_name(id));
        match DirBuilder::new().mode(0o755).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::new("create", &path, error))
            }
            _ => Ok(path),
        }
    }

    /// The owners of its files mean something under one mapping of ids only.
    fn mount_name(&self, id: &str) -> String {
        Digest::of(format!("{id}\0{}", self.id_map)).hex().to_owned()
    }

    /// Takes the cache mount `id` for one user; `None` when another has it. If
    /// its last user was killed with it, it is brought back first.
    ///
    /// # Errors
    /// When the lock cannot be made, or the cache not be brought back.
    pub fn mount_lock(&self, id: &str) -> Result<Option<MountLock>, Error> {
        let (mounts, name) = (self.root.join("mounts"), self.mount_name(id));
        let path = mounts.join(&name).with_extension("lock");
        let lock = lock_file(&path)?;
        if !try_lock(&lock, FlockOperation::NonBlockingLockExclusive, &path)? {
            return Ok(None);
        }
        if lent::is_any(&mounts) {
            let _lock = self.small_lock()?;
            lent::bring_back_one(&self.root, name.as_ref())?;
        }
        Ok(Some(MountLock { _lock: lock }))
    }

    /// The key that authenticates records on inodes: 32 random bytes, made once.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn record_key(&self) -> Result<[u8; 32], Error> {
        let path = self.root.join("record-key");
        let _lock = self.small_lock()?;
        match std::fs::read(&path) {
            Ok(bytes) => {
                if let Ok(key) = bytes.try_into() {
                    return Ok(key);
                }
                // Torn by a crash. No tree of ours can be read without it.
                remove_tree(&self.trees)?;
                create_directory(&self.trees)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::new("read", &path, error)),
        }
        let key = random_bytes()?;
        self.publish("record-key", &key)?;
        Ok(key)
    }

    /// Writes a file of the root, unless that is what it holds.
    fn publish(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        match std::fs::read(self.root.join(name)) {
            Ok(present) if present == bytes => Ok(()),
            _ => write_file(&self.root.join("builds"), &self.root.join(name), bytes),
        }
    }

    /// Held while a file that several builds change is changed.
    fn small_lock(&self) -> Result<File, Error> {
        let path = self.root.join("index.lock");
        let lock = lock_file(&path)?;
        try_lock(&lock, FlockOperation::LockExclusive, &path)?;
        Ok(lock)
    }
}

/// Whether there is a state directory at `root`, of whatever version; nothing
/// and an empty directory are none.
///
/// # Errors
/// [`Error::NotState`] when something else is there.
pub fn is_state(root: &Path) -> Result<bool, Error> {
    match std::fs::read_to_string(root.join("version")) {
        Ok(text) if text.starts_with("coracle state ") => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_empty(root) => Ok(false),
        _ => Err(Error::NotState { path: root.to_owned() }),
    }
}

fn is_empty(root: &Path) -> bool {
    !root.exists() || std::fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_none())
}

/// Empties the state directory at `root`, whatever its version was; afterwards it
/// is one of this version. What is no state directory is left alone, and so is
/// what coracle did not put there.
///
/// # Errors
/// [`Error::InUse`] while a build runs; [`Error::NotState`]; when something
/// cannot be removed.
pub fn purge(root: &Path) -> Result<(), Error> {
    if !is_state(root)? {
        return Ok(());
    }
    let version = root.join("version");
    let lock = lock_file(&root.join("lock"))?;
    if !try_lock(&lock, FlockOperation::NonBlockingLockExclusive, &root.join("lock"))? {
        return Err(Error::InUse { path: root.to_owned() });
    }
    let names = ["builds", "trees", "mounts", "cache", "contexts", "entries", "blobs"];
    for name in names.into_iter().chain(["index.json", "oci-layout", "index.lock", "record-key"]) {
        remove_tree(&root.join(name))?;
    }
    write_file(root, &version, VERSION.as_bytes())
}

fn check_version(root: &Path) -> Result<(), Error> {
    let path = root.join("version");
    match std::fs::read_to_string(&path) {
        Ok(text) if text == VERSION => Ok(()),
        // Empty: a crash tore it.
        Ok(text) if text.is_empty() => write_file(root, &path, VERSION.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => write_file(root, &path, VERSION.as_bytes()),
        Ok(found) => Err(Error::Version { path: root.to_owned(), found: found.trim().to_owned() }),
        Err(error) => Err(Error::new("read", &path, error)),
    }
}

/// Writes a file under another name in `temporary`, then renames it. 0600.
fn write_file(temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |error| Error::new("write", path, error);
    let mut file = tempfile::NamedTempFile::new_in(temporary).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Creates a directory and those above it, 0700 each.
fn create_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::new("create", path, error))
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(|error| Error::new("rename a file to", to, error))
}

fn lock_file(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::new("open", path, error))
}

/// `false` when another holds it.
fn try_lock(lock: &File, operation: FlockOperation, path: &Path) -> Result<bool, Error> {
    loop {
        return match rustix::fs::flock(lock, operation) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => Err(Error::new("lock", path, error.into())),
        };
    }
}

fn random_bytes() -> Result<[u8; 32], Error> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 32];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::new("read", path, error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
