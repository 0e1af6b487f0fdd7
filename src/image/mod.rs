//! What an image is, on the wire and on disk: references, digests, config and
//! manifest, and the builder that turns base + layers + changes into the exact
//! bytes of a new image.
//!
//! Pure: no disk, no network, no clock. Everything that reaches a digest is
//! sorted.

mod builder;
mod config;
mod digest;
mod manifest;
mod platform;
mod reference;

pub use builder::{BuildError, Image, ImageBuilder};
pub use config::{ConfigError, ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{Digest, DigestError, Hasher, HashingReader, HashingWriter};
pub use manifest::{Descriptor, Layer, Manifest, ManifestError, ManifestKind, choose, media_type};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
