//! The plan: stages of steps, variables expanded, nothing left to decide.

use crate::dockerfile::Span;
use crate::image::{ContainerConfig, Digest, History, ImageConfig, Platform, Reference};

/// Index of a stage in [`BuildPlan::stages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub usize);

/// Index of a step in its stage.
pub type StepId = usize;

/// Everything the target needs, in an order in which it can be built.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildPlan {
    /// Needed stages only; a stage comes after those it uses.
    pub stages: Vec<Stage>,
    /// The one whose image is the result.
    pub target: StageId,
    /// External images read by COPY --from and RUN --mount=from, sorted, deduplicated.
    pub images: Vec<(Reference, Platform)>,
    /// Named contexts (other than images and stages) that steps read, sorted.
    pub contexts: Vec<String>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Its name, or `stage-N` with N its place in the Dockerfile.
    pub name: String,
    /// What it starts from.
    pub base: StageBase,
    /// What its image is for.
    pub platform: Platform,
    /// Steps that logs number: one per instruction that does or records something.
    pub steps: Vec<Step>,
    /// The finished config: the base's, and every instruction's effect. Without
    /// the stage's own layers, history and time, which the conductor adds.
    pub config: ImageConfig,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one per stage: a box would save nothing")]
pub enum StageBase {
    /// Nothing.
    Scratch,
    /// An image; its manifest's digest is the base's identity in keys.
    Image {
        /// As resolved.
        reference: Reference,
        /// Which of its platforms.
        platform: Platform,
        /// Digest of the manifest.
        digest: Digest,
    },
    /// Another stage of this plan.
    Stage(StageId),
}

/// One instruction, ready to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Where it stands in the Dockerfile; `None` for ONBUILD triggers of a base
    /// (the span of FROM is in `from_span` then).
    pub span: Option<Span>,
    /// The FROM line that opened the stage.
    pub from_span: Span,
    /// What logs show: `RUN make`, one line.
    pub text: String,
    /// Its history entry but for the times; `empty_layer` says whether it makes a layer.
    pub history: History,
    /// What to do.
    pub op: Op,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Runs a program.
    Run(Box<RunOp>),
    /// COPY and ADD.
    Copy(Box<CopyOp>),
    /// Creates the working directory if it is missing (a layer only then).
    Workdir(WorkdirOp),
    /// Changes the config only, which [`Stage::config`] already holds.
    Config,
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOp {
    /// The program and its arguments; shell forms are wrapped already.
    pub argv: Vec<String>,
    /// Environment: the image's, then ARG values; no HOME or PATH added yet.
    /// What is in here is part of the key.
    pub env: Vec<(String, String)>,
    /// Proxy variables and the like: seen by RUN, not part of the key.
    pub hidden_env: Vec<(String, String)>,
    /// Absolute working directory.
    pub cwd: String,
    /// `user[:group]` as USER left it; empty = root.
    pub user: String,
    /// In order.
    pub mounts: Vec<Mount>,
    /// What of the network it sees.
    pub network: Network,
    /// Script bodies with a `#!` line, by file name below `/dev/pipes`.
    pub scripts: Vec<(String, String)>,
    /// Names of the secrets it asks for as environment variables: (variable, id, required).
    pub secret_env: Vec<(String, String, bool)>,
}

impl RunOp {
    /// Where the sockets of its ssh mounts lie, in their order.
    pub fn ssh_targets(&self) -> Vec<String> {
        let sockets = self.mounts.iter().filter_map(|mount| match mount {
            Mount::Ssh(ssh) => Some(ssh),
            _ => None,
        });
        let place = |(number, ssh): (usize, &SshMount)| match &ssh.target {
            Some(target) => target.clone(),
            None => format!("/run/buildkit/ssh_agent.{number}"),
        };
        sockets.enumerate().map(place).collect()
    }
}

/// `--network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The builder's network (there is no other to give).
    #[default]
    Default,
    /// The builder's network, asked for by name.
    Host,
    /// Loopback only.
    None,
}

/// `RUN --mount`.
#[derive(Clone, Debug, PartialEq)]
pub enum Mount {
    /// `type=bind`.
    Bind(BindMount),
    /// `type=cache`.
    Cache(CacheMount),
    /// `type=tmpfs`.
    Tmpfs(TmpfsMount),
    /// `type=secret` as a file.
    Secret(SecretMount),
    /// `type=ssh`.
    Ssh(SshMount),
}

