//! Pulling: a reference to verified bytes.

use std::path::Path;

use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter, SeekFrom};

use super::client::{no_answer, protocol};
use super::transfer::Transfer;
use super::{Client, Error};
use crate::image::{
    Descriptor, Digest, Hasher, Manifest, ManifestError, ManifestKind, Platform, Reference, choose,
    media_type,
};
use crate::net::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use crate::net::{Backoff, Request, Response};
use crate::progress::TransferDirection;

/// Longest manifest read (the OCI distribution spec asks registries for at least this).
const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;

/// Longest config read.
const CONFIG_LIMIT: u64 = 8 * 1024 * 1024;

/// A transfer that gets this far between two breaks is not hopeless.
const PROGRESS: u64 = 1024 * 1024;

/// Bytes kept before they are written to the file.
const WRITE_BUFFER: usize = 512 * 1024;

/// An image as the registry has it: manifest and config, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The manifest's digest (of the platform's own manifest, not of an index).
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The config blob.
    pub config: Vec<u8>,
}

/// A manifest's bytes, verified as far as the reference allows.
struct Fetched {
    digest: Digest,
    bytes: Vec<u8>,
    content_type: Option<String>,
}

impl Client {
    /// Resolves a reference for a platform: manifest (through an index, if it is
    /// one) and config. Layers are not touched.
    ///
    /// # Errors
    /// When the registry refuses, the bytes do not match their digests, or an
    /// index has nothing for the platform.
    pub async fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<Resolved, Error> {
        let mut fetched = self.fetch_manifest(reference).await?;
        let mut kind = parse(reference, &fetched)?;
        if let ManifestKind::Index(entries) = kind {
            let descriptor = choose(platform, entries).map_err(|available| Error::Platform {
                reference: reference.to_string(),
                wanted: platform.clone(),
                available,
            })?;
            fetched = self.fetch_manifest(&reference.at(descriptor.digest)).await?;
            check_size(&reference.at(descriptor.digest), descriptor.size, fetched.bytes.len() as u64)?;
            kind = parse(reference, &fetched)?;
        }
        let ManifestKind::Image(manifest) = kind else {
            // The spec allows an index in an index; nobody publishes base images so.
            let source = ManifestError::Unsupported(media_type::INDEX.to_owned());
            return Err(Error::Manifest { reference: reference.to_string(), source });
        };
        let config = self.fetch_config(reference, &manifest.config).await?;
        Ok(Resolved { digest: fetched.digest, manifest, config })
    }

    /// The digest a reference stands for now: of the index, where it is one.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn digest(&self, reference: &Reference) -> Result<Digest, Error> {
        Ok(self.fetch_manifest(reference).await?.digest)
    }

    /// Streams a blob into the file `into` (created, or overwritten), verifying
    /// digest and size on the way. A broken transfer goes on where it stopped if
    /// the registry can do that, else from the start. On failure the file is
    /// removed; when the future is dropped, what came so far stays behind.
    ///
    /// # Errors
    /// When the registry refuses, the bytes are not the ones named, or the file
    /// cannot be written.
    pub async fn pull_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        into: &Path,
    ) -> Result<(), Error> {
        let outcome = self.pull_into(reference, descriptor, into).await;
        if outcome.is_err() {
            // The failure itself is what the caller must see.
            let _ = tokio::fs::remove_file(into).await;
        }
        outcome
    }

    async fn fetch_manifest(&self, reference: &Reference) -> Result<Fetched, Error> {
        let url = self.url(reference, &format!("manifests/{}", reference.identifier())).await?;
        let accept =
            [media_type::INDEX, media_type::MANIFEST, media_type::DOCKER_LIST, media_type::DOCKER_MANIFEST]
                .join(", ");
        let accept = HeaderValue::from_str(&accept).expect("media types are legal in a header");
        let mut response = self.pulling(reference, Request::get(url).header(ACCEPT, accept)).await?;
        if !response.status().is_success() {
            return Err(self.refused(reference, "pull", reference.to_string(), response).await);
        }
        let content_type = response.header(CONTENT_TYPE).map(str::to_owned);
        let named = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        let bytes = response.bytes(MANIFEST_LIMIT).await.map_err(|source| no_answer(reference, source))?;
        let limit = MANIFEST_LIMIT as u64;
        let bytes = bytes.ok_or_else(|| Error::TooLarge { what: reference.to_string(), limit })?;
        let digest = Digest::of(&bytes);
        for expected in reference.digest().into_iter().chain(named) {
            check_digest(reference, expected, digest)?;
        }
        Ok(Fetched { digest, bytes, content_type })
    }

    async fn fetch_config(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let blob = reference.at(descriptor.digest);
        if descriptor.size > CONFIG_LIMIT {
            return Err(Error::TooLarge { what: blob.to_string(), limit: CONFIG_LIMIT });
        }
        let mut backoff = Backoff::new(self.http.retry_policy());
        loop {
            let mut response = self.open_blob(reference, descriptor, 0).await?;
            let limit = usize::try_from(CONFIG_LIMIT).expect("8 MiB fit into every usize");
            match response.bytes(limit).await {
                Ok(bytes) => {
                    let what = blob.to_string();
                    let bytes = bytes.ok_or(Error::TooLarge { what, limit: CONFIG_LIMIT })?;
                    check_size(&blob, descriptor.size, bytes.len() as u64)?;
                    check_digest(&blob, descriptor.digest, Digest::of(&bytes))?;
                    return Ok(bytes);
                }
                Err(error) if self.http.pause(&mut backoff, None, &error).await => {}
                Err(error) => return Err(no_answer(reference, error)),
            }
        }
    }

    async fn pull_into(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        into: &Path,
    ) -> Result<(), Error> {
        let blob = reference.at(descriptor.digest);
        let mut backoff = Backoff::new(self.http.retry_policy());
        let mut landing = Landing::create(into, descriptor.size).await?;
        let mut transfer =
            Transfer::new(self.reporter.clone(), TransferDirection::Pull, reference, descriptor);
        loop {
            let begun = landing.count;
            let response = self.open_blob(reference, descriptor, begun).await?;
            let start = starts_at(&response);
            if start == 0 {
                landing.restart().await?;
            } else if start != begun {
                return Err(protocol(reference, &response, "with another part of the blob"));
            }
            match landing.receive(reference, &blob, response, &mut transfer).await? {
                None if landing.count == descriptor.size => break,
                Some(_) if landing.count == descriptor.size => break,
                None => return check_size(&blob, descriptor.size, landing.count),
                Some(error) => {
                    if start == begun && landing.count >= begun + PROGRESS {
                        backoff.reset();
                    }
                    if !self.http.pause(&mut backoff, None, &error).await {
                        return Err(no_answer(reference, error));
                    }
                }
            }
        }
        landing.finish(&blob, descriptor.digest).await
    }

    /// The blob's answer, from byte `offset` on if the registry can do that.
    async fn open_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Response, Error> {
        let url = self.url(reference, &format!("blobs/{}", descriptor.digest)).await?;
        let mut request = Request::get(url);
        if offset > 0 {
            let range = format!("bytes={offset}-");
            let range = HeaderValue::from_str(&range).expect("digits are legal in a header");
            request = request.header(RANGE, range);
        }
        let response = self.pulling(reference, request.clone()).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        if response.status().as_u16() == 416 {
            request.headers.remove(RANGE);
            let response = self.pulling(reference, request).await?;
            if response.status().is_success() {
                return Ok(response);
            }
        }
        Err(self.refused(reference, "pull", reference.at(descriptor.digest).to_string(), response).await)
    }
}

