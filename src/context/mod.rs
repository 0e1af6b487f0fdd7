//! What COPY and ADD may read: the ignore file, the selection of sources, and
//! the digest of what was selected.
//!
//! Everything here works over a [`SourceTree`]: a local directory
//! ([`DirectoryContext`]), files held in memory ([`MemoryTree`]), or the layers
//! of a stage, which the conductor offers behind the same trait. Paths in a tree
//! are relative and clean (no `.`, no `..`); the root is the empty path. A link
//! is never followed out of a tree.

mod digest;
mod directory;
mod handles;
mod ignore;
mod memory;
mod pattern;
mod resolve;
mod select;
mod stat_index;
mod tree;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use digest::{Owners, digest};
pub use directory::{DirectoryContext, read_inside};
pub use ignore::{Ignore, Ignored, ignore_file};
pub use memory::MemoryTree;
pub use pattern::{Pattern, PatternError};
pub use resolve::{MAX_LINKS, resolve};
pub use select::{Parent, SelectOptions, Selected, Selection, Visit, has_wildcard, select};
pub use tree::{Node, NodeKind, SourceTree, walk};

/// Says whether the build has been told to stop. Asked for every piece that is read.
pub type Stop = std::sync::Arc<dyn Fn() -> bool + Send + Sync>;

/// Why something could not be taken from a context.
#[derive(Debug, Error)]
pub enum Error {
    /// A line of the ignore file is not a pattern.
    #[error("line {line} of .dockerignore: `{pattern}` is not a pattern")]
    IgnorePattern {
        /// Counted from 1.
        line: usize,
        /// As written.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
    /// A source of COPY or ADD, or an `--exclude`, is not a pattern.
    #[error("`{pattern}` is not a pattern")]
    SourcePattern {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
    /// A source does not exist, as far as it has no wildcards.
    #[error("`{pattern}` does not exist in {tree}{}", ignored_note(ignored))]
    NotFound {
        /// As written.
        pattern: String,
        /// Which tree was searched.
        tree: String,
        /// The line that hides it, when it is there but ignored.
        ignored: Option<Ignored>,
    },
    /// Links lead in a circle, or too far.
    #[error("`{}` in {tree} goes through more than {MAX_LINKS} symbolic links", path.display())]
    TooManyLinks {
        /// Where the walk began.
        path: PathBuf,
        /// Which tree.
        tree: String,
    },
    /// The context is not there, or not a directory.
    #[error("the build context `{}` cannot be opened", path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in the tree could not be read.
    #[error("`{}` in {tree} cannot be read", path.display())]
    Read {
        /// Relative to the tree.
        path: PathBuf,
        /// Which tree.
        tree: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or directory became something else while it was being read.
    #[error("`{}` in {tree} changed while it was being read", path.display())]
    Changed {
        /// Relative to the tree.
        path: PathBuf,
        /// Which tree.
        tree: String,
    },
    /// The build was told to stop.
    #[error("reading {tree} was interrupted")]
    Stopped {
        /// Which tree.
        tree: String,
    },
    /// The stat index could not be written; the next build reads more than it need.
    #[error("cannot write the stat index `{}`", path.display())]
    StatIndex {
        /// The index.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn ignored_note(ignored: &Option<Ignored>) -> String {
    match ignored {
        Some(found) => format!(": excluded by .dockerignore line {} (`{}`)", found.line, found.pattern),
        None => String::new(),
    }
}
