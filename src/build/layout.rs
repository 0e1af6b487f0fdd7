//! `--build-context name=oci-layout://DIR[:TAG][@DIGEST]`: an image that lies in a
//! directory (image-spec, image-layout.md) stands where one from a registry would.
//!
//! Its layers are copied into the store, verified on the way, and only those
//! that are not there yet. Which image of the layout is meant, buildx decides:
//! the digest, else the name, else the only one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error as ThisError;

use crate::image::{
    Descriptor, Digest, Hasher, Manifest, ManifestError, ManifestKind, Platform, Reference, choose,
};
use crate::registry::Resolved;
use crate::store::{self, Store};

/// As large as manifests and configs from a registry may be.
const MANIFEST_LIMIT: u64 = 4 << 20;
const CONFIG_LIMIT: u64 = 8 << 20;

/// The name that buildx looks for when none is given.
const DEFAULT_TAG: &str = "latest";

/// Why an image cannot be taken from a layout.
#[derive(Debug, ThisError)]
pub enum LayoutError {
    /// A file of it.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `index.json` is none.
    #[error("`{}` is no index of an OCI layout", path.display())]
    Index {
        /// The file.
        path: PathBuf,
    },
    /// The address names a digest that is none.
    #[error("`@{0}` is no digest (expected `sha256:` and 64 hex digits)")]
    BadDigest(String),
    /// No image of that name, and more than one.
    #[error("the layout has no image `{tag}` (it has {}); name one with `:TAG` or `@DIGEST`", listed(.names))]
    NoImage {
        /// What was looked for.
        tag: String,
        /// The names there are.
        names: Vec<String>,
    },
    /// A blob is not what its name says.
    #[error("`{}` is damaged (expected `{expected}`, found `{found}`)", path.display())]
    Damaged {
        /// The blob.
        path: PathBuf,
        /// Its name.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// A manifest.
    #[error("the image cannot be understood")]
    Manifest(#[source] ManifestError),
    /// An index in an index.
    #[error("the index names an index for {0}: nobody publishes images so")]
    Nested(Platform),
    /// Nothing for the platform.
    #[error("the layout has no image for {wanted} (it has {})", listed(.available))]
    Platform {
        /// Asked for.
        wanted: Platform,
        /// There.
        available: Vec<String>,
    },
    /// The state directory.
    #[error("the state directory failed")]
    Store(#[source] store::Error),
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A layout, and where its layers go.
pub(super) struct Layout<'a> {
    pub(super) store: &'a Store,
    /// Where unfinished things lie; on the store's file system.
    pub(super) unfinished: &'a Path,
    pub(super) platform: &'a Platform,
}

impl Layout<'_> {
    /// Takes the image that `address`, without `oci-layout://`, names.
    pub(super) fn take(&self, address: &str) -> Result<Resolved, LayoutError> {
        let (place, digest) = match address.split_once('@') {
            Some((place, digest)) => {
                let parsed = digest.parse().map_err(|_wrong| LayoutError::BadDigest(digest.to_owned()))?;
                (place, Some(parsed))
            }
            None => (address, None),
        };
        let (directory, tag) = match place.rsplit_once(':') {
            Some((directory, tag)) if !tag.contains('/') => (Path::new(directory), tag),
            _ => (Path::new(place), DEFAULT_TAG),
        };
        let mut digest = digest.map_or_else(|| find(directory, tag), Ok)?;
        let mut kind = manifest(directory, &digest)?;
        if let ManifestKind::Index(entries) = kind {
            digest = choose(self.platform, entries).map(|found| found.digest).map_err(|available| {
                let available = available.iter().map(ToString::to_string).collect();
                LayoutError::Platform { wanted: self.platform.clone(), available }
            })?;
            kind = manifest(directory, &digest)?;
        }
        let ManifestKind::Image(manifest) = kind else {
            return Err(LayoutError::Nested(self.platform.clone()));
        };
        let config = small(directory, &manifest.config.digest, CONFIG_LIMIT)?;
        self.take_layers(directory, &manifest)?;
        Ok(Resolved { digest, manifest, config })
    }

    fn take_layers(&self, directory: &Path, manifest: &Manifest) -> Result<(), LayoutError> {
        for layer in &manifest.layers {
            if !self.store.has_blob(&layer.digest, layer.size) {
                self.take_layer(&blob(directory, &layer.digest), layer)?;
            }
        }
        Ok(())
    }

    fn take_layer(&self, path: &Path, layer: &Descriptor) -> Result<(), LayoutError> {
        let failed = |source| LayoutError::Read { path: path.to_owned(), source };
        let mut from = File::open(path).map_err(failed)?;
        let mut temporary = tempfile::NamedTempFile::new_in(self.unfinished).map_err(failed)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = from.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            temporary.write_all(&buffer[..count]).map_err(failed)?;
        }
        check(path, &layer.digest, hasher.finish())?;
        self.store.adopt_blob(&temporary.into_temp_path(), &layer.digest).map_err(LayoutError::Store)
    }
}

/// The image of that name; the only one, whatever its name.
fn find(directory: &Path, tag: &str) -> Result<Digest, LayoutError> {
    let path = directory.join("index.json");
    let bytes = limited(&path, MANIFEST_LIMIT)?;
    let wrong = || LayoutError::Index { path: path.clone() };
    let index: Value = serde_json::from_slice(&bytes).map_err(|_not_json| wrong())?;
    let entries = index.get("manifests").and_then(Value::as_array).ok_or_else(wrong)?;
    let is_named = |entry: &&Value| name(entry).is_some_and(|name| is_called(name, tag));
    let found = match (entries.iter().rev().find(is_named), entries.as_slice()) {
        (Some(found), _) => found,
        (None, [only]) => only,
        (None, _) => {
            let names = entries.iter().filter_map(name).map(|name| format!("`{name}`")).collect();
            return Err(LayoutError::NoImage { tag: tag.to_owned(), names });
        }
    };
    found.get("digest").and_then(Value::as_str).and_then(|text| text.parse().ok()).ok_or_else(wrong)
}

fn name(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get("org.opencontainers.image.ref.name")?.as_str()
}

/// The specification leaves open whether a name is a tag or a whole reference.
fn is_called(name: &str, tag: &str) -> bool {
    let is_whole = name.contains(['/', ':']);
    name == tag || is_whole && name.parse::<Reference>().is_ok_and(|name| name.tag() == Some(tag))
}

fn manifest(directory: &Path, digest: &Digest) -> Result<ManifestKind, LayoutError> {
    let bytes = small(directory, digest, MANIFEST_LIMIT)?;
    ManifestKind::parse(None, &bytes).map_err(LayoutError::Manifest)
}

fn small(directory: &Path, digest: &Digest, limit: u64) -> Result<Vec<u8>, LayoutError> {
    let path = blob(directory, digest);
    let bytes = limited(&path, limit)?;
    check(&path, digest, Digest::of(&bytes))?;
    Ok(bytes)
}

fn blob(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

/// What is longer comes out cut, and then has another digest or is no JSON.
fn limited(path: &Path, limit: u64) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|source| LayoutError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

fn check(path: &Path, expected: &Digest, found: Digest) -> Result<(), LayoutError> {
    match *expected == found {
        true => Ok(()),
        false => Err(LayoutError::Damaged { path: path.to_owned(), expected: *expected, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_find(manifests: Value, tag: &str, expected: Result<&str, &str>) {
        let directory = tempfile::tempdir().unwrap();
        let index = serde_json::json!({ "manifests": manifests });
        std::fs::write(directory.path().join("index.json"), index.to_string()).unwrap();
        match (find(directory.path(), tag), expected) {
            (Ok(found), Ok(expected)) => assert!(found.hex().starts_with(expected), "{found}"),
            (Err(found), Err(part)) => assert!(found.to_string().contains(part), "{found}"),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    fn entry(digit: &str, name: &str) -> Value {
        let digest = format!("sha256:{}", digit.repeat(64));
        serde_json::json!({
            "digest": digest,
            "annotations": { "org.opencontainers.image.ref.name": name },
        })
    }

    #[test]
    fn finds_by_tag_by_reference_or_alone() {
        let two = || serde_json::json!([entry("a", "one"), entry("b", "r.io/team/app:two")]);
        check_find(two(), "one", Ok("aa"));
        check_find(two(), "two", Ok("bb"));
        check_find(two(), "latest", Err("`one`, `r.io/team/app:two`"));
        check_find(serde_json::json!([entry("c", "one")]), "latest", Ok("cc"));
        check_find(serde_json::json!([]), "latest", Err("it has none"));
        check_find(serde_json::json!({}), "latest", Err("no index"));
    }
}
