//! A RUN, from its operation to what a sandbox needs, and its output as lines.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::StepError;
use super::identity::{Accounts, Identity};
use super::tree::LayersTree;
use crate::context::{self, Node, SourceTree};
use crate::image::{Digest, Hasher};
use crate::plan::{Mount, Network, RunOp, SecretMount};
use crate::progress::{Event, Reporter, StepId, Stream};
use crate::sandbox::{MountSpec, OutputStream, Protections, Root, RunSpec, Ulimit};
use crate::secret::Secret;
use crate::ssh::Agent;

/// The host's name in a RUN, as in BuildKit.
const HOSTNAME: &str = "buildkitsandbox";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many of its last lines a failing step repeats.
const TAIL_LINES: usize = 15;
/// A line longer than this is shown in pieces.
const LINE_LIMIT: usize = 16 << 10;

/// What every RUN of a build is given.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    pub(super) secrets: BTreeMap<String, Secret>,
    pub(super) agents: BTreeMap<String, Arc<Agent>>,
    pub(super) resolv_conf: Vec<u8>,
    pub(super) extra_hosts: Vec<(String, String)>,
    /// Bytes that /dev/shm may hold.
    pub(super) shm_size: Option<u64>,
    pub(super) ulimits: Vec<Ulimit>,
    /// The build argument `BUILDKIT_SANDBOX_HOSTNAME`, instead of [`HOSTNAME`].
    pub(super) hostname: Option<String>,
}

impl Surroundings {
    fn hostname(&self) -> &str {
        self.hostname.as_deref().unwrap_or(HOSTNAME)
    }

    /// Names what differs from an ordinary RUN's surroundings and counts for its
    /// result, as in BuildKit: not secrets, agents and name servers.
    pub(super) fn digest(&self) -> Option<Digest> {
        let Self { secrets: _, agents: _, resolv_conf: _, extra_hosts, shm_size, ulimits, hostname } = self;
        let mut hasher = Hasher::new();
        hasher.field("coracle surroundings 1");
        for (name, address) in extra_hosts {
            hasher.field(name);
            hasher.field(address);
        }
        hasher.field(format!("{shm_size:?} {hostname:?}"));
        ulimits.iter().for_each(|limit| hasher.field(limit.to_string()));
        let plain = extra_hosts.is_empty() && shm_size.is_none() && ulimits.is_empty() && hostname.is_none();
        (!plain).then(|| hasher.finish())
    }
}

/// Everything a sandbox needs for this RUN.
pub(super) fn spec(
    op: &RunOp,
    tree: &LayersTree,
    root: Root,
    surroundings: &Surroundings,
    mut prepared: BTreeMap<usize, MountSpec>,
) -> Result<RunSpec, StepError> {
    let identity = accounts(tree)?.run_as(&op.user).map_err(StepError::Identity)?;
    let shm = |size| MountSpec::Tmpfs { target: PathBuf::from("/dev/shm"), size: Some(size), mode: 0o1777 };
    let mut mounts: Vec<MountSpec> = surroundings.shm_size.map(shm).into_iter().collect();
    for (position, mount) in op.mounts.iter().enumerate() {
        mounts.extend(
            prepared
                .remove(&position)
                .map(Ok)
                .or_else(|| simple_mount(mount, tree, surroundings).transpose())
                .transpose()?,
        );
    }
    // What is mounted inside another mount comes after it, whatever was written first.
    mounts.sort_by_key(|mount| mount.target().components().count());
    Ok(RunSpec {
        root,
        argv: op.argv.iter().map(OsString::from).collect(),
        env: environment(op, &identity, surroundings)?,
        cwd: PathBuf::from(&op.cwd),
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        mounts,
        hostname: surroundings.hostname().to_owned(),
        hosts: hosts(surroundings),
        resolv_conf: surroundings.resolv_conf.clone(),
        network_none: op.network == Network::None,
        scripts: op.scripts.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes())).collect(),
        ulimits: surroundings.ulimits.clone(),
        record_key: None,
        protections: Protections::default(),
    })
}

