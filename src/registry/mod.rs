//! Registries: pulling and pushing images, logging in, and the credentials to
//! do so (OCI distribution spec 1.1, the Docker token protocol).
//!
//! It promises: bytes are verified against their digests while they stream and
//! memory does not grow with a blob; a blob that is already there, or can be
//! mounted from another repository, is not sent; a credential goes only to the
//! host (and path) it was given for. Which image to push, and under which
//! names, is left to the caller.

mod answer;
mod auth;
mod challenge;
mod client;
pub mod credentials;
mod error;
mod greet;
mod image_push;
mod pull;
mod push;
mod scope;
mod token;
mod transfer;
mod upload;

pub use client::{Client, Options};
pub use credentials::Credentials;
pub use error::{Error, ErrorKind, Reply};
pub use greet::{Greeting, Login};
pub use image_push::ImagePush;
pub use pull::Resolved;
pub use push::{BlobSource, Pushed};

#[cfg(test)]
#[path = "../../tests/support/registry.rs"]
mod test_registry;
#[cfg(test)]
mod tests;
