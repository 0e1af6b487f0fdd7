//! What two images must have in common.

use std::collections::BTreeMap;

use coracle::image::Digest;
use tar::EntryType;

use crate::support::image::{Entry, Image};

/// An image path by path: what must be equal always, and what must be where the
/// steps are repeatable.
pub struct Tree(BTreeMap<String, (String, String)>);

impl Tree {
    /// Of an image.
    pub fn of(image: &Image) -> Self {
        let tree = image.tree();
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (path, entry) in tree.iter().filter(|(_, entry)| entry.kind == EntryType::Link) {
            groups.entry(&entry.target).or_default().push(path);
        }
        let mut lines = BTreeMap::new();
        for (path, entry) in &tree {
            // Which name of a group is the file and which are links is no difference.
            let file =
                if entry.kind == EntryType::Link { tree.get(&entry.target).unwrap_or(entry) } else { entry };
            let group = groups.get(file.path.as_str());
            let names = group.map(|others| {
                let mut names = [&others[..], &[file.path.as_str()]].concat();
                names.sort_unstable();
                names.join(" = ")
            });
            lines.insert(path.clone(), (structure(file, names), content(file)));
        }
        Self(lines)
    }

    /// Every path that differs, with both sides; in content and times only if `repeatable`.
    pub fn differences(&self, other: &Self, repeatable: bool) -> Vec<String> {
        let paths = self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path)));
        let side = |tree: &Self, path: &str| match tree.0.get(path) {
            Some((structure, content)) if repeatable => format!("{structure} {content}"),
            Some((structure, _)) => structure.clone(),
            None => "missing".to_owned(),
        };
        paths
            .map(|path| (path, side(self, path), side(other, path)))
            .filter(|(_, ours, theirs)| ours != theirs)
            .map(|(path, ours, theirs)| format!("/{path}: {ours} | {theirs}"))
            .collect()
    }
}

fn structure(entry: &Entry, group: Option<String>) -> String {
    let Entry { kind, mode, uid, gid, target, device, xattrs, .. } = entry;
    let group = group.map(|names| format!(" ({names})")).unwrap_or_default();
    format!("{kind:?} {mode:04o} {uid}:{gid} {target} {device:?} {xattrs:?}{group}")
}

fn content(entry: &Entry) -> String {
    format!("{} bytes {} at {}", entry.content.len(), Digest::of(&entry.content), entry.mtime)
}
