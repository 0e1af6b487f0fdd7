//! A web server on loopback with a handful of pages, and its memory of what it
//! answered.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What is at a path.
#[derive(Clone, Default)]
pub struct Page {
    body: Vec<u8>,
    headers: Vec<(String, String)>,
    redirect: bool,
    authorization: Option<String>,
}

impl Page {
    /// These bytes.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Somewhere else.
    pub fn redirect(target: &str) -> Self {
        Self { redirect: true, ..Self::default() }.header("Location", target)
    }

    /// With this time.
    pub fn last_modified(self, time: &str) -> Self {
        self.header("Last-Modified", time)
    }

    /// With this validator.
    pub fn etag(self, etag: &str) -> Self {
        self.header("ETag", etag)
    }

    /// For those who send this only.
    pub fn authorization(self, value: &str) -> Self {
        Self { authorization: Some(value.to_owned()), ..self }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

#[derive(Default)]
struct State {
    pages: BTreeMap<String, Page>,
    answers: Vec<u16>,
}

/// The server. Its threads end with the test program.
pub struct Web {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Web {
    /// Starts with these pages.
    pub fn start(pages: &[(&str, Page)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pages = pages.iter().map(|(path, page)| ((*path).to_owned(), page.clone())).collect();
        let state = Arc::new(Mutex::new(State { pages, answers: Vec::new() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that goes away is its own affair.
                std::thread::spawn(move || drop(serve(&state, stream)));
            }
        });
        Self { address, state }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts another page in place.
    pub fn put(&self, path: &str, page: Page) {
        self.state.lock().unwrap().pages.insert(path.to_owned(), page);
    }

    /// The status of every answer so far.
    pub fn answers(&self) -> Vec<u16> {
        self.state.lock().unwrap().answers.clone()
    }
}

fn serve(state: &Mutex<State>, stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let target = request.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let mut state = state.lock().unwrap();
    let page = state.pages.get(path).cloned();
    let status = status(page.as_ref(), &headers);
    state.answers.push(status);
    drop(state);
    let page = page.unwrap_or_default();
    let body = if status == 200 { page.body } else { Vec::new() };
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in page.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = stream;
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(&body)
}

fn status(page: Option<&Page>, headers: &BTreeMap<String, String>) -> u16 {
    let Some(page) = page else { return 404 };
    let of = |name: &str| page.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    if page.redirect {
        302
    } else if page.authorization.is_some() && headers.get("authorization") != page.authorization.as_ref() {
        401
    } else if of("ETag").is_some() && headers.get("if-none-match") == of("ETag") {
        304
    } else {
        200
    }
}
