//! One digest for everything a COPY reads: what the cache is keyed by.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Error, Node, NodeKind, Selection, SourceTree};
use crate::image::{Digest, Hasher};

/// Whether owners are part of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// They are: `COPY --from` without `--chown` keeps them.
    Count,
    /// They are not: the result gets others.
    Ignore,
}

/// How many files each thread takes at a time: neighbours share a directory.
const BATCH: usize = 32;
/// Below this many files a second thread costs more than it saves.
const WORTH_A_THREAD: usize = 256;

/// Digests names, types, modes, link targets, extended attributes, which files
/// are hard links of each other, and contents; owners where they count; never
/// times. Two selections with equal digests are placed equally.
///
/// # Errors
/// Those of the tree.
pub fn digest(tree: &dyn SourceTree, selection: &Selection, owners: Owners) -> Result<Digest, Error> {
    let mut entries: Vec<(usize, PathBuf, PathBuf, Node)> = Vec::new();
    selection.walk(tree, &mut |visit| {
        entries.push((visit.number, visit.below.to_owned(), visit.path.to_owned(), visit.node.clone()));
        Ok(())
    })?;
    let files = entries.iter().filter(|(.., node)| node.is_file());
    let contents = contents(tree, &files.map(|(_, _, path, node)| (path, node)).collect::<Vec<_>>())?;
    let mut contents = contents.into_iter();

    let mut hasher = Hasher::new();
    hasher.field("coracle-selection-1");
    let links = shared_links(entries.iter().map(|(.., node)| node));
    for (number, below, _, node) in &entries {
        if below.as_os_str().is_empty() {
            item(&mut hasher, selection, *number, owners);
        }
        hasher.field(number.to_le_bytes());
        hasher.field(below.as_os_str().as_bytes());
        describe(&mut hasher, node, owners);
        let group = node.link_group.and_then(|group| links.get(&group));
        hasher.field(group.map(|group| group.to_le_bytes().to_vec()).unwrap_or_default());
        if node.is_file() {
            let content = contents.next().expect("every file of the list was digested");
            hasher.update(content.as_bytes());
        }
    }
    Ok(hasher.finish())
}

/// Numbers the files that are here under several names, in order of appearance:
/// what other names a file has elsewhere is not ours to see.
fn shared_links<'a>(nodes: impl Iterator<Item = &'a Node>) -> BTreeMap<u64, u64> {
    let mut names: BTreeMap<u64, u64> = BTreeMap::new();
    let mut order = Vec::new();
    for group in nodes.filter_map(|node| node.link_group) {
        let count = names.entry(group).or_default();
        *count += 1;
        if *count == 2 {
            order.push(group);
        }
    }
    (0..).zip(order).map(|(number, group)| (group, number)).collect()
}

/// The name counts where it is used: for what is no directory, and for
/// everything with `--parents`.
fn item(hasher: &mut Hasher, selection: &Selection, number: usize, owners: Owners) {
    let item = &selection.items[number];
    let name = match (selection.keeps_parents(), item.node.is_directory()) {
        (true, _) => Some(item.name.as_os_str()),
        (false, true) => None,
        (false, false) => item.name.file_name(),
    };
    hasher.field(name.map(OsStrExt::as_bytes).unwrap_or_default());
    for parent in &item.parents {
        hasher.field(parent.name.as_os_str().as_bytes());
        describe(hasher, &parent.node, owners);
    }
}

fn describe(hasher: &mut Hasher, node: &Node, owners: Owners) {
    let (kind, device) = match &node.kind {
        NodeKind::File { .. } => (0_u8, (0, 0)),
        NodeKind::Directory => (1, (0, 0)),
        NodeKind::Symlink(_) => (2, (0, 0)),
        NodeKind::CharacterDevice { major, minor } => (3, (*major, *minor)),
        NodeKind::BlockDevice { major, minor } => (4, (*major, *minor)),
        NodeKind::Fifo => (5, (0, 0)),
        NodeKind::Socket => (6, (0, 0)),
    };
    hasher.update([kind]);
    hasher.update(device.0.to_le_bytes());
    hasher.update(device.1.to_le_bytes());
    hasher.update(node.mode.to_le_bytes());
    if owners == Owners::Count {
        hasher.update(node.uid.to_le_bytes());
        hasher.update(node.gid.to_le_bytes());
    }
    if let NodeKind::Symlink(target) = &node.kind {
        hasher.field(target.as_os_str().as_bytes());
    }
    hasher.update((node.xattrs.len() as u64).to_le_bytes());
    for (name, value) in &node.xattrs {
        hasher.field(name);
        hasher.field(value);
    }
}

/// The digests of `files`, in order. Reading is what a cold build waits for, so
/// two threads do it; a warm tree answers from its index either way.
fn contents(tree: &dyn SourceTree, files: &[(&PathBuf, &Node)]) -> Result<Vec<Digest>, Error> {
    if files.len() < WORTH_A_THREAD {
        return files.iter().map(|(path, node)| tree.content_digest(path, node)).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(files.chunks(BATCH).map(|_| None).collect::<Vec<_>>());
    let work = || {
        loop {
            let batch = next.fetch_add(1, Ordering::Relaxed);
            let Some(files) = files.chunks(BATCH).nth(batch) else { return };
            let digests: Result<Vec<_>, _> =
                files.iter().map(|(path, node)| tree.content_digest(path, node)).collect();
            let failed = digests.is_err();
            done.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[batch] = Some(digests);
            if failed {
                next.store(usize::MAX / 2, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut digests = Vec::with_capacity(files.len());
    let mut error = None;
    for batch in done {
        match batch {
            Some(Ok(batch)) => digests.extend(batch),
            Some(Err(failure)) => error = error.or(Some(failure)),
            None => {}
        }
    }
    match error {
        Some(error) => Err(error),
        None => Ok(digests),
    }
}

#[cfg(test)]
mod tests;
