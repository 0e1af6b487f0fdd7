//! What came out of a build, as lines that can be compared and read: `PLACE VALUE`.
//!
//! ```text
//! outcome accepted                     or refused; then `says` has the reason, `at` the line
//! check FromAsCasing:3                 a build check and its line
//! config.Env ["A=1"]                   the config; what is empty is left out
//! history:2 layer "RUN true"           or `empty`, for entries without a layer
//! layer:1 etc/ etc/new                 paths of a layer, sorted; layers of BASE are `base`
//! tree:etc/new file 644 0:0 "hello"    what differs from the base image's tree
//! time:etc/new 1577836800              its time; `now` if the build made it
//! outline.args[0].name A               answers of other calls
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::OnceLock;

use coracle::image::Digest;
use serde_json::Value;
use tar::EntryType;

use crate::support::base::{self, Base};
use crate::support::image::{Entry, Image};

/// Later times are those of the build itself.
const BUILT: u64 = 1_767_225_600;

/// Fields of the config beside the object `config`.
const OUTER: [&str; 8] =
    ["architecture", "os", "variant", "os.version", "os.features", "author", "moby", "created"];

/// An answer of a builder.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    /// Who gave it: `buildkit 0.25`.
    pub(super) by: String,
    lines: BTreeMap<String, String>,
}

impl Picture {
    /// Without anything in it.
    pub(super) fn new(by: &str) -> Self {
        Self { by: by.to_owned(), lines: BTreeMap::new() }
    }

    /// Reads the lines of a case's file.
    pub(super) fn parse(by: &str, text: &str) -> Self {
        let mut picture = Self::new(by);
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (place, value) = line.split_once(' ').unwrap_or((line, ""));
            picture.add(place, value);
        }
        picture
    }

    /// Adds a line.
    pub(super) fn add(&mut self, place: &str, value: &str) {
        self.lines.insert(place.to_owned(), value.to_owned());
    }

    /// A finding of a check; several on one line are counted.
    pub(super) fn add_check(&mut self, rule: &str, line: u64) {
        // Of an empty continuation line BuildKit names the last line of the instruction,
        // coracle the empty line itself.
        let line = if rule == "NoEmptyContinuation" { 0 } else { line };
        let count = self.lines.entry(format!("check:{rule}:{line}")).or_insert_with(|| "0".to_owned());
        *count = (count.parse::<u32>().unwrap() + 1).to_string();
    }

    /// Replaces a text that differs from run to run.
    pub(super) fn replace(&mut self, text: &str, by: &str) {
        for value in self.lines.values_mut() {
            *value = value.replace(text, by);
        }
    }

    /// An image; `with_created` where its time is the user's choice.
    pub(super) fn add_image(&mut self, image: &Image, with_created: bool) {
        self.add("outcome", "accepted");
        self.add_config(image, with_created);
        self.add_history(image, with_created);
        let below = below(image);
        self.add_layers(image, below);
        self.add_tree(image, below);
    }

    fn add_config(&mut self, image: &Image, with_created: bool) {
        for (key, value) in image.config["config"].as_object().into_iter().flatten() {
            if !is_empty(value) {
                self.add(&format!("config.{key}"), &value.to_string());
            }
        }
        for key in OUTER.iter().filter(|key| with_created || **key != "created") {
            let value = &image.config[key];
            if !is_empty(value) && (*key, value.as_str()) != ("architecture", Some(host().as_str())) {
                self.add(key, &value.to_string());
            }
        }
    }

    fn add_history(&mut self, image: &Image, with_created: bool) {
        for (index, entry) in image.config["history"].as_array().into_iter().flatten().enumerate() {
            let kind = if entry["empty_layer"] == true { "empty" } else { "layer" };
            let author = entry["author"].as_str().map(|author| format!(" by {author}")).unwrap_or_default();
            let created = entry["created"].as_str().filter(|_| with_created).unwrap_or_default();
            let line = format!("{kind} {}{author} {created}", entry["created_by"]);
            self.add(&format!("history:{index:02}"), line.trim_end());
        }
    }

    fn add_layers(&mut self, image: &Image, below: usize) {
        for (index, layer) in image.layers.iter().enumerate() {
            let paths: BTreeSet<String> = layer.iter().map(named).collect();
            let paths: Vec<String> = paths.into_iter().collect();
            let shown = if index < below { "base".to_owned() } else { paths.join(" ") };
            self.add(&format!("layer:{index:02}"), &shown);
        }
    }

    fn add_tree(&mut self, image: &Image, below: usize) {
        let base = part(image, below).tree();
        let tree = image.tree();
        let [links, base_links] = [links(&tree), links(&base)];
        for path in base.keys().chain(tree.keys()).collect::<BTreeSet<_>>() {
            let now = tree.get(path).map(|_| shown(&tree, path, &links));
            let before = base.get(path).map(|_| shown(&base, path, &base_links));
            if now != before {
                self.add(&format!("tree:{}", escaped(path)), &now.unwrap_or_else(|| "gone".to_owned()));
            }
            if let Some(entry) = tree.get(path)
                && base.get(path).is_none_or(|base| base.mtime != entry.mtime)
            {
                let time = if entry.mtime > BUILT { "now".to_owned() } else { entry.mtime.to_string() };
                self.add(&format!("time:{}", escaped(path)), &time);
            }
        }
    }

    /// Every value of an answer in JSON, but for places in the file and for the file itself.
    pub(super) fn add_json(&mut self, place: &str, value: &Value) {
        match value {
            Value::Object(map) => map
                .iter()
                .filter(|(key, _)| !SILENT.contains(&key.as_str()))
                .for_each(|(key, value)| self.add_json(&format!("{place}.{key}"), value)),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .for_each(|(index, value)| self.add_json(&format!("{place}[{index}]"), value)),
            value if is_empty(value) || *value == Value::Bool(false) => {}
            value => self.add(place, &value.to_string()),
        }
    }

    /// Place → `ours | theirs`. What BuildKit says in words is for readers.
    pub(super) fn differences(&self, theirs: &Self) -> BTreeMap<String, String> {
        let places: BTreeSet<&String> = self.lines.keys().chain(theirs.lines.keys()).collect();
        let mut found = BTreeMap::new();
        // BuildKit stops at the first mistake: what it had found before that is chance.
        let refused =
            |picture: &Self| picture.lines.get("outcome").is_some_and(|outcome| outcome == "refused");
        let both_refused = refused(self) && refused(theirs);
        let skip = |place: &str| place == "says" || both_refused && place.starts_with("check:");
        for place in places.into_iter().filter(|place| !skip(place)) {
            let [a, b] = [self, theirs].map(|picture| picture.lines.get(place).map_or("", String::as_str));
            if said_in_other_words(a, b) {
                continue;
            }
            let both = self.lines.contains_key(place) && theirs.lines.contains_key(place);
            // BuildKit does not always say which line is wrong.
            let silent = place == "at" && !theirs.lines.contains_key(place);
            if !silent && (a != b || !both) {
                found.insert(place.clone(), format!("{a} | {b}"));
            }
        }
        found
    }
}

