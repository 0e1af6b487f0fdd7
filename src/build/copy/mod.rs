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

mod archive;
mod chmod;
mod place;
#[cfg(test)]
mod tests;
mod unchanged;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::context::{self, Node, Selected, Selection, SourceTree, Visit};
use crate::layer::{self, LayerWriter, Stack};
use crate::plan::CopyOp;

pub(super) use place::setgid_above;
use place::{From, Placement, Rules};
pub(super) use unchanged::Below;

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
    /// The layers below could not be read.
    #[error("cannot compare with the layers below")]
    Below(#[source] Box<dyn std::error::Error + Send + Sync>),
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
        /// What it holds.
        tree: Box<dyn SourceTree + 'a>,
        /// Directories that it does not describe, but puts something into.
        implied: BTreeSet<PathBuf>,
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

impl Picked<'_> {
    /// Wildcards that match nothing: not even the destination is looked at.
    fn is_nothing(&self) -> bool {
        matches!(self, Self::Selection { selection, .. } if selection.items.is_empty())
    }
}

/// What is below the new layer.
pub(super) struct Target<'a> {
    /// The layers so far.
    pub(super) base: &'a Stack,
    /// Owner that `--chown` means here.
    pub(super) owner: Option<(u32, u32)>,
    /// Time of directories that the COPY makes, seconds since 1970.
    pub(super) now: i64,
    /// What a bind mount shows: the destination is the source itself, with its
    /// owner and mode, and no directory that happens to have its contents.
    pub(super) is_mount: bool,
    /// Reads files of the layers below; what is there already is left out then.
    pub(super) below: Option<&'a Below<'a>>,
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
    let base = if op.is_independent() { &empty } else { target.base };
    let rules = Rules { chmod: op.chmod.clone(), owner: target.owner, now: target.now };
    let mut placement = Placement::new(base, rules);
    if !op.parents && sources.iter().all(Picked::is_nothing) {
        return Ok(());
    }
    let destination = Destination { is_source: target.is_mount, ..Destination::find(op, base)? };
    for source in sources {
        placement.next_copy();
        place_source(source, &destination, &mut placement)?;
    }
    if let Some(below) = target.below {
        unchanged::leave_out(&mut placement, below)?;
    }
    placement.write(writer)
}

/// Where things go.
struct Destination {
    path: PathBuf,
    /// A slash at the end: it is made as a directory before anything is copied.
    slash: bool,
    /// `--parents`.
    keeps_names: bool,
    /// It becomes what the source is.
    is_source: bool,
}

impl Destination {
    /// Links are followed, dangling ones to what they would name.
    fn find(op: &CopyOp, base: &Stack) -> Result<Self, CopyError> {
        let written = PathBuf::from(&op.destination);
        let relative = relative(&op.destination);
        let resolved = base
            .resolve(&relative, true)
            .map_err(|source| CopyError::Target { path: written.clone(), source })?;
        let slash = op.destination.ends_with('/');
        if slash && resolved.found.as_ref().is_some_and(|found| !found.entry.kind.is_directory()) {
            return Err(CopyError::NotADirectory { path: resolved.path });
        }
        Ok(Self { path: resolved.path, slash, keeps_names: op.parents, is_source: false })
    }

    /// Into a directory that is there by now, else to the path itself: several
    /// files to a path without a slash overwrite one target, as in BuildKit.
    fn of_file(&self, name: &Path, placement: &Placement<'_>) -> PathBuf {
        match self.slash || placement.is_directory(&self.path) {
            true => self.path.join(name),
            false => self.path.clone(),
        }
    }

    /// A directory's contents merge into the destination, a file goes to it or
    /// into it, and with `--parents` everything keeps its path.
    fn of_item(&self, item: &Selected, placement: &Placement<'_>) -> PathBuf {
        if self.keeps_names {
            return self.path.join(&item.name).components().collect();
        }
        match (item.node.is_directory(), item.name.file_name()) {
            (false, Some(name)) => self.of_file(Path::new(name), placement),
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
            let path = destination.of_file(Path::new(name), placement);
            placement.bytes(path, content, *mode, *mtime)
        }
        Picked::File { tree, name, node } => {
            let path = destination.of_file(Path::new(name), placement);
            placement.touch_parent(&path);
            let from = From { tree: *tree, keep_owner: true, archive: false };
            placement.node(Path::new(name), path, node, from)
        }
        Picked::Archive { tree, implied } => {
            placement.destination(&destination.path, None, false)?;
            archive::place(tree.as_ref(), implied, &destination.path, placement)
        }
        Picked::Selection { tree, selection, keep_owner } => {
            let from = From { tree: *tree, keep_owner: *keep_owner, archive: false };
            place_selection(from, selection, destination, placement)
        }
    }
}

fn place_selection<'a>(
    from: From<'a>,
    selection: &Selection,
    destination: &Destination,
    placement: &mut Placement<'a>,
) -> Result<(), CopyError> {
    if destination.keeps_names {
        // It is made even where no pattern matches.
        placement.destination(&destination.path, None, true)?;
    }
    let mut progress = Progress { copy: None, item: None, target: PathBuf::new() };
    let mut refused = Ok(());
    let walked = selection.walk(from.tree, &mut |visit| {
        if refused.is_ok() {
            refused = place_visit(from, &visit, &mut progress, destination, placement);
        }
        Ok(())
    });
    walked.map_err(CopyError::Source).and(refused)
}

/// Which item a walk is at, and where that goes: what a file is called depends
/// on what was there before it.
struct Progress {
    copy: Option<usize>,
    item: Option<usize>,
    target: PathBuf,
}

impl Progress {
    fn enter(&mut self, visit: &Visit<'_>, destination: &Destination, placement: &mut Placement<'_>) {
        // With --parents all matches of one source are one copy, else each is.
        let copy = if destination.keeps_names { visit.item.source } else { visit.number };
        if self.copy != Some(copy) {
            placement.next_copy();
        }
        self.copy = Some(copy);
        if self.item != Some(visit.number) {
            self.target = destination.of_item(visit.item, placement);
        }
        self.item = Some(visit.number);
    }
}

fn place_visit<'a>(
    from: From<'a>,
    visit: &Visit<'_>,
    progress: &mut Progress,
    destination: &Destination,
    placement: &mut Placement<'a>,
) -> Result<(), CopyError> {
    if progress.item != Some(visit.number) {
        for parent in &visit.item.parents {
            placement.parent_of_item(destination.path.join(&parent.name), &parent.node, from)?;
        }
    }
    progress.enter(visit, destination, placement);
    let is_item = visit.below.as_os_str().is_empty();
    let target = if is_item { progress.target.clone() } else { progress.target.join(visit.below) };
    if target == destination.path && visit.node.is_directory() && !destination.is_source {
        // The time of a context's root is not sent to BuildKit, and one that no
        // layer describes has none: there it is new.
        let is_root = visit.path.as_os_str().is_empty() && (!from.keep_owner || visit.node.mtime == 0);
        let mtime = if is_root { placement.now() } else { visit.node.mtime };
        return placement.destination(&target, Some(mtime), true);
    }
    // Contents of a directory do not count: it gets its source's time after them.
    if is_item && !destination.keeps_names {
        placement.touch_parent(&target);
    }
    if !visit.node.is_directory() {
        return placement.node(visit.path, target, visit.node, from);
    }
    placement.directory(target, visit.node, from)
}
