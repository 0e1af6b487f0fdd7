//! Files from HTTP servers, into the store.

use std::io::Write;
use std::path::Path;

use sha2::{Digest as _, Sha384, Sha512};

use super::{Error, Fetcher};
use crate::image::{Digest, Hasher};
use crate::net::{self, Request, Response, StatusCode, Url, header};
use crate::progress::{Event, TransferDirection};
use crate::store::Download;

/// Bytes between two reports of a transfer.
const REPORT: u64 = 4 << 20;

/// A file that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Of the blob that holds its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// The last part of the URL's path, `__unnamed__` where it has none.
    pub name: String,
    /// Seconds since 1970: `Last-Modified`, or 0 (BuildKit's http source).
    pub mtime: i64,
}

impl Fetcher {
    /// Downloads a file into the store, unless the server says that it is what
    /// we have. With a `checksum` (`sha256:` …) that the store's copy has,
    /// nobody is asked.
    ///
    /// # Errors
    /// When there is no answer, another than 200, or other bytes than promised.
    pub async fn download(&self, url: &Url, checksum: Option<&str>) -> Result<Downloaded, Error> {
        let key = url_key(url);
        let known = self.store.download_get(&key).map_err(store_failed)?;
        let known = known.filter(|known| self.store.has_blob(&known.digest, known.size));
        if let (Some(known), Some(checksum)) = (&known, checksum)
            && known.digest.to_string() == checksum
        {
            return Ok(downloaded(url, known));
        }
        let mut response = self.ask(url, known.as_ref()).await?;
        if let (Some(known), StatusCode::NOT_MODIFIED) = (&known, response.status()) {
            self.check_known(url, known, checksum)?;
            return Ok(downloaded(url, known));
        }
        if response.status() != StatusCode::OK {
            return Err(Error::Status { url: response.log_url(), status: response.status().to_string() });
        }
        let download = self.receive(url, &mut response, checksum).await?;
        self.store.download_put(&key, &download).map_err(store_failed)?;
        Ok(downloaded(url, &download))
    }

    async fn ask(&self, url: &Url, known: Option<&Download>) -> Result<Response, Error> {
        let mut request = Request::get(url.clone()).plain_onward();
        let conditions = known.into_iter().flat_map(|known| {
            [(header::IF_NONE_MATCH, &known.etag), (header::IF_MODIFIED_SINCE, &known.last_modified)]
        });
        for (name, value) in conditions {
            let value = value.as_deref().and_then(|value| header::HeaderValue::from_str(value).ok());
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        if let Some(value) = self.authorization(url) {
            request = request.header(header::AUTHORIZATION, value);
        }
        let http = self.http().await?;
        http.send(&request).await.map_err(|source| failed(url, source))
    }

    /// What the secrets say to this host.
    fn authorization(&self, url: &Url) -> Option<header::HeaderValue> {
        let host = url.host_str()?;
        let whole = self.secret("HTTP_AUTH_HEADER", '_', host).and_then(|secret| secret.expose_str());
        let token = self.secret("HTTP_AUTH_TOKEN", '_', host).and_then(|secret| secret.expose_str());
        // Of both BuildKit takes the token.
        let text = token.map(|token| format!("Bearer {}", token.trim())).or(whole.map(str::to_owned))?;
        let mut value = header::HeaderValue::from_str(text.trim()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    async fn receive(
        &self,
        url: &Url,
        response: &mut Response,
        checksum: Option<&str>,
    ) -> Result<Download, Error> {
        let directory = &self.options.unfinished;
        let file = |source| Error::File { path: directory.clone(), source };
        let mut temporary = tempfile::NamedTempFile::new_in(directory).map_err(file)?;
        let mut check = Check::new(checksum)?;
        let (mut hasher, mut size, mut told) = (Hasher::new(), 0, 0);
        let total = response.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        while let Some(piece) = response.chunk().await.map_err(|source| failed(url, source))? {
            temporary.write_all(&piece).map_err(file)?;
            hasher.update(&piece);
            check.update(&piece);
            size += piece.len() as u64;
            if size - told >= REPORT || Some(size) == total {
                told = size;
                let what = name(url);
                let direction = TransferDirection::Pull;
                self.reporter.report(Event::Transfer { direction, what, done: size, total });
            }
        }
        let digest = hasher.finish();
        check.finish(url, &digest)?;
        let path = temporary.into_temp_path();
        self.store.adopt_blob(&path, &digest).map_err(store_failed)?;
        let text = |name| response.header(name).map(str::to_owned);
        Ok(Download { digest, size, etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) })
    }

    /// The checksum of what the store has: only another algorithm needs its bytes.
    fn check_known(&self, url: &Url, known: &Download, checksum: Option<&str>) -> Result<(), Error> {
        let mut check = Check::new(checksum)?;
        if check.reads() {
            let path = self.store.blob_path(&known.digest);
            read_through(&path, &mut check).map_err(|source| Error::File { path, source })?;
        }
        check.finish(url, &known.digest)
    }
}

fn read_through(path: &Path, check: &mut Check) -> std::io::Result<()> {
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(()),
            count => check.update(&buffer[..count]),
        }
    }
}

