//! COPY and ADD as tables: what the layers below have, what the sources have,
//! an instruction, and the layer it makes.
//!
//! Trees are written as words: `a/` directory, `a` file, `a@b` symbolic link,
//! `a=1` file with other names in group 1, `a|` fifo, `a~` socket, `a#`
//! character device; then `:mode`, `:mode:uid`, `:mode:uid:gid`; then `+name`
//! for an extended attribute. What is expected is written the same way, with
//! `a=b` for a hard link to b, and a mark before it: `.` repeated from below,
//! `*` made new; without one it has the source's time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::build::identity::Accounts;
use crate::build::inputs;
use crate::context::{MemoryTree, Node, NodeKind};
use crate::dockerfile;
use crate::image::Platform;
use crate::layer::{Compression, Entry, EntryIndex, Kind, PackOptions};
use crate::plan::{self, CopyFrom, CopySource, Op};

mod archives;
mod destinations;
mod flags;
mod sources;

const SOURCE_TIME: i64 = 100;
const BASE_TIME: i64 = 50;
const NOW: i64 = 7;
const WHAT_WORDS_END_WITH: &str = "/|~#";

/// `name`, kind letter or `@target` or `=group`, mode, owner, attributes.
struct Word {
    path: PathBuf,
    kind: char,
    target: String,
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
}

fn word(text: &str) -> Word {
    let mut parts = text.split('+');
    let plain = parts.next().unwrap();
    let xattrs = parts.map(|name| (name.as_bytes().to_vec(), b"value".to_vec())).collect();
    let mut fields = plain.split(':');
    let name = fields.next().unwrap();
    let (path, kind, target) = match (name.split_once('@'), name.split_once('=')) {
        (Some((path, target)), _) => (path, '@', target),
        (_, Some((path, group))) => (path, '=', group),
        _ => match name.chars().last().filter(|last| WHAT_WORDS_END_WITH.contains(*last)) {
            Some(kind) => (&name[..name.len() - 1], kind, ""),
            None => (name, 'f', ""),
        },
    };
    let default = match kind {
        '/' => 0o755,
        '@' => 0o777,
        _ => 0o644,
    };
    let mode = fields.next().filter(|mode| !mode.is_empty());
    let mode = mode.map_or(default, |mode| u32::from_str_radix(mode, 8).unwrap());
    let mut owner = fields.map(|id| id.parse::<u32>().unwrap());
    let uid = owner.next().unwrap_or(0);
    let gid = owner.next().unwrap_or(uid);
    Word { path: path.into(), kind, target: target.to_owned(), mode, uid, gid, xattrs }
}

fn base(words: &str) -> Stack {
    let entries = words.split_whitespace().map(|text| {
        let word = word(text);
        let kind = match word.kind {
            '/' => Kind::Directory { opaque: false },
            '@' => Kind::Symlink { target: word.target.into() },
            '|' => Kind::Fifo,
            _ => Kind::File { size: 1 },
        };
        let Word { path, mode, uid, gid, xattrs, .. } = word;
        Entry { path, kind, mode, uid, gid, mtime: BASE_TIME, xattrs }
    });
    Stack::new(vec![Arc::new(EntryIndex::from_entries(entries).unwrap())])
}

fn tree(words: &str) -> MemoryTree {
    let words: Vec<Word> = words.split_whitespace().map(word).collect();
    let above = words.iter().flat_map(|word| word.path.ancestors().skip(1));
    let above: BTreeSet<PathBuf> = above.map(Path::to_owned).collect();
    let above = above.into_iter().map(|path| Word { path, ..word("d/") });
    above.chain(words).fold(MemoryTree::new("the sources"), |tree, word| {
        let content = word.path.display().to_string().into_bytes();
        let kind = match word.kind {
            '/' => NodeKind::Directory,
            '@' => NodeKind::Symlink(word.target.clone().into()),
            '|' => NodeKind::Fifo,
            '~' => NodeKind::Socket,
            '#' => NodeKind::CharacterDevice { major: 1, minor: 3 },
            _ => NodeKind::File { size: content.len() as u64 },
        };
        let link_group = (word.kind == '=').then(|| word.target.parse().unwrap());
        let Word { path, mode, uid, gid, xattrs, .. } = word;
        tree.put(&path, Node { kind, mode, uid, gid, mtime: SOURCE_TIME, xattrs, link_group }, content)
    })
}

