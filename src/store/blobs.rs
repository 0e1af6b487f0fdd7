//! Blobs by digest: layers, configs, manifests.

use std::path::{Path, PathBuf};

use super::{Error, Store, rename, write_file};
use crate::image::{Descriptor, Digest};

impl Store {
    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Whether the blob is here, with all of its `size` bytes. One of another
    /// size was torn by a crash, and counts as missing.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        let found = std::fs::symlink_metadata(self.blob_path(digest));
        found.is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    }

    /// Publishes a file whose digest was verified while it was written. It must
    /// be on the same file system.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn adopt_blob(&self, temporary: &Path, digest: &Digest) -> Result<(), Error> {
        rename(temporary, &self.blob_path(digest))
    }

    /// Writes a small blob: a config or a manifest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        if self.has_blob(&digest, bytes.len() as u64) {
            return Ok(digest);
        }
        write_file(&self.root.join("builds"), &path, bytes)?;
        Ok(digest)
    }

    /// Reads a small blob and checks it.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn read_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let path = self.blob_path(&descriptor.digest);
        let bytes = std::fs::read(&path).map_err(|error| Error::new("read", &path, error))?;
        match Digest::of(&bytes) == descriptor.digest {
            true => Ok(bytes),
            false => Err(Error::Damaged { path }),
        }
    }
}
