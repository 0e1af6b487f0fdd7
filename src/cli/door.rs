//! What both doors share: a decided request becomes a running build.
//!
//! [`conduct`] enters the sandbox while the process has one thread and nothing
//! open, then starts tokio, turns signals into one cancellation token, and
//! builds. The first process never returns from entering: everything after it
//! happens in the builder, its child, whose exit code it passes on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::rooms::build::{self, Workshop};
use self::rooms::progress::{Plain, PlainOptions, Quiet, RawJson, Redacting, Tty};
pub(super) use self::rooms::registry::Credentials;
pub(super) use self::rooms::sandbox::Rung;
use self::rooms::store::{Error as StoreError, Store};
use self::rooms::{registry, sandbox, store};
use super::failure::chain;
use crate::build::{BuildRequest, ErrorKind, Outcome, SecretSource};
use crate::image::{Digest, Reference};
use crate::progress::Reporter;
use crate::secret::Secret;

/// Worker threads of the runtime: two carry a transfer each while the build's
/// own work is on blocking threads; more than four only wait.
const WORKERS: std::ops::RangeInclusive<usize> = 2..=4;

/// How long what is left of a cancelled build may take to clean up.
const GRACE: Duration = Duration::from_secs(10);

/// Everything about a build that is not the request.
#[derive(Debug)]
pub struct DoorOptions {
    /// The state directory.
    pub state_dir: PathBuf,
    /// A rung that must be used; the best one when absent.
    pub isolation: Option<Rung>,
    /// Registries that may be spoken to over plain HTTP or unverified.
    pub insecure_registries: Vec<String>,
    /// Registries whose certificate is not verified.
    pub skip_tls_verify: Vec<String>,
    /// Who we are to which registry.
    pub credentials: Credentials,
    /// How progress looks.
    pub progress: ProgressMode,
    /// The whole environment; proxies and CA files are taken from it.
    pub environment: BTreeMap<String, String>,
}

/// How progress looks. It is always on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressMode {
    /// Bars when standard error is a terminal, else lines.
    #[default]
    Auto,
    /// Lines.
    Plain,
    /// Bars.
    Tty,
    /// One JSON object per event.
    RawJson,
    /// Nothing but errors, and what a failing step printed last.
    Quiet,
}

impl FromStr for ProgressMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "tty" => Ok(Self::Tty),
            "quiet" | "none" => Ok(Self::Quiet),
            "rawjson" => Ok(Self::RawJson),
            other => Err(format!("--progress `{other}` is unknown (auto, plain, tty, rawjson, quiet)")),
        }
    }
}

