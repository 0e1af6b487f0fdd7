//! Sending one blob: in one PUT where the registry takes that, in pieces where
//! it does not, again where a connection broke.
//!
//! ```text
//! POST ─► Location ─► PUT ?digest=     whole, streamed with Content-Length
//!                 │     └ 413, 415 ─► PATCH, PATCH, … ─► PUT ?digest=
//!                 └ broken ─► there already? done
//!                           ─► GET Location: bytes kept? PATCH the rest
//!                           ─► else POST again
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::push::{LocalSource, Started, confirm, location};
use super::transfer::{INTERVAL, Transfer};
use super::{Client, Error};
use crate::image::{Descriptor, Reference};
use crate::net::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use crate::net::{Backoff, Body, Method, Request, Response, Url};
use crate::progress::TransferDirection;

/// Longest piece of a blob in one PATCH: GHCR takes no more.
const PIECE: u64 = 4 * 1024 * 1024;

/// A whole PUT that broke this often is tried in pieces: a proxy that limits
/// bodies may cut the connection instead of saying 413.
const WHOLE_TRIES: u32 = 2;

/// One blob to be sent, from a source on this machine.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) destination: &'a Reference,
    pub(super) descriptor: &'a Descriptor,
    pub(super) source: LocalSource,
}

/// How a try ended.
enum Outcome {
    Stored,
    /// The registry wants smaller requests.
    TooLarge(Error),
    /// It may work the next time; the upload may still be there.
    Broken {
        error: Error,
        retry_after: Option<Duration>,
        upload: Url,
    },
}

/// Where the next try begins.
enum Next {
    Whole(Option<Url>),
    Pieces(Option<(Url, u64)>),
}

