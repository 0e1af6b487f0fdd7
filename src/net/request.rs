//! A request that can be sent more than once: its body is opened anew each time.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use url::Url;

/// What to ask.
#[derive(Clone, Debug)]
pub struct Request {
    /// The verb.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// Headers of the caller; `User-Agent` and `Content-Length` are added.
    pub headers: HeaderMap,
    /// What is sent along.
    pub body: Body,
    /// Whether trying again after a passing failure is safe and wanted.
    pub repeatable: bool,
    /// Whether one that goes out in plain HTTP may be sent on in plain HTTP, to any
    /// host: whoever wrote the address asked for no more.
    pub plain_onward: bool,
}

/// What a request sends along.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A piece of a file, streamed with its length announced.
    File {
        /// Which file; opened for each try.
        path: PathBuf,
        /// First byte sent.
        offset: u64,
        /// Bytes sent.
        length: u64,
        /// Receives the number of bytes handed to the connection in this try.
        sent: Arc<AtomicU64>,
    },
}

impl Request {
    /// A repeatable request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Body::Empty,
            repeatable: true,
            plain_onward: false,
        }
    }

    /// A GET.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Lets redirects from plain HTTP lead to plain HTTP.
    #[must_use]
    pub fn plain_onward(mut self) -> Self {
        self.plain_onward = true;
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Sent once only: the caller repeats it its own way.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }
}

impl Body {
    /// Bytes announced in `Content-Length`.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => None,
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File { length, .. } => Some(*length),
        }
    }

    /// How far the current try is, for telling a slow peer from a dead one.
    pub(super) fn sent(&self) -> u64 {
        match self {
            Self::File { sent, .. } => sent.load(Ordering::Relaxed),
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Empty => 0,
        }
    }

    /// Opens the body for one try.
    pub(super) async fn open(&self) -> io::Result<Option<reqwest::Body>> {
        match self {
            Self::Empty => Ok(None),
            Self::Bytes(bytes) => Ok(Some(bytes.clone().into())),
            Self::File { path, offset, length, sent } => {
                let mut file = tokio::fs::File::open(path).await?;
                file.seek(io::SeekFrom::Start(*offset)).await?;
                sent.store(0, Ordering::Relaxed);
                let pieces = ReaderStream::with_capacity(file.take(*length), PIECE);
                Ok(Some(reqwest::Body::wrap_stream(counted(pieces, sent.clone()))))
            }
        }
    }
}

/// Bytes read from the file at a time: what a connection takes in a few writes.
const PIECE: usize = 128 * 1024;

fn counted<S>(pieces: S, sent: Arc<AtomicU64>) -> impl Stream<Item = io::Result<Bytes>>
where
    S: Stream<Item = io::Result<Bytes>>,
{
    pieces.map(move |piece| {
        if let Ok(bytes) = &piece {
            sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        piece
    })
}
