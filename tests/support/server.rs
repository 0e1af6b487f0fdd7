//! The registry of a bench: the in-process registry, with the bases put into it.

use super::base::Base;
use super::registry::{Auth, Behaviour, TestRegistry};

/// A registry on loopback, gone when dropped.
pub struct Server(TestRegistry);

const REPOSITORIES: [&str; 4] = ["library/base", "library/awkward", "team/app", "team/parent"];

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Server {
    /// Starts one; with a user and password it wants them for everything.
    pub fn start(login: Option<(&str, &str)>) -> Self {
        let Some((user, password)) = login else { return Self(TestRegistry::start()) };
        // The registry keeps pairs for as long as the program runs.
        let pair: &'static str = Box::leak(format!("{user}:{password}").into_boxed_str());
        let auth = Auth::Basic { users: vec![pair], readers: Vec::new() };
        Self(TestRegistry::with(Behaviour { auth, ..Behaviour::default() }))
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.0.host()
    }

    /// Puts an image into memory, past the protocol and its authentication.
    pub fn put(&self, repository: &str, tag: &str, base: &Base) {
        self.0.put_blob(repository, &base.config);
        for layer in &base.layers {
            self.0.put_blob(repository, layer);
        }
        self.0.put_manifest(repository, tag, MANIFEST, &base.manifest);
    }

    /// A blob or manifest of one of the repositories that tests use.
    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        let manifest = |repository| self.0.manifest(repository, digest).map(|(_, bytes)| bytes);
        REPOSITORIES
            .iter()
            .find_map(|repository| self.0.blob(repository, digest).or_else(|| manifest(repository)))
    }

    /// The digest that `repository:tag` has.
    pub fn manifest_digest(&self, repository: &str, tag: &str) -> Option<String> {
        let (_, bytes) = self.0.manifest(repository, tag)?;
        Some(coracle::image::Digest::of(bytes).to_string())
    }

    /// How many blobs were sent (not mounted) to `repository`.
    pub fn uploads(&self, repository: &str) -> usize {
        self.0.count(&format!("PUT /v2/{repository}/blobs/uploads/"))
    }
}
