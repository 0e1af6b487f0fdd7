//! Manifests and indexes: OCI (image spec, manifest.md and image-index.md) and
//! Docker's schema 2 of the same. oci-client's types read and write them; here
//! their digests and sizes become typed and checked.

use std::collections::BTreeMap;

use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageIndex, OciImageManifest};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Digest, Platform};

/// The media types this program reads and writes.
pub mod media_type {
    /// OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Uncompressed layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// gzip layer.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// zstd layer.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker gzip layer.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker uncompressed layer.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

/// A blob as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Free-form metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Describes `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            annotations: BTreeMap::new(),
        }
    }
}

/// A layer: the same tar compressed (`digest`, `size`, `media_type`) and not (`diff_id`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Of the uncompressed tar.
    pub diff_id: Digest,
    /// Of the blob.
    pub digest: Digest,
    /// Of the blob, in bytes.
    pub size: u64,
    /// Of the blob; says how it is compressed.
    pub media_type: String,
}

impl Layer {
    /// The blob as a manifest names it. A Docker type becomes its OCI equal,
    /// since the manifests written here are OCI (layer.md: the bytes are the same).
    pub fn descriptor(&self) -> Descriptor {
        let media_type = match self.media_type.as_str() {
            media_type::DOCKER_LAYER_GZIP => media_type::LAYER_GZIP,
            media_type::DOCKER_LAYER => media_type::LAYER,
            other => other,
        };
        Descriptor {
            media_type: media_type.to_owned(),
            digest: self.digest,
            size: self.size,
            annotations: BTreeMap::new(),
        }
    }
}

/// What a registry may answer to a request for a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// One image.
    Image(Manifest),
    /// Several images to choose from.
    Index(Vec<(Descriptor, Option<Platform>)>),
}

/// The manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its own media type.
    pub media_type: String,
    /// The config blob.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Free-form metadata.
    pub annotations: BTreeMap<String, String>,
}

/// Why a manifest is unusable.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Not JSON, or not of this shape.
    #[error("the manifest is not valid")]
    Malformed(#[source] serde_json::Error),
    /// A digest or size in it cannot be.
    #[error("the manifest has a bad descriptor: {0}")]
    Descriptor(String),
    /// A kind this program does not read.
    #[error("manifests of type `{0}` are not supported (expected an OCI or Docker schema 2 image or index)")]
    Unsupported(String),
}

impl ManifestKind {
    /// Reads a manifest. `content_type` is what the registry called it; a
    /// `mediaType` inside wins.
    ///
    /// # Errors
    /// When it is not an OCI or Docker schema 2 manifest or index.
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ManifestError> {
        let probe: Probe = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
        let named =
            probe.media_type.as_deref().or(content_type.map(|t| t.split(';').next().unwrap_or(t).trim()));
        match (named, probe.manifests.is_some(), probe.layers.is_some()) {
            (Some(media_type::INDEX | media_type::DOCKER_LIST), ..) | (_, true, false) => index(bytes),
            (Some(media_type::MANIFEST | media_type::DOCKER_MANIFEST), ..) | (_, false, true) => {
                let kind = named.unwrap_or(media_type::MANIFEST).to_owned();
                manifest(bytes, kind).map(Self::Image)
            }
            (other, ..) => Err(ManifestError::Unsupported(other.unwrap_or("unknown").to_owned())),
        }
    }
}

/// The entry of an index for a platform: the very one, else the first that runs there.
///
/// # Errors
/// The platforms there are, when none fits.
pub fn choose(
    platform: &Platform,
    entries: Vec<(Descriptor, Option<Platform>)>,
) -> Result<Descriptor, Vec<Platform>> {
    let fits = |exact: bool| {
        let same = move |other: &Platform| if exact { platform == other } else { platform.accepts(other) };
        entries.iter().find(|(_, other)| other.as_ref().is_some_and(same)).map(|(found, _)| found.clone())
    };
    fits(true).or_else(|| fits(false)).ok_or_else(|| {
        // Attestations are listed under `unknown/unknown`.
        let mut available: Vec<Platform> =
            entries.iter().filter_map(|(_, other)| other.clone()).filter(|p| p.os != "unknown").collect();
        available.sort();
        available.dedup();
        available
    })
}

