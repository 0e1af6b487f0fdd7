//! What can go wrong with the tree of a RUN.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error as ThisError;

use crate::layer;

/// Why a tree could not be made, or its changes not be packed.
#[derive(Debug, ThisError)]
pub enum Error {
    /// Something in the tree could not be read.
    #[error("cannot read `{path}` in the tree of the step")]
    Read {
        /// Relative to the root of the tree.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// Something in the tree could not be made: disk full, most often.
    #[error("cannot write `{path}` in the tree of the step")]
    Write {
        /// Relative to the root of the tree.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The list of how the tree was before the step.
    #[error("cannot keep the list of the step's files in `{path}`")]
    Index {
        /// The list, or its directory.
        path: PathBuf,
        /// Disk full, most often.
        #[source]
        source: io::Error,
    },
    /// The layer could not be written, or one below not be read.
    #[error(transparent)]
    Layer(layer::Error),
    /// The tree of an earlier step is not the beginning of this one's layers.
    #[error("the tree of an earlier step holds {have} layers, this step has only {want}")]
    NotTheBeginning {
        /// Layers in the tree taken over.
        have: usize,
        /// Layers asked for.
        want: usize,
    },
}

impl Error {
    pub(super) fn read<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Read { path: path.to_owned(), source: source.into() }
    }

    pub(super) fn index<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Index { path: path.to_owned(), source: source.into() }
    }

    pub(super) fn write<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Write { path: path.to_owned(), source: source.into() }
    }
}
