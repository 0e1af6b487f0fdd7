//! A chain of layers as one tree, from their indexes alone.
//!
//! Every push merges the new layer's index into a sorted list of slots, so that
//! a lookup is one binary search however many layers there are. Whiteouts,
//! opaque directories and replaced directories are worked in then; what a
//! lookup finds is what a container would see.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::{end_of, search};
use super::index_builder::{IndexBuilder, MOST_LINKS, Walk};
use super::path::{bytes, compare, is_below, to_path};
use super::tar_stream::Item;
use super::{Entry, EntryIndex, Error, Kind};

/// The effective view of a chain. Cloning is cheap: a stage may fork it.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    layers: Vec<Arc<EntryIndex>>,
    /// Of each layer, what its tar calls the files that were moved.
    tar_names: Vec<Arc<TarNames>>,
    slots: Arc<Vec<Slot>>,
}

/// Path in the chain → path in the layer's tar, its own links followed.
type TarNames = HashMap<PathBuf, PathBuf>;

/// A path that exists, and which record describes it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    name: Place,
    /// Another record than `name` for hard links.
    data: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    layer: u32,
    at: u32,
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entry with its effective metadata: a hard link appears as the file
    /// it names. Only a link whose target no layer has stays a `Hardlink`.
    pub entry: Entry,
    /// Which layer describes it, from 0 at the bottom.
    pub layer: usize,
    /// Which layer holds a file's bytes.
    pub source_layer: usize,
    /// The path under which that layer holds them; another than `entry.path`
    /// when the entry is a hard link.
    pub source_path: PathBuf,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The real path below the root, with whatever part does not exist.
    pub path: PathBuf,
    /// What is there; `None` when something is missing.
    pub found: Option<Found>,
    /// The part of `path` that does not exist; empty when `found` is there.
    pub missing: PathBuf,
}

/// Relocating a layer's names may bring it to further links; real chains never
/// need more than one round.
const MOST_RELOCATIONS: usize = 8;

impl Stack {
    /// A chain, bottom first.
    pub fn new(layers: Vec<Arc<EntryIndex>>) -> Self {
        let mut stack = Self::default();
        for layer in layers {
            stack.push(layer);
        }
        stack
    }

    /// Puts a layer on top. Entries of it whose parents are links below are
    /// moved to where those links lead, as [`super::unpack`] does it.
    pub fn push(&mut self, layer: Arc<EntryIndex>) {
        let (layer, tar_names) = self.fitted(layer);
        let number = u32::try_from(self.layers.len()).expect("an image has fewer than 2^32 layers");
        let merged = self.merge(&layer, number);
        self.layers.push(layer);
        self.tar_names.push(Arc::new(tar_names));
        self.slots = Arc::new(merged);
    }

    /// How many layers there are.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Under which name [`super::Spool`] finds the file that a [`Found`] says
    /// lies in `source_layer` as `source_path`: links of the layers below may
    /// have moved it.
    pub fn tar_name(&self, source_layer: usize, source_path: &Path) -> PathBuf {
        let moved = self.tar_names.get(source_layer).and_then(|names| names.get(source_path));
        moved.map_or_else(|| source_path.to_owned(), PathBuf::clone)
    }

    /// What is at this path; no link is followed, also not on the way. The
    /// root always exists.
    pub fn get(&self, path: &Path) -> Option<Found> {
        match self.locate(bytes(path)) {
            Ok(at) => Some(self.found(self.slots[at])),
            Err(_) if path.as_os_str().is_empty() => Some(implied_root()),
            Err(_) => None,
        }
    }

