//! A tree for a RUN, and what the RUN changed in it, as a layer.
//!
//! On overlay storage the layers' trees are stacked and the upper directory is
//! walked afterwards; on plain storage they are merged into one directory, and
//! its inodes are compared with how they were. Both lead to the same
//! [`plan`]: one definition of a change, one order, so the same RUN gives the
//! same tar on either.
//!
//! **A change** is what an image can show: type, mode, owner, time in seconds,
//! attributes, link target or content. A file that was only copied up, or
//! written back as it was, is none. Every changed entry comes with its parents
//! as they truly are. A directory none of whose old names is left is opaque,
//! else each name that is gone is a whiteout. Names of one file are links of
//! the first of them, and a group that changed or gained a name comes whole.
//!
//! What lies in the tree is a RUN's doing and hostile: it is read through
//! directory handles, and no link in it is ever followed.

mod before;
mod disk;
mod error;
mod fingerprint;
mod merge;
mod plan;
mod rejoin;
mod scan;
mod tidy;
mod upper;
mod walk;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::layer::{EntryIndex, LayerWriter, PackedLayer, Stack};
use crate::metadata::Key;
use crate::sandbox::{Linked, MOST_LOWERS, Root, Storage};

use before::Before;
pub use error::Error;
pub use scan::Snapshot;

/// An unpacked layer.
#[derive(Clone, Debug)]
pub struct LayerTree {
    /// Its files, in overlay form. On plain storage the tree of a layer that
    /// `previous` packed is not looked at and need not exist.
    pub tree: PathBuf,
    /// What it contains.
    pub index: Arc<EntryIndex>,
}

/// The tree of one step.
pub struct Rootfs {
    before: Before,
    scratch: PathBuf,
    key: Key,
    kind: Storing,
}

enum Storing {
    Overlay {
        /// Topmost first.
        lowers: Vec<PathBuf>,
        linked: Linked,
        packed: bool,
    },
    Plain {
        snapshot: Snapshot,
    },
}

impl Rootfs {
    /// A tree made of `layers`, bottom first. `scratch` is an empty directory
    /// of this step on the state volume. On plain storage `previous`, the tree
    /// of an earlier step of the same stage, is taken over: its layers and the
    /// one it packed must be the first of `layers`; only what is above them is
    /// added. On overlay `previous` makes no difference.
    ///
    /// # Errors
    /// When the tree cannot be made.
    pub fn prepare(
        storage: &Storage,
        layers: &[LayerTree],
        scratch: &Path,
        key: &Key,
        previous: Option<Self>,
    ) -> Result<Self, Error> {
        let stack = Stack::new(layers.iter().map(|layer| Arc::clone(&layer.index)).collect());
        let missing = MOUNT_POINTS.into_iter().filter(|name| stack.get(Path::new(name)).is_none());
        let missing: Vec<&str> = missing.collect();
        let trees: Vec<PathBuf> = layers.iter().map(|layer| layer.tree.clone()).collect();
        let mut before = Before::new(stack, trees);
        // More than overlayfs takes are merged into one directory.
        let is_stacked = before.trees().iter().collect::<BTreeSet<_>>().len() <= MOST_LOWERS;
        let (kind, writable) = match storage {
            Storage::Overlay if is_stacked => (upper::prepare(&before, scratch, key)?, UPPER),
            Storage::Overlay | Storage::Plain { .. } => {
                merge::prepare(&mut before, scratch, key, previous)?;
                let root = disk::Disk::open(&scratch.join(ROOT), key)?;
                (Storing::Plain { snapshot: Snapshot::of(&root, scratch)? }, ROOT)
            }
        };
        for name in missing {
            make_mount_point(&scratch.join(writable).join(name))?;
        }
        Ok(Self { before, scratch: scratch.to_owned(), key: key.clone(), kind })
    }

    /// What the sandbox makes `/` of. On overlay for one RUN only.
    pub fn root(&self) -> Root {
        match &self.kind {
            Storing::Plain { .. } => Root::Plain(self.scratch.join(ROOT)),
            Storing::Overlay { lowers, linked, .. } => Root::Overlay {
                lowers: lowers.clone(),
                upper: self.scratch.join(UPPER),
                work: self.scratch.join(WORK),
                linked: linked.clone(),
            },
        }
    }

    /// Writes what changed since [`Rootfs::prepare`], sorted, with parents.
    ///
    /// # Errors
    /// When the tree cannot be read, or holds what no layer can.
    pub fn pack(&mut self, writer: LayerWriter) -> Result<PackedLayer, Error> {
        let clamp = writer.clamp();
        match &mut self.kind {
            Storing::Overlay { packed, linked, .. } => {
                let root = disk::Disk::open(&self.scratch.join(UPPER), &self.key)?;
                let touched = linked.touched().map_err(Error::read(&linked.notes))?;
                let found = upper::find(&root, &self.before, &touched)?;
                let plan = plan::plan(&found, &self.before, &root)?;
                let (layer, _) = plan.write(writer, &root, false)?;
                upper::normalise(&root, &self.before, &found, &plan)?;
                plan.settle_times(&root, clamp)?;
                // Of files that had to be rejoined the layer knows more than the directory.
                let is_rejoined = |path: &PathBuf| plan.has(path);
                // So does it of a group of which some names still show the lower file.
                let is_apart = |group: &&plan::Group| group.rejoined || !group.split_off.is_empty();
                // An unchanged one that cannot be taken away must be a link of the others again.
                let mut apart = found.groups.iter().filter(is_apart);
                *packed = !apart.any(|group| !group.shows_lower || group.names.iter().any(is_rejoined));
                Ok(layer)
            }
            Storing::Plain { snapshot } => {
                let root = disk::Disk::open(&self.scratch.join(ROOT), &self.key)?;
                let found = snapshot.compare(&root, &self.scratch)?;
                let plan = plan::plan(&found, &self.before, &root)?;
                let (layer, digests) = plan.write(writer, &root, true)?;
                self.before.add_packed(&layer, digests)?;
                tidy::tidy(&root, &self.before, &found, &plan)?;
                plan.settle_times(&root, clamp)?;
                Ok(layer)
            }
        }
    }

    /// After [`Rootfs::pack`] on overlay: the directory that is now the packed
    /// layer's tree, to be renamed into the store. Nothing on plain storage,
    /// nothing twice, and nothing where the layer has to be unpacked because
    /// overlayfs took files with several names apart.
    pub fn take_tree(&mut self) -> Option<PathBuf> {
        match &mut self.kind {
            Storing::Overlay { packed, .. } => std::mem::take(packed).then(|| self.scratch.join(UPPER)),
            Storing::Plain { .. } => None,
        }
    }
}

/// What every RUN has mounts on. An image without them gets them with its first RUN,
/// as with BuildKit; all other mount points leave no trace.
const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "sys"];

fn make_mount_point(path: &Path) -> Result<(), Error> {
    let made =
        fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    made.map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Names below the scratch directory.
const UPPER: &str = "upper";
const WORK: &str = "work";
const NOTES: &str = "linked";
const ROOT: &str = "root";
