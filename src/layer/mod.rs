//! Tree ⇄ tar: how layers are written, read, and looked at without their bytes.
//!
//! - [`LayerWriter`] turns entries into a layer blob in one pass: tar → diff id
//!   → gzip → digest → temporary file, and its [`EntryIndex`] beside it.
//! - [`unpack`] is the mirror image, and trusts nothing in the tar.
//! - [`EntryIndex`] says what one layer contains, [`Stack`] what a chain of
//!   them looks like: enough for a COPY to know its target without any tree.
//! - [`Spool`] takes the bytes of some files out of a layer or archive while it
//!   streams by: what a COPY reads of a stage or image that has no tree.
//!
//! Promises: the same entries give the same bytes, whatever the number of
//! threads; memory does not grow with the size of a layer, only its index does
//! with the number of entries; nothing is ever written outside the directory
//! handed to [`unpack`].

mod compress;
mod decompress;
mod entry;
mod error;
mod gzip;
mod header;
mod index;
mod index_builder;
mod index_file;
mod inode;
mod pack;
mod path;
mod read;
mod spool;
mod stack;
mod tar_stream;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;

pub use compress::Compression;
pub use entry::{Entry, Kind, is_bookkeeping};
pub use error::Error;
pub use index::EntryIndex;
pub use pack::{LayerWriter, PackOptions, PackedLayer};
pub use read::{index, is_archive, read_files};
pub use spool::{Bodies, Body, Spool};
pub use stack::{Found, Resolved, Stack};
pub use unpack::{Below, LowerTrees, UnpackOptions, Unpacked, open_in_tree, unpack, unpack_archive};