    /// Where a path leads, links followed inside the root only: `..` stays at
    /// the root, absolute links start there. The last component is followed
    /// when `follow_last`. A part that does not exist is kept as it is.
    ///
    /// # Errors
    /// After 40 links, and when something on the way is no directory.
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<Resolved, Error> {
        let mut walk = Walk::new(path);
        let mut missing = PathBuf::new();
        while let Some(name) = walk.next() {
            let here = walk.at.join(&name);
            let parent_exists = missing.as_os_str().is_empty() || !here.starts_with(&missing);
            if parent_exists {
                missing = PathBuf::new();
            }
            match parent_exists.then(|| self.kind(&here)).flatten() {
                Some(Kind::Symlink { target }) if follow_last || !walk.is_done() => walk.follow(&target)?,
                Some(kind) if !kind.is_directory() && !walk.is_done() => {
                    return Err(Error::NotADirectory { path: here, wanted: path.to_owned() });
                }
                Some(_) => walk.at = here,
                None => {
                    if parent_exists {
                        missing = here.clone();
                    }
                    walk.at = here;
                }
            }
        }
        Ok(self.resolved(walk.at, &missing))
    }

    /// What is directly below a directory, sorted by name; nothing for
    /// anything else. No link is followed.
    pub fn children(&self, directory: &Path) -> Vec<(OsString, Found)> {
        let directory = bytes(directory);
        let mut at = match self.locate(directory) {
            Ok(at) => at + 1,
            Err(at) if directory.is_empty() => at,
            Err(_) => return Vec::new(),
        };
        let mut children = Vec::new();
        while at < self.slots.len() && is_below(self.name(self.slots[at]), directory) {
            let found = self.found(self.slots[at]);
            children.push((found.entry.path.file_name().unwrap_or_default().to_owned(), found));
            at = self.subtree_end(at);
        }
        children
    }

    /// All names of the file at this path, itself included, sorted: more than
    /// one when there are hard links. A name that a higher layer replaced no
    /// longer counts. Looks at every path of the chain.
    pub fn names(&self, path: &Path) -> Vec<PathBuf> {
        let Ok(at) = self.locate(bytes(path)) else { return Vec::new() };
        let data = self.slots[at].data;
        let same = self.slots.iter().filter(|slot| slot.data == data);
        same.map(|slot| to_path(self.name(*slot))).collect()
    }

    /// All files that have several names: where their bytes lie (`source_layer`,
    /// `source_path`) → the names, sorted. Looks at every path of the chain once.
    pub fn shared(&self) -> HashMap<(usize, PathBuf), Vec<PathBuf>> {
        // What links of a chain are called elsewhere; a directory may be
        // described by another layer, too.
        let is_link = |slot: &&Slot| slot.data != slot.name && !self.entry(slot.data).kind.is_directory();
        let mut shared: HashMap<Place, Vec<PathBuf>> = HashMap::new();
        for slot in self.slots.iter().filter(is_link) {
            shared.entry(slot.data).or_default().push(to_path(self.name(*slot)));
        }
        for slot in self.slots.iter().filter(|slot| slot.data == slot.name) {
            if let Some(names) = shared.get_mut(&slot.name) {
                names.push(to_path(self.name(*slot)));
            }
        }
        let source = |place: Place| {
            let path = self.layers[place.layer as usize].path_at(place.at as usize);
            (place.layer as usize, to_path(path))
        };
        let sorted = |(place, mut names): (Place, Vec<PathBuf>)| {
            names.sort();
            (source(place), names)
        };
        shared.into_iter().map(sorted).collect()
    }

