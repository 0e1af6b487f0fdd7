//! The client against a registry in this process, and what oci-client, an
//! independent one, makes of the result.

mod auth;
mod faults;
mod greet;
mod pull;
mod push;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::credentials::{Explicit, Login};
use super::test_registry::{Behaviour, TestRegistry};
use super::{Client, Credentials, Options};
use crate::image::{Descriptor, Manifest, Reference, media_type};
use crate::net::RetryPolicy;
use crate::progress::{Event, Reporter};
use crate::secret::Secret;

/// Keeps what is reported.
#[derive(Default)]
pub(super) struct Heard(Mutex<Vec<Event>>);

impl Reporter for Heard {
    fn report(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Heard {
    pub(super) fn text(&self) -> String {
        self.0.lock().unwrap().iter().map(|event| format!("{event:?}\n")).collect()
    }
}

/// A registry, a client for it, and a directory to work in.
pub(super) struct Bench {
    pub(super) registry: TestRegistry,
    pub(super) client: Client,
    pub(super) heard: Arc<Heard>,
    pub(super) directory: tempfile::TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Behaviour::default(), Credentials::anonymous())
    }

    pub(super) fn with(behaviour: Behaviour, credentials: Credentials) -> Self {
        let registry = TestRegistry::with(behaviour);
        let (heard, directory) = (Arc::new(Heard::default()), tempfile::tempdir().unwrap());
        let client = Client::new(options(&directory), credentials, heard.clone()).unwrap();
        Self { registry, client, heard, directory }
    }

    /// With little patience for silence, for tests that do not count requests.
    pub(super) fn impatient() -> Self {
        let mut bench = Self::new();
        let mut options = options(&bench.directory);
        options.net.idle_timeout = Duration::from_millis(200);
        bench.client = Client::new(options, Credentials::anonymous(), bench.heard.clone()).unwrap();
        bench
    }

    pub(super) fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.registry.host()).parse().unwrap()
    }

    pub(super) fn file(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Puts an image of one layer there, past the client.
    pub(super) fn publish(&self, repository: &str, tag: &str, layer: &[u8]) -> Manifest {
        let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let manifest = Manifest {
            media_type: media_type::MANIFEST.to_owned(),
            config: Descriptor::of(media_type::CONFIG, config),
            layers: vec![Descriptor::of(media_type::LAYER_GZIP, layer)],
            annotations: Default::default(),
        };
        self.registry.put_blob(repository, config);
        self.registry.put_blob(repository, layer);
        self.registry.put_manifest(repository, tag, media_type::MANIFEST, &manifest.to_bytes());
        manifest
    }
}

pub(super) fn options(directory: &tempfile::TempDir) -> Options {
    let mut options = Options::new(directory.path().to_owned());
    options.net.retry = RetryPolicy {
        attempts: 4,
        first_delay: Duration::from_millis(2),
        longest_delay: Duration::from_millis(10),
        longest_retry_after: Duration::from_millis(50),
    };
    // Longer than a loaded machine ever takes: a false alarm would be a request too many.
    options.net.idle_timeout = Duration::from_secs(20);
    options
}

/// One explicit pair for every host of the test (they are all this one).
pub(super) fn explicit(bench: &TestRegistry, username: &str, password: &str) -> Credentials {
    let login = Login {
        target: bench.host(),
        username: username.to_owned(),
        password: Secret::new(password),
        source: "setting username".to_owned(),
    };
    Credentials::from_environment(&Default::default(), vec![Explicit::Main(login)]).unwrap()
}

/// Bytes that differ everywhere.
pub(super) fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
