//! Pushing: blobs that are not there yet, then manifests.

use std::path::PathBuf;

use bytes::Bytes;
use tempfile::TempPath;

use super::client::protocol;
use super::upload::Upload;
use super::{Client, Error};
use crate::image::{Descriptor, Digest, Reference};
use crate::net::header::{CONTENT_TYPE, HeaderValue};
use crate::net::{Body, Method, Request, Response, Url};

/// Where a blob's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobSource {
    /// In a file of exactly the descriptor's size.
    File(PathBuf),
    /// In memory.
    Bytes(Bytes),
    /// In the repository of this reference; downloaded only when the destination
    /// neither has it nor can mount it.
    Remote(Reference),
}

/// A source on this machine.
pub(super) enum LocalSource {
    File(PathBuf),
    Bytes(Bytes),
    /// Pulled only to be pushed; the file removes itself.
    Passing(TempPath),
}

/// How a blob came to be in the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// The answer to a request to start an upload.
pub(super) enum Started {
    /// The blob is there now.
    Mounted,
    /// Send it there.
    At(Url),
}

impl Client {
    /// Whether we can push to a destination, found out by starting an upload
    /// and cancelling it: two requests, and the login they need.
    ///
    /// # Errors
    /// [`Error::kind`] tells apart: unreachable, not logged in, not allowed, no
    /// such repository.
    pub async fn check_push(&self, destination: &Reference) -> Result<(), Error> {
        let Started::At(location) = self.start_upload(destination, destination.to_string()).await? else {
            return Ok(());
        };
        // An upload that cannot be cancelled expires on its own: whether we may
        // push was answered before.
        let _ = self.pushing(destination, Request::new(Method::DELETE, location).once()).await;
        Ok(())
    }

    /// Brings a blob into the destination's repository, with as few bytes as
    /// possible: asks whether it is there, asks the registry to mount it from
    /// `mount_from`, and only then sends it.
    ///
    /// # Errors
    /// When the registry refuses, or the source is not what the descriptor says.
    pub async fn push_blob(
        &self,
        destination: &Reference,
        descriptor: &Descriptor,
        source: BlobSource,
        mount_from: Option<&Reference>,
    ) -> Result<Pushed, Error> {
        if self.has_blob(destination, descriptor.digest).await? {
            return Ok(Pushed::Existed);
        }
        let origin = match &source {
            BlobSource::Remote(origin) => Some(origin),
            _ => None,
        };
        let mut started = None;
        for from in mount_from.into_iter().chain(origin) {
            if from.registry() != destination.registry() || from.repository() == destination.repository() {
                continue;
            }
            match self.mount(destination, from, descriptor.digest).await? {
                Some(Started::Mounted) => return Ok(Pushed::Mounted),
                Some(Started::At(location)) => {
                    started = Some(location);
                    break;
                }
                None => {}
            }
        }
        let source = self.local(source, descriptor).await?;
        Upload { client: self, destination, descriptor, source }.run(started).await?;
        Ok(Pushed::Uploaded)
    }

    /// Puts a manifest, byte for byte, under the destination's tag or digest.
    ///
    /// # Errors
    /// When the registry refuses, or made something else of it.
    pub async fn push_manifest(
        &self,
        destination: &Reference,
        manifest: &[u8],
        media_type: &str,
    ) -> Result<(), Error> {
        let digest = Digest::of(manifest);
        if let Some(expected) = destination.digest().filter(|expected| *expected != digest) {
            return Err(Error::Digest { what: destination.to_string(), expected, actual: digest });
        }
        let url = self.url(destination, &format!("manifests/{}", destination.identifier())).await?;
        let unusable = |_| Error::Manifest {
            reference: destination.to_string(),
            source: crate::image::ManifestError::Unsupported(media_type.to_owned()),
        };
        let request = Request::new(Method::PUT, url)
            .header(CONTENT_TYPE, HeaderValue::from_str(media_type).map_err(unusable)?)
            .body(Body::Bytes(Bytes::copy_from_slice(manifest)));
        let response = self.pushing(destination, request).await?;
        if !response.status().is_success() {
            return Err(self.refused(destination, "push", destination.to_string(), response).await);
        }
        confirm(destination, &response, digest)
    }

