//! The tree as it was: the chain's effective view, the files behind it, and
//! which names belong to one file.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;

use crate::image::{Digest, HashingReader};
use crate::layer::{Below, EntryIndex, Found, LowerTrees, PackedLayer, Stack};

use super::Error;
use super::disk::is_of_images;

/// Which layer holds a file's bytes, and under which name.
pub(super) type Source = (usize, PathBuf);

/// The layers below.
pub(super) struct Before {
    stack: Stack,
    trees: Vec<PathBuf>,
    /// Of files in layers that were packed here and have no tree of their own.
    digests: HashMap<Source, Digest>,
    groups: OnceLock<HashMap<Source, Vec<PathBuf>>>,
}

impl Before {
    pub(super) fn new(stack: Stack, trees: Vec<PathBuf>) -> Self {
        Self { stack, trees, digests: HashMap::new(), groups: OnceLock::new() }
    }

    pub(super) fn stack(&self) -> &Stack {
        &self.stack
    }

    pub(super) fn trees(&self) -> &[PathBuf] {
        &self.trees
    }

    /// What is at this path, with the attributes that count.
    pub(super) fn get(&self, path: &Path) -> Option<Found> {
        let mut found = self.stack.get(path)?;
        found.entry.xattrs.retain(|name, _| is_of_images(name));
        Some(found)
    }

    pub(super) fn names(&self, directory: &Path) -> Vec<OsString> {
        self.stack.children(directory).into_iter().map(|(name, _)| name).collect()
    }

    /// All names of the file behind `found`, itself included.
    pub(super) fn group(&self, found: &Found) -> Vec<PathBuf> {
        let groups = self.groups.get_or_init(|| self.stack.shared());
        let source = (found.source_layer, found.source_path.clone());
        groups.get(&source).cloned().unwrap_or_else(|| vec![found.entry.path.clone()])
    }

    /// Every name of a file that has several.
    pub(super) fn linked(&self) -> Vec<PathBuf> {
        let groups = self.groups.get_or_init(|| self.stack.shared());
        let mut names: Vec<PathBuf> =
            groups.values().filter(|names| names.len() > 1).flatten().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Whether `file` has the bytes of the file that was at `found`; their
    /// sizes are the same.
    pub(super) fn has_content(&self, found: &Found, file: File) -> io::Result<bool> {
        let source = (found.source_layer, found.source_path.clone());
        if let Some(expected) = self.digests.get(&source) {
            let mut reader = HashingReader::new(file);
            io::copy(&mut reader, &mut io::sink())?;
            return Ok(reader.finish().0 == *expected);
        }
        let trees = LowerTrees { stack: &self.stack, trees: &self.trees };
        same_bytes(trees.open(&found.entry.path)?, file)
    }

    /// Takes over what an earlier step of the stage knew of its layers.
    pub(super) fn inherit(&mut self, digests: HashMap<Source, Digest>) {
        self.digests = digests;
    }

    pub(super) fn into_digests(self) -> (Stack, HashMap<Source, Digest>) {
        (self.stack, self.digests)
    }

    /// The layer that was just packed is the topmost from here on.
    pub(super) fn add_packed(
        &mut self,
        layer: &PackedLayer,
        digests: Vec<(PathBuf, Digest)>,
    ) -> Result<(), Error> {
        let index = EntryIndex::load(&layer.entries).map_err(Error::Layer)?;
        let number = self.stack.depth();
        self.stack.push(Arc::new(index));
        self.trees.push(PathBuf::new());
        self.digests.extend(digests.into_iter().map(|(path, digest)| ((number, path), digest)));
        self.groups = OnceLock::new();
        Ok(())
    }
}

fn same_bytes(one: impl Read, other: impl Read) -> io::Result<bool> {
    const PIECE: usize = 64 << 10;
    let (mut one, mut other) = (BufReader::with_capacity(PIECE, one), BufReader::with_capacity(PIECE, other));
    let (mut left, mut right) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    loop {
        left.clear();
        right.clear();
        one.by_ref().take(PIECE as u64).read_to_end(&mut left)?;
        other.by_ref().take(PIECE as u64).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}
