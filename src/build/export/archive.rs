//! Images as files: an OCI layout (image-layout.md) in a directory or tar, and
//! the docker-archive that `docker load` reads.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::open;
use crate::image::{Digest, Image, Reference};

type BlobPath<'a> = &'a dyn Fn(&Digest) -> PathBuf;

/// Writes an OCI layout into `directory`, adding to a layout that is there.
pub(super) fn oci_directory(
    directory: &Path,
    image: &Image,
    names: &[Reference],
    blob: BlobPath<'_>,
) -> io::Result<()> {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    for (digest, source) in parts(image, blob) {
        let target = blobs.join(digest.hex());
        if target.exists() {
            continue;
        }
        let mut temporary = tempfile::NamedTempFile::new_in(&blobs)?;
        match source {
            Part::Bytes(bytes) => temporary.write_all(&bytes)?,
            Part::File(path) => {
                io::copy(&mut open(&path)?, temporary.as_file_mut())?;
            }
        }
        persist(temporary, &target)?;
    }
    write_beside(directory, "oci-layout", LAYOUT.as_bytes())?;
    let present = present_entries(&directory.join("index.json"))?;
    write_beside(directory, "index.json", &index(image, names, present))
}

/// Writes an OCI layout as a tar.
pub(super) fn oci_archive(
    to: &mut dyn Write,
    image: &Image,
    names: &[Reference],
    blob: BlobPath<'_>,
) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    add_bytes(&mut tar, "oci-layout", LAYOUT.as_bytes())?;
    add_bytes(&mut tar, "index.json", &index(image, names, Vec::new()))?;
    for (digest, source) in parts(image, blob) {
        add(&mut tar, &format!("blobs/sha256/{}", digest.hex()), source)?;
    }
    tar.into_inner()?.flush()
}

/// Writes a docker-archive. Layers stay compressed: `docker load`, podman and
/// skopeo look at the bytes, not at the name.
pub(super) fn docker_archive(
    to: &mut dyn Write,
    image: &Image,
    names: &[Reference],
    blob: BlobPath<'_>,
) -> io::Result<()> {
    let layer_name = |digest: &Digest| format!("{}.tar.gz", digest.hex());
    let config_name = format!("{}.json", image.config().digest.hex());
    let manifest = json!([{
        "Config": config_name,
        "RepoTags": names.iter().filter(|name| name.tag().is_some()).map(docker_name).collect::<Vec<_>>(),
        "Layers": image.layers().iter().map(|layer| layer_name(&layer.digest)).collect::<Vec<_>>(),
    }]);
    let mut tar = tar::Builder::new(to);
    let mut written = BTreeSet::new();
    for layer in image.layers() {
        if written.insert(layer.digest) {
            add(&mut tar, &layer_name(&layer.digest), Part::File(blob(&layer.digest)))?;
        }
    }
    add_bytes(&mut tar, &config_name, image.config_bytes())?;
    add_bytes(&mut tar, "manifest.json", &serde_json::to_vec(&manifest)?)?;
    tar.into_inner()?.flush()
}

/// Docker writes its own registry's names short.
fn docker_name(name: &Reference) -> String {
    let text = name.to_string();
    let short = text.strip_prefix("docker.io/").unwrap_or(&text);
    short.strip_prefix("library/").unwrap_or(short).to_owned()
}

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

enum Part {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// Every blob of the image once.
fn parts(image: &Image, blob: BlobPath<'_>) -> Vec<(Digest, Part)> {
    let mut seen = BTreeSet::new();
    let layers = image.layers().iter().filter(|layer| seen.insert(layer.digest));
    let mut parts: Vec<(Digest, Part)> =
        layers.map(|layer| (layer.digest, Part::File(blob(&layer.digest)))).collect();
    parts.push((image.config().digest, Part::Bytes(image.config_bytes().to_vec())));
    parts.push((image.digest(), Part::Bytes(image.manifest().to_bytes())));
    parts
}

/// What an index that is there names already.
fn present_entries(index: &Path) -> io::Result<Vec<Value>> {
    let text = match std::fs::read(index) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut index: Value = serde_json::from_slice(&text)?;
    match index["manifests"].take() {
        Value::Array(entries) => Ok(entries),
        _ => Ok(Vec::new()),
    }
}

/// Whether an entry of an index says nothing that `new` does not say: the same
/// name, or the same image without one.
fn replaced(old: &Value, new: &Value) -> bool {
    let name = |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].clone();
    name(old) == name(new) && (!name(old).is_null() || old["digest"] == new["digest"])
}

/// `entries` and one per name; the annotation is what skopeo, podman and umoci look for.
fn index(image: &Image, names: &[Reference], mut entries: Vec<Value>) -> Vec<u8> {
    let manifest = image.manifest();
    let descriptor = |name: Option<&Reference>| {
        let mut entry = json!({
            "mediaType": manifest.media_type,
            "digest": image.digest().to_string(),
            "size": manifest.to_bytes().len(),
        });
        if let Some(name) = name {
            entry["annotations"] = json!({
                "io.containerd.image.name": name.to_string(),
                "org.opencontainers.image.ref.name": name.tag().unwrap_or("latest"),
            });
        }
        entry
    };
    let new: Vec<_> = match names {
        [] => vec![descriptor(None)],
        names => names.iter().map(|name| descriptor(Some(name))).collect(),
    };
    entries.retain(|old| !new.iter().any(|new| replaced(old, new)));
    entries.extend(new);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": crate::image::media_type::INDEX,
        "manifests": entries,
    });
    index.to_string().into_bytes()
}

fn add(tar: &mut tar::Builder<&mut dyn Write>, name: &str, part: Part) -> io::Result<()> {
    match part {
        Part::Bytes(bytes) => add_bytes(tar, name, &bytes),
        Part::File(path) => {
            let file = open(&path)?;
            let size = file.metadata()?.len();
            append(tar, name, size, file)
        }
    }
}

fn add_bytes(tar: &mut tar::Builder<&mut dyn Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    append(tar, name, bytes.len() as u64, bytes)
}

/// Times and owners are fixed: the same image gives the same archive.
fn append(tar: &mut tar::Builder<&mut dyn Write>, name: &str, size: u64, body: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, body)
}

fn write_beside(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(bytes)?;
    persist(temporary, &directory.join(name))
}

fn persist(temporary: tempfile::NamedTempFile, target: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    temporary.persist(target).map_err(|error| error.error)?;
    Ok(())
}
