//! The syntax tree. Every node knows its place.

use super::span::{Source, Span};

/// A parsed Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text it came from, for drawing diagnostics and failing steps.
    pub source: Source,
    /// `# syntax=`, `# escape=`, `# check=`.
    pub directives: Directives,
    /// `ARG` instructions before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// One per `FROM`, in order.
    pub stages: Vec<Stage>,
}

/// Parser directives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// Value of `# syntax=`.
    pub syntax: Option<(String, Span)>,
    /// `\` or a backtick.
    pub escape: char,
    /// Value of `# check=`.
    pub check: Option<(String, Span)>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

/// A stage: a `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its first line.
    pub from: From,
    /// Everything up to the next `FROM`.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The whole instruction.
    pub span: Span,
    /// The instruction as one line, continuations joined (for logs and checks).
    pub text: String,
    /// `--platform`, unexpanded.
    pub platform: Option<Word>,
    /// Image, stage or `scratch`, unexpanded.
    pub image: Word,
    /// Name after `AS`, as written (compared without case).
    pub name: Option<Word>,
    /// Comment lines directly above.
    pub comment: Option<String>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The whole instruction, heredoc bodies included.
    pub span: Span,
    /// The instruction as one line: keyword in upper case, continuations
    /// joined, comments dropped, heredoc bodies left out. What logs show.
    pub text: String,
    /// Comment lines directly above.
    pub comment: Option<String>,
    /// What it is.
    pub kind: InstructionKind,
}

/// Text that may hold variables, quotes and escapes, not yet expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// As written (line continuations removed).
    pub text: String,
    /// Where.
    pub span: Span,
}

/// `name=value`; both unexpanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Left of `=`.
    pub key: Word,
    /// Right of `=`.
    pub value: Word,
}

/// `ARG name[=default]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Its name, unexpanded.
    pub name: Word,
    /// Its default, unexpanded.
    pub default: Option<Word>,
}

/// `<<NAME`: a document inside the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes; the file's name for COPY and ADD.
    pub name: String,
    /// False when the delimiter was quoted: then nothing in it is expanded.
    pub expand: bool,
    /// `<<-`: leading tabs are stripped (already done in `content`).
    pub strip_tabs: bool,
    /// The body, every line ended by a newline.
    pub content: String,
    /// The same with its tabs, for a shell that strips them itself.
    pub raw: String,
    /// The body's place.
    pub span: Span,
}

/// The argument of RUN, CMD, ENTRYPOINT, HEALTHCHECK CMD and SHELL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandForm {
    /// A line for the shell, as written after continuations are joined.
    Shell(String),
    /// A JSON array, decoded.
    Exec(Vec<String>),
}

/// Flags of RUN, unexpanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFlags {
    /// `--mount=…`: the text after `=`, one per flag, in order.
    pub mounts: Vec<Word>,
    /// `--network=`.
    pub network: Option<Word>,
    /// `--security=`.
    pub security: Option<Word>,
    /// `--device=`, one per flag.
    pub devices: Vec<Word>,
}

/// Flags that COPY and ADD share, unexpanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyFlags {
    /// `--chown=`.
    pub chown: Option<Word>,
    /// `--chmod=`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents` (COPY).
    pub parents: bool,
    /// `--exclude=`, one per flag.
    pub exclude: Vec<Word>,
}

/// Flags of ADD alone, unexpanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddFlags {
    /// `--checksum=`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// What a COPY or ADD takes and where it puts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopySources {
    /// Paths (or URLs for ADD), unexpanded, in order; heredocs are not in here.
    pub paths: Vec<Word>,
    /// Inline files, in order.
    pub heredocs: Vec<Heredoc>,
    /// The target, unexpanded.
    pub destination: Word,
}

/// Options of `HEALTHCHECK CMD`, as written; `plan` reads the durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthcheckFlags {
    /// `--interval=`.
    pub interval: Option<Word>,
    /// `--timeout=`.
    pub timeout: Option<Word>,
    /// `--start-period=`.
    pub start_period: Option<Word>,
    /// `--start-interval=`.
    pub start_interval: Option<Word>,
    /// `--retries=`.
    pub retries: Option<Word>,
}

/// The two forms of HEALTHCHECK.
#[expect(clippy::large_enum_variant, reason = "a Dockerfile holds one or two of them")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthcheckKind {
    /// `HEALTHCHECK NONE`.
    None,
    /// `HEALTHCHECK [OPTIONS] CMD …`.
    Cmd(HealthcheckFlags, CommandForm),
}

/// What an instruction is. `FROM` is not one: it opens a [`Stage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// `ADD`.
    Add(CopyFlags, AddFlags, CopySources),
    /// `ARG`, several per line.
    Arg(Vec<Arg>),
    /// `CMD`.
    Cmd(CommandForm),
    /// `COPY`; the word is `--from`.
    Copy(CopyFlags, Option<Word>, CopySources),
    /// `ENTRYPOINT`.
    Entrypoint(CommandForm),
    /// `ENV`; the flag says that it is the legacy `ENV name value` form.
    Env(Vec<KeyValue>, bool),
    /// `EXPOSE`.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`.
    Healthcheck(HealthcheckKind),
    /// `LABEL`; the flag says that it is the legacy `LABEL name value` form.
    Label(Vec<KeyValue>, bool),
    /// `MAINTAINER`.
    Maintainer(Word),
    /// `ONBUILD`: the trigger's text verbatim, and what it parses to. A trigger that is
    /// wrong is stored all the same, as in BuildKit; whoever builds on it hears of it.
    Onbuild(String, Option<Box<Instruction>>),
    /// `RUN`.
    Run(RunFlags, CommandForm, Vec<Heredoc>),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    Stopsignal(Word),
    /// `USER`.
    User(Word),
    /// `VOLUME`; JSON or plain list.
    Volume(Vec<Word>),
    /// `WORKDIR`.
    Workdir(Word),
}