/// The stage's own passwd and group files.
pub(super) fn accounts(tree: &LayersTree) -> Result<Accounts, StepError> {
    let read = |path: &str| {
        tree.small_file(Path::new(path))
            .map_err(|source| StepError::File { path: Path::new("/").join(path), source })
    };
    Ok(Accounts { passwd: read("etc/passwd")?, group: read("etc/group")? })
}

fn environment(
    op: &RunOp,
    identity: &Identity,
    surroundings: &Surroundings,
) -> Result<Vec<(OsString, OsString)>, StepError> {
    let mut environment: Vec<(OsString, OsString)> = Vec::new();
    let mut set = |name: &str, value: OsString, replace: bool| match environment
        .iter_mut()
        .find(|(known, _)| known == name)
    {
        Some((_, old)) if replace => *old = value,
        Some(_) => {}
        None => environment.push((name.into(), value)),
    };
    for (name, value) in &op.env {
        set(name, value.into(), true);
    }
    for (name, value) in &op.hidden_env {
        set(name, value.into(), false);
    }
    for (variable, id, required) in &op.secret_env {
        // An optional one that was not given is there, and empty, as in BuildKit.
        let value =
            secret(surroundings, id, *required)?.map_or(Vec::new(), |secret| secret.expose().to_vec());
        set(variable, std::os::unix::ffi::OsStringExt::from_vec(value), true);
    }
    // Whether that agent was given or not, as in BuildKit.
    if let Some(socket) = op.ssh_targets().into_iter().next() {
        set("SSH_AUTH_SOCK", socket.into(), false);
    }
    set("PATH", DEFAULT_PATH.into(), false);
    set("HOME", identity.home.clone().into(), false);
    Ok(environment)
}

fn secret<'a>(
    surroundings: &'a Surroundings,
    id: &str,
    required: bool,
) -> Result<Option<&'a Secret>, StepError> {
    match surroundings.secrets.get(id) {
        Some(secret) => Ok(Some(secret)),
        None if required => Err(StepError::SecretMissing(id.to_owned())),
        None => Ok(None),
    }
}

/// Mounts that need nothing from other stages. `None`: an optional secret that
/// was not given.
fn simple_mount(
    mount: &Mount,
    tree: &LayersTree,
    surroundings: &Surroundings,
) -> Result<Option<MountSpec>, StepError> {
    match mount {
        Mount::Tmpfs(tmpfs) => Ok(Some(MountSpec::Tmpfs {
            target: PathBuf::from(&tmpfs.target),
            size: tmpfs.size,
            mode: tmpfs_mode(Path::new(&tmpfs.target), tree)?,
        })),
        Mount::Secret(wanted) => secret_file(wanted, surroundings),
        // The stage serves those agents that were given.
        Mount::Ssh(_) => Ok(None),
        Mount::Bind(_) | Mount::Cache(_) => unreachable!("the stage prepares bind and cache mounts"),
    }
}

/// A tmpfs takes the mode of the directory that it covers, as runc has it.
/// What /dev holds is not the image's.
fn tmpfs_mode(target: &Path, tree: &LayersTree) -> Result<u32, StepError> {
    if target.starts_with("/dev") {
        return Ok(0o1777);
    }
    let path = context::resolve(tree, target).map_err(StepError::Source)?;
    let covered = tree.node(&path).map_err(StepError::Source)?.filter(Node::is_directory);
    Ok(covered.map_or(0o1777, |directory| directory.mode))
}

fn secret_file(wanted: &SecretMount, surroundings: &Surroundings) -> Result<Option<MountSpec>, StepError> {
    let secret = secret(surroundings, &wanted.id, wanted.required)?;
    Ok(secret.map(|secret| MountSpec::File {
        content: secret.clone(),
        target: PathBuf::from(&wanted.target),
        mode: wanted.mode,
        uid: wanted.uid,
        gid: wanted.gid,
    }))
}