    /// Everything there is, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = Found> + '_ {
        self.slots.iter().map(|slot| self.found(*slot))
    }

    fn resolved(&self, path: PathBuf, missing_from: &Path) -> Resolved {
        let is_missing = !missing_from.as_os_str().is_empty() && path.starts_with(missing_from);
        if !is_missing {
            return Resolved { found: self.get(&path), path, missing: PathBuf::new() };
        }
        let existing = missing_from.parent().unwrap_or(Path::new(""));
        let missing = path.strip_prefix(existing).expect("it starts with missing_from").to_owned();
        Resolved { path, found: None, missing }
    }

    fn kind(&self, path: &Path) -> Option<Kind> {
        let at = self.locate(bytes(path)).ok()?;
        Some(self.entry(self.slots[at].data).kind)
    }

    fn found(&self, slot: Slot) -> Found {
        let mut entry = self.entry(slot.data);
        let source_path = std::mem::replace(&mut entry.path, to_path(self.name(slot)));
        let (layer, source_layer) = (slot.name.layer as usize, slot.data.layer as usize);
        Found { entry, layer, source_layer, source_path }
    }

    fn entry(&self, place: Place) -> Entry {
        self.layers[place.layer as usize].entry_at(place.at as usize)
    }

    fn name(&self, slot: Slot) -> &[u8] {
        self.layers[slot.name.layer as usize].path_at(slot.name.at as usize)
    }

    fn locate(&self, path: &[u8]) -> Result<usize, usize> {
        search(0..self.slots.len(), |at| compare(self.name(self.slots[at]), path))
    }

    fn subtree_end(&self, at: usize) -> usize {
        let directory = self.name(self.slots[at]);
        end_of(at + 1, self.slots.len(), |at| is_below(self.name(self.slots[at]), directory))
    }

    /// The slots with `layer` on top of them.
    fn merge(&self, layer: &EntryIndex, number: u32) -> Vec<Slot> {
        let mut merged = Vec::with_capacity(self.slots.len() + layer.len());
        let mut below = 0;
        for at in 0..layer.len() {
            let path = layer.path_at(at);
            while below < self.slots.len() && compare(self.name(self.slots[below]), path).is_lt() {
                merged.push(self.slots[below]);
                below += 1;
            }
            let same = below < self.slots.len() && self.name(self.slots[below]) == path;
            let before = same.then(|| self.slots[below]);
            let entry = layer.entry_at(at);
            if keeps_below(&entry.kind) {
                below += usize::from(same);
            } else {
                below = end_of(below, self.slots.len(), |at| {
                    let name = self.name(self.slots[at]);
                    name == path || is_below(name, path)
                });
            }
            let place = Place { layer: number, at: u32::try_from(at).expect("offsets fit in u32") };
            merged.extend(self.slot(layer, place, &entry, before));
        }
        merged.extend_from_slice(&self.slots[below..]);
        merged
    }

    fn slot(&self, layer: &EntryIndex, name: Place, entry: &Entry, before: Option<Slot>) -> Option<Slot> {
        match &entry.kind {
            Kind::Whiteout => None,
            Kind::Hardlink { target } => Some(Slot { name, data: self.link_data(layer, name, target) }),
            _ if borrows(layer, name.at as usize) => {
                let directory = before.filter(|slot| self.entry(slot.data).kind.is_directory());
                Some(directory.unwrap_or(Slot { name, data: name }))
            }
            _ => Some(Slot { name, data: name }),
        }
    }

    /// The record that a hard link shares: its target's in the same layer,
    /// else in the view below.
    fn link_data(&self, layer: &EntryIndex, name: Place, target: &Path) -> Place {
        let mut target = target.to_owned();
        if layer.locate(bytes(&target)).is_err()
            && let Ok(resolved) = self.resolve(&target, false)
        {
            // Its directory may be a link below.
            target = resolved.path;
        }
        for _ in 0..MOST_LINKS {
            let Ok(at) = layer.locate(bytes(&target)) else { return self.lower_data(name, &target) };
            match layer.entry_at(at).kind {
                Kind::Hardlink { target: next } => target = next,
                Kind::Whiteout | Kind::Directory { .. } => return name,
                _ => return Place { layer: name.layer, at: u32::try_from(at).expect("offsets fit in u32") },
            }
        }
        name
    }

    fn lower_data(&self, name: Place, target: &Path) -> Place {
        let resolved = self.resolve(target, false).ok();
        let at = resolved.and_then(|resolved| self.locate(bytes(&resolved.path)).ok());
        let data = at.map(|at| self.slots[at].data);
        data.filter(|data| !self.entry(*data).kind.is_directory()).unwrap_or(name)
    }

    /// The layer with the names moved that go through links of lower layers,
    /// and what they were.
    fn fitted(&self, mut layer: Arc<EntryIndex>) -> (Arc<EntryIndex>, TarNames) {
        let mut names = TarNames::new();
        for _ in 0..MOST_RELOCATIONS {
            let moves = self.moves(&layer);
            if moves.is_empty() {
                break;
            }
            let Some((moved, moved_names)) = relocate(&layer, &moves) else { break };
            let before = |(new, old)| (new, names.get(&old).cloned().unwrap_or(old));
            let moved_names: TarNames = moved_names.into_iter().map(before).collect();
            names.extend(moved_names);
            layer = Arc::new(moved);
        }
        (layer, names)
    }

    /// Directories that this layer only implies and that are links below, with
    /// where they lead.
    fn moves(&self, layer: &EntryIndex) -> Vec<(PathBuf, PathBuf)> {
        let mut moves = Vec::new();
        if self.slots.is_empty() {
            return moves;
        }
        for at in (0..layer.len()).filter(|at| borrows(layer, *at)) {
            let path = to_path(layer.path_at(at));
            if matches!(self.kind(&path), Some(Kind::Symlink { .. }))
                && let Ok(resolved) = self.resolve(&path, true)
                && resolved.found.as_ref().is_none_or(|found| found.entry.kind.is_directory())
            {
                moves.push((path, resolved.path));
            }
        }
        moves
    }
}

