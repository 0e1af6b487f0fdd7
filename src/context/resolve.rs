//! Following symbolic links inside a tree, and never out of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use super::{Error, NodeKind, SourceTree};

/// How many links one path may go through, as in the kernel (path_resolution(7)).
pub const MAX_LINKS: usize = 40;

/// Where `path` leads, all links followed, the last one too. `..` stops at the
/// root and an absolute link starts there, as after a chroot. What does not
/// exist is kept as it is written.
///
/// # Errors
/// When there are more than [`MAX_LINKS`] links, or the tree cannot be read.
pub fn resolve(tree: &dyn SourceTree, path: &Path) -> Result<PathBuf, Error> {
    let mut pending: VecDeque<OsString> = names(path).collect();
    let mut done = PathBuf::new();
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == OsStr::new("..") {
            done.pop();
            continue;
        }
        let next = done.join(&name);
        let Some(NodeKind::Symlink(target)) = tree.node(&next)?.map(|node| node.kind) else {
            done = next;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(Error::TooManyLinks { path: path.to_owned(), tree: tree.description() });
        }
        if target.has_root() {
            done = PathBuf::new();
        }
        for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
            pending.push_front(name);
        }
    }
    Ok(done)
}

/// The names in a path, `..` kept.
fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::MemoryTree;

    fn tree() -> MemoryTree {
        MemoryTree::default()
            .file("a/b/c", "")
            .symlink("link", "a/b")
            .symlink("up", "../../a")
            .symlink("a/absolute", "/link")
            .symlink("a/relative", "../link/c")
            .symlink("loop", "loop")
            .symlink("dangling", "nowhere/x")
    }

    fn check(path: &str, expected: Option<&str>) {
        let found = resolve(&tree(), Path::new(path)).ok();
        assert_eq!(found.as_deref(), expected.map(Path::new), "{path}");
    }

    #[test]
    fn stays_inside() {
        for (path, expected) in [
            ("", Some("")),
            ("a/b/c", Some("a/b/c")),
            ("link/c", Some("a/b/c")),
            ("up/b", Some("a/b")),
            ("../../etc", Some("etc")),
            ("a/absolute/c", Some("a/b/c")),
            ("a/relative", Some("a/b/c")),
            ("dangling", Some("nowhere/x")),
            ("link/../x", Some("a/x")),
            ("loop", None),
            ("loop/x", None),
        ] {
            check(path, expected);
        }
    }
}
