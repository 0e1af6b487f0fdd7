//! The layer that a RUN should have, from nothing but how the live tree was
//! before and after: the definition of a change, written down a second time.

use std::collections::{BTreeMap, BTreeSet};

/// One path, as `history` describes it.
#[derive(Clone, PartialEq, Eq)]
struct Item {
    inode: u64,
    what: String,
    /// Mode, owner, time.
    metadata: String,
    attributes: String,
}

impl Item {
    fn is_directory(&self) -> bool {
        self.what == "directory"
    }

    fn counts(&self) -> (&str, &str, &str) {
        (&self.what, &self.metadata, &self.attributes)
    }
}

type Tree = BTreeMap<String, Item>;

fn tree(text: &str) -> Tree {
    let item = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [inode, path, what, metadata, attributes] = fields[..] else { panic!("{line:?}") };
        let item = Item {
            inode: inode.parse().unwrap(),
            what: what.to_owned(),
            metadata: metadata.to_owned(),
            attributes: attributes.to_owned(),
        };
        (path.to_owned(), item)
    };
    text.lines().map(item).collect()
}

/// What a history said: the tree before, what was tried, the tree after.
pub(crate) fn parts(said: &str) -> (&str, &str, &str) {
    let mut parts = said.split("--\n");
    let mut next = || parts.next().unwrap_or_else(|| panic!("{said}"));
    (next(), next(), next())
}

/// A tree in words that are the same wherever it lies: for an inode its first name.
pub(crate) fn shape(text: &str) -> Vec<String> {
    let tree = tree(text);
    let files = files(&tree);
    let first = |item: &Item| files.get(&item.inode).and_then(|names| names.first());
    let line = |(path, item): (&String, &Item)| format!("{path} {:?} {:?}", item.counts(), first(item));
    tree.iter().map(line).collect()
}

/// Path → line of the layer, as `describe` in `rootfs` writes them.
pub(crate) fn layer(said: &str) -> Vec<String> {
    let (before, _, after) = parts(said);
    let (before, after) = (tree(before), tree(after));
    let mut layer: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let mut put = |path: &str, what: &str, item: &Item| {
        let parts = path.split('/').map(str::to_owned).collect();
        layer.insert(parts, format!("{path} {what} {} {}", item.metadata, item.attributes));
    };
    for names in files(&after).values() {
        if is_changed(names, &before, &after) {
            let first = names.first().unwrap();
            put(first, &after[first].what, &after[first]);
            names.iter().skip(1).for_each(|name| put(name, &format!("hardlink {first}"), &after[first]));
        }
    }
    for (path, item) in after.iter().filter(|(_, item)| item.is_directory()) {
        if before.get(path).is_none_or(|old| old.counts() != item.counts()) {
            put(path, "directory", item);
        }
        if before.get(path).is_some_and(Item::is_directory) {
            let (old, new) = (children(&before, path), children(&after, path));
            let gone: Vec<&String> = old.difference(&new).collect();
            match gone.len() {
                0 => {}
                all if all == old.len() => put(path, "opaque", item),
                _ => {
                    let none = Item { metadata: "0 0:0 0".into(), attributes: "{}".into(), ..item.clone() };
                    gone.into_iter().for_each(|name| put(&format!("{path}/{name}"), "whiteout", &none));
                }
            }
        }
    }
    let present: Vec<Vec<String>> = layer.keys().cloned().collect();
    for parts in present {
        for length in 1..parts.len() {
            let path = parts[..length].join("/");
            let item = &after[&path];
            layer
                .entry(parts[..length].to_vec())
                .or_insert_with(|| format!("{path} directory {} {}", item.metadata, item.attributes));
        }
    }
    layer.into_values().collect()
}

/// Everything that is no directory, by inode.
fn files(tree: &Tree) -> BTreeMap<u64, BTreeSet<String>> {
    let mut files: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for (path, item) in tree.iter().filter(|(_, item)| !item.is_directory()) {
        files.entry(item.inode).or_default().insert(path.clone());
    }
    files
}

/// It has a name that was not there or was another file's, or is not as it was.
fn is_changed(names: &BTreeSet<String>, before: &Tree, after: &Tree) -> bool {
    let old: Vec<Option<&Item>> = names.iter().map(|name| before.get(name)).collect();
    let Some(Some(first)) = old.first() else { return true };
    let same_file = |old: &Option<&Item>| old.is_some_and(|old| old.inode == first.inode);
    let now = &after[names.first().unwrap()];
    !old.iter().all(same_file) || first.counts() != now.counts()
}

fn children(tree: &Tree, directory: &str) -> BTreeSet<String> {
    let below = |path: &String| {
        let name = path.strip_prefix(directory)?.strip_prefix('/')?;
        (!name.contains('/')).then(|| name.to_owned())
    };
    tree.keys().filter_map(below).collect()
}
