//! The one copy engine: COPY and ADD, from whatever tree to a layer.
//!
//! It decides into a map first, target path → entry, and writes it as one
//! sorted stream afterwards; no tree of the target is ever made. What it must
//! know of the target (is it a directory, a link, who are its parents) comes
//! from the entry indexes of the layers below. The rules are those of
//! BuildKit's file operations: a directory's contents merge, files replace,
//! a directory never replaces a file nor the other way round.
//!
//! Every existing parent of what is written is repeated with its owner, mode
//! and xattrs: without that, podman and Docker make `/tmp` 0755 and turn a
//! `/lib` link into a directory.

mod chmod;
mod place;

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::context::{self, Node, Selected, Selection, SourceTree, Visit};
use crate::layer::{self, EntryIndex, LayerWriter, Stack};
use crate::plan::CopyOp;

use place::{Placement, Rules};

/// Why a COPY cannot put its sources where they should go.
#[derive(Debug, Error)]
pub enum CopyError {
    /// A source's tree.
    #[error(transparent)]
    Source(context::Error),
    /// Reading the target through its links.
    #[error("cannot find the target `{}`", path.display())]
    Target {
        /// The destination as written.
        path: PathBuf,
        /// Why.
        #[source]
        source: layer::Error,
    },
    /// A directory where a file is.
    #[error("cannot copy a directory to `/{}`: it is not a directory there", path.display())]
    NotADirectory {
        /// In the image.
        path: PathBuf,
    },
    /// A file where a directory is.
    #[error("cannot replace the directory `/{}` by a file", path.display())]
    IsADirectory {
        /// In the image.
        path: PathBuf,
    },
    /// The layer could not be written.
    #[error("cannot write the layer")]
    Write(#[source] layer::Error),
}

/// Sources of one kind, picked from their tree.
pub(super) enum Picked<'a> {
    /// Found by paths and patterns.
    Selection {
        /// Where they are read.
        tree: &'a dyn SourceTree,
        /// What was found.
        selection: Selection,
        /// Owners count (`--from`); else everything is 0:0.
        keep_owner: bool,
    },
    /// The contents of an unpacked archive.
    Archive {
        /// Where they are read.
        tree: &'a dyn SourceTree,
        /// What the archive itself says; a directory that it only implies
        /// changes nothing that is there.
        index: &'a EntryIndex,
    },
    /// One file of another tree, a download, under a name of its own.
    File {
        /// Where it is read.
        tree: &'a dyn SourceTree,
        /// Its name, in the tree and in a directory it goes to.
        name: String,
        /// What it is.
        node: Node,
    },
    /// A heredoc.
    Inline {
        /// File name.
        name: String,
        /// Its bytes.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Seconds since 1970.
        mtime: i64,
    },
}

/// What is below the new layer.
pub(super) struct Target<'a> {
    /// The layers so far.
    pub(super) base: &'a Stack,
    /// Owner that `--chown` means here.
    pub(super) owner: Option<(u32, u32)>,
    /// Time of directories that the COPY makes, seconds since 1970.
    pub(super) now: i64,
}

