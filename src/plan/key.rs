//! Names for results: equal keys mean equal results.
//!
//! A *recipe key* covers the parent's key, the operation, and digests of all it reads
//! from outside as known *before* anything ran (contexts, manifests, keys of
//! source stages). A *content key* has the same shape over the digests of the
//! files really read. Both are independent of spans, log texts, stage names and
//! numbers, hidden variables and the values of secrets.
//!
//! Steps that change the config only pass the parent's key on: what they
//! change is in the operations of later steps (environment, directory, user), so
//! a new LABEL does not run anything again. An ARG is in the environment of
//! every RUN after its declaration, used or not, as in BuildKit: a RUN can read
//! it without naming it. Before the declaration it changes nothing.
//!
//! The encoding is a sequence of length-prefixed fields behind a domain separator;
//! a change of either needs a new number in it.

use std::fmt;

use super::op::{
    AddOptions, BindMount, CacheMount, CacheSharing, Chmod, CopyFrom, CopyOp, CopySource, Mount, MountSource,
    Network, Op, RunOp, SecretMount, SshMount, StageBase, Step, TmpfsMount, WorkdirOp,
};
use crate::image::{Digest, Hasher};

/// Names the result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepKey(Digest);

impl StepKey {
    /// The key as what a cache is keyed by.
    pub fn as_digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The key a stage starts with: scratch has a constant one, an image that of its
/// manifest and platform. `None` for a stage based on a stage, which goes on from the
/// last key of that one.
pub fn base_key(base: &StageBase) -> Option<StepKey> {
    let mut encoder = Encoder::new(BASE);
    match base {
        StageBase::Scratch => encoder.text("scratch"),
        StageBase::Image { reference: _, platform, digest } => {
            encoder.text("image");
            encoder.bytes(digest.as_bytes());
            encoder.text(&platform.to_string());
        }
        StageBase::Stage(_) => return None,
    }
    Some(encoder.finish())
}

/// The parent of content keys: the layers below a step, however they came about.
pub fn chain_key(chain: &Digest) -> StepKey {
    let mut encoder = Encoder::new(CHAIN);
    encoder.bytes(chain.as_bytes());
    encoder.finish()
}

/// The key of a step by what it is going to read; `inputs` in a fixed order: sources
/// of a COPY as written, then mounts as written.
pub fn recipe_key(parent: &StepKey, step: &Step, inputs: &[Digest]) -> StepKey {
    key(RECIPE, parent, step, inputs)
}

/// The key of a step by what it read, `content` in the same order as for [`recipe_key`].
pub fn content_key(parent: &StepKey, step: &Step, content: &[Digest]) -> StepKey {
    key(CONTENT, parent, step, content)
}

const BASE: &str = "coracle step base 1";
const CHAIN: &str = "coracle step chain 1";
const RECIPE: &str = "coracle step recipe 1";
const CONTENT: &str = "coracle step content 1";

fn key(domain: &str, parent: &StepKey, step: &Step, inputs: &[Digest]) -> StepKey {
    if matches!(step.op, Op::Config) {
        return *parent;
    }
    let mut encoder = Encoder::new(domain);
    encoder.bytes(parent.0.as_bytes());
    match &step.op {
        Op::Run(run) => encoder.run(run),
        Op::Copy(copy) => encoder.copy(copy),
        Op::Workdir(WorkdirOp { path, user }) => {
            encoder.text("workdir");
            encoder.text(path);
            encoder.text(user);
        }
        Op::Config => {}
    }
    encoder.list(inputs, |encoder, digest| encoder.bytes(digest.as_bytes()));
    encoder.finish()
}

struct Encoder(Hasher);

/// Every method takes its struct apart without `..`, so that a new field cannot be forgotten.
impl Encoder {
    fn new(domain: &str) -> Self {
        let mut encoder = Self(Hasher::new());
        encoder.text(domain);
        encoder
    }

    fn finish(self) -> StepKey {
        StepKey(self.0.finish())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.field(bytes);
    }

    fn text(&mut self, text: &str) {
        self.0.field(text);
    }

    fn number(&mut self, number: u64) {
        self.0.field(number.to_le_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.number(u64::from(flag));
    }

    fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            each(self, item);
        }
    }

