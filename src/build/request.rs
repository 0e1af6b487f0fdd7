//! Everything a build needs to know, and all it has to say afterwards.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::image::{Digest, Platform, Reference};
use crate::plan::{NamedContext, Network};
use crate::sandbox::Ulimit;
use crate::secret::Secret;
use crate::ssh::AgentSource;

/// One build, fully decided: no environment, no defaults left to find.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// What COPY reads.
    pub context: ContextSource,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// Stage to build; the last one when absent.
    pub target: Option<String>,
    /// `--build-arg`, in order; later ones win.
    pub build_args: Vec<(String, String)>,
    /// `--build-context`, by name.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// Labels from the command line: they override the Dockerfile's.
    pub labels: Vec<(String, String)>,
    /// Labels the CI supplies: any label of the Dockerfile or command line overrides them.
    pub default_labels: Vec<(String, String)>,
    /// Manifest annotations.
    pub annotations: Vec<(String, String)>,
    /// What to build for; the host when absent.
    pub platform: Option<Platform>,
    /// Names the image gets: in the state directory, in an output, and in a registry when `push`.
    pub destinations: Vec<Destination>,
    /// Push to every destination.
    pub push: bool,
    /// Further outputs.
    pub outputs: Vec<Output>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`: agents by id, for `RUN --mount=type=ssh`; `default` is git's too.
    pub ssh: BTreeMap<String, AgentSource>,
    /// Proxy variables and other values for RUN that are neither config nor key.
    pub proxy_args: Vec<(String, String)>,
    /// What of the cache is used.
    pub cache: CachePolicy,
    /// Resolve base tags at the registry even when a local answer is known.
    pub pull: bool,
    /// Seconds since 1970: clamps file times and becomes `created`.
    pub source_date_epoch: Option<i64>,
    /// `--add-host`: lines for RUN's hosts file.
    pub extra_hosts: Vec<(String, String)>,
    /// `--shm-size`: bytes that RUN's /dev/shm may hold.
    pub shm_size: Option<u64>,
    /// `--ulimit`: resource limits of RUN.
    pub ulimits: Vec<Ulimit>,
    /// `--network`: what of the network RUN sees unless it says otherwise.
    pub network: Network,
    /// `--allow network.host`: a RUN may ask for the builder's network by name.
    pub host_network: bool,
    /// Check everything, log in, print the plan, build nothing.
    pub dry_run: bool,
}

/// Where COPY sources come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// A local directory.
    Directory(PathBuf),
    /// A tar archive, plain or compressed.
    Archive(PathBuf),
    /// Standard input: a tar archive, or a Dockerfile that comes alone.
    Stdin,
    /// An address: a git repository, or an archive or Dockerfile on an HTTP server.
    Remote(String),
    /// Nothing: the Dockerfile came alone.
    Empty,
}

/// Where the Dockerfile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// `Dockerfile`, else `Containerfile`, in the context.
    Default,
    /// A path as the user gave it: tried relative to the working directory, then to the context.
    Path(PathBuf),
    /// Its text (from standard input).
    Text(Vec<u8>),
    /// The address of one on an HTTP server.
    Remote(String),
}

/// A name for the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The full reference, tag included.
    pub reference: Reference,
}

/// A file or directory that receives the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// An OCI layout in a directory.
    OciDirectory(PathBuf),
    /// An OCI layout in a tar; `None` = standard output.
    OciArchive(Option<PathBuf>),
    /// A docker-archive (what `docker load` reads); `None` = standard output.
    DockerArchive(Option<PathBuf>),
}

/// Where a secret's bytes come from; read when the build starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The bytes themselves.
    Value(Secret),
    /// A file.
    File(PathBuf),
}

/// What of the cache is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePolicy {
    /// Execute everything.
    pub disabled: bool,
    /// Execute these stages whatever the cache says.
    pub disabled_stages: Vec<String>,
}

/// What a build has to say afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Digest of the config: Docker's image id.
    pub config_digest: Digest,
    /// References that were pushed, in order.
    pub pushed: Vec<Reference>,
    /// Names given to it, pushed or not.
    pub names: Vec<Reference>,
    /// Compressed bytes of all layers.
    pub size: u64,
    /// Steps executed.
    pub executed: usize,
    /// Steps whose result was known.
    pub cached: usize,
}

/// What kind of failure it was; the exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Anything else: 1.
    Other,
    /// Settings or usage: 2.
    Usage,
    /// The Dockerfile, the context or a step: 3.
    Build,
    /// Push: 4.
    Push,
    /// Authentication: 5.
    Authentication,
}

impl ErrorKind {
    /// The process' exit code (README, "Exit codes").
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::Build => 3,
            Self::Push => 4,
            Self::Authentication => 5,
        }
    }
}