impl Upload<'_> {
    /// Sends the blob, into an upload that was `started` already, if any.
    pub(super) async fn run(&self, started: Option<Url>) -> Result<(), Error> {
        self.check_source().await?;
        let mut transfer = Transfer::new(
            self.client.reporter.clone(),
            TransferDirection::Push,
            self.destination,
            self.descriptor,
        );
        let mut backoff = Backoff::new(self.client.http.retry_policy());
        let mut next = Next::Whole(started);
        let mut furthest = 0;
        loop {
            let in_pieces = matches!(next, Next::Pieces(_));
            let Some(outcome) = self.attempt(next, &mut transfer).await? else { return Ok(()) };
            next = match outcome {
                Outcome::Stored => {
                    transfer.at(self.descriptor.size);
                    return Ok(());
                }
                Outcome::TooLarge(error) if in_pieces || !self.takes_pieces() => return Err(error),
                Outcome::TooLarge(_) => Next::Pieces(None),
                Outcome::Broken { error, retry_after, upload } => {
                    if !self.client.http.pause(&mut backoff, retry_after, &described(&error)).await {
                        return Err(error);
                    }
                    if self.client.has_blob(self.destination, self.descriptor.digest).await? {
                        return Ok(());
                    }
                    let next = self.after_break(upload, in_pieces || backoff.failures() >= WHOLE_TRIES).await;
                    // A long blob may break more often than a short one, if it gets on.
                    if let Next::Pieces(Some((_, kept))) = &next
                        && *kept >= furthest + PIECE
                    {
                        furthest = *kept;
                        backoff.reset();
                    }
                    next
                }
            };
        }
    }

    /// One try; `None` when starting it showed that the blob is there.
    async fn attempt(&self, next: Next, transfer: &mut Transfer) -> Result<Option<Outcome>, Error> {
        let (upload, offset) = match next {
            Next::Whole(Some(upload)) => (Some(upload), None),
            Next::Pieces(Some((upload, offset))) => (Some(upload), Some(offset)),
            Next::Whole(None) => (None, None),
            Next::Pieces(None) => (None, Some(0)),
        };
        let upload = match upload {
            Some(upload) => upload,
            None => match self.client.start_upload(self.destination, self.what()).await? {
                Started::Mounted => return Ok(None),
                Started::At(upload) => upload,
            },
        };
        match offset {
            None => self.whole(upload, transfer).await.map(Some),
            Some(offset) => self.pieces(upload, offset, transfer).await.map(Some),
        }
    }

    async fn whole(&self, upload: Url, transfer: &mut Transfer) -> Result<Outcome, Error> {
        let request = self.closing(upload.clone()).body(self.body(0, self.descriptor.size));
        match self.watched(request, 0, transfer).await {
            Err(error) if error.is_passing() => Ok(Outcome::Broken { error, retry_after: None, upload }),
            Err(error) => Err(error),
            Ok(response) => self.judge(response, upload).await,
        }
    }

    async fn pieces(&self, mut upload: Url, from: u64, transfer: &mut Transfer) -> Result<Outcome, Error> {
        let mut offset = from;
        while offset < self.descriptor.size {
            let length = PIECE.min(self.descriptor.size - offset);
            let range = format!("{offset}-{}", offset + length - 1);
            let request = Request::new(Method::PATCH, upload.clone())
                .once()
                .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
                .header(CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits are legal in a header"))
                .body(self.body(offset, length));
            let response = match self.watched(request, offset, transfer).await {
                Ok(response) => response,
                Err(error) if error.is_passing() => {
                    return Ok(Outcome::Broken { error, retry_after: None, upload });
                }
                Err(error) => return Err(error),
            };
            if !response.status().is_success() {
                return self.judge(response, upload).await;
            }
            offset = self.advanced(&response, offset, offset + length)?;
            upload = location(self.destination, &response)?;
        }
        let request = self.closing(upload.clone()).body(Body::Bytes(bytes::Bytes::new()));
        match self.client.pushing(self.destination, request).await {
            Err(error) if error.is_passing() => Ok(Outcome::Broken { error, retry_after: None, upload }),
            Err(error) => Err(error),
            Ok(response) => self.judge(response, upload).await,
        }
    }

    /// The PUT that ends an upload.
    fn closing(&self, mut upload: Url) -> Request {
        upload.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        Request::new(Method::PUT, upload)
            .once()
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
    }

    /// Where the registry is after a piece: it may have taken less than all.
    fn advanced(&self, response: &Response, before: u64, sent: u64) -> Result<u64, Error> {
        let taken = response.header(RANGE).and_then(end_of_range).map_or(sent, |end| end + 1);
        if taken > before && taken <= sent {
            return Ok(taken);
        }
        Err(super::client::protocol(self.destination, response, "with a Range that cannot be"))
    }

    /// What an answer to a PUT or PATCH means.
    async fn judge(&self, response: Response, upload: Url) -> Result<Outcome, Error> {
        if response.status().is_success() {
            confirm(self.destination, &response, self.descriptor.digest)?;
            return Ok(Outcome::Stored);
        }
        let passing = response.is_passing_failure();
        let (status, retry_after) = (response.status().as_u16(), response.retry_after());
        let error = self.client.refused(self.destination, "push", self.what(), response).await;
        match status {
            413 | 415 => Ok(Outcome::TooLarge(error)),
            // The registry lost the upload, or is elsewhere in it than we are.
            404 | 416 => Ok(Outcome::Broken { error, retry_after, upload }),
            _ if passing => Ok(Outcome::Broken { error, retry_after, upload }),
            _ => Err(error),
        }
    }

    /// Goes on in what the registry kept of the upload, else starts anew.
    async fn after_break(&self, upload: Url, pieces: bool) -> Next {
        if self.takes_pieces() {
            if let Some(kept) = self.kept(upload).await {
                return Next::Pieces(Some(kept));
            }
            if pieces {
                return Next::Pieces(None);
            }
        }
        Next::Whole(None)
    }

    /// What the registry still has of an upload. Any doubt is a no.
    async fn kept(&self, upload: Url) -> Option<(Url, u64)> {
        let asked = self.client.pushing(self.destination, Request::get(upload).once()).await;
        let response = asked.ok().filter(|response| response.status().is_success())?;
        let kept = response.header(RANGE).and_then(end_of_range)? + 1;
        // `0-0` is what distribution says of nothing at all.
        let useful = kept > 1 && kept <= self.descriptor.size;
        let upload = location(self.destination, &response).ok()?;
        useful.then_some((upload, kept))
    }

    /// Sends a request and tells how far its body is.
    async fn watched(
        &self,
        request: Request,
        offset: u64,
        transfer: &mut Transfer,
    ) -> Result<Response, Error> {
        let sent = match &request.body {
            Body::File { sent, .. } => sent.clone(),
            _ => Arc::default(),
        };
        let answer = self.client.pushing(self.destination, request);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                () = tokio::time::sleep(INTERVAL) => transfer.at(offset + sent.load(Ordering::Relaxed)),
            }
        }
    }

    fn body(&self, offset: u64, length: u64) -> Body {
        let path = match &self.source {
            LocalSource::File(path) => path.clone(),
            LocalSource::Passing(path) => path.to_path_buf(),
            LocalSource::Bytes(bytes) => {
                let index = |at: u64| usize::try_from(at).expect("the bytes are in memory");
                return Body::Bytes(bytes.slice(index(offset)..index(offset + length)));
            }
        };
        Body::File { path, offset, length, sent: Arc::new(AtomicU64::new(0)) }
    }

    /// A source of another size would break the connection in a way nobody understands.
    async fn check_source(&self) -> Result<(), Error> {
        let path: &Path = match &self.source {
            LocalSource::Bytes(bytes) => return self.check_size(bytes.len() as u64),
            LocalSource::File(path) => path,
            LocalSource::Passing(path) => path,
        };
        let failed = |source| Error::File { verb: "read", path: path.to_owned(), source };
        self.check_size(tokio::fs::metadata(path).await.map_err(failed)?.len())
    }

    fn check_size(&self, actual: u64) -> Result<(), Error> {
        if actual == self.descriptor.size {
            return Ok(());
        }
        Err(Error::Size { what: self.what(), expected: self.descriptor.size, actual })
    }

    /// Google's Artifact Registry has no chunked uploads.
    fn takes_pieces(&self) -> bool {
        !self.destination.registry().ends_with(".pkg.dev")
    }

    fn what(&self) -> String {
        self.destination.at(self.descriptor.digest).to_string()
    }
}

/// The last byte of `0-N`, or `bytes=0-N`.
fn end_of_range(text: &str) -> Option<u64> {
    text.trim().rsplit('-').next()?.parse().ok().filter(|end| *end < u64::MAX)
}

/// An error with its cause in one line: what a log shows of a failed try.
fn described(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
