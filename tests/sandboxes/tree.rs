//! What two images must have in common.

use std::collections::BTreeMap;

use coracle::image::Digest;
use tar::EntryType;

use crate::support::image::{Entry, Image};

/// An image path by path: what must be equal always, and what must be where the
/// steps are repeatable; and the same of each layer.
pub struct Tree {
    merged: Paths,
    layers: Vec<Paths>,
    config: String,
}

type Paths = BTreeMap<String, (String, String)>;

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
        let layer = |layer: &Vec<Entry>| -> Paths {
            let line = |entry: &Entry| (entry.path.clone(), (structure(entry, None), content(entry)));
            layer.iter().map(line).collect()
        };
        let layers = image.layers.iter().map(layer).collect();
        Self { merged: lines, layers, config: image.config.to_string() }
    }

    /// Every path that differs, with both sides; in content and times, in layers and
    /// in the config only if `repeatable`.
    pub fn differences(&self, other: &Self, repeatable: bool) -> Vec<String> {
        let mut found = differences(&self.merged, &other.merged, repeatable, "");
        if repeatable {
            let pairs = self.layers.iter().zip(&other.layers).enumerate();
            found.extend(pairs.flat_map(|(number, (ours, theirs))| {
                differences(ours, theirs, true, &format!("layer {number}: "))
            }));
            if self.config != other.config {
                found.push(format!("config: {} | {}", self.config, other.config));
            }
        }
        found
    }
}

fn differences(ours: &Paths, theirs: &Paths, repeatable: bool, place: &str) -> Vec<String> {
    let paths = ours.keys().chain(theirs.keys().filter(|path| !ours.contains_key(*path)));
    let side = |paths: &Paths, path: &str| match paths.get(path) {
        Some((structure, content)) if repeatable => format!("{structure} {content}"),
        Some((structure, _)) => structure.clone(),
        None => "missing".to_owned(),
    };
    paths
        .map(|path| (path, side(ours, path), side(theirs, path)))
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(path, ours, theirs)| format!("{place}/{path}: {ours} | {theirs}"))
        .collect()
}

fn structure(entry: &Entry, group: Option<String>) -> String {
    let Entry { kind, mode, uid, gid, target, device, xattrs, .. } = entry;
    let group = group.map(|names| format!(" ({names})")).unwrap_or_default();
    format!("{kind:?} {mode:04o} {uid}:{gid} {target} {device:?} {xattrs:?}{group}")
}

fn content(entry: &Entry) -> String {
    format!("{} bytes {} at {}", entry.content.len(), Digest::of(&entry.content), entry.mtime)
}