fn hosts(surroundings: &Surroundings) -> Vec<u8> {
    let own = surroundings.hostname();
    let mut text = format!("127.0.0.1\tlocalhost {own}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in &surroundings.extra_hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.into_bytes()
}

/// Cuts a step's output into lines, reports them, and remembers the last ones.
pub(super) struct Lines {
    reporter: Arc<dyn Reporter>,
    id: StepId,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    tail: VecDeque<String>,
}

impl Lines {
    pub(super) fn new(reporter: Arc<dyn Reporter>, id: StepId) -> Self {
        Self { reporter, id, stdout: Vec::new(), stderr: Vec::new(), tail: VecDeque::new() }
    }

    /// Takes a chunk as it was read.
    pub(super) fn take(&mut self, stream: OutputStream, mut chunk: &[u8]) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            self.pending(stream).extend_from_slice(&chunk[..end]);
            self.flush(stream);
            chunk = &chunk[end + 1..];
        }
        self.pending(stream).extend_from_slice(chunk);
        if self.pending(stream).len() > LINE_LIMIT {
            self.flush(stream);
        }
    }

    /// Reports unfinished lines; the last lines of the step.
    pub(super) fn finish(mut self) -> Vec<String> {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            if !self.pending(stream).is_empty() {
                self.flush(stream);
            }
        }
        self.tail.into()
    }

    fn pending(&mut self, stream: OutputStream) -> &mut Vec<u8> {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    fn flush(&mut self, stream: OutputStream) {
        let bytes = std::mem::take(self.pending(stream));
        let line = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
        // A program that draws a progress bar rewrites its line: the last state counts.
        let line = line.rsplit('\r').next().unwrap_or("").to_owned();
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(self.reporter.clean(line.clone()));
        let stream = match stream {
            OutputStream::Stdout => Stream::Stdout,
            OutputStream::Stderr => Stream::Stderr,
        };
        self.reporter.report(Event::StepOutput { id: self.id, stream, line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn lines_are_cut_at_line_ends_only() {
        let mut lines = Lines::new(Arc::new(Silent), StepId(0));
        lines.take(OutputStream::Stdout, b"one\ntw");
        lines.take(OutputStream::Stderr, b"other");
        lines.take(OutputStream::Stdout, b"o\n10%\r20%\r\n\n");
        assert_eq!(lines.finish(), ["one", "two", "20%", "", "other"]);
    }

    #[test]
    fn the_tail_is_bounded() {
        let mut lines = Lines::new(Arc::new(Silent), StepId(0));
        for number in 0..100 {
            lines.take(OutputStream::Stdout, format!("{number}\n").as_bytes());
        }
        let tail = lines.finish();
        assert_eq!((tail.len(), tail[0].as_str()), (TAIL_LINES, "85"));
    }

    #[test]
    fn defaults_do_not_replace_what_the_image_says() {
        let op = RunOp {
            argv: vec![],
            env: vec![("HOME".into(), "/mine".into()), ("A".into(), "1".into())],
            hidden_env: vec![("A".into(), "2".into()), ("http_proxy".into(), "p".into())],
            cwd: "/".into(),
            user: String::new(),
            mounts: vec![],
            network: Network::Default,
            scripts: vec![],
            secret_env: vec![("TOKEN".into(), "t".into(), true)],
        };
        let identity = Identity { uid: 0, gid: 0, groups: vec![], home: "/root".into() };
        let mut surroundings = Surroundings::default();
        assert!(matches!(environment(&op, &identity, &surroundings), Err(StepError::SecretMissing(_))));
        surroundings.secrets.insert("t".into(), Secret::new("s"));
        let found: BTreeMap<_, _> = environment(&op, &identity, &surroundings).unwrap().into_iter().collect();
        for (name, value) in
            [("HOME", "/mine"), ("A", "1"), ("http_proxy", "p"), ("TOKEN", "s"), ("PATH", DEFAULT_PATH)]
        {
            assert_eq!(found[&OsString::from(name)], value, "{name}");
        }
    }
}