fn url_key(url: &Url) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field("coracle download 1");
    hasher.field(url.as_str());
    hasher.finish()
}

fn failed(url: &Url, source: net::Error) -> Error {
    Error::Download { url: super::location::shown(url.as_str()), source: Box::new(source) }
}

fn store_failed(source: crate::store::Error) -> Error {
    Error::Store(Box::new(source))
}

fn downloaded(url: &Url, known: &Download) -> Downloaded {
    Downloaded {
        digest: known.digest,
        size: known.size,
        name: name(url),
        mtime: known.last_modified.as_deref().and_then(http_date).unwrap_or(0),
    }
}

/// Go's `path.Base` of the decoded path.
fn name(url: &Url) -> String {
    let decoded = percent_decode(url.path());
    let last = decoded.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match last {
        "" | "." | ".." => "__unnamed__".to_owned(),
        name if name.contains('\0') => "__unnamed__".to_owned(),
        name => name.to_owned(),
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7); its obsolete forms are not read.
fn http_date(text: &str) -> Option<i64> {
    let time = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", text.trim()).ok()?;
    let time = time.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(time.timestamp().as_second())
}

/// `--checksum` while the bytes stream by. sha256 is computed anyway.
enum Check {
    None,
    Sha256(String),
    Sha384(String, Sha384),
    Sha512(String, Sha512),
}

impl Check {
    fn new(checksum: Option<&str>) -> Result<Self, Error> {
        let Some(text) = checksum else { return Ok(Self::None) };
        match text.split_once(':') {
            Some(("sha256", _)) => Ok(Self::Sha256(text.to_owned())),
            Some(("sha384", _)) => Ok(Self::Sha384(text.to_owned(), Sha384::new())),
            Some(("sha512", _)) => Ok(Self::Sha512(text.to_owned(), Sha512::new())),
            _ => Err(Error::ChecksumForm(text.to_owned())),
        }
    }

    fn reads(&self) -> bool {
        matches!(self, Self::Sha384(..) | Self::Sha512(..))
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None | Self::Sha256(_) => {}
            Self::Sha384(_, hasher) => hasher.update(bytes),
            Self::Sha512(_, hasher) => hasher.update(bytes),
        }
    }

    fn finish(self, url: &Url, sha256: &Digest) -> Result<(), Error> {
        let (expected, found) = match self {
            Self::None => return Ok(()),
            Self::Sha256(expected) => (expected, sha256.to_string()),
            Self::Sha384(expected, hasher) => (expected, format!("sha384:{}", hex(&hasher.finalize()))),
            Self::Sha512(expected, hasher) => (expected, format!("sha512:{}", hex(&hasher.finalize()))),
        };
        match expected == found {
            true => Ok(()),
            false => Err(Error::Checksum { url: super::location::shown(url.as_str()), expected, found }),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_path() {
        let check = |url: &str, expected: &str| {
            assert_eq!(name(&Url::parse(url).unwrap()), expected, "{url}");
        };
        check("https://x.io/a/b.tar.gz", "b.tar.gz");
        check("https://x.io/a/b?c=d/e#f/g", "b");
        check("https://x.io/a%20b", "a b");
        check("https://x.io/a%2Fb", "b");
        check("https://x.io/dir/", "dir");
        check("https://x.io/%2e%2e%2f", "__unnamed__");
        check("https://x.io", "__unnamed__");
        check("https://x.io/%00", "__unnamed__");
        check("https://x.io/100%", "100%");
    }

    #[test]
    fn dates() {
        let check = |text: &str, expected| assert_eq!(http_date(text), expected, "{text}");
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("soon", None);
        check("Sun, 06 Nov 1994 08:49:37 CET", None);
    }
}
