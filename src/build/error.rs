//! Why a build failed, in the user's terms.

use std::path::PathBuf;

use thiserror::Error;

use super::layout::LayoutError;
use super::quota::DiskQuota;
use super::request::ErrorKind;
use super::{copy, identity};
use crate::image::Reference;
use crate::{context, fetch, layer, metadata, plan, registry, rootfs, sandbox, ssh, store};

/// Why a build failed. `Display` says what failed; the chain of sources says why.
#[derive(Debug, Error)]
pub enum Error {
    /// No file where the Dockerfile should be.
    #[error("no Dockerfile: {}", listed_paths(tried))]
    NoDockerfile {
        /// Every path that was tried.
        tried: Vec<PathBuf>,
    },
    /// The Dockerfile is there and cannot be read.
    #[error("cannot read the Dockerfile `{}`", path.display())]
    ReadDockerfile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Mistakes in the Dockerfile, drawn with their places.
    #[error("{0}")]
    Dockerfile(String),
    /// The plan cannot be made for a reason that has no place.
    #[error("cannot plan the build")]
    Plan(#[source] plan::PlanError),
    /// The build context.
    #[error("cannot read the build context")]
    Context(#[source] context::Error),
    /// A build context from elsewhere.
    #[error("cannot fetch the build context{}", context_name(name.as_deref()))]
    Fetch {
        /// The name of a `--build-context`.
        name: Option<String>,
        /// Why.
        #[source]
        source: Box<fetch::Error>,
    },
    /// A Dockerfile from elsewhere.
    #[error("cannot fetch the Dockerfile")]
    FetchDockerfile(#[source] Box<fetch::Error>),
    /// A build context that is an archive.
    #[error("cannot unpack the build context `{name}`")]
    Archive {
        /// Its path, or where it came from.
        name: String,
        /// Why.
        #[source]
        source: layer::Error,
    },
    /// A build context that is an image in a directory.
    #[error("cannot take the build context `{name}` from its OCI layout")]
    Layout {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<LayoutError>,
    },
    /// The registry client cannot be set up: proxies, CA files, host names.
    #[error("the registry client cannot be set up")]
    Registry(#[source] registry::Error),
    /// A base image.
    #[error("{}", pull_place(place.as_deref(), reference))]
    Pull {
        /// The FROM line, drawn, where it is one.
        place: Option<String>,
        /// Which image.
        reference: Box<Reference>,
        /// Why.
        #[source]
        source: Box<registry::Error>,
    },
    /// A base image whose parts do not fit together.
    #[error("the image `{reference}` is not valid")]
    BadBase {
        /// Which image.
        reference: Box<Reference>,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A push, or the check before it.
    #[error("cannot push {names}")]
    Push {
        /// Where to, quoted.
        names: String,
        /// Why.
        #[source]
        source: Box<registry::Error>,
    },
    /// A step; `place` is its line in the Dockerfile, drawn.
    #[error("{place}")]
    Step {
        /// File, line, text and caret, and the step's last lines.
        place: String,
        /// Why.
        #[source]
        source: Box<StepError>,
    },
    /// The state directory.
    #[error("the state directory failed")]
    Store(#[from] store::Error),
    /// An image cannot be assembled.
    #[error("cannot assemble the image")]
    Assemble(#[source] crate::image::BuildError),
    /// An output file.
    #[error("cannot write the output `{}`", path.display())]
    Output {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A context's file, or one of ours.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A secret that was named cannot be read.
    #[error("cannot read the secret `{id}` from `{}`", path.display())]
    Secret {
        /// Its id.
        id: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An SSH agent that was named cannot be had.
    #[error("cannot use the SSH agent `{id}`")]
    Ssh {
        /// Its id.
        id: String,
        /// Why.
        #[source]
        source: ssh::Error,
    },
    /// Something asked for that does not exist yet.
    #[error("{0}")]
    Unsupported(String),
    /// A signal.
    #[error("the build was interrupted")]
    Cancelled,
    /// A thread of ours panicked: a bug.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Why one step failed.
#[derive(Debug, Error)]
pub enum StepError {
    /// The program said so.
    #[error("the command ended with exit code {0}")]
    ExitCode(i32),
    /// The program was killed.
    #[error("the command was ended by signal {0}")]
    Signal(i32),
    /// Its user is not known.
    #[error(transparent)]
    Identity(identity::IdentityError),
    /// It could not be run at all.
    #[error("cannot run the command")]
    Sandbox(#[source] sandbox::Error),
    /// Its file system could not be made or read.
    #[error("cannot prepare the step's file system")]
    Rootfs(#[source] rootfs::Error),
    /// Its layer could not be made or read.
    #[error("cannot make the layer")]
    Layer(#[source] layer::Error),
    /// A record could not be read.
    #[error("cannot read file metadata")]
    Metadata(#[source] metadata::Error),
    /// A source of COPY or ADD.
    #[error(transparent)]
    Source(context::Error),
    /// The target of COPY or ADD.
    #[error(transparent)]
    Copy(copy::CopyError),
    /// The state directory.
    #[error("the state directory failed")]
    Store(#[source] store::Error),
    /// A layer of a base image could not be had.
    #[error("cannot pull a layer of `{reference}`")]
    Pull {
        /// Of which image.
        reference: Box<Reference>,
        /// Why.
        #[source]
        source: Box<registry::Error>,
    },
    /// A layer is not what the image's config says.
    #[error(
        "layer `{digest}` has another content than the image's config says (expected diff id `{expected}`, found `{found}`)"
    )]
    DiffId {
        /// The blob.
        digest: crate::image::Digest,
        /// In the config.
        expected: crate::image::Digest,
        /// Computed.
        found: crate::image::Digest,
    },
    /// A secret it needs was not given.
    #[error("the secret `{0}` is required and was not given (use `--secret id={0},src=FILE`)")]
    SecretMissing(String),
    /// An SSH agent it needs was not given.
    #[error("the SSH agent `{0}` is required and was not given (use `--ssh {0}`)")]
    SshMissing(String),
    /// A source from elsewhere.
    #[error(transparent)]
    Fetch(Box<fetch::Error>),
    /// Something that does not exist yet.
    #[error("{0}")]
    Unsupported(String),
    /// A file of ours.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is unfinished takes too much space.
    #[error("this build has more unfinished on disk than its quota of {0} (--disk-quota)")]
    DiskQuota(DiskQuota),
    /// A signal.
    #[error("interrupted")]
    Cancelled,
}

impl Error {
    /// What kind of failure it was; the exit code follows from it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoDockerfile { .. } | Self::ReadDockerfile { .. } | Self::Dockerfile(_) | Self::Plan(_) => {
                ErrorKind::Build
            }
            Self::Context(_)
            | Self::Fetch { .. }
            | Self::FetchDockerfile(_)
            | Self::Archive { .. }
            | Self::Layout { .. }
            | Self::BadBase { .. }
            | Self::Assemble(_) => ErrorKind::Build,
            Self::Pull { source, .. } => registry_kind(source, ErrorKind::Build),
            Self::Step { source, .. } => match source.as_ref() {
                StepError::Pull { source, .. } => registry_kind(source, ErrorKind::Build),
                full if out_of_space(full) => ErrorKind::Other,
                _ => ErrorKind::Build,
            },
            Self::Push { source, .. } => registry_kind(source, ErrorKind::Push),
            Self::Unsupported(_) | Self::Registry(_) | Self::Secret { .. } | Self::Ssh { .. } => {
                ErrorKind::Usage
            }
            Self::Store(_)
            | Self::Output { .. }
            | Self::File { .. }
            | Self::Cancelled
            | Self::Internal(_) => ErrorKind::Other,
        }
    }

    /// What to do about it, where that is more than the message says.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Pull { source, .. } | Self::Push { source, .. } => source.hint(),
            Self::Step { source, .. } => match source.as_ref() {
                StepError::Pull { source, .. } => source.hint(),
                StepError::ExitCode(code) => ended_hint(*code).map(str::to_owned),
                StepError::Signal(signal) => ended_hint(128 + signal).map(str::to_owned),
                full if out_of_space(full) => Some(FULL.to_owned()),
                _ => None,
            },
            _ => None,
        }
    }
}

const FULL: &str = "the file system of the state directory is full: free some space, or name another place \
                    with CORACLE_STATE_DIR or --state-dir";

/// What an exit code says of itself, by the shell's convention (POSIX XCU 2.8.2:
/// 126 and 127; a signal is 128 and its number).
fn ended_hint(code: i32) -> Option<&'static str> {
    match code {
        126 => Some(
            "126 from a shell: the program was found and cannot be executed (mode, architecture, `#!` line)",
        ),
        127 => Some("127 from a shell: a program was not found in the image (its package, or PATH)"),
        137 => Some("137 is SIGKILL: most often the memory limit of the runner or container was reached"),
        _ => None,
    }
}

/// The machine's fault, not the Dockerfile's.
fn out_of_space(error: &StepError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(io, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        next = error.source();
    }
    false
}

fn registry_kind(error: &registry::Error, otherwise: ErrorKind) -> ErrorKind {
    match error.kind() {
        registry::ErrorKind::Unauthorized => ErrorKind::Authentication,
        _ => otherwise,
    }
}

fn pull_place(place: Option<&str>, reference: &Reference) -> String {
    place.map_or_else(|| format!("cannot pull `{reference}`"), str::to_owned)
}

fn context_name(name: Option<&str>) -> String {
    name.map(|name| format!(" `{name}`")).unwrap_or_default()
}

fn listed_paths(paths: &[PathBuf]) -> String {
    let list: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    format!("none of {} exists (name it with `-f FILE` or the setting `dockerfile`)", list.join(", "))
}
