//! ADD of an archive: what it holds goes over what is there.
//!
//! Unlike a copied directory, an archive replaces whatever is of another kind,
//! a directory by a file too. It goes through links only on the way to names
//! whose directories it does not describe itself, as a directory or link of its
//! own would have replaced them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::CopyError;
use super::place::{From, Placement};
use crate::context::{self, Node, SourceTree};

/// Places everything in `tree` below `destination`. Owners are the archive's
/// unless `--chown` says otherwise; `--chmod` does not count.
pub(super) fn place<'a>(
    tree: &'a dyn SourceTree,
    implied: &BTreeSet<PathBuf>,
    destination: &Path,
    placement: &mut Placement<'a>,
) -> Result<(), CopyError> {
    let mut work = Work { tree, implied, real: BTreeMap::from([(PathBuf::new(), destination.to_owned())]) };
    let mut refused = Ok(());
    let walked = context::walk(tree, Path::new(""), &mut |path, node| {
        if refused.is_ok() && !path.as_os_str().is_empty() {
            refused = work.visit(path, node, placement);
        }
        Ok(())
    });
    walked.map_err(CopyError::Source).and(refused)
}

struct Work<'a, 'b> {
    tree: &'a dyn SourceTree,
    implied: &'b BTreeSet<PathBuf>,
    /// Directory of the archive → where it is in the image.
    real: BTreeMap<PathBuf, PathBuf>,
}

impl<'a> Work<'a, '_> {
    fn visit(&mut self, path: &Path, node: &Node, placement: &mut Placement<'a>) -> Result<(), CopyError> {
        let from = From { tree: self.tree, keep_owner: true, archive: true };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let target = self.real.get(parent).cloned().unwrap_or_default().join(name);
        if node.is_directory() && self.implied.contains(path) {
            let target = match placement.is_directory(&target) {
                true => target,
                false => placement.real(&target)?,
            };
            self.real.insert(path.to_owned(), target.clone());
            return placement.implied(&target);
        }
        // The time of a directory that the archive describes is set after all.
        if parent.as_os_str().is_empty() || self.implied.contains(parent) {
            placement.touch_parent(&target);
        }
        if node.is_directory() {
            self.real.insert(path.to_owned(), target.clone());
            return placement.directory(target, node, from);
        }
        placement.node(path, target, node, from)
    }
}
