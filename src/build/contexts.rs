//! Build contexts that are no local directory become one: archives are
//! unpacked, downloads and repositories fetched, all below the build directory.
//!
//! What came that way is hostile: its Dockerfile is looked up without following
//! links out of it. Its ignore file is not used, as in BuildKit: nothing is left
//! to be spared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Error, StepError};
use super::layout::Layout;
use super::material::blocking;
use super::request::{BuildRequest, ContextSource, DockerfileSource};
use super::source::DOCKERFILE_LIMIT;
use crate::fetch::{self, Fetcher, Location};
use crate::image::{Platform, Reference};
use crate::layer::{self, UnpackOptions};
use crate::metadata;
use crate::plan::NamedContext;
use crate::registry::Resolved;
use crate::store::Store;

/// Which contexts of a request are not the user's own directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) main: bool,
    pub(super) named: BTreeSet<String>,
    /// Images that came from a layout, by the references that stand for them.
    pub(super) layouts: BTreeMap<Reference, Resolved>,
}

/// Where contexts come from and go to.
pub(super) struct Contexts<'a> {
    pub(super) fetcher: &'a Fetcher,
    pub(super) store: &'a Arc<Store>,
    /// The build directory.
    pub(super) unfinished: &'a Path,
    /// What layouts are looked through for.
    pub(super) platform: Platform,
}

/// What a context turned out to be.
enum Found {
    Directory(PathBuf),
    Dockerfile(Vec<u8>),
}

