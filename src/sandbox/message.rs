//! What builder and stub say to each other over a socket: the spec one way,
//! then stubs, failure and exit the other. Frames of a length and JSON.
//!
//! Secrets go this way and no other: neither arguments nor environment hold
//! them. Bytes travel as text with one character per byte, so that names
//! which are no UTF-8 survive.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Error;
use super::linked::Linked;
use super::protections::Protections;
use super::spec::{Exit, MountSpec, Root, RunSpec};
use super::target::Stub;
use crate::metadata::Key;
use crate::secret::Secret;

/// Environments and scripts are large at times, never this large.
const LONGEST: u32 = 256 << 20;

/// From stub to builder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// Mount points that were made; the program starts now.
    Stubs(Vec<Stub>),
    /// It never started.
    Failed(Failure),
    /// It ended with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

/// What failed between clone and exec.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) action: String,
    #[serde(with = "path")]
    pub(super) path: PathBuf,
    pub(super) errno: i32,
}

/// Which [`Error`] it becomes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum FailureKind {
    Prepare,
    TooManyLowers(usize),
    Network,
    Limit,
    NotFound,
    NotExecutable,
    TooManyProcesses(usize),
    TmpfsFull { used: u64, size: u64 },
}

impl Failure {
    /// Doing `action` to `path` failed.
    pub(super) fn new(action: &str, path: impl Into<PathBuf>, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(nix::libc::EIO);
        Self { kind: FailureKind::Prepare, action: action.to_owned(), path: path.into(), errno }
    }

    pub(super) fn into_error(self) -> Error {
        let source = io::Error::from_raw_os_error(self.errno);
        let program = || self.path.to_string_lossy().into_owned();
        match self.kind {
            FailureKind::Prepare => Error::Prepare { action: self.action, path: self.path, source },
            FailureKind::TooManyLowers(count) => Error::TooManyLowers { count },
            FailureKind::TooManyProcesses(limit) => Error::TooManyProcesses { limit },
            FailureKind::TmpfsFull { used, size } => Error::TmpfsFull { target: self.path, used, size },
            FailureKind::Network => Error::NoNetworkNamespace { source },
            FailureKind::Limit => Error::Limit { limit: program(), highest: self.action, source },
            FailureKind::NotFound => Error::NotFound { program: program() },
            FailureKind::NotExecutable => Error::NotExecutable { program: program(), source },
        }
    }
}

impl From<Exit> for Message {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Code(code) => Self::Code(code),
            Exit::Signal(signal) => Self::Signal(signal),
        }
    }
}

/// Writes one frame.
pub(super) fn send(writer: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    let mut frame = Vec::with_capacity(text.len() + 4);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&text);
    writer.write_all(&frame)
}

/// Reads one frame.
pub(super) fn receive<T: DeserializeOwned>(reader: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    reader.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// The frames in `bytes` that are complete.
pub(super) fn parse(mut bytes: &[u8]) -> io::Result<Vec<Message>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        match receive(&mut bytes) {
            Ok(message) => messages.push(message),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(messages)
}

fn bytes_to_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn text_to_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}

/// `#[serde(with)]` for paths that may not be UTF-8.
pub(super) mod path {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Bytes;

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        Bytes::from(path.as_os_str().to_owned()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(Bytes::deserialize(deserializer)?.into())
    }
}

/// Bytes on the wire.
#[derive(Clone)]
pub(super) struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&bytes_to_text(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text_to_bytes(&text).map(Self).ok_or_else(|| serde::de::Error::custom("a character is no byte"))
    }
}

impl From<OsString> for Bytes {
    fn from(text: OsString) -> Self {
        Self(text.into_vec())
    }
}

impl From<&PathBuf> for Bytes {
    fn from(path: &PathBuf) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<Bytes> for OsString {
    fn from(bytes: Bytes) -> Self {
        Self::from_vec(bytes.0)
    }
}

impl From<Bytes> for PathBuf {
    fn from(bytes: Bytes) -> Self {
        OsString::from(bytes).into()
    }
}

/// From builder to stub: a [`RunSpec`] and who sent it.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// The builder's process id: whose death ends the stub.
    pub(super) builder: i32,
    pub(super) protections: Protections,
    root: WireRoot,
    argv: Vec<Bytes>,
    env: Vec<(Bytes, Bytes)>,
    cwd: Bytes,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    mounts: Vec<WireMount>,
    hostname: String,
    hosts: Bytes,
    resolv_conf: Bytes,
    network_none: bool,
    scripts: Vec<(String, Bytes)>,
    ulimits: Vec<String>,
    record_key: Option<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
enum WireRoot {
    Overlay { lowers: Vec<Bytes>, upper: Bytes, work: Bytes, names: Vec<Bytes>, notes: Bytes },
    Plain(Bytes),
}

#[derive(Serialize, Deserialize)]
enum WireMount {
    Bind { source: Bytes, target: Bytes, read_only: bool },
    ScratchBind { source: Bytes, scratch: Bytes, target: Bytes },
    Tmpfs { target: Bytes, size: Option<u64>, mode: u32 },
    File { content: Bytes, target: Bytes, mode: u32, uid: u32, gid: u32 },
}

impl Order {
    /// What the stub is told.
    pub(super) fn new(spec: &RunSpec, builder: i32) -> Self {
        Self {
            builder,
            protections: spec.protections,
            root: wire_root(&spec.root),
            argv: spec.argv.iter().cloned().map(Bytes::from).collect(),
            env: spec.env.iter().cloned().map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: (&spec.cwd).into(),
            uid: spec.uid,
            gid: spec.gid,
            groups: spec.groups.clone(),
            mounts: spec.mounts.iter().map(wire_mount).collect(),
            hostname: spec.hostname.clone(),
            hosts: Bytes(spec.hosts.clone()),
            resolv_conf: Bytes(spec.resolv_conf.clone()),
            network_none: spec.network_none,
            scripts: spec.scripts.iter().map(|(name, body)| (name.clone(), Bytes(body.clone()))).collect(),
            ulimits: spec.ulimits.iter().map(ToString::to_string).collect(),
            record_key: spec.record_key.as_ref().map(|key| *key.as_bytes()),
        }
    }

