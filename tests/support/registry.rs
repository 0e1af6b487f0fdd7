//! A registry in this process, on a loopback port: the OCI distribution
//! protocol over memory, with logins and with faults on demand.
//!
//! It runs on a thread of its own, so that tests with and without a runtime
//! can use it, and ends when dropped. It knows nothing of coracle's types.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

#[path = "registry_auth.rs"]
mod auth;
#[path = "registry_http.rs"]
mod http;
#[path = "registry_routes.rs"]
mod routes;

pub(crate) use auth::Auth;
use http::{Misbehaviour, Request, Response};

/// What goes wrong with requests whose `METHOD /path?query` contains `on`.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) on: String,
    /// How many requests are hit.
    pub(crate) times: usize,
    pub(crate) kind: FaultKind,
}

/// How it goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum FaultKind {
    /// This status, with these headers, instead of doing anything.
    Status(u16, Vec<(&'static str, &'static str)>),
    /// The connection closes after so many bytes of the request's body.
    CutRequest(usize),
    /// The connection closes after so many bytes of the answer's body.
    CutResponse(usize),
    /// The answer comes late.
    Slow(Duration),
    /// The first byte of the answer's body is another one.
    Corrupt,
}

/// What a request to mount is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    /// 201 when the blob is there, else 202.
    Works,
    /// Always 202.
    Ignored,
    /// Always 403.
    Forbidden,
}

/// How this registry behaves where registries differ.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) auth: Auth,
    pub(crate) mount: Mount,
    /// `Location` without host and scheme.
    pub(crate) relative_location: bool,
    /// Blobs can be read from the middle.
    pub(crate) ranges: bool,
    /// Bytes of a request that broke off stay in the upload.
    pub(crate) keeps_cut_uploads: bool,
    /// A request with a longer body gets 413.
    pub(crate) longest_body: Option<usize>,
    /// GET of a blob redirects to this base URL.
    pub(crate) blobs_at: Option<String>,
    /// Blobs can be uploaded.
    pub(crate) push: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            mount: Mount::Works,
            relative_location: false,
            ranges: true,
            keeps_cut_uploads: false,
            longest_body: None,
            blobs_at: None,
            push: true,
        }
    }
}

/// One repository.
#[derive(Debug, Default)]
struct Repository {
    blobs: BTreeMap<String, Arc<Vec<u8>>>,
    /// By tag and by digest: media type and bytes.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    address: String,
    repositories: BTreeMap<String, Repository>,
    tokens: BTreeMap<String, auth::Grant>,
    faults: Vec<Fault>,
    log: Vec<Logged>,
    next_id: usize,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    /// `METHOD /path?query`.
    pub(crate) line: String,
    /// The `Authorization` header.
    pub(crate) authorization: Option<String>,
    /// The `User-Agent` header.
    pub(crate) agent: Option<String>,
}

/// A running registry.
pub(crate) struct TestRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// `sha256:…` of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl TestRegistry {
    /// A registry without logins and faults.
    pub(crate) fn start() -> Self {
        Self::with(Behaviour::default())
    }

    /// A registry that behaves so.
    pub(crate) fn with(behaviour: Behaviour) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { behaviour, address: address.to_string(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = oneshot::channel();
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, shared) => {}
                    // The sender is dropped with the registry: either way, the end.
                    _ = stopped => {}
                }
            });
        });
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// `127.0.0.1:port`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Changes how it behaves from now on.
    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.lock().behaviour);
    }

    /// Lets the next `times` requests that contain `on` go wrong.
    pub(crate) fn fail(&self, on: &str, times: usize, kind: FaultKind) {
        self.lock().faults.push(Fault { on: on.to_owned(), times, kind });
    }

    /// Stores a blob; returns its digest.
    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        let mut state = self.lock();
        let repository = state.repositories.entry(repository.to_owned()).or_default();
        repository.blobs.insert(digest.clone(), Arc::new(bytes.to_vec()));
        digest
    }

    /// Stores a manifest under a tag and its digest; returns the digest.
    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        let mut state = self.lock();
        let repository = state.repositories.entry(repository.to_owned()).or_default();
        for name in [tag, &digest] {
            repository.manifests.insert(name.to_owned(), (media_type.to_owned(), bytes.to_vec()));
        }
        digest
    }

    /// A blob, if it is there.
    pub(crate) fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        Some(self.lock().repositories.get(repository)?.blobs.get(digest)?.to_vec())
    }

    /// Media type and bytes of a manifest, by tag or digest.
    pub(crate) fn manifest(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        self.lock().repositories.get(repository)?.manifests.get(name).cloned()
    }

    /// The tags of a repository, sorted.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        self.lock().repositories.get(repository).map(Repository::tags).unwrap_or_default()
    }

    /// Uploads that were begun and neither finished nor cancelled.
    pub(crate) fn open_uploads(&self) -> usize {
        self.lock().repositories.values().map(|repository| repository.uploads.len()).sum()
    }

    /// Everything asked so far.
    pub(crate) fn log(&self) -> Vec<Logged> {
        self.lock().log.clone()
    }

    /// How many requests contained `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.lock().log.iter().filter(|logged| logged.line.contains(text)).count()
    }

    /// Forgets the requests so far.
    pub(crate) fn clear_log(&self) {
        self.lock().log.clear();
    }

    /// Makes every token invalid, as if all had expired.
    pub(crate) fn revoke_tokens(&self) {
        self.lock().tokens.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

impl Repository {
    fn tags(&self) -> Vec<String> {
        let names: BTreeSet<_> = self.manifests.keys().filter(|name| !name.contains(':')).collect();
        names.into_iter().cloned().collect()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            // Clients of tests break off on purpose.
            let _ = serve(stream, state).await;
        });
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = http::read_head(&mut stream).await? {
        let fault = note(&mut lock(&state), &request);
        let how = misbehaviour(fault.as_ref());
        let complete = http::read_body(&mut stream, &mut request, how.cut_request).await?;
        if !complete {
            routes::cut_upload(&mut lock(&state), &request);
            return Ok(());
        }
        if let Some(delay) = how.delay {
            tokio::time::sleep(delay).await;
        }
        let mut response = match &fault {
            Some(FaultKind::Status(status, headers)) => {
                let plain = Response::new(*status);
                headers.iter().fold(plain, |response, (name, value)| response.with(name, *value))
            }
            _ => routes::answer(&mut lock(&state), &request),
        };
        if let (Some(FaultKind::Corrupt), Some(first)) = (&fault, response.body.first_mut()) {
            *first ^= 1;
        }
        let head_only = request.method == "HEAD";
        if !http::write(stream.get_mut(), &response, head_only, how.cut_response).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Logs a request and finds the fault that hits it.
fn note(state: &mut State, request: &Request) -> Option<FaultKind> {
    let line = request.line();
    state.log.push(Logged {
        line: line.clone(),
        authorization: request.header("authorization").map(str::to_owned),
        agent: request.header("user-agent").map(str::to_owned),
    });
    let fault = state.faults.iter_mut().find(|fault| fault.times > 0 && line.contains(&fault.on))?;
    fault.times -= 1;
    Some(fault.kind.clone())
}

fn misbehaviour(fault: Option<&FaultKind>) -> Misbehaviour {
    let mut how = Misbehaviour::default();
    match fault {
        Some(FaultKind::CutRequest(count)) => how.cut_request = Some(*count),
        Some(FaultKind::CutResponse(count)) => how.cut_response = Some(*count),
        Some(FaultKind::Slow(delay)) => how.delay = Some(*delay),
        _ => {}
    }
    how
}