/// Where a mount's files come from.
#[derive(Clone, Debug, PartialEq)]
pub enum MountSource {
    /// The build context.
    Context,
    /// A stage of this plan.
    Stage(StageId),
    /// An external image.
    Image(Reference),
    /// A named context.
    Named(String),
    /// An empty directory.
    Empty,
}

/// `type=bind`.
#[derive(Clone, Debug, PartialEq)]
pub struct BindMount {
    /// Where from.
    pub from: MountSource,
    /// Path inside `from`.
    pub source: String,
    /// Absolute path inside the stage.
    pub target: String,
    /// Writes are allowed, and thrown away.
    pub writable: bool,
}

/// `type=cache`.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheMount {
    /// Which cache; defaults to the target.
    pub id: String,
    /// Absolute path inside the stage.
    pub target: String,
    /// What it starts with.
    pub from: MountSource,
    /// Path inside `from`.
    pub source: String,
    /// How builds share it.
    pub sharing: CacheSharing,
    /// Not writable.
    pub readonly: bool,
    /// Permission bits of a new cache directory.
    pub mode: u32,
    /// Owner of a new cache directory.
    pub uid: u32,
    /// Group of a new cache directory.
    pub gid: u32,
}

/// `sharing=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// Several at once.
    #[default]
    Shared,
    /// A second user gets a cache of its own.
    Private,
    /// A second user waits.
    Locked,
}

/// `type=tmpfs`.
#[derive(Clone, Debug, PartialEq)]
pub struct TmpfsMount {
    /// Absolute path inside the stage.
    pub target: String,
    /// Limit in bytes.
    pub size: Option<u64>,
}

/// `type=secret` with a target file.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretMount {
    /// Which secret.
    pub id: String,
    /// Absolute path inside the stage.
    pub target: String,
    /// Fail when it was not given.
    pub required: bool,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// `type=ssh`.
#[derive(Clone, Debug, PartialEq)]
pub struct SshMount {
    /// Which agent.
    pub id: String,
    /// Absolute path of the socket; `None` = `/run/buildkit/ssh_agent.N`.
    pub target: Option<String>,
    /// Fail when it was not given.
    pub required: bool,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// `COPY` and `ADD`.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyOp {
    /// Where paths come from.
    pub from: CopyFrom,
    /// In order.
    pub sources: Vec<CopySource>,
    /// Absolute, WORKDIR applied; a trailing slash or `/.` is kept as a slash.
    pub destination: String,
    /// `--chown`, expanded: `user[:group]`, names or numbers.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<Chmod>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `Some` for ADD.
    pub add: Option<AddOptions>,
}

impl CopyOp {
    /// Whether its layer does not look at those below it: BuildKit forgets
    /// `--link` beside `--chmod`.
    pub fn is_independent(&self) -> bool {
        self.link && self.chmod.is_none()
    }
}

/// Where the sources of a COPY come from.
#[derive(Clone, Debug, PartialEq)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// A stage of this plan.
    Stage(StageId),
    /// An external image.
    Image(Reference),
    /// A named context.
    Named(String),
}

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub enum CopySource {
    /// A path or wildcard pattern inside `from`.
    Path(String),
    /// A heredoc.
    Inline {
        /// File name.
        name: String,
        /// Its bytes, variables expanded.
        content: String,
    },
    /// ADD: `http://` or `https://`.
    Http(String),
    /// ADD: a git repository.
    Git(String),
}

/// `--chmod`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chmod {
    /// Permission bits, setuid, setgid and sticky included.
    Octal(u32),
    /// `u=rwX,go=rX`, checked.
    Symbolic(String),
}

/// What only ADD has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddOptions {
    /// `--checksum`, as written.
    pub checksum: Option<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--unpack`; `None` = local archives yes, downloads no.
    pub unpack: Option<bool>,
}

/// `WORKDIR`.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkdirOp {
    /// Absolute and clean.
    pub path: String,
    /// `user[:group]` in force: owns what is created.
    pub user: String,
}

impl Stage {
    /// The execution parameters of the finished stage.
    pub fn container(&self) -> &ContainerConfig {
        &self.config.config
    }
}
