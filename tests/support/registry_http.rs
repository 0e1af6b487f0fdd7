//! Just enough of an HTTP/1.1 server for a test registry: it can also break
//! off in the middle, which proper servers refuse to do.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A request, read as far as its head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// How a connection misbehaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Misbehaviour {
    /// Close after reading this many bytes of the body.
    pub(crate) cut_request: Option<usize>,
    /// Close after writing this many bytes of the body.
    pub(crate) cut_response: Option<usize>,
    /// Wait before answering.
    pub(crate) delay: Option<Duration>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `METHOD /path?query`, decoded: what logs and faults look at.
    pub(crate) fn line(&self) -> String {
        let pairs: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if pairs.is_empty() { "" } else { "?" };
        format!("{} {}{mark}{}", self.method, self.path, pairs.join("&"))
    }
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// Reads the next request's head; `None` when the client is done.
pub(crate) async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    // A client that tries TLS first would otherwise wait for a line that never ends;
    // Docker's goes on without TLS only when it is answered in HTTP.
    match stream.fill_buf().await?.first() {
        Some(first) if first.is_ascii_uppercase() => {}
        Some(_) => {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await?;
            return Ok(None);
        }
        None => return Ok(None),
    }
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::Error::other("not HTTP"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        ..Request::default()
    };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(Some(request)) };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

/// Reads the body: all of it, or `limit` bytes; false when that cut it.
pub(crate) async fn read_body(
    stream: &mut BufReader<TcpStream>,
    request: &mut Request,
    limit: Option<usize>,
) -> io::Result<bool> {
    if request.header("expect").is_some() {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if request.header("transfer-encoding").is_some() {
        read_chunks(stream, &mut request.body).await?;
        return Ok(true);
    }
    let length: usize = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let wanted = limit.map_or(length, |limit| limit.min(length));
    request.body = vec![0; wanted];
    stream.read_exact(&mut request.body).await?;
    Ok(wanted == length)
}

async fn read_chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).await?;
        stream.read_line(&mut String::new()).await?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Writes an answer; false when the connection is to be closed.
pub(crate) async fn write(
    stream: &mut TcpStream,
    response: &Response,
    head_only: bool,
    cut: Option<usize>,
) -> io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} X\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let named = |name: &str| response.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    if response.status != 204 && !named("content-length") {
        head.push_str(&format!("content-length: {}\r\n", response.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    if !head_only {
        let count = cut.map_or(response.body.len(), |cut| cut.min(response.body.len()));
        stream.write_all(&response.body[..count]).await?;
    }
    stream.flush().await?;
    Ok(cut.is_none())
}
