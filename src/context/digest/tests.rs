use std::path::Path;

use super::*;
use crate::context::{MemoryTree, SelectOptions, select};

fn tree() -> MemoryTree {
    MemoryTree::default()
        .file("dir/a", "one")
        .file("dir/b", "two")
        .directory("dir/empty")
        .symlink("dir/link", "a")
        .file("file", "three")
}

fn of(tree: &MemoryTree, sources: &[&str], owners: Owners) -> Digest {
    let selection = select(tree, sources, &SelectOptions::default()).unwrap();
    digest(tree, &selection, owners).unwrap()
}

/// `tree` with one node changed.
fn with(path: &str, content: &str, change: impl FnOnce(&mut Node)) -> MemoryTree {
    let tree = tree();
    let mut node = tree.node(Path::new(path)).unwrap().unwrap();
    change(&mut node);
    tree.put(Path::new(path), node, content.into())
}

#[test]
fn what_counts() {
    let before = of(&tree(), &["dir"], Owners::Ignore);
    assert_eq!(before, of(&tree(), &["dir"], Owners::Ignore));
    assert_eq!(
        before.to_string(),
        "sha256:1a55df9bb9ebd4f486271e2e17ea498ffce560dd129d3361bfa5223599f142ea",
        "the format is part of every cache key"
    );
    for (what, changed) in [
        ("content", with("dir/a", "ONE", |_| {})),
        ("mode", with("dir/a", "one", |node| node.mode = 0o755)),
        ("setuid", with("dir/a", "one", |node| node.mode = 0o4644)),
        ("mode of the directory", with("dir", "", |node| node.mode = 0o700)),
        ("link target", with("dir/link", "", |node| node.kind = NodeKind::Symlink("b".into()))),
        ("type", with("dir/link", "", |node| node.kind = NodeKind::Fifo)),
        (
            "attribute",
            with("dir/a", "one", |node| {
                node.xattrs.insert(b"security.capability".to_vec(), vec![1]);
            }),
        ),
        ("new file", tree().file("dir/c", "")),
        ("new directory", tree().directory("dir/new")),
    ] {
        assert_ne!(before, of(&changed, &["dir"], Owners::Ignore), "{what}");
    }
}

#[test]
fn what_does_not_count() {
    let before = of(&tree(), &["dir"], Owners::Ignore);
    for (what, changed) in [
        ("time", with("dir/a", "one", |node| node.mtime = 99)),
        ("owner", with("dir/a", "one", |node| node.uid = 99)),
        ("group", with("dir/a", "one", |node| node.gid = 99)),
        ("what was not selected", with("file", "THREE", |_| {})),
    ] {
        assert_eq!(before, of(&changed, &["dir"], Owners::Ignore), "{what}");
    }
    assert_ne!(
        of(&tree(), &["dir"], Owners::Count),
        of(&with("dir/a", "one", |node| node.uid = 99), &["dir"], Owners::Count)
    );
}

#[test]
fn the_name_of_a_file_counts_and_that_of_a_directory_does_not() {
    let renamed = MemoryTree::default().file("x/a", "one").file("y/a", "one").file("y/b", "one");
    assert_eq!(
        of(&renamed, &["x"], Owners::Ignore),
        of(&renamed.clone().file("z/a", "one"), &["z"], Owners::Ignore)
    );
    assert_eq!(of(&renamed, &["x/a"], Owners::Ignore), of(&renamed, &["y/a"], Owners::Ignore));
    assert_ne!(of(&renamed, &["y/a"], Owners::Ignore), of(&renamed, &["y/b"], Owners::Ignore));
    assert_ne!(of(&renamed, &["y/a", "y/b"], Owners::Ignore), of(&renamed, &["y/b", "y/a"], Owners::Ignore));
}

#[test]
fn hard_links_count_and_their_numbers_do_not() {
    let linked = |a: Option<u64>, b: Option<u64>| {
        let mut tree = MemoryTree::default();
        for (path, group) in [("dir/a", a), ("dir/b", b)] {
            tree = tree.file(path, "same");
            let node = Node { link_group: group, ..tree.node(Path::new(path)).unwrap().unwrap() };
            tree = tree.put(Path::new(path), node, "same".into());
        }
        of(&tree, &["dir"], Owners::Ignore)
    };
    assert_eq!(linked(Some(7), Some(7)), linked(Some(1), Some(1)));
    assert_ne!(linked(Some(1), Some(1)), linked(Some(1), Some(2)));
    // A file whose other names are elsewhere is a file of its own.
    assert_eq!(linked(Some(1), Some(2)), linked(None, None));
}

#[test]
fn many_files_are_digested_in_order() {
    let mut tree = MemoryTree::default();
    for number in 0..WORTH_A_THREAD * 2 {
        tree = tree.file(format!("dir/{number:04}"), number.to_string());
    }
    let before = of(&tree, &["dir"], Owners::Ignore);
    assert_eq!(before, of(&tree, &["dir"], Owners::Ignore));
    let swapped = tree.clone().file("dir/0100", "101").file("dir/0101", "100");
    assert_ne!(before, of(&swapped, &["dir"], Owners::Ignore));
}
