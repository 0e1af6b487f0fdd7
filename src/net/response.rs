//! An answer: its head now, its body piece by piece and never without a limit.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::client::no_answer;
use super::error::redacted;
use super::{Cause, Error, retry};

/// An answer whose head has arrived.
#[derive(Debug)]
pub struct Response {
    pub(super) inner: reqwest::Response,
    /// Who answered at last, after redirects.
    pub url: Url,
    /// Whether a redirect led to another host than was asked.
    pub left_host: bool,
    pub(super) method: Method,
    /// How long the body may stay silent.
    pub(super) idle: Duration,
}

impl Response {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// A header's text.
    pub fn header(&self, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        retry::retry_after(self.inner.headers())
    }

    /// Whether the same request may get another answer in a moment.
    pub fn is_passing_failure(&self) -> bool {
        retry::worth_repeating(self.status())
    }

    /// Which URL answered, fit for a log.
    pub fn log_url(&self) -> String {
        redacted(&self.url)
    }

    /// The verb that was answered.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks, ends early or stays silent too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match timeout(self.idle, self.inner.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => {
                Err(no_answer(&self.method, &self.url, Cause::Broken, Some(error.without_url())))
            }
            Err(_) => Err(no_answer(&self.method, &self.url, Cause::Timeout, None)),
        }
    }

    /// The whole body, or `None` when it is longer than `limit` bytes.
    ///
    /// # Errors
    /// As [`Response::chunk`].
    pub async fn bytes(&mut self, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut all = Vec::new();
        while let Some(piece) = self.chunk().await? {
            if all.len() + piece.len() > limit {
                return Ok(None);
            }
            all.extend_from_slice(&piece);
        }
        Ok(Some(all))
    }
}