impl Contexts<'_> {
    /// Replaces every context of `request` that is no directory.
    pub(super) async fn gather(&self, request: &mut BuildRequest) -> Result<Foreign, Error> {
        let mut foreign = Foreign::default();
        if let DockerfileSource::Remote(url) = &request.dockerfile {
            request.dockerfile = DockerfileSource::Text(self.dockerfile(url).await?);
        }
        if let Some(found) = self.main(&request.context).await? {
            foreign.main = true;
            settle(request, found)?;
        }
        for (name, context) in &mut request.named_contexts {
            if let NamedContext::OciLayout(address) = context {
                let (reference, resolved) = self.layout(name, address).await?;
                *context = NamedContext::Image(reference.clone());
                foreign.layouts.insert(reference, resolved);
                continue;
            }
            let NamedContext::Other(text) = context else { continue };
            match self.remote(text, Some(name)).await? {
                Found::Directory(directory) => *context = NamedContext::Directory(directory),
                Found::Dockerfile(_) => {
                    return Err(Error::Unsupported(format!(
                        "the build context `{name}` is neither an archive nor a git repository"
                    )));
                }
            }
            foreign.named.insert(name.clone());
        }
        Ok(foreign)
    }

    async fn main(&self, context: &ContextSource) -> Result<Option<Found>, Error> {
        match context {
            ContextSource::Directory(_) | ContextSource::Empty => Ok(None),
            ContextSource::Remote(text) => self.remote(text, None).await.map(Some),
            ContextSource::Archive(path) => match self.open(path, &path.display().to_string()).await? {
                found @ Found::Directory(_) => Ok(Some(found)),
                Found::Dockerfile(_) => Err(Error::Unsupported(format!(
                    "the context `{}` is neither a directory nor an archive",
                    path.display()
                ))),
            },
            ContextSource::Stdin => {
                let spool = self.unfinished.join("stdin");
                self.spool(&spool).await?;
                let found = self.open(&spool, "standard input").await?;
                // It may be large, and has been read.
                std::fs::remove_file(&spool).map_err(|source| Error::File { path: spool, source })?;
                Ok(Some(found))
            }
        }
    }

    async fn remote(&self, text: &str, name: Option<&str>) -> Result<Found, Error> {
        let failed =
            |source: fetch::Error| Error::Fetch { name: name.map(str::to_owned), source: Box::new(source) };
        let local = || Error::Unsupported(format!("the context `{text}` is no address"));
        match Location::of_context(text).ok_or_else(local)?.map_err(|error| failed(error.into()))? {
            Location::Git(location) => {
                let commit = self.fetcher.commit(&location).await.map_err(failed)?;
                let directory = self.fetcher.checkout(&location, &commit).await.map_err(failed)?;
                Ok(Found::Directory(directory))
            }
            Location::Http(url) => {
                let file = self.fetcher.download(&url, None).await.map_err(failed)?;
                self.open(&self.store.blob_path(&file.digest), &file.name).await
            }
        }
    }

    /// A Dockerfile from an HTTP server, whatever the context is.
    async fn dockerfile(&self, url: &str) -> Result<Vec<u8>, Error> {
        let wrong = || Error::Unsupported(format!("the Dockerfile `{url}` is no HTTP address"));
        let failed = |source: fetch::Error| Error::FetchDockerfile(Box::new(source));
        let location = Location::of_context(url).ok_or_else(wrong)?.map_err(|error| failed(error.into()))?;
        let Location::Http(url) = location else { return Err(wrong()) };
        let file = self.fetcher.download(&url, None).await.map_err(failed)?;
        let path = self.store.blob_path(&file.digest);
        if file.size > DOCKERFILE_LIMIT {
            return Err(Error::Unsupported(format!("the Dockerfile `{}` is larger than 16 MiB", file.name)));
        }
        std::fs::read(&path).map_err(|source| Error::File { path, source })
    }

    /// The image of a layout, under a name with its digest: whoever else has that
    /// name has the same image.
    async fn layout(&self, name: &str, address: &str) -> Result<(Reference, Resolved), Error> {
        let (store, unfinished) = (Arc::clone(self.store), self.unfinished.to_owned());
        let (platform, owned) = (self.platform.clone(), address.to_owned());
        let taken = blocking(move || {
            Ok(Layout { store: &store, unfinished: &unfinished, platform: &platform }.take(&owned))
        });
        let failed = |source| Error::Layout { name: name.to_owned(), source: Box::new(source) };
        let resolved = taken.await.map_err(own)?.map_err(failed)?;
        let reference = name.parse::<Reference>();
        let reference = reference.map_err(|error| Error::Unsupported(format!("build context: {error}")))?;
        Ok((reference.at(resolved.digest), resolved))
    }

    /// Standard input can be read once, and must be looked at before it is unpacked.
    async fn spool(&self, spool: &Path) -> Result<(), Error> {
        let path = spool.to_owned();
        let copied = blocking(move || {
            let copy = || io::copy(&mut io::stdin().lock(), &mut File::create_new(&path)?);
            copy().map(drop).map_err(|source| StepError::File { path, source })
        });
        copied.await.map_err(own)
    }

    /// Unpacks an archive; anything else is a Dockerfile.
    async fn open(&self, path: &Path, name: &str) -> Result<Found, Error> {
        let key = metadata::Key::from_bytes(self.store.record_key()?);
        let (path, unfinished) = (path.to_owned(), self.unfinished.to_owned());
        let opened = blocking(move || {
            let file = |source| StepError::File { path: path.clone(), source };
            let archive = File::open(&path).map_err(file)?;
            if !layer::is_archive(&archive).map_err(StepError::Layer)? {
                let mut text = Vec::new();
                let archive = File::open(&path).map_err(file)?;
                archive.take(DOCKERFILE_LIMIT + 1).read_to_end(&mut text).map_err(file)?;
                return Ok(Found::Dockerfile(text));
            }
            let own =
                tempfile::Builder::new().prefix("context-").tempdir_in(&unfinished).map_err(file)?.keep();
            let into = File::open(&own).map_err(file)?;
            let options = UnpackOptions { record_key: key };
            layer::unpack_archive(File::open(&path).map_err(file)?, into.as_fd(), &options)
                .map_err(StepError::Layer)?;
            Ok(Found::Directory(own))
        });
        match opened.await {
            Ok(Found::Dockerfile(text)) if text.len() as u64 > DOCKERFILE_LIMIT => {
                Err(Error::Unsupported(format!(
                    "the context `{name}` is neither an archive nor a Dockerfile: it is larger than 16 MiB"
                )))
            }
            Ok(found) => Ok(found),
            Err(StepError::Layer(source)) => Err(Error::Archive { name: name.to_owned(), source }),
            Err(error) => Err(own(error)),
        }
    }
}

fn own(error: StepError) -> Error {
    match error {
        StepError::File { path, source } => Error::File { path, source },
        other => Error::Internal(other.to_string()),
    }
}

/// A Dockerfile that came alone has an empty context.
fn settle(request: &mut BuildRequest, found: Found) -> Result<(), Error> {
    match (found, &request.dockerfile) {
        (Found::Directory(directory), _) => request.context = ContextSource::Directory(directory),
        (Found::Dockerfile(text), DockerfileSource::Default) => {
            request.context = ContextSource::Empty;
            request.dockerfile = DockerfileSource::Text(text);
        }
        (Found::Dockerfile(_), _) => {
            return Err(Error::Unsupported(
                "the context is a Dockerfile, and another one was named (expected an archive, or no --file)"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}