/// Why a build did not come to its end.
#[derive(Debug, Error)]
pub enum DoorError {
    /// No place for the state directory, or it cannot be used.
    #[error("there is no usable state directory")]
    StateDirectory(#[source] StoreError),
    /// The sandbox cannot be entered.
    #[error("no sandbox can be entered")]
    Sandbox(#[source] sandbox::Error),
    /// The registry client cannot be set up: proxies, CA files, host names.
    #[error("the registry client cannot be set up")]
    Registry(#[source] registry::Error),
    /// Threads or signal handlers cannot be had.
    #[error("the runtime cannot be started")]
    Runtime(#[source] io::Error),
    /// The build failed.
    #[error(transparent)]
    Build(#[from] build::Error),
}

impl DoorError {
    /// The kind, which gives the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::StateDirectory(_) | Self::Sandbox(_) | Self::Runtime(_) => ErrorKind::Other,
            Self::Registry(_) => ErrorKind::Usage,
            Self::Build(error) => error.kind(),
        }
    }

    /// Prints `error: …`, its causes and its hint on standard error.
    pub fn report(&self) {
        // When standard error is closed the exit code still speaks.
        let _ = io::stderr().write_all(self.to_report().as_bytes());
    }

    /// What [`report`](Self::report) prints, line ends included.
    pub fn to_report(&self) -> String {
        let mut text = chain(self);
        if let Some(hint) = self.hint() {
            text.push_str(&format!("  hint: {hint}\n"));
        }
        text
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Build(error) => error.hint(),
            Self::StateDirectory(_) | Self::Sandbox(_) | Self::Registry(_) | Self::Runtime(_) => None,
        }
    }
}

/// Answers when this process is a re-executed sandbox stub: its exit code.
pub fn stub(arguments: &[OsString]) -> Option<u8> {
    sandbox::stub(arguments)
}

/// Builds `request`: enters the sandbox, starts tokio, turns SIGTERM, SIGINT
/// and SIGHUP into cancellation (the second one ends the process at once).
///
/// The process must have one thread. Where a user namespace is needed this
/// returns in a child only; the caller goes on as if nothing had happened and
/// exits with its code.
///
/// # Errors
/// When the sandbox cannot be entered or the build fails.
pub fn conduct(request: BuildRequest, options: DoorOptions) -> Result<Outcome, DoorError> {
    let wish =
        sandbox::Wish { isolation: options.isolation, storage: None, state_dir: options.state_dir.clone() };
    let entered = sandbox::enter(&wish).map_err(DoorError::Sandbox)?;
    let runtime = runtime().map_err(DoorError::Runtime)?;
    let built = runtime.block_on(build_until_signal(request, options, entered));
    runtime.shutdown_timeout(GRACE);
    built
}

async fn build_until_signal(
    request: BuildRequest,
    options: DoorOptions,
    entered: sandbox::Entered,
) -> Result<Outcome, DoorError> {
    let cancel = CancellationToken::new();
    cancel_on_signals(&cancel).map_err(DoorError::Runtime)?;
    let secrets = secrets(&request, &options.credentials);
    let workshop = workshop(options, entered, cancel, &secrets)?;
    Ok(build::build(request, &workshop).await?)
}

fn workshop(
    options: DoorOptions,
    entered: sandbox::Entered,
    cancel: CancellationToken,
    secrets: &[Secret],
) -> Result<Workshop, DoorError> {
    let reporter = reporter(options.progress, &options.environment, secrets);
    let registry = registry_client(&options, Arc::clone(&reporter))?;
    Ok(Workshop { state_dir: options.state_dir, registry, entered, reporter, cancel })
}

fn registry_client(
    options: &DoorOptions,
    reporter: Arc<dyn Reporter>,
) -> Result<registry::Client, DoorError> {
    // The store makes the directory before the first blob moves, and sweeps it.
    let mut settings = registry::Options::new(options.state_dir.join("builds"));
    settings.net.insecure_hosts.clone_from(&options.insecure_registries);
    settings.net.skip_tls_verify.clone_from(&options.skip_tls_verify);
    settings.net.environment.clone_from(&options.environment);
    registry::Client::new(settings, options.credentials.clone(), reporter).map_err(DoorError::Registry)
}

/// What must not be printed: the values a RUN gets and the passwords. A secret
/// in a file is read by the build, which keeps it out of its events itself.
fn secrets(request: &BuildRequest, credentials: &Credentials) -> Vec<Secret> {
    let given = request.secrets.values().filter_map(|source| match source {
        SecretSource::Value(secret) => Some(secret.clone()),
        SecretSource::File(_) => None,
    });
    given.chain(credentials.secrets()).collect()
}

fn reporter(
    mode: ProgressMode,
    environment: &BTreeMap<String, String>,
    secrets: &[Secret],
) -> Arc<dyn Reporter> {
    let colour = environment.get("NO_COLOR").is_none_or(String::is_empty);
    let dumb = environment.get("TERM").is_some_and(|terminal| terminal == "dumb");
    match mode {
        ProgressMode::Quiet => redacting(Quiet::new(io::stderr()), secrets),
        ProgressMode::RawJson => redacting(RawJson::new(io::stderr()), secrets),
        ProgressMode::Tty => redacting(Tty::stderr(colour), secrets),
        ProgressMode::Auto if io::stderr().is_terminal() && !dumb => redacting(Tty::stderr(colour), secrets),
        ProgressMode::Auto | ProgressMode::Plain => {
            redacting(Plain::new(io::stderr(), PlainOptions::default()), secrets)
        }
    }
}

fn redacting(inner: impl Reporter + 'static, secrets: &[Secret]) -> Arc<dyn Reporter> {
    Arc::new(Redacting::new(inner, secrets))
}

fn runtime() -> io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(*WORKERS.start(), usize::from);
    Builder::new_multi_thread()
        .worker_threads(processors.clamp(*WORKERS.start(), *WORKERS.end()))
        .enable_all()
        .build()
}

/// The first signal cancels, the second ends the process: what is unfinished
/// then is swept by the next start.
fn cancel_on_signals(cancel: &CancellationToken) -> io::Result<()> {
    for (kind, number) in
        [(SignalKind::terminate(), 15), (SignalKind::interrupt(), 2), (SignalKind::hangup(), 1)]
    {
        tokio::spawn(listen(signal(kind)?, number, cancel.clone()));
    }
    Ok(())
}

async fn listen(mut signals: Signal, number: i32, cancel: CancellationToken) {
    while signals.recv().await.is_some() {
        if cancel.is_cancelled() {
            std::process::exit(128 + number);
        }
        cancel.cancel();
    }
}

/// Where the state is: as `said`, else `CORACLE_STATE_DIR`, else the usual place.
///
/// # Errors
/// When only the temporary directory is left and what is there is not ours.
pub fn state_directory(
    said: Option<&Path>,
    environment: &BTreeMap<String, String>,
) -> Result<PathBuf, DoorError> {
    let found = said.map_or_else(|| store::locate(environment), |path| Ok(path.to_owned()));
    found.map_err(DoorError::StateDirectory)
}

/// What the environment and the files it points to say about registries.
pub(super) fn credentials(
    environment: &BTreeMap<String, String>,
) -> Result<Credentials, registry::CredentialError> {
    Credentials::from_environment(environment, Vec::new())
}

/// Names and digests in the state directory. No tree is looked at, so that the
/// id map, which only names a directory of trees, is left empty.
///
/// # Errors
/// When the state directory cannot be opened or read.
pub(super) fn list_images(root: &Path) -> Result<Vec<(Reference, Digest)>, DoorError> {
    let images = Store::open(root, "").and_then(|store| store.images());
    let images = images.map_err(DoorError::StateDirectory)?;
    Ok(images.into_iter().map(|(name, descriptor)| (name, descriptor.digest)).collect())
}

/// INTEGRATION: stand-ins with the brief's signatures, so that this branch
/// compiles while the rooms are written elsewhere. To integrate: delete this
/// module; above, `self::rooms::` becomes `crate::` (`registry::CredentialError`
/// is `registry::credentials::CredentialError`); in `check.rs`,
/// `super::door::rooms::dockerfile` becomes `crate::dockerfile`.
#[allow(missing_docs, unreachable_pub, dead_code, reason = "INTEGRATION: this module disappears")]
pub(super) mod rooms {
    pub mod sandbox {
        use std::ffi::OsString;
        use std::path::PathBuf;
        use std::str::FromStr;

        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rung {
            Namespaces,
            Mounts,
            Single,
            Chroot,
            Virtual,
            None,
        }