    fn optional<T>(&mut self, value: Option<T>, each: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            each(self, value);
        }
    }

    fn run(&mut self, run: &RunOp) {
        let RunOp { argv, env, hidden_env: _, cwd, user, mounts, network, scripts, secret_env } = run;
        self.text("run");
        self.list(argv, |e, argument| e.text(argument));
        self.list(env, |e, (name, value)| {
            e.text(name);
            e.text(value);
        });
        self.text(cwd);
        self.text(user);
        self.list(mounts, Self::mount);
        self.text(match network {
            Network::Default => "default",
            Network::Host => "host",
            Network::None => "none",
        });
        self.list(scripts, |e, (name, body)| {
            e.text(name);
            e.text(body);
        });
        self.list(secret_env, |e, (name, id, required)| {
            e.text(name);
            e.text(id);
            e.flag(*required);
        });
    }

    fn mount(&mut self, mount: &Mount) {
        match mount {
            Mount::Bind(BindMount { from, source, target, writable }) => {
                self.text("bind");
                self.mount_source(from);
                self.text(source);
                self.text(target);
                self.flag(*writable);
            }
            Mount::Cache(cache) => self.cache_mount(cache),
            Mount::Tmpfs(TmpfsMount { target, size }) => {
                self.text("tmpfs");
                self.text(target);
                self.optional(*size, Self::number);
            }
            Mount::Secret(SecretMount { id, target, required, mode, uid, gid }) => {
                self.text("secret");
                self.text(id);
                self.text(target);
                self.flag(*required);
                self.numbers([*mode, *uid, *gid]);
            }
            Mount::Ssh(SshMount { id, target, required, mode, uid, gid }) => {
                self.text("ssh");
                self.text(id);
                self.optional(target.as_deref(), Self::text);
                self.flag(*required);
                self.numbers([*mode, *uid, *gid]);
            }
        }
    }

    fn cache_mount(&mut self, cache: &CacheMount) {
        let CacheMount { id, target, from, source, sharing, readonly, mode, uid, gid } = cache;
        self.text("cache");
        self.text(id);
        self.text(target);
        self.mount_source(from);
        self.text(source);
        self.text(match sharing {
            CacheSharing::Shared => "shared",
            CacheSharing::Private => "private",
            CacheSharing::Locked => "locked",
        });
        self.flag(*readonly);
        self.numbers([*mode, *uid, *gid]);
    }

    fn numbers(&mut self, numbers: [u32; 3]) {
        for number in numbers {
            self.number(u64::from(number));
        }
    }

    /// The kind only: which stage, image or context it is says its digest in the inputs.
    fn mount_source(&mut self, source: &MountSource) {
        self.text(match source {
            MountSource::Context => "context",
            MountSource::Stage(_) => "stage",
            MountSource::Image(_) => "image",
            MountSource::Named(_) => "named",
            MountSource::Empty => "empty",
        });
    }

    fn copy(&mut self, copy: &CopyOp) {
        let CopyOp { from, sources, destination, chown, chmod, link, parents, exclude, add } = copy;
        self.text("copy");
        // The kind only, as for mounts.
        self.text(match from {
            CopyFrom::Context => "context",
            CopyFrom::Stage(_) => "stage",
            CopyFrom::Image(_) => "image",
            CopyFrom::Named(_) => "named",
        });
        self.list(sources, Self::copy_source);
        self.text(destination);
        self.optional(chown.as_deref(), Self::text);
        self.optional(chmod.as_ref(), |e, chmod| match chmod {
            Chmod::Octal(mode) => {
                e.text("octal");
                e.number(u64::from(*mode));
            }
            Chmod::Symbolic(text) => {
                e.text("symbolic");
                e.text(text);
            }
        });
        self.flag(*link);
        self.flag(*parents);
        self.list(exclude, |e, pattern| e.text(pattern));
        self.optional(add.as_ref(), |e, AddOptions { checksum, keep_git_dir, unpack }| {
            e.optional(checksum.as_deref(), Self::text);
            e.flag(*keep_git_dir);
            e.optional(*unpack, Self::flag);
        });
    }

    fn copy_source(&mut self, source: &CopySource) {
        match source {
            CopySource::Path(path) => self.texts(["path", path]),
            CopySource::Inline { name, content } => self.texts(["inline", name, content]),
            CopySource::Http(url) => self.texts(["http", url]),
            CopySource::Git(url) => self.texts(["git", url]),
        }
    }

    fn texts<const N: usize>(&mut self, texts: [&str; N]) {
        for text in texts {
            self.text(text);
        }
    }
}
