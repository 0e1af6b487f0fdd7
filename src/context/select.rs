//! The sources of COPY and ADD: which entries of a tree a pattern means, and the
//! names under which they are placed.
//!
//! Rules are BuildKit's. The part before the first wildcard, and what a wildcard
//! matched, are followed through links inside the tree; wildcards themselves go
//! through real directories only. With `--parents` nothing after the pivot is
//! followed, and what matches keeps its path below the pivot.

mod glob;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::ignore::Inherited;
use super::{Error, Ignore, Node, Pattern, SourceTree, resolve};

/// The flags of a COPY that decide what is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectOptions {
    /// `--exclude`, in order: patterns as in an ignore file. They are matched
    /// below each source; with `parents`, below its pivot.
    pub exclude: Vec<String>,
    /// `--parents`.
    pub parents: bool,
}

/// What the sources of an instruction mean, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// One per match.
    pub items: Vec<Selected>,
    excludes: Ignore,
    parents: bool,
}

/// One file or directory that is to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Where it is in the tree, links followed.
    pub path: PathBuf,
    /// What it is called: as matched, before links were followed. Its last part
    /// names a file that is put into a directory; with `--parents` all of it
    /// goes below the target.
    pub name: PathBuf,
    /// What it is.
    pub node: Node,
    /// With `--parents`, the directories between pivot and item, outermost first.
    pub parents: Vec<Parent>,
    /// Whether a wildcard matched it.
    pub wildcard: bool,
    /// Which of the sources it came from, counted from 0.
    pub source: usize,
}

/// A directory above a selected item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its path below the pivot.
    pub name: PathBuf,
    /// Its owner, mode and attributes, which the target gets where it is new.
    pub node: Node,
}

/// One entry of a selection, as [`Selection::walk`] shows it.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// The place of that item in [`Selection::items`].
    pub number: usize,
    /// The selected item it belongs to.
    pub item: &'a Selected,
    /// Its path below the item; empty for the item itself.
    pub below: &'a Path,
    /// Its path in the tree.
    pub path: &'a Path,
    /// What it is.
    pub node: &'a Node,
}

/// What all sources of one instruction mean together.
///
/// # Errors
/// [`Error::NotFound`] for a source that does not exist, up to its first wildcard
/// (what wildcards match may be nothing); [`Error::SourcePattern`]; those of the tree.
pub fn select(tree: &dyn SourceTree, patterns: &[&str], options: &SelectOptions) -> Result<Selection, Error> {
    let excludes = Ignore::from_patterns(&options.exclude)?;
    let mut selection = Selection { items: Vec::new(), excludes, parents: options.parents };
    for (source, pattern) in patterns.iter().enumerate() {
        let found = match options.parents {
            true => with_parents(tree, pattern)?,
            false => glob::sources(tree, pattern)?,
        };
        selection.items.extend(found.into_iter().map(|item| Selected { source, ..item }));
    }
    let mut items = std::mem::take(&mut selection.items);
    items.retain(|item| !selection.drops(item));
    Ok(Selection { items, ..selection })
}

/// Whether a source has a wildcard that is not escaped.
pub fn has_wildcard(pattern: &str) -> bool {
    let mut escaped = false;
    pattern.chars().any(|next| {
        let found = !escaped && matches!(next, '*' | '?' | '[');
        escaped = !escaped && next == '\\';
        found
    })
}