/// Whether the metadata of a directory is that of the layers below.
fn borrows(layer: &EntryIndex, at: usize) -> bool {
    layer.is_implicit(at) || layer.is_implicit_opaque(at)
}

/// Whether what lower layers have below such an entry stays.
fn keeps_below(kind: &Kind) -> bool {
    matches!(kind, Kind::Directory { opaque: false })
}

/// The layer with names moved to where the links below lead, and what those
/// that are files were called.
fn relocate(layer: &EntryIndex, moves: &[(PathBuf, PathBuf)]) -> Option<(EntryIndex, TarNames)> {
    // What lies below a link moves; the link's own name does not, unless a
    // directory is meant.
    let moved = |path: &Path, itself: bool| {
        let real = |(from, to): &(PathBuf, PathBuf)| {
            let rest = path.strip_prefix(from).ok()?;
            (itself || !rest.as_os_str().is_empty()).then(|| joined(to, rest))
        };
        moves.iter().rev().find_map(real)
    };
    let mut builder = IndexBuilder::default();
    let mut late = Vec::new();
    for at in (0..layer.len()).filter(|at| !layer.is_implicit(*at)) {
        let mut entry = layer.entry_at(at);
        let mark = layer.is_implicit_opaque(at);
        if let Kind::Hardlink { target } = &mut entry.kind
            && let Some(real) = moved(target, false)
        {
            *target = real;
        }
        if let Some(real) = moved(&entry.path, mark) {
            let old = std::mem::replace(&mut entry.path, real);
            late.push((old, item(entry, mark)));
        } else {
            builder.apply(item(entry, mark)).ok()?;
        }
    }
    let names = apply_late(&mut builder, late);
    Some((builder.finish().ok()?, names))
}

/// Refused is what contradicts the layer's own names: those stay.
fn apply_late(builder: &mut IndexBuilder, late: Vec<(PathBuf, Item)>) -> TarNames {
    let mut names = TarNames::new();
    for (old, item) in late {
        let place = match &item {
            Item::Entry(entry) => builder.place(&entry.path).ok(),
            Item::Opaque(_) => None,
        };
        let applied = builder.apply(item).is_ok();
        for (gone, link) in builder.take_promoted() {
            let file = names.get(&gone).cloned().unwrap_or(gone);
            names.insert(link, file);
        }
        if let (true, Some(place)) = (applied, place) {
            names.insert(place, old);
        }
    }
    names
}

fn item(entry: Entry, mark: bool) -> Item {
    if mark { Item::Opaque(entry.path) } else { Item::Entry(entry) }
}

/// `Path::join`, which would end the directory itself in a slash.
fn joined(directory: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { directory.to_owned() } else { directory.join(rest) }
}

fn implied_root() -> Found {
    let entry = Entry::implicit_directory(PathBuf::new());
    Found { entry, layer: 0, source_layer: 0, source_path: PathBuf::new() }
}