        impl FromStr for Rung {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    "namespaces" => Ok(Self::Namespaces),
                    "mounts" => Ok(Self::Mounts),
                    "single" => Ok(Self::Single),
                    "chroot" => Ok(Self::Chroot),
                    "virtual" => Ok(Self::Virtual),
                    "none" => Ok(Self::None),
                    other => Err(format!("`{other}` is not an isolation")),
                }
            }
        }

        #[derive(Debug, thiserror::Error)]
        #[error("the sandbox room is not integrated yet")]
        pub struct Error;

        pub struct Wish {
            pub isolation: Option<Rung>,
            pub storage: Option<()>,
            pub state_dir: PathBuf,
        }

        #[derive(Debug)]
        pub struct Entered;

        pub fn enter(wish: &Wish) -> Result<Entered, Error> {
            let Wish { isolation: _, storage: _, state_dir: _ } = wish;
            Err(Error)
        }

        pub fn stub(_arguments: &[OsString]) -> Option<u8> {
            None
        }
    }

    pub mod registry {
        use std::collections::BTreeMap;
        use std::path::PathBuf;
        use std::sync::Arc;

        use crate::progress::Reporter;
        use crate::secret::Secret;

        #[derive(Debug, thiserror::Error)]
        #[error("the registry room is not integrated yet")]
        pub struct Error;

        #[derive(Debug, thiserror::Error)]
        #[error("no credentials yet")]
        pub struct CredentialError;

        #[derive(Clone, Debug, Default)]
        pub struct Credentials;

        impl Credentials {
            pub fn from_environment(
                _environment: &BTreeMap<String, String>,
                _explicit: Vec<()>,
            ) -> Result<Self, CredentialError> {
                Ok(Self)
            }

            pub fn secrets(&self) -> Vec<Secret> {
                Vec::new()
            }
        }

        #[derive(Default)]
        pub struct NetOptions {
            pub insecure_hosts: Vec<String>,
            pub skip_tls_verify: Vec<String>,
            pub environment: BTreeMap<String, String>,
        }

        pub struct Options {
            pub net: NetOptions,
            pub temporary: PathBuf,
        }

        impl Options {
            pub fn new(temporary: PathBuf) -> Self {
                Self { net: NetOptions::default(), temporary }
            }
        }

        pub struct Client;

        impl Client {
            pub fn new(
                _options: Options,
                _credentials: Credentials,
                _reporter: Arc<dyn Reporter>,
            ) -> Result<Self, Error> {
                Ok(Self)
            }
        }
    }

    pub mod store {
        use std::collections::BTreeMap;
        use std::path::{Path, PathBuf};

        use crate::image::{Descriptor, Reference};

        #[derive(Debug, thiserror::Error)]
        #[error("the store room is not integrated yet")]
        pub struct Error;

        pub struct Store;

        impl Store {
            pub fn open(_root: &Path, _id_map: &str) -> Result<Self, Error> {
                Ok(Self)
            }

            pub fn images(&self) -> Result<Vec<(Reference, Descriptor)>, Error> {
                Err(Error)
            }
        }

        pub fn locate(environment: &BTreeMap<String, String>) -> Result<PathBuf, Error> {
            environment.get("CORACLE_STATE_DIR").map(PathBuf::from).ok_or(Error)
        }
    }

    pub mod dockerfile {
        use crate::dockerfile::{Diagnostic, Dockerfile, Source};

        pub struct Parsed {
            pub dockerfile: Dockerfile,
            pub diagnostics: Vec<Diagnostic>,
        }

        impl Diagnostic {
            pub(in crate::cli) fn render(&self, _source: &Source) -> String {
                self.message.clone()
            }
        }

        pub fn parse(_name: &str, _text: &[u8]) -> Parsed {
            Parsed { dockerfile: Dockerfile::default(), diagnostics: Vec::new() }
        }
    }

    pub mod progress {
        use crate::progress::{Event, Reporter};
        use crate::secret::Secret;

        #[derive(Default)]
        pub struct PlainOptions {
            pub colour: bool,
        }

        pub struct Plain;
        pub struct Quiet;
        pub struct RawJson;
        pub struct Tty;

        impl Plain {
            pub fn new(_out: std::io::Stderr, _options: PlainOptions) -> Self {
                Self
            }
        }

        impl Quiet {
            pub fn new(_out: std::io::Stderr) -> Self {
                Self
            }
        }

        impl RawJson {
            pub fn new(_out: std::io::Stderr) -> Self {
                Self
            }
        }

        impl Tty {
            pub fn stderr(_colour: bool) -> Self {
                Self
            }
        }

        impl Reporter for Plain {
            fn report(&self, _event: Event) {}
        }

        impl Reporter for Quiet {
            fn report(&self, _event: Event) {}
        }

        impl Reporter for RawJson {
            fn report(&self, _event: Event) {}
        }

        impl Reporter for Tty {
            fn report(&self, _event: Event) {}
        }

        pub struct Redacting<R>(R);

        impl<R: Reporter> Redacting<R> {
            pub fn new(inner: R, _secrets: &[Secret]) -> Self {
                Self(inner)
            }
        }

        impl<R: Reporter> Reporter for Redacting<R> {
            fn report(&self, event: Event) {
                self.0.report(event);
            }
        }
    }

    pub mod build {
        use std::path::PathBuf;
        use std::sync::Arc;

        use tokio_util::sync::CancellationToken;

        use super::{registry, sandbox};
        use crate::build::{BuildRequest, ErrorKind, Outcome};
        use crate::progress::Reporter;

        #[derive(Debug, thiserror::Error)]
        #[error("the build room is not integrated yet")]
        pub struct Error;

        impl Error {
            pub fn kind(&self) -> ErrorKind {
                ErrorKind::Other
            }

            pub fn hint(&self) -> Option<String> {
                None
            }
        }

        pub struct Workshop {
            pub state_dir: PathBuf,
            pub registry: registry::Client,
            pub entered: sandbox::Entered,
            pub reporter: Arc<dyn Reporter>,
            pub cancel: CancellationToken,
        }

        pub async fn build(_request: BuildRequest, workshop: &Workshop) -> Result<Outcome, Error> {
            let Workshop { state_dir: _, registry: _, entered: _, reporter: _, cancel: _ } = workshop;
            Err(Error)
        }
    }
}
