//! What can go wrong with a layer, in the words of who built or pulled it.

use std::io;
use std::path::PathBuf;

use thiserror::Error as ThisError;

/// Why a layer could not be written, read or unpacked.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The temporary files of a new layer.
    #[error("cannot write the layer in `{directory}`")]
    WriteBlob {
        /// Where its temporary files lie.
        directory: PathBuf,
        /// Disk full, most often.
        #[source]
        source: io::Error,
    },
    /// The body of an entry could not be read while packing.
    #[error("cannot read `{path}`")]
    ReadBody {
        /// In the layer.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The body did not have as many bytes as the entry said.
    #[error("`{path}` changed while it was read: {expected} bytes were expected, {found}")]
    Changed {
        /// In the layer.
        path: PathBuf,
        /// The entry's size.
        expected: u64,
        /// How many came: a number, or that there were more.
        found: String,
    },
    /// The name means something else in a layer.
    #[error("`{path}` cannot be put in a layer: names that begin with `.wh.` mark deleted files there")]
    ReservedName {
        /// In the layer.
        path: PathBuf,
    },
    /// The caller's entries are not sorted, or come twice.
    #[error("`{path}` was added to the layer after `{after}`")]
    Unsorted {
        /// The entry.
        path: PathBuf,
        /// The one before it.
        after: PathBuf,
    },
    /// The entry has no form in a tar archive.
    #[error("`{path}` cannot be put in a layer: {reason}")]
    Unrepresentable {
        /// In the layer.
        path: PathBuf,
        /// What stands in the way.
        reason: String,
    },
    /// The temporary file for what is taken out of a layer or archive.
    #[error("cannot keep files of a layer in `{directory}`")]
    Spool {
        /// Where it lies.
        directory: PathBuf,
        /// Disk full, most often.
        #[source]
        source: io::Error,
    },
    /// The blob could not be read or decompressed.
    #[error("cannot read the layer")]
    ReadBlob(#[source] io::Error),
    /// The blob is not what its media type and its first bytes claim.
    #[error("the layer is malformed: {0}")]
    Malformed(String),
    /// The blob ends too early.
    #[error("the layer ends in the middle of `{path}`")]
    Truncated {
        /// The entry that is cut off.
        path: PathBuf,
    },
    /// A name that would leave the root or that no file can have.
    #[error("the layer holds the unsafe name `{path}`: {reason}")]
    UnsafeName {
        /// As in the tar.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry we do not handle.
    #[error("the layer's entry `{path}` is {what}, which is not supported")]
    Unsupported {
        /// As in the tar.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// More than 40 symbolic links on the way (ELOOP).
    #[error("too many symbolic links on the way to `{path}`")]
    SymlinkLoop {
        /// What was looked up.
        path: PathBuf,
    },
    /// A component on the way is no directory.
    #[error("`{path}` is not a directory, on the way to `{wanted}`")]
    NotADirectory {
        /// The component.
        path: PathBuf,
        /// What was looked up.
        wanted: PathBuf,
    },
    /// A hard link to what is not there, or to a directory.
    #[error("the layer links `{path}` to `{target}`, {reason}")]
    LinkTarget {
        /// The link.
        path: PathBuf,
        /// Its target.
        target: PathBuf,
        /// Why that cannot be.
        reason: &'static str,
    },
    /// The file system refused something while unpacking.
    #[error("cannot unpack `{path}`: {action} failed")]
    Unpack {
        /// In the layer.
        path: PathBuf,
        /// Which call.
        action: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// mknod(2) of a whiteout was refused. Allowed without privilege since
    /// Linux 5.8, so a filter of the container forbids it.
    #[error("cannot mark `{path}` as deleted: the sandbox refuses to make overlay's whiteout (mknod 0:0)")]
    Whiteout {
        /// In the layer.
        path: PathBuf,
        /// mknod's answer.
        #[source]
        source: io::Error,
    },
    /// A record could not be put on a placeholder.
    #[error("cannot keep the metadata of `{path}` on its placeholder")]
    Record {
        /// In the layer.
        path: PathBuf,
        /// Why.
        #[source]
        source: crate::metadata::Error,
    },
    /// A file asked for is larger than what is read into memory.
    #[error("`{path}` has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// In the layer.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An entry index could not be read from or written to disk.
    #[error("cannot access the entry index `{path}`")]
    IndexFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An entry index on disk is damaged or of another version.
    #[error("the entry index `{path}` is damaged: {reason}")]
    IndexDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}
