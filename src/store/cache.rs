//! What a step came to, by its key.

use std::io;

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

impl Store {
    /// What is known under `key`. A damaged entry counts as missing. That the
    /// layer's blob is still here is for the caller to check.
    ///
    /// # Errors
    /// When the entry is there and cannot be read.
    pub fn cache_get(&self, key: &Digest) -> Result<Option<CacheEntry>, Error> {
        let path = self.root.join("cache").join(key.hex());
        match std::fs::read(&path) {
            Ok(bytes) => Ok(parse(key, &bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new("read", &path, error)),
        }
    }

    /// Remembers `entry` under `key`, in place of what was there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn cache_put(&self, key: &Digest, entry: &CacheEntry) -> Result<(), Error> {
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

fn parse(key: &Digest, bytes: &[u8]) -> Option<CacheEntry> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (first, json) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
    if first.parse::<Digest>().ok()? != seal(key, json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}