/// The operation of the last line, with `WORKDIR /w` before it.
fn operation(instruction: &str) -> CopyOp {
    let text = format!("FROM scratch AS other\nFROM scratch\nWORKDIR /w\n{instruction}\n");
    let parsed = dockerfile::parse("Dockerfile", text.as_bytes());
    let options = plan::Options {
        target: None,
        build_args: Default::default(),
        platform: Platform::host(),
        build_platform: Platform::host(),
        named_contexts: Default::default(),
        labels: Vec::new(),
        default_labels: Vec::new(),
        proxy_args: Vec::new(),
        network: plan::Network::Default,
        host_network: true,
    };
    let (plan, _) = plan::resolve(&parsed.dockerfile, &options, &Default::default())
        .unwrap_or_else(|error| panic!("{instruction}: {error:?}"));
    let step = plan.stages[plan.target.0].steps.pop_last();
    match step {
        Some(Op::Copy(op)) => *op,
        other => panic!("{instruction}: {other:?}"),
    }
}

trait PopLast {
    fn pop_last(&self) -> Option<Op>;
}

impl PopLast for Vec<plan::Step> {
    fn pop_last(&self) -> Option<Op> {
        self.last().map(|step| step.op.clone())
    }
}

fn accounts() -> Accounts {
    Accounts {
        passwd: b"root:x:0:0::/root:\nweb:x:33:34::/:\n".to_vec(),
        group: b"root:x:0:\nstaff:x:50:\n".to_vec(),
    }
}

fn layer_of(op: &CopyOp, picked: &[Picked<'_>], base: &Stack) -> Result<EntryIndex, CopyError> {
    let directory = tempfile::tempdir().unwrap();
    let options = PackOptions { compression: Compression::None, ..PackOptions::default() };
    let mut writer = LayerWriter::create(directory.path(), options).unwrap();
    let owner = op.chown.as_ref().map(|chown| accounts().owner(chown));
    write_layer(op, picked, &Target { base, owner, now: NOW, is_mount: false, below: None }, &mut writer)?;
    let packed = writer.finish().map_err(CopyError::Write)?;
    Ok(EntryIndex::load(&packed.entries).unwrap())
}

fn copied(below: &str, sources: &str, instruction: &str) -> Result<String, String> {
    let (op, tree, base) = (operation(instruction), tree(sources), base(below));
    let selection = inputs::pick(&tree, &op).map_err(|error| format!("{error}"))?;
    let keep_owner = op.from != CopyFrom::Context;
    let selected = selection.map(|selection| Picked::Selection { tree: &tree, selection, keep_owner });
    let inline = op.sources.iter().filter_map(|source| match source {
        CopySource::Inline { name, content } => Some(Picked::Inline {
            name: name.clone(),
            content: content.clone().into_bytes(),
            mode: 0o644,
            mtime: SOURCE_TIME,
        }),
        _ => None,
    });
    let picked: Vec<_> = selected.into_iter().chain(inline).collect();
    layer_of(&op, &picked, &base).map(|index| shown(&index)).map_err(|error| error.to_string())
}

fn shown(index: &EntryIndex) -> String {
    index.iter().map(|entry| shown_entry(&entry)).collect::<Vec<_>>().join(" ")
}

fn shown_entry(entry: &Entry) -> String {
    let mark = match entry.mtime {
        BASE_TIME => ".",
        NOW => "*",
        SOURCE_TIME => "",
        other => panic!("{}: time {other}", entry.path.display()),
    };
    let (end, default) = match &entry.kind {
        Kind::Directory { .. } => ("/".to_owned(), 0o755),
        Kind::Symlink { target } => (format!("@{}", target.display()), 0o777),
        Kind::Hardlink { target } => (format!("={}", target.display()), 0o644),
        Kind::Fifo => ("|".to_owned(), 0o644),
        Kind::CharacterDevice { .. } => ("#".to_owned(), 0o644),
        _ => (String::new(), 0o644),
    };
    let mut text = format!("{mark}{}{end}", entry.path.display());
    let owner = (entry.uid, entry.gid);
    if entry.mode != default || owner != (0, 0) {
        let mode = if entry.mode == default { String::new() } else { format!("{:o}", entry.mode) };
        text.push_str(&format!(":{mode}"));
    }
    if owner != (0, 0) {
        text.push_str(&format!(":{}", entry.uid));
    }
    if entry.gid != entry.uid {
        text.push_str(&format!(":{}", entry.gid));
    }
    for name in entry.xattrs.keys() {
        text.push_str(&format!("+{}", String::from_utf8_lossy(name)));
    }
    text
}

/// `expected` begins with `!` where the COPY must fail: then it is a part of the message.
#[track_caller]
fn check(below: &str, sources: &str, instruction: &str, expected: &str) {
    let found = copied(below, sources, instruction);
    match (expected.strip_prefix('!'), found) {
        (Some(part), Err(message)) => {
            assert!(message.contains(part), "{instruction}\n  of {sources}\n  onto {below}: {message}");
        }
        (None, Ok(found)) => assert_eq!(found, expected, "{instruction}\n  of {sources}\n  onto {below}"),
        (_, found) => panic!("{instruction}\n  of {sources}\n  onto {below}: {found:?}"),
    }
}