/// Writes the layer of one COPY or ADD.
///
/// # Errors
/// When a source cannot be read, or cannot go where it should.
pub(super) fn write_layer(
    op: &CopyOp,
    sources: &[Picked<'_>],
    target: &Target<'_>,
    writer: &mut LayerWriter,
) -> Result<(), CopyError> {
    let empty = Stack::new(Vec::new());
    // --link makes a layer that does not depend on those below it.
    let base = if op.link { &empty } else { target.base };
    let rules = Rules { chmod: op.chmod.clone(), owner: target.owner, now: target.now };
    let mut placement = Placement::new(base, rules);
    let destination = Destination::find(op, base)?;
    for source in sources {
        place_source(source, &destination, &mut placement)?;
    }
    placement.write(writer)
}

/// Where things go.
struct Destination {
    path: PathBuf,
    is_directory: bool,
    /// `--parents`.
    keeps_names: bool,
}

impl Destination {
    fn find(op: &CopyOp, base: &Stack) -> Result<Self, CopyError> {
        let written = PathBuf::from(&op.destination);
        let relative = relative(&op.destination);
        let resolved = base
            .resolve(&relative, true)
            .map_err(|source| CopyError::Target { path: written.clone(), source })?;
        let found = resolved.found.as_ref().map(|found| found.entry.kind.is_directory());
        let there = found.unwrap_or(resolved.path.as_os_str().is_empty());
        let slash = op.destination.ends_with('/');
        if slash && found == Some(false) {
            return Err(CopyError::NotADirectory { path: resolved.path });
        }
        Ok(Self { path: resolved.path, is_directory: slash || there || op.parents, keeps_names: op.parents })
    }

    /// Several files to a path without a slash overwrite one target, as in BuildKit.
    fn of_file(&self, name: &Path) -> PathBuf {
        if self.is_directory { self.path.join(name) } else { self.path.clone() }
    }

    /// A directory's contents merge into the destination, a file goes to it or
    /// into it, and with `--parents` everything keeps its path.
    fn of_item(&self, item: &Selected) -> PathBuf {
        if self.keeps_names {
            return self.path.join(&item.name);
        }
        match (item.node.is_directory(), item.name.file_name()) {
            (false, Some(name)) => self.of_file(Path::new(name)),
            _ => self.path.clone(),
        }
    }
}

/// `/a/b/` → `a/b`.
fn relative(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect()
}

fn place_source<'a>(
    source: &'a Picked<'a>,
    destination: &Destination,
    placement: &mut Placement<'a>,
) -> Result<(), CopyError> {
    match source {
        Picked::Inline { name, content, mode, mtime } => {
            placement.bytes(destination.of_file(Path::new(name)), content, *mode, *mtime)
        }
        Picked::File { tree, name, node } => {
            let target = destination.of_file(Path::new(name));
            placement.node(*tree, Path::new(name), target, node, true)
        }
        Picked::Archive { tree, index } => place_archive(*tree, index, destination, placement),
        Picked::Selection { tree, selection, keep_owner } => {
            let mut refused = Ok(());
            let walked = selection.walk(*tree, &mut |visit| {
                if refused.is_ok() {
                    refused = place_visit(*tree, &visit, *keep_owner, destination, placement);
                }
                Ok(())
            });
            walked.map_err(CopyError::Source).and(refused)
        }
    }
}

fn place_visit<'a>(
    tree: &'a dyn SourceTree,
    visit: &Visit<'_>,
    keep_owner: bool,
    destination: &Destination,
    placement: &mut Placement<'a>,
) -> Result<(), CopyError> {
    let is_item = visit.below.as_os_str().is_empty();
    if is_item {
        for parent in &visit.item.parents {
            placement.directory(destination.path.join(&parent.name), &parent.node, keep_owner, false)?;
        }
    }
    let target = destination.of_item(visit.item);
    let target = if is_item { target } else { target.join(visit.below) };
    if visit.node.is_directory() {
        return placement.directory(target, visit.node, keep_owner, !is_item);
    }
    placement.node(tree, visit.path, target, visit.node, keep_owner)
}

/// The contents of an archive go into the destination, which becomes a
/// directory. As with tar, directories merge and everything else replaces what
/// is there, a directory or link included.
fn place_archive<'a>(
    tree: &'a dyn SourceTree,
    index: &EntryIndex,
    destination: &Destination,
    placement: &mut Placement<'a>,
) -> Result<(), CopyError> {
    let mut refused = Ok(());
    let walked = context::walk(tree, Path::new(""), &mut |path, node| {
        let implied = node.is_directory() && index.get(path).is_none();
        if refused.is_ok() && !implied && !path.as_os_str().is_empty() {
            refused = placement.unpacked(tree, path, &destination.path.join(path), node);
        }
        Ok(())
    });
    walked.map_err(CopyError::Source).and(refused)
}