impl Selection {
    /// Visits every selected entry that no `--exclude` takes away: items in
    /// order, each with what is below it in the order of `PathBuf`, parents
    /// first. An excluded directory appears after all where an exception brings
    /// back something below it.
    ///
    /// # Errors
    /// Those of the tree, and those of `visit`, which end the walk.
    pub fn walk(
        &self,
        tree: &dyn SourceTree,
        visit: &mut dyn FnMut(Visit<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        (0..self.items.len()).try_for_each(|number| self.walk_item(tree, number, visit))
    }

    fn walk_item(
        &self,
        tree: &dyn SourceTree,
        number: usize,
        visit: &mut dyn FnMut(Visit<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let item = &self.items[number];
        // Directories that are excluded, until something below them is not.
        let mut held: Vec<Step> = Vec::new();
        let mut pending = vec![self.first_step(item)];
        while let Some(step) = pending.pop() {
            held.retain(|above| above.depth < step.depth);
            let below_counts = step.node.is_directory()
                && (!step.excluded || self.excludes.may_include_below(&self.subject(item, &step.below)));
            if below_counts {
                self.push_children(tree, item, &step, &mut pending)?;
            } else if step.excluded {
                continue;
            }
            let excluded = step.excluded;
            held.push(step);
            if !excluded {
                for step in held.drain(..) {
                    visit(Visit { number, item, below: &step.below, path: &step.path, node: &step.node })?;
                }
            }
        }
        Ok(())
    }

    fn push_children(
        &self,
        tree: &dyn SourceTree,
        item: &Selected,
        above: &Step,
        pending: &mut Vec<Step>,
    ) -> Result<(), Error> {
        for name in tree.children(&above.path)?.into_iter().rev() {
            let path = above.path.join(&name);
            let Some(node) = tree.node(&path)? else { continue };
            let below = above.below.join(name);
            let verdict = self.excludes.step(&self.subject(item, &below), &above.inherited);
            let (excluded, inherited) = (verdict.excluded, Rc::new(verdict.inherited));
            pending.push(Step { depth: above.depth + 1, excluded, inherited, path, below, node });
        }
        Ok(())
    }

    fn first_step(&self, item: &Selected) -> Step {
        let mut step = Step {
            depth: 0,
            excluded: false,
            inherited: Rc::new(Inherited::default()),
            path: item.path.clone(),
            below: PathBuf::new(),
            node: item.node.clone(),
        };
        if self.parents {
            for prefix in item.name.ancestors().collect::<Vec<_>>().into_iter().rev().skip(1) {
                let verdict = self.excludes.step(prefix, &step.inherited);
                step.excluded = verdict.excluded;
                step.inherited = Rc::new(verdict.inherited);
            }
        }
        step
    }

    /// The same selection of other items.
    #[must_use]
    pub fn with_items(&self, items: Vec<Selected>) -> Self {
        Self { items, excludes: self.excludes.clone(), parents: self.parents }
    }

    /// Whether names keep their path below the pivot (`--parents`).
    pub fn keeps_parents(&self) -> bool {
        self.parents
    }

    /// The path that `--exclude` is matched against.
    fn subject(&self, item: &Selected, below: &Path) -> PathBuf {
        match self.parents {
            true => item.name.join(below).components().collect(),
            false => below.to_owned(),
        }
    }

    /// Whether `--exclude` takes away the whole item: only with `--parents`. Else
    /// a source is wanted, even one that a wildcard found, whatever Docker's
    /// documentation says (measured).
    fn drops(&self, item: &Selected) -> bool {
        let kept = item.node.is_directory() && self.excludes.may_include_below(&item.name);
        self.parents && self.excludes.excluded(&item.name) && !kept
    }
}

/// An entry on the way of [`Selection::walk`].
struct Step {
    depth: usize,
    excluded: bool,
    inherited: Rc<Inherited>,
    path: PathBuf,
    below: PathBuf,
    node: Node,
}

/// `--parents`: the first `/./` is the pivot, else the root of the tree is.
fn with_parents(tree: &dyn SourceTree, source: &str) -> Result<Vec<Selected>, Error> {
    let (pivot, rest) = source.split_once("/./").unwrap_or(("/", source));
    let rest = glob::elements(rest).join("/");
    let pattern = Pattern::path(&rest)
        .map_err(|error| Error::SourcePattern { pattern: source.to_owned(), source: error })?;
    let wildcard = has_wildcard(pivot) || has_wildcard(&rest);
    let mut found = Vec::new();
    for base in glob::sources(tree, pivot)? {
        let before = found.len();
        below_pivot(tree, &base, &pattern, wildcard, &mut found)?;
        // BuildKit asks of a plain source only that it exists, links followed,
        // though it then follows none when it copies.
        if found.len() == before && !wildcard {
            let wanted = base.path.join(&rest);
            if tree.node(&resolve(tree, &wanted)?)?.is_none() {
                return Err(glob::not_found(tree, source, &wanted));
            }
        }
    }
    Ok(found)
}

/// The outermost matches of `pattern` below `base`.
fn below_pivot(
    tree: &dyn SourceTree,
    base: &Selected,
    pattern: &Pattern,
    wildcard: bool,
    found: &mut Vec<Selected>,
) -> Result<(), Error> {
    let everything = pattern.is_empty();
    let mut above: Vec<Parent> = Vec::new();
    let mut pending = vec![(PathBuf::new(), base.node.clone())];
    while let Some((name, node)) = pending.pop() {
        let path = clean(&base.path.join(&name));
        above.truncate(name.components().count().saturating_sub(1));
        let bytes = name.as_os_str().as_encoded_bytes();
        // `*` matches nothing at all, but means something below the pivot.
        let is_pivot = bytes.is_empty() && !everything;
        if pattern.matches(bytes) && !is_pivot {
            let parents = above.clone();
            found.push(Selected { path, name, node, parents, wildcard, source: 0 });
        } else if node.is_directory() && (bytes.is_empty() || pattern.may_match_below(bytes)) {
            for child in tree.children(&path)?.into_iter().rev() {
                if let Some(node) = tree.node(&path.join(&child))? {
                    pending.push((name.join(child), node));
                }
            }
            if !bytes.is_empty() {
                above.push(Parent { name, node });
            }
        }
    }
    Ok(())
}

/// Joining an empty path leaves a slash at the end; this takes it away.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests;
