//! Eyes for an image: config, layers, and the merged tree as a runtime would
//! see it, read from an OCI layout by code that shares nothing with coracle's.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use tar::{Archive, EntryType};

/// An image of an OCI layout.
pub struct Image {
    /// `sha256:…` of the manifest.
    pub digest: String,
    /// The manifest.
    pub manifest: Value,
    /// The config.
    pub config: Value,
    /// Entries of each layer, bottom first, in the order of the tar.
    pub layers: Vec<Vec<Entry>>,
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Without `./` and a trailing slash; the root is empty.
    pub path: String,
    /// Type of the entry.
    pub kind: EntryType,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Target of a link.
    pub target: String,
    /// Content of a file.
    pub content: Vec<u8>,
    /// Device numbers.
    pub device: Option<(u32, u32)>,
    /// Extended attributes, from PAX records.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// Reads the image `digest` of the layout at `root`, checking every digest.
    pub fn read(root: &Path, digest: &str) -> Self {
        Self::gather(digest, &|digest| stored(root, digest))
    }

    /// Reads the image `digest` from wherever `find` has its blobs.
    pub fn gather(digest: &str, find: &dyn Fn(&str) -> Option<Vec<u8>>) -> Self {
        let blob = |digest: &Value| checked(text(digest), find);
        let manifest: Value = serde_json::from_slice(&checked(digest, find)).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"]["digest"])).unwrap();
        let layers: &[Value] = manifest["layers"].as_array().map_or(&[], Vec::as_slice);
        let tars: Vec<Vec<u8>> = layers.iter().map(|layer| gunzip(&blob(&layer["digest"]))).collect();
        check_diff_ids(&config, &tars);
        let layers = tars.iter().map(|tar| entries(tar)).collect();
        Self { digest: digest.to_owned(), manifest, config, layers }
    }

    /// The image that `index.json` names `reference` (full spelling).
    pub fn named(root: &Path, reference: &str) -> Option<Self> {
        let index: Value = serde_json::from_slice(&fs::read(root.join("index.json")).ok()?).unwrap();
        let found = index["manifests"].as_array()?.iter().find(|entry| {
            entry["annotations"].as_object().is_some_and(|all| all.values().any(|value| value == reference))
        })?;
        Some(Self::read(root, text(&found["digest"])))
    }

    /// The merged tree: whiteouts and opaque directories applied.
    pub fn tree(&self) -> BTreeMap<String, Entry> {
        let mut tree: BTreeMap<String, Entry> = BTreeMap::new();
        for entry in self.layers.iter().flatten() {
            let (parent, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
            let inside =
                |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
            if name == ".wh..wh..opq" {
                let prefix = inside("");
                tree.retain(|path, _| !path.starts_with(&prefix) || *path == parent);
            } else if let Some(gone) = name.strip_prefix(".wh.") {
                remove(&mut tree, &inside(gone));
            } else {
                if entry.kind != EntryType::Directory {
                    remove(&mut tree, &entry.path);
                }
                tree.insert(entry.path.clone(), entry.clone());
            }
        }
        tree
    }

    /// An entry of the merged tree.
    pub fn entry(&self, path: &str) -> Entry {
        let tree = self.tree();
        tree.get(path).cloned().unwrap_or_else(|| panic!("`{path}` is not in {:?}", tree.keys()))
    }

    /// The content of a file of the merged tree; hard links are followed.
    pub fn text(&self, path: &str) -> String {
        let entry = self.entry(path);
        match entry.kind {
            EntryType::Link => self.text(&entry.target),
            _ => String::from_utf8(entry.content).unwrap(),
        }
    }

    /// `mode uid:gid` of an entry of the merged tree.
    pub fn owner(&self, path: &str) -> String {
        let entry = self.entry(path);
        format!("{:04o} {}:{}", entry.mode, entry.uid, entry.gid)
    }
}

fn check_diff_ids(config: &Value, tars: &[Vec<u8>]) {
    let diff_ids: &[Value] = config["rootfs"]["diff_ids"].as_array().map_or(&[], Vec::as_slice);
    let found: Vec<String> = tars.iter().map(|tar| coracle::image::Digest::of(tar).to_string()).collect();
    assert_eq!(diff_ids.iter().map(text).collect::<Vec<_>>(), found);
    let history = config["history"].as_array();
    let with_layer = history.into_iter().flatten().filter(|entry| entry["empty_layer"] != true).count();
    assert_eq!(with_layer, tars.len(), "history and layers differ");
}

fn remove(tree: &mut BTreeMap<String, Entry>, path: &str) {
    let below = format!("{path}/");
    tree.retain(|other, _| other != path && !other.starts_with(&below));
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A blob of a layout.
pub fn stored(root: &Path, digest: &str) -> Option<Vec<u8>> {
    fs::read(root.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())).ok()
}

/// A blob, its digest checked.
fn checked(digest: &str, find: &dyn Fn(&str) -> Option<Vec<u8>>) -> Vec<u8> {
    let bytes = find(digest).unwrap_or_else(|| panic!("the blob {digest} is missing"));
    assert_eq!(coracle::image::Digest::of(&bytes).to_string(), digest);
    bytes
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut tar).unwrap();
    let mut first = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut first).unwrap();
    // Go's and zlib's readers take several members, older tools only the first.
    assert_eq!(first.len(), tar.len(), "the layer has several gzip members");
    tar
}

fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut archive = Archive::new(tar);
    archive.entries().unwrap().map(|entry| read_entry(entry.unwrap())).collect()
}

fn read_entry(mut entry: tar::Entry<'_, &[u8]>) -> Entry {
    let xattrs = xattrs(&mut entry);
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let path = entry.path().unwrap().to_string_lossy().into_owned();
    let target: PathBuf = entry.link_name().unwrap().map(|path| path.into_owned()).unwrap_or_default();
    let header = entry.header();
    let device = match header.entry_type() {
        EntryType::Char | EntryType::Block => {
            Some((header.device_major().unwrap().unwrap_or(0), header.device_minor().unwrap().unwrap_or(0)))
        }
        _ => None,
    };
    Entry {
        path: clean(&path),
        kind: header.entry_type(),
        mode: header.mode().unwrap() & 0o7777,
        uid: header.uid().unwrap(),
        gid: header.gid().unwrap(),
        mtime: header.mtime().unwrap(),
        target: target.to_string_lossy().trim_start_matches("./").to_owned(),
        content,
        device,
        xattrs,
    }
}

fn xattrs(entry: &mut tar::Entry<'_, &[u8]>) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for record in entry.pax_extensions().unwrap().into_iter().flatten() {
        let record = record.unwrap();
        if let Some(name) = record.key().unwrap().strip_prefix("SCHILY.xattr.") {
            found.insert(name.to_owned(), record.value_bytes().to_vec());
        }
    }
    found
}

fn clean(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
    if path == "." { String::new() } else { path.to_owned() }
}
