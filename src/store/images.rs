//! Finished images: an OCI image layout (image-spec, image-layout.md) whose
//! `index.json` names them.
//!
//! Names are full references, in `org.opencontainers.image.ref.name` as skopeo
//! and podman match it (`oci:<root>:registry/app:1`), and in
//! `io.containerd.image.name` as `ctr image import` reads it.

use serde_json::{Map, Value, json};

use super::{Error, Store};
use crate::image::{Descriptor, Image, Reference, media_type};

pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

impl Store {
    /// Names an image, and takes the name from the image that had it. The blobs
    /// of its layers must be here already; config and manifest are written.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn image_put(&self, name: &Reference, image: &Image) -> Result<(), Error> {
        self.put_blob(image.config_bytes())?;
        let manifest = image.manifest().to_bytes();
        self.put_blob(&manifest)?;
        self.name_put(name, &image.manifest().descriptor())
    }

    /// Names a manifest that is already here as a blob.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn name_put(&self, name: &Reference, manifest: &Descriptor) -> Result<(), Error> {
        self.renamed(name, Some(manifest))
    }

    /// Takes a name away from the image that had it: the name now stands for one
    /// that is elsewhere.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn name_drop(&self, name: &Reference) -> Result<(), Error> {
        self.renamed(name, None)
    }

    fn renamed(&self, name: &Reference, manifest: Option<&Descriptor>) -> Result<(), Error> {
        let _lock = self.small_lock()?;
        let mut manifests = self.manifests();
        let before = manifests.len();
        manifests.retain(|entry| ref_name(entry) != Some(&name.to_string()));
        if manifest.is_none() && manifests.len() == before {
            return Ok(());
        }
        manifests.extend(manifest.map(|manifest| {
            json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.size,
                "annotations": { REF_NAME: name, CONTAINERD_NAME: name },
            })
        }));
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::INDEX,
            "manifests": manifests,
        });
        self.publish("index.json", index.to_string().as_bytes())
    }

    /// The named images, in the order in which they were named.
    ///
    /// # Errors
    /// None today; the signature leaves room for an index that must be readable.
    pub fn images(&self) -> Result<Vec<(Reference, Descriptor)>, Error> {
        Ok(self.manifests().iter().filter_map(named).collect())
    }

    /// The manifest that `name` stands for.
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn image(&self, name: &Reference) -> Result<Option<Descriptor>, Error> {
        Ok(self.images()?.into_iter().find(|(other, _)| other == name).map(|(_, descriptor)| descriptor))
    }

    /// What `index.json` lists; nothing where it is missing or was torn. Entries
    /// of others, and what they say beyond ours, are kept as they are.
    fn manifests(&self) -> Vec<Value> {
        let bytes = std::fs::read(self.root.join("index.json")).unwrap_or_default();
        let index: Map<String, Value> = serde_json::from_slice(&bytes).unwrap_or_default();
        match index.get("manifests") {
            Some(Value::Array(entries)) => entries.clone(),
            _ => Vec::new(),
        }
    }
}

fn ref_name(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

fn named(entry: &Value) -> Option<(Reference, Descriptor)> {
    let name = ref_name(entry)?.parse().ok()?;
    let descriptor = Descriptor {
        media_type: entry.get("mediaType")?.as_str()?.to_owned(),
        digest: entry.get("digest")?.as_str()?.parse().ok()?,
        size: entry.get("size")?.as_u64()?,
        annotations: Default::default(),
    };
    Some((name, descriptor))
}
