//! What a tree on disk cannot hold: device numbers, foreign owners, file
//! capabilities of others.
//!
//! An unprivileged builder can neither make device nodes nor give files away,
//! yet base images contain devices and steps change owners. Whatever the file
//! system refuses lies in a [`Record`] on the inode, in the extended attribute
//! [`RECORD_XATTR`]. It follows overlay's copy-up and renames because it is
//! part of the inode, and it is authenticated with the state directory's
//! [`Key`], because RUN can write `user.*` attributes too and must not be able
//! to invent a device.
//!
//! ```text
//! user.coracle.record = version (1) │ HMAC-SHA256 over the body (32) │ body
//! body                = presence bits (1) │ the fields present, little endian
//! ```
//!
//! Inodes that take no such attribute say their owner in another one ([`place`]).
//!
//! The authentication covers the content alone, not the path or the inode
//! number: both change under a record's feet (rename, copy-up).

mod key;
mod place;
mod record;

pub use key::Key;
pub use place::{give, is_hidden, takes_any};
pub use record::{Device, DeviceKind, Error, RECORD_XATTR, Record, SHORTEST};
