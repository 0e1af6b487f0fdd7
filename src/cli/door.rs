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

use super::failure::chain;
use crate::build::{self, BuildRequest, DiskQuota, ErrorKind, Outcome, SecretSource, Workshop};
use crate::image::{Digest, Reference};
use crate::progress::{Plain, PlainOptions, Quiet, RawJson, Redacting, Reporter, Tty};
use crate::registry::Credentials;
use crate::registry::credentials::CredentialError;
use crate::sandbox::{Rung, StorageKind};
use crate::secret::Secret;
use crate::store::{Error as StoreError, Store};
use crate::{net, sandbox, store};

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
    /// A way of keeping trees that must be used; the best one when absent.
    pub storage: Option<StorageKind>,
    /// How much the build may have unfinished on disk; no limit when absent.
    pub disk_quota: Option<DiskQuota>,
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
    #[error("{}", sandbox_failed(.0))]
    Sandbox(#[source] sandbox::Error),
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
            Self::Sandbox(sandbox::Error::StateDirectory { .. }) => {
                Some("name a directory that can be written with CORACLE_STATE_DIR or --state-dir".to_owned())
            }
            Self::StateDirectory(_) | Self::Sandbox(_) | Self::Runtime(_) => None,
        }
    }
}

/// The probes are the first to write to the state directory.
fn sandbox_failed(error: &sandbox::Error) -> &'static str {
    match error {
        sandbox::Error::StateDirectory { .. } => "the build cannot start",
        _ => "no sandbox can be entered",
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
/// exits with its code. `None` after a `dry_run`.
///
/// # Errors
/// When the sandbox cannot be entered or the build fails.
pub fn conduct(request: BuildRequest, options: DoorOptions) -> Result<Option<Outcome>, DoorError> {
    let wish = sandbox::Wish {
        isolation: options.isolation,
        storage: options.storage,
        state_dir: options.state_dir.clone(),
    };
    let entered = sandbox::enter(&wish).map_err(DoorError::Sandbox)?;
    let runtime = runtime().map_err(DoorError::Runtime)?;
    let built = runtime.block_on(build_until_signal(request, options, entered));
    runtime.shutdown_timeout(GRACE);
    built
}

/// Runs what needs neither a sandbox nor a clean-up.
///
/// # Errors
/// When the runtime cannot be started, or the work's own.
pub(super) fn run_to_end<T>(work: impl Future<Output = Result<T, build::Error>>) -> Result<T, DoorError> {
    let done = runtime().map_err(DoorError::Runtime)?.block_on(work);
    Ok(done?)
}

async fn build_until_signal(
    mut request: BuildRequest,
    options: DoorOptions,
    entered: sandbox::Entered,
) -> Result<Option<Outcome>, DoorError> {
    let cancel = CancellationToken::new();
    cancel_on_signals(&cancel).map_err(DoorError::Runtime)?;
    build::read_secrets(&mut request)?;
    let secrets = secrets(&request, &options.credentials);
    let workshop = workshop(options, entered, cancel, &secrets);
    Ok(build::build(request, &workshop).await?)
}

fn workshop(
    options: DoorOptions,
    entered: sandbox::Entered,
    cancel: CancellationToken,
    secrets: &[Secret],
) -> Workshop {
    let reporter = reporter(options.progress, &options.environment, secrets);
    announce(&entered, reporter.as_ref());
    let net = net::Options {
        insecure_hosts: options.insecure_registries,
        skip_tls_verify: options.skip_tls_verify,
        environment: options.environment,
        ..net::Options::default()
    };
    Workshop {
        state_dir: options.state_dir,
        net,
        credentials: options.credentials,
        entered,
        disk_quota: options.disk_quota,
        reporter,
        cancel,
    }
}

/// Which rung was taken, and what it has to do without.
fn announce(entered: &sandbox::Entered, reporter: &dyn Reporter) {
    reporter.info(format!("isolation of RUN: {}", entered.rung));
    if let sandbox::Storage::Plain { reason } = &entered.storage
        && entered.rung != Rung::None
    {
        reporter.info(format!("trees are copied, not stacked: {reason}"));
    }
    if entered.rung == Rung::Chroot {
        for shortfall in entered.shortfalls.iter().filter(|shortfall| shortfall.errno != 0) {
            reporter.warn(shortfall.to_string());
        }
    }
}

/// What must not be printed: the values a RUN gets and the passwords.
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
    let redacting = Redacting::new(inner);
    for secret in secrets {
        redacting.add(secret.expose());
    }
    Arc::new(redacting)
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
pub(super) fn credentials(environment: &BTreeMap<String, String>) -> Result<Credentials, CredentialError> {
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