/// The file a blob arrives in.
struct Landing<'a> {
    path: &'a Path,
    file: BufWriter<File>,
    hasher: Hasher,
    count: u64,
    limit: u64,
}

impl<'a> Landing<'a> {
    async fn create(path: &'a Path, limit: u64) -> Result<Self, Error> {
        let file = File::create(path).await.map_err(|source| write_error(path, source))?;
        let file = BufWriter::with_capacity(WRITE_BUFFER, file);
        Ok(Self { path, file, hasher: Hasher::new(), count: 0, limit })
    }

    async fn restart(&mut self) -> Result<(), Error> {
        if self.count == 0 {
            return Ok(());
        }
        (self.hasher, self.count) = (Hasher::new(), 0);
        let reset = async {
            self.file.seek(SeekFrom::Start(0)).await?;
            self.file.get_ref().set_len(0).await
        };
        reset.await.map_err(|source| write_error(self.path, source))
    }

    /// Takes what comes: `Some` when it broke off, `None` at the end.
    async fn receive(
        &mut self,
        reference: &Reference,
        blob: &Reference,
        mut response: Response,
        transfer: &mut Transfer,
    ) -> Result<Option<crate::net::Error>, Error> {
        loop {
            let piece = match response.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(None),
                Err(error) if error.cause().is_some_and(crate::net::Cause::is_passing) => {
                    return Ok(Some(error));
                }
                Err(error) => return Err(no_answer(reference, error)),
            };
            self.count += piece.len() as u64;
            if self.count > self.limit {
                check_size(blob, self.limit, self.count)?;
            }
            self.hasher.update(&piece);
            self.file.write_all(&piece).await.map_err(|source| write_error(self.path, source))?;
            transfer.at(self.count);
        }
    }

    async fn finish(mut self, blob: &Reference, expected: Digest) -> Result<(), Error> {
        self.file.flush().await.map_err(|source| write_error(self.path, source))?;
        check_digest(blob, expected, self.hasher.finish())
    }
}

fn parse(reference: &Reference, fetched: &Fetched) -> Result<ManifestKind, Error> {
    ManifestKind::parse(fetched.content_type.as_deref(), &fetched.bytes)
        .map_err(|source| Error::Manifest { reference: reference.to_string(), source })
}

/// Where the answer's bytes belong (RFC 9110 section 14.4).
fn starts_at(response: &Response) -> u64 {
    if response.status().as_u16() != 206 {
        return 0;
    }
    let range = response.header(CONTENT_RANGE).and_then(|text| text.strip_prefix("bytes "));
    // Without a readable range nothing fits, and that is refused.
    range.and_then(|text| text.split('-').next()?.trim().parse().ok()).unwrap_or(u64::MAX)
}

fn check_digest(reference: &Reference, expected: Digest, actual: Digest) -> Result<(), Error> {
    if expected == actual {
        return Ok(());
    }
    Err(Error::Digest { what: reference.to_string(), expected, actual })
}

fn check_size(reference: &Reference, expected: u64, actual: u64) -> Result<(), Error> {
    if expected == actual {
        return Ok(());
    }
    Err(Error::Size { what: reference.to_string(), expected, actual })
}

fn write_error(path: &Path, source: std::io::Error) -> Error {
    Error::File { verb: "write", path: path.to_owned(), source }
}
