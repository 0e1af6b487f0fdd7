//! What becomes of the image: the state directory, files, registries.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Error, StepError};
use super::material::blocking;
use super::request::{BuildRequest, Outcome, Output};
use super::stage::{Site, StageResult};
use crate::image::{Digest, Image, Reference, media_type};
use crate::registry::{self, BlobSource, ImagePush};
use crate::store::{self, Store};

mod archive;

/// Asks every repository whether we may push there, before any work.
pub(super) async fn check_push(request: &BuildRequest, client: &registry::Client) -> Result<(), Error> {
    if !request.push {
        return Ok(());
    }
    let mut seen = std::collections::BTreeSet::new();
    for destination in &request.destinations {
        let reference = &destination.reference;
        if seen.insert(reference.name()) {
            client.check_push(reference).await.map_err(|source| Error::Push {
                names: listed(std::slice::from_ref(reference)),
                source: Box::new(source),
            })?;
        }
    }
    Ok(())
}

/// Writes every output, then pushes.
pub(super) async fn export(
    request: &BuildRequest,
    site: &Arc<Site>,
    result: &StageResult,
    image: Image,
) -> Result<Outcome, Error> {
    let names: Vec<Reference> = request.destinations.iter().map(|d| d.reference.clone()).collect();
    // A pushed image whose base was never downloaded is not worth the download;
    // the layout names complete images only.
    if !request.push || !request.outputs.is_empty() {
        for layer in &result.chain.0 {
            site.materials.blob(layer).await.map_err(|error| export_failed(site, error))?;
        }
    }
    store(site, names.clone(), image.clone()).await?;
    for output in &request.outputs {
        write(site, output.clone(), names.clone(), image.clone()).await?;
    }
    let pushed = if request.push { push(&names, site, result, &image).await? } else { Vec::new() };
    Ok(Outcome {
        digest: image.digest(),
        config_digest: image.config().digest,
        pushed,
        names,
        size: image.layers().iter().map(|layer| layer.size).sum(),
        executed: result.executed,
        cached: result.cached,
    })
}

fn export_failed(site: &Site, error: StepError) -> Error {
    if matches!(error, StepError::Cancelled) {
        return Error::Cancelled;
    }
    let target = &site.plan.stages[site.plan.target.0];
    match target.steps.last() {
        Some(step) => Error::Step {
            place: site.place(step, "the image cannot be completed".to_owned(), &[]),
            source: Box::new(error),
        },
        None => Error::Step { place: "the image cannot be completed".to_owned(), source: Box::new(error) },
    }
}

async fn store(site: &Arc<Site>, names: Vec<Reference>, image: Image) -> Result<(), Error> {
    let store = Arc::clone(&site.materials.store);
    let stored = blocking(move || keep_image(&store, &names, &image).map_err(StepError::Store)).await;
    match stored {
        Ok(()) => Ok(()),
        Err(StepError::Store(error)) => Err(Error::Store(error)),
        Err(other) => Err(export_failed(site, other)),
    }
}

/// An image without a name, or without some of its layers, is kept as blobs:
/// its digest finds it. The name does not go on standing for an older one.
fn keep_image(store: &Store, names: &[Reference], image: &Image) -> Result<(), store::Error> {
    store.put_blob(image.config_bytes())?;
    store.put_blob(&image.manifest().to_bytes())?;
    let complete = image.layers().iter().all(|layer| store.has_blob(&layer.digest, layer.size));
    names.iter().try_for_each(|name| match complete {
        true => store.image_put(name, image),
        false => store.name_drop(name),
    })
}

fn listed(names: &[Reference]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

async fn write(site: &Arc<Site>, output: Output, names: Vec<Reference>, image: Image) -> Result<(), Error> {
    let shared = Arc::clone(site);
    let path = match &output {
        Output::OciDirectory(path) | Output::OciArchive(Some(path)) | Output::DockerArchive(Some(path)) => {
            path.clone()
        }
        Output::OciArchive(None) | Output::DockerArchive(None) => PathBuf::from("-"),
    };
    let place = path.clone();
    let written = blocking(move || {
        let blob = |digest: &Digest| shared.materials.store.blob_path(digest);
        let result = match &output {
            Output::OciDirectory(path) => archive::oci_directory(path, &image, &names, &blob),
            Output::OciArchive(_) => {
                into_file(&path, |file| archive::oci_archive(file, &image, &names, &blob))
            }
            Output::DockerArchive(_) => {
                into_file(&path, |file| archive::docker_archive(file, &image, &names, &blob))
            }
        };
        result.map_err(|source| StepError::File { path: path.clone(), source })
    })
    .await;
    written.map_err(|error| match error {
        StepError::File { path, source } => Error::Output { path, source },
        _ => Error::Output { path: place, source: io::Error::other(error.to_string()) },
    })
}

/// Writes beside the target and renames: nobody ever sees half an archive.
fn into_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if path == Path::new("-") {
        let mut stdout = io::stdout().lock();
        write(&mut stdout)?;
        return stdout.flush();
    }
    // A pipe, a device or a link to one is written into, not replaced.
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path)?;
        return write(&mut file);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let mut temporary = tempfile::NamedTempFile::new_in(parent)?;
    write(temporary.as_file_mut())?;
    use std::os::unix::fs::PermissionsExt;
    temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

async fn push(
    names: &[Reference],
    site: &Site,
    result: &StageResult,
    image: &Image,
) -> Result<Vec<Reference>, Error> {
    let mut blobs = Vec::new();
    for layer in &result.chain.0 {
        let store = &site.materials.store;
        let source = match (&layer.origin, store.has_blob(&layer.layer.digest, layer.layer.size)) {
            (Some(origin), false) => BlobSource::Remote(origin.clone()),
            _ => BlobSource::File(store.blob_path(&layer.layer.digest)),
        };
        blobs.push((layer.layer.descriptor(), source, layer.origin.clone()));
    }
    blobs.push((image.config().clone(), BlobSource::Bytes(image.config_bytes().to_vec().into()), None));
    let manifest = image.manifest().to_bytes();
    let push =
        ImagePush { destinations: names, blobs, manifest: &manifest, media_type: media_type::MANIFEST };
    let sent = site.materials.registry.push_image(&push);
    let sent = site.cancel.run_until_cancelled(sent).await.ok_or(Error::Cancelled)?;
    sent.map_err(|source| Error::Push { names: listed(names), source: Box::new(source) })?;
    Ok(names.to_vec())
}

fn open(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))
}
