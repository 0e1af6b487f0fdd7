//! The registry of a bench.
//!
//! INTEGRATION: a thin face over `support/registry.rs` (the in-process registry
//! that speaks the real protocol); the bodies are filled when both branches meet.

use super::base::Base;

/// A registry on loopback, gone when dropped.
pub struct Server {
    credentials: Option<(String, String)>,
}

impl Server {
    /// Starts one; with `credentials` it wants them for everything.
    pub fn start(credentials: Option<(String, String)>) -> Self {
        Self { credentials }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        panic!("the registry of the tests is not integrated yet ({})", self.credentials.is_some())
    }

    /// Puts an image into memory, past the protocol and its authentication.
    pub fn put(&self, repository: &str, tag: &str, base: &Base) {
        panic!("no registry for {repository}:{tag} with {} layers yet", base.layers.len())
    }

    /// The digest that `repository:tag` has.
    pub fn manifest_digest(&self, repository: &str, tag: &str) -> Option<String> {
        panic!("no registry for {repository}:{tag} yet")
    }

    /// How many blobs were uploaded (not mounted) to `repository`.
    pub fn uploads(&self, repository: &str) -> usize {
        panic!("no registry for {repository} yet")
    }
}
