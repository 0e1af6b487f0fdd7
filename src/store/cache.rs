//! What a step came to, by its key.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Error, Store, write_file};
use crate::image::{Digest, Layer};

/// The result of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheEntry {
    /// The layer it made; `None` for a step that makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    /// When it was made, seconds since 1970: an image built from the cache is as
    /// old as what it is made of.
    #[serde(default)]
    pub created: i64,
}

/// What was at a URL when it was last asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// Of the blob that holds its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// `ETag`, as the server wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`, as the server wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Store {
    /// What is known of the URL with this key. That the blob is still here is
    /// for the caller to check.
    ///
    /// # Errors
    /// When the entry is there and cannot be read.
    pub fn download_get(&self, key: &Digest) -> Result<Option<Download>, Error> {
        self.get(key)
    }

    /// Remembers what a URL had.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn download_put(&self, key: &Digest, download: &Download) -> Result<(), Error> {
        self.put(key, download)
    }

    /// What is known under `key`. A damaged entry counts as missing. That the
    /// layer's blob is still here is for the caller to check.
    ///
    /// # Errors
    /// When the entry is there and cannot be read.
    pub fn cache_get(&self, key: &Digest) -> Result<Option<CacheEntry>, Error> {
        self.get(key)
    }

    /// Remembers `entry` under `key`, in place of what was there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn cache_put(&self, key: &Digest, entry: &CacheEntry) -> Result<(), Error> {
        self.put(key, entry)
    }

    fn get<T: DeserializeOwned>(&self, key: &Digest) -> Result<Option<T>, Error> {
        let path = self.root.join("cache").join(key.hex());
        match std::fs::read(&path) {
            Ok(bytes) => Ok(parse(key, &bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new("read", &path, error)),
        }
    }

    fn put<T: Serialize>(&self, key: &Digest, entry: &T) -> Result<(), Error> {
        let path = self.root.join("cache").join(key.hex());
        let json = serde_json::to_vec(entry).expect("no value in an entry fails to serialise");
        let bytes = [format!("{}\n", seal(key, &json)).as_bytes(), &json].concat();
        write_file(&self.root.join("builds"), &path, &bytes)
    }
}

/// The first line of an entry: tells a torn one, and one under another name.
fn seal(key: &Digest, json: &[u8]) -> Digest {
    Digest::of([key.as_bytes(), json].concat())
}

fn parse<T: DeserializeOwned>(key: &Digest, bytes: &[u8]) -> Option<T> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (first, json) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
    if first.parse::<Digest>().ok()? != seal(key, json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}
