//! Sources without `--parents`: wildcards element by element.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Selected, has_wildcard};
use crate::context::{Error, Pattern, SourceTree, resolve};

/// The elements of a source, cleaned as if it began at the root: `..` cannot
/// lead out.
pub(super) fn elements(source: &str) -> Vec<&str> {
    let mut elements = Vec::new();
    for element in source.split('/') {
        match element {
            "" | "." => {}
            ".." => {
                elements.pop();
            }
            other => elements.push(other),
        }
    }
    elements
}

/// Everything one source means.
pub(super) fn sources(tree: &dyn SourceTree, source: &str) -> Result<Vec<Selected>, Error> {
    let elements = elements(source);
    let plain = elements.iter().take_while(|element| !has_wildcard(element)).count();
    let (prefix, rest) = elements.split_at(plain);
    if rest.is_empty() {
        return exact(tree, source, prefix).map(|found| vec![found]);
    }
    let prefix: PathBuf = prefix.iter().collect();
    let base = resolve(tree, &prefix)?;
    // What wildcards match may be nothing, but they must have a place to look.
    if !tree.node(&base)?.is_some_and(|node| node.is_directory()) {
        return Err(not_found(tree, source, &base));
    }
    let mut matches = BTreeSet::new();
    Glob::compile(source, rest)?.collect(tree, &base, &mut matches)?;
    let mut found: Vec<Selected> = Vec::new();
    let mut last: Option<PathBuf> = None;
    for below in matches {
        // A directory brings what is below it: a deeper match is no second source.
        if last.as_ref().is_some_and(|last| below.starts_with(last)) {
            continue;
        }
        let name = prefix.join(&below);
        let path = resolve(tree, &base.join(&below))?;
        let Some(node) = tree.node(&path)? else {
            return Err(not_found(tree, &name.to_string_lossy(), &path));
        };
        found.push(Selected { path, name, node, parents: Vec::new(), wildcard: true, source: 0 });
        last = Some(below);
    }
    Ok(found)
}

/// A source without wildcards. A backslash is part of a name first, and an
/// escape where no such name exists.
fn exact(tree: &dyn SourceTree, source: &str, elements: &[&str]) -> Result<Selected, Error> {
    let written: PathBuf = elements.iter().collect();
    let unescaped: PathBuf = elements.iter().map(|element| unescape(element)).collect();
    for name in [&written, &unescaped] {
        let path = resolve(tree, name)?;
        if let Some(node) = tree.node(&path)? {
            return Ok(Selected {
                path,
                name: name.clone(),
                node,
                parents: Vec::new(),
                wildcard: false,
                source: 0,
            });
        }
    }
    Err(not_found(tree, source, &resolve(tree, &written)?))
}

fn unescape(element: &str) -> String {
    let mut plain = String::new();
    let mut rest = element.chars();
    while let Some(next) = rest.next() {
        plain.push(if next == '\\' { rest.next().unwrap_or(next) } else { next });
    }
    plain
}

/// `path` is where the source would be.
pub(super) fn not_found(tree: &dyn SourceTree, source: &str, path: &Path) -> Error {
    Error::NotFound { pattern: source.to_owned(), tree: tree.description(), ignored: tree.ignored(path) }
}

/// Elements from the first wildcard on.
struct Glob(Vec<Element>);

enum Element {
    /// `**`: any directories, also none.
    Directories,
    Name(Pattern),
}

impl Glob {
    fn compile(source: &str, elements: &[&str]) -> Result<Self, Error> {
        let compile = |element: &&str| match *element {
            "**" => Ok(Element::Directories),
            other => Pattern::element(other).map(Element::Name),
        };
        let elements = elements.iter().map(compile).collect::<Result<_, _>>();
        elements.map(Self).map_err(|error| Error::SourcePattern { pattern: source.to_owned(), source: error })
    }

    /// Adds the paths below `base` that match, relative to it.
    fn collect(
        &self,
        tree: &dyn SourceTree,
        base: &Path,
        found: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let mut pending = vec![(PathBuf::new(), 0)];
        while let Some((below, index)) = pending.pop() {
            if !seen.insert((below.clone(), index)) {
                continue;
            }
            let directory: PathBuf = base.join(&below).components().collect();
            if !tree.node(&directory)?.is_some_and(|node| node.is_directory()) {
                continue;
            }
            if matches!(self.0[index], Element::Directories) && index + 1 < self.0.len() {
                pending.push((below.clone(), index + 1));
            }
            for child in tree.children(&directory)? {
                let path = below.join(&child);
                match self.next(index, child.as_encoded_bytes()) {
                    Next::Match => {
                        found.insert(path);
                    }
                    Next::Enter(index) => pending.push((path, index)),
                    Next::Nothing => {}
                }
            }
        }
        Ok(())
    }

    fn next(&self, index: usize, child: &[u8]) -> Next {
        let last = index + 1 == self.0.len();
        match &self.0[index] {
            Element::Directories if last => Next::Match,
            Element::Directories => Next::Enter(index),
            Element::Name(pattern) if !pattern.matches(child) => Next::Nothing,
            Element::Name(_) if last => Next::Match,
            Element::Name(_) => Next::Enter(index + 1),
        }
    }
}

/// What to do with a child of a directory.
enum Next {
    Match,
    /// Go on there with this element.
    Enter(usize),
    Nothing,
}