const SILENT: [&str; 4] = ["sources", "sourceIndex", "character", "end"];

impl fmt::Display for Picture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "-- {} --", self.by)?;
        self.lines
            .iter()
            .try_for_each(|(place, value)| writeln!(out, "{}", format!("{place} {value}").trim_end()))
    }
}

/// The history of HEALTHCHECK, which BuildKit changed in 2025 (`&{["CMD" …]` became
/// `{Test:[CMD …]`; coracle writes the newer form), and of EXPOSE, where older ones
/// shuffle the ports.
fn said_in_other_words(ours: &str, theirs: &str) -> bool {
    let words = |text: &str| {
        let mut words: Vec<String> =
            text.replace(['[', ']'], " ").split_whitespace().map(str::to_owned).collect();
        words.sort();
        words
    };
    let both = |start: &str| ours.starts_with(start) && theirs.starts_with(start);
    both("empty \"HEALTHCHECK ") || both("empty \"EXPOSE ") && words(ours) == words(theirs)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn host() -> String {
    coracle::image::Platform::host().architecture.clone()
}

/// How many layers are those of the base images.
fn below(image: &Image) -> usize {
    static KNOWN: OnceLock<Vec<Value>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        [base::busybox(), base::awkward(), base::targets()].into_iter().flat_map(diff_ids).collect()
    });
    let ids = image.config["rootfs"]["diff_ids"].as_array();
    ids.into_iter().flatten().take_while(|id| known.contains(id)).count()
}

fn diff_ids(base: &Base) -> Vec<Value> {
    let config: Value = serde_json::from_slice(&base.config).unwrap();
    config["rootfs"]["diff_ids"].as_array().unwrap().clone()
}

/// The lowest layers of an image.
fn part(image: &Image, count: usize) -> Image {
    let layers = image.layers[..count].to_vec();
    Image { digest: String::new(), manifest: Value::Null, config: Value::Null, layers }
}

fn named(entry: &Entry) -> String {
    let slash = if entry.kind == EntryType::Directory { "/" } else { "" };
    format!("{}{slash}", escaped(&entry.path))
}

/// Paths without blanks: a line is split at them.
fn escaped(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.escape_debug().to_string().replace(' ', "\\x20") }
}

/// The file that a hard link is → all its names.
fn links(tree: &BTreeMap<String, Entry>) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, entry) in tree.iter().filter(|(_, entry)| entry.kind.is_hard_link()) {
        let file = file_of(tree, entry);
        found.entry(file.clone()).or_insert_with(|| BTreeSet::from([file])).insert(path.clone());
    }
    found
}

fn file_of(tree: &BTreeMap<String, Entry>, link: &Entry) -> String {
    match tree.get(&link.target) {
        Some(next) if next.kind.is_hard_link() => file_of(tree, next),
        _ => link.target.clone(),
    }
}

/// Which name of a hard link is the file is no difference: each shows all others.
fn shown(tree: &BTreeMap<String, Entry>, path: &str, links: &BTreeMap<String, BTreeSet<String>>) -> String {
    let entry = &tree[path];
    let file = if entry.kind.is_hard_link() { file_of(tree, entry) } else { path.to_owned() };
    let names = links.get(&file).into_iter().flatten().filter(|name| *name != path);
    let names: Vec<String> = names.map(|name| escaped(name)).collect();
    let Some(entry) = tree.get(&file) else { return format!("hard link to missing {file}") };
    let Entry { uid, gid, mode, xattrs, .. } = entry;
    let owner = format!("{uid}:{gid}");
    let mut line = match entry.kind {
        EntryType::Directory => format!("dir {mode:o} {owner}"),
        EntryType::Symlink => format!("link {owner} -> {}", entry.target),
        EntryType::Regular => format!("file {mode:o} {owner} {}", content(&entry.content)),
        kind => format!("{kind:?} {mode:o} {owner} {:?}", entry.device),
    };
    for (name, value) in xattrs {
        line.push_str(&format!(" {name}={}", value.escape_ascii()));
    }
    if !names.is_empty() {
        line.push_str(&format!(" also {}", names.join(" ")));
    }
    line
}

fn content(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=300 => format!("{:?}", String::from_utf8_lossy(bytes)),
        length if bytes.starts_with(b"\x7fELF") && length > 100_000 => "busybox".to_owned(),
        length => format!("{length} bytes {}", Digest::of(bytes)),
    }
}