impl Manifest {
    /// The blob, exactly as the OCI spec has it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let manifest = OciImageManifest {
            media_type: Some(self.media_type.clone()),
            config: wire(&self.config),
            layers: self.layers.iter().map(wire).collect(),
            annotations: Some(self.annotations.clone()).filter(|map| !map.is_empty()),
            ..OciImageManifest::default()
        };
        serde_json::to_vec(&manifest).expect("maps have text keys and no value fails to serialise")
    }

    /// How a manifest in an index or layout names this one.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.media_type, &self.to_bytes())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

fn manifest(bytes: &[u8], media_type: String) -> Result<Manifest, ManifestError> {
    let parsed: OciImageManifest = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
    Ok(Manifest {
        media_type,
        config: typed(parsed.config)?,
        layers: parsed.layers.into_iter().map(typed).collect::<Result<_, _>>()?,
        annotations: parsed.annotations.unwrap_or_default(),
    })
}

fn index(bytes: &[u8]) -> Result<ManifestKind, ManifestError> {
    let parsed: OciImageIndex = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
    parsed.manifests.into_iter().map(index_entry).collect::<Result<_, _>>().map(ManifestKind::Index)
}

fn index_entry(entry: ImageIndexEntry) -> Result<(Descriptor, Option<Platform>), ManifestError> {
    let platform = entry.platform.as_ref().and_then(|platform| {
        let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{}/{}{variant}", platform.os, platform.architecture).parse().ok()
    });
    let descriptor = typed(OciDescriptor {
        media_type: entry.media_type,
        digest: entry.digest,
        size: entry.size,
        annotations: entry.annotations,
        ..OciDescriptor::default()
    })?;
    Ok((descriptor, platform))
}

fn typed(wire: OciDescriptor) -> Result<Descriptor, ManifestError> {
    Ok(Descriptor {
        digest: wire
            .digest
            .parse()
            .map_err(|error: super::DigestError| ManifestError::Descriptor(error.to_string()))?,
        size: u64::try_from(wire.size)
            .map_err(|_| ManifestError::Descriptor(format!("`{}` has a negative size", wire.digest)))?,
        media_type: wire.media_type,
        annotations: wire.annotations.unwrap_or_default(),
    })
}

fn wire(descriptor: &Descriptor) -> OciDescriptor {
    OciDescriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).expect("blobs are smaller than 8 EiB"),
        annotations: Some(descriptor.annotations.clone()).filter(|map| !map.is_empty()),
        ..OciDescriptor::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        Manifest {
            media_type: media_type::MANIFEST.to_owned(),
            config: Descriptor::of(media_type::CONFIG, b"{}"),
            layers: vec![Descriptor::of(media_type::LAYER_GZIP, b"x")],
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let bytes = sample().to_bytes();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.starts_with(r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType""#), "{text}");
        assert_eq!(ManifestKind::parse(None, &bytes).unwrap(), ManifestKind::Image(sample()));
    }

    #[test]
    fn refuses_other_things() {
        let signed = br#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#;
        assert!(matches!(ManifestKind::parse(None, signed), Err(ManifestError::Unsupported(_))));
        let mut text = String::from_utf8(sample().to_bytes()).unwrap();
        text = text.replace("sha256:", "sha256:../");
        assert!(matches!(ManifestKind::parse(None, text.as_bytes()), Err(ManifestError::Descriptor(_))));
        assert!(matches!(ManifestKind::parse(None, b"<html>"), Err(ManifestError::Malformed(_))));
    }
}