    /// What the stub works from.
    pub(super) fn into_spec(self) -> RunSpec {
        RunSpec {
            root: match self.root {
                WireRoot::Plain(path) => Root::Plain(path.into()),
                WireRoot::Overlay { lowers, upper, work, names, notes } => Root::Overlay {
                    lowers: lowers.into_iter().map(PathBuf::from).collect(),
                    upper: upper.into(),
                    work: work.into(),
                    linked: Linked {
                        names: names.into_iter().map(PathBuf::from).collect(),
                        notes: notes.into(),
                    },
                },
            },
            argv: self.argv.into_iter().map(OsString::from).collect(),
            env: self.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: self.cwd.into(),
            uid: self.uid,
            gid: self.gid,
            groups: self.groups,
            mounts: self.mounts.into_iter().map(mount).collect(),
            hostname: self.hostname,
            hosts: self.hosts.0,
            resolv_conf: self.resolv_conf.0,
            network_none: self.network_none,
            scripts: self.scripts.into_iter().map(|(name, body)| (name, body.0)).collect(),
            // Both ends are this program, and limits print as they are read.
            ulimits: self.ulimits.iter().filter_map(|limit| limit.parse().ok()).collect(),
            record_key: self.record_key.map(Key::from_bytes),
            protections: self.protections,
        }
    }
}

fn wire_root(root: &Root) -> WireRoot {
    match root {
        Root::Plain(path) => WireRoot::Plain(path.into()),
        Root::Overlay { lowers, upper, work, linked } => WireRoot::Overlay {
            lowers: lowers.iter().map(Bytes::from).collect(),
            upper: upper.into(),
            work: work.into(),
            names: linked.names.iter().map(Bytes::from).collect(),
            notes: (&linked.notes).into(),
        },
    }
}

fn wire_mount(mount: &MountSpec) -> WireMount {
    match mount {
        MountSpec::Bind { source, target, read_only } => {
            WireMount::Bind { source: source.into(), target: target.into(), read_only: *read_only }
        }
        MountSpec::ScratchBind { source, scratch, target } => {
            WireMount::ScratchBind { source: source.into(), scratch: scratch.into(), target: target.into() }
        }
        MountSpec::Tmpfs { target, size, mode } => {
            WireMount::Tmpfs { target: target.into(), size: *size, mode: *mode }
        }
        MountSpec::File { content, target, mode, uid, gid } => WireMount::File {
            content: Bytes(content.expose().to_vec()),
            target: target.into(),
            mode: *mode,
            uid: *uid,
            gid: *gid,
        },
    }
}

fn mount(mount: WireMount) -> MountSpec {
    match mount {
        WireMount::Bind { source, target, read_only } => {
            MountSpec::Bind { source: source.into(), target: target.into(), read_only }
        }
        WireMount::ScratchBind { source, scratch, target } => {
            MountSpec::ScratchBind { source: source.into(), scratch: scratch.into(), target: target.into() }
        }
        WireMount::Tmpfs { target, size, mode } => MountSpec::Tmpfs { target: target.into(), size, mode },
        WireMount::File { content, target, mode, uid, gid } => {
            MountSpec::File { content: Secret::new(content.0), target: target.into(), mode, uid, gid }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_a_spec_whole() {
        let odd = OsString::from_vec(vec![b'a', 0xff, 0xc3]);
        let spec = RunSpec {
            root: Root::Overlay {
                lowers: vec!["/l".into()],
                upper: (&odd).into(),
                work: "/w".into(),
                linked: Linked { names: vec![(&odd).into()], notes: "/n".into() },
            },
            argv: vec![odd.clone()],
            env: vec![("A".into(), odd.clone())],
            cwd: "/".into(),
            uid: 1,
            gid: 2,
            groups: vec![3],
            mounts: vec![
                MountSpec::Bind { source: "/s".into(), target: "/t".into(), read_only: true },
                MountSpec::Tmpfs { target: "/t".into(), size: Some(5), mode: 0o1777 },
                MountSpec::File {
                    content: Secret::new([0, 255]),
                    target: "/k".into(),
                    mode: 0o400,
                    uid: 1,
                    gid: 2,
                },
            ],
            hostname: "h".to_owned(),
            hosts: vec![1],
            resolv_conf: vec![2],
            network_none: true,
            scripts: vec![("EOF".to_owned(), vec![0x80])],
            ulimits: vec!["core=-1".parse().unwrap()],
            record_key: Some(Key::from_bytes([1; 32])),
            protections: Protections::default(),
        };
        let mut frame = Vec::new();
        send(&mut frame, &Order::new(&spec, 7)).unwrap();
        let order: Order = receive(&mut frame.as_slice()).unwrap();
        assert_eq!(order.builder, 7);
        assert_eq!(format!("{:?}", order.into_spec()), format!("{spec:?}"));
    }

    #[test]
    fn reads_only_whole_frames() {
        let mut bytes = Vec::new();
        send(&mut bytes, &Message::Code(3)).unwrap();
        send(&mut bytes, &Message::Signal(9)).unwrap();
        bytes.pop();
        let messages = parse(&bytes).unwrap();
        assert!(matches!(messages[..], [Message::Code(3)]), "{messages:?}");
    }
}