    /// Whether the repository has a blob. A registry that does not let us look
    /// may still let us push: then the answer is no.
    pub(super) async fn has_blob(&self, destination: &Reference, digest: Digest) -> Result<bool, Error> {
        let url = self.url(destination, &format!("blobs/{digest}")).await?;
        let response = self.pushing(destination, Request::new(Method::HEAD, url)).await?;
        match response.status().as_u16() {
            200..=299 => Ok(true),
            400..=499 if response.status().as_u16() != 429 => Ok(false),
            _ => {
                let what = destination.at(digest).to_string();
                Err(self.refused(destination, "push", what, response).await)
            }
        }
    }

    /// Asks for an upload. `what` is for the error.
    pub(super) async fn start_upload(&self, destination: &Reference, what: String) -> Result<Started, Error> {
        let url = self.url(destination, "blobs/uploads/").await?;
        let response = self.pushing(destination, Request::new(Method::POST, url)).await?;
        match response.status().as_u16() {
            200 | 202 => location(destination, &response).map(Started::At),
            201 => Ok(Started::Mounted),
            _ => Err(self.refused(destination, "push", what, response).await),
        }
    }

    /// Asks the registry to take the blob from another of its repositories.
    /// `None` when it does not want to talk about that: a login that may not
    /// read there is no reason to fail.
    async fn mount(
        &self,
        destination: &Reference,
        from: &Reference,
        digest: Digest,
    ) -> Result<Option<Started>, Error> {
        let mut url = self.url(destination, "blobs/uploads/").await?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from.repository());
        let response = match self.mounting(destination, from, Request::new(Method::POST, url)).await {
            Ok(response) => response,
            Err(Error::Unauthorized { .. } | Error::Denied { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match response.status().as_u16() {
            201 => Ok(Some(Started::Mounted)),
            202 => location(destination, &response).map(|url| Some(Started::At(url))),
            _ => Ok(None),
        }
    }

    /// The bytes where they can be sent from.
    async fn local(&self, source: BlobSource, descriptor: &Descriptor) -> Result<LocalSource, Error> {
        let origin = match source {
            BlobSource::File(path) => return Ok(LocalSource::File(path)),
            BlobSource::Bytes(bytes) => return Ok(LocalSource::Bytes(bytes)),
            BlobSource::Remote(origin) => origin,
        };
        let path = tempfile::NamedTempFile::new_in(&self.temporary)
            .map_err(|source| Error::File { verb: "write", path: self.temporary.clone(), source })?
            .into_temp_path();
        self.pull_blob(&origin, descriptor, &path).await?;
        Ok(LocalSource::Passing(path))
    }
}

/// The `Location` of an answer, relative or not. A registry behind a proxy that
/// ends TLS often writes `http` there: the scheme we used is kept then.
pub(super) fn location(destination: &Reference, response: &Response) -> Result<Url, Error> {
    let text =
        response.header("location").ok_or_else(|| protocol(destination, response, "without a Location"))?;
    let malformed = || protocol(destination, response, "with a Location that is no URL");
    let mut url = response.url.join(text).map_err(|_| malformed())?;
    if url.scheme() == "http" && response.url.scheme() == "https" && url.host() == response.url.host() {
        url.set_scheme("https").map_err(|()| malformed())?;
    }
    Ok(url)
}

/// The registry says what it stored: it must be what was sent. Not all say it.
pub(super) fn confirm(destination: &Reference, response: &Response, expected: Digest) -> Result<(), Error> {
    let named = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
    match named.filter(|actual| *actual != expected) {
        Some(actual) => Err(Error::Digest { what: destination.at(expected).to_string(), expected, actual }),
        None => Ok(()),
    }
}
