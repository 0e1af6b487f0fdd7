//! The client itself: picks the right connection settings per host, sends,
//! repeats and follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, LOCATION};
use reqwest::{Method, StatusCode};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::timeout;
use url::Url;

use super::error::redacted;
use super::{Backoff, Body, Cause, Error, Request, Response, RetryPolicy, host, proxy, retry, roots, tls};
use crate::progress::Reporter;

/// How to talk to whom. `Default` is what a plain machine needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host` or `host:port`: any certificate is accepted, then plain HTTP is tried.
    pub insecure_hosts: Vec<String>,
    /// `host` or `host:port`: any certificate is accepted, but it must be HTTPS.
    pub skip_tls_verify: Vec<String>,
    /// Further certificate authorities, or servers' own certificates.
    pub extra_certificates: Vec<ExtraCertificates>,
    /// Where `SSL_CERT_FILE`, `SSL_CERT_DIR` and the proxy variables are read from.
    pub environment: BTreeMap<String, String>,
    /// How long a connection may take to stand.
    pub connect_timeout: Duration,
    /// How long nothing may move on a connection that stands.
    pub idle_timeout: Duration,
    /// How often to try.
    pub retry: RetryPolicy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure_hosts: Vec::new(),
            skip_tls_verify: Vec::new(),
            extra_certificates: Vec::new(),
            environment: BTreeMap::new(),
            connect_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
        }
    }
}

/// Certificates beyond the system's.
#[derive(Clone, Debug)]
pub struct ExtraCertificates {
    /// `host` or `host:port` they are for; everybody's when absent.
    pub host: Option<String>,
    /// One or more certificates.
    pub pem: Vec<u8>,
}

/// The HTTP client. Cheap to share by reference; holds the connection pools.
pub struct Http {
    settings: Options,
    verified: reqwest::Client,
    unverified: reqwest::Client,
    special: Vec<(String, reqwest::Client)>,
    origins: Mutex<BTreeMap<String, Arc<OnceCell<Url>>>>,
    /// A proxy variable is set.
    proxied: bool,
    reporter: Arc<dyn Reporter>,
}

/// Redirects followed before giving up (what browsers and curl allow is more;
/// registries need two).
const REDIRECTS: usize = 10;
/// Tries where nobody listens: enough for a server that restarts quickly, while a wrong
/// port is told within seconds.
const REFUSED_TRIES: u32 = 3;

/// A server that checks what it received may take its time with the answer.
const ANSWER_PATIENCE: u32 = 5;

/// How long a declared insecure host may take to show that it speaks HTTPS.
const PROBE: Duration = Duration::from_secs(10);

impl Http {
    /// Makes the client. Reads the CA files.
    ///
    /// # Errors
    /// When a certificate or proxy address given is unusable.
    pub fn new(options: Options, reporter: Arc<dyn Reporter>) -> Result<Self, Error> {
        let (mut common, mut exact) = (roots::load(&options.environment), Vec::new());
        for extra in options.extra_certificates.iter().filter(|extra| extra.host.is_none()) {
            let certificates = certificates(extra)?;
            common.add_parsable_certificates(certificates.iter().cloned());
            exact.extend(certificates);
        }
        let mut special = Vec::new();
        for extra in &options.extra_certificates {
            let Some(host) = &extra.host else { continue };
            let (mut roots, mut exact) = (common.clone(), exact.clone());
            for one in options.extra_certificates.iter().filter(|one| one.host.as_ref() == Some(host)) {
                let certificates = certificates(one)?;
                roots.add_parsable_certificates(certificates.iter().cloned());
                exact.extend(certificates);
            }
            special.push((host.clone(), connect(&options, tls::verified(roots, exact)?)?));
        }
        Ok(Self {
            verified: connect(&options, tls::verified(common, exact)?)?,
            unverified: connect(&options, tls::unverified()?)?,
            special,
            origins: Mutex::default(),
            proxied: !proxy::from_environment(&options.environment)?.is_empty(),
            settings: options,
            reporter,
        })
    }

    /// How often to try; for callers that repeat more than one request.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.settings.retry
    }

    /// The base URL of a registry host, `https://host/`: plain HTTP where that
    /// is allowed and HTTPS is not spoken there. Asked once per host.
    ///
    /// # Errors
    /// When `host` cannot stand in a URL, or an allowed plain host does not answer at all.
    pub async fn origin(&self, host: &str) -> Result<Url, Error> {
        let secure = parse_origin("https", host)?;
        if !self.plain_allowed(&secure) {
            return Ok(secure);
        }
        let cell = self.origins.lock().await.entry(host.to_owned()).or_default().clone();
        cell.get_or_try_init(|| self.probe(secure, host)).await.cloned()
    }

    /// A declared host gets the chance to speak HTTPS first; on this machine
    /// nobody listens in, and plain HTTP is what runs here.
    async fn probe(&self, secure: Url, host: &str) -> Result<Url, Error> {
        let plain = parse_origin("http", host)?;
        let order = match host::is_loopback_url(&plain) {
            true => [plain, secure],
            false => [secure, plain],
        };
        let mut backoff = Backoff::new(self.settings.retry);
        loop {
            let first = self.speaks(&order[0]).await;
            let Err(error) = first else { return Ok(order[0].clone()) };
            let Err(second) = self.speaks(&order[1]).await else { return Ok(order[1].clone()) };
            let plain_error = if order[0].scheme() == "http" { error } else { second };
            if !self.pause_unanswered(&mut backoff, &plain_error).await {
                return Err(plain_error);
            }
        }
    }

    /// Whether a registry answers there. Servers that want TLS answer plain
    /// HTTP with 400 (Go, nginx) or not at all.
    async fn speaks(&self, origin: &Url) -> Result<(), Error> {
        let url = origin.join("v2/").expect("a plain path joins to every origin");
        match timeout(PROBE, self.client(&url).get(url.clone()).send()).await {
            Ok(Ok(answer)) if answer.status() == StatusCode::BAD_REQUEST && origin.scheme() == "http" => {
                Err(no_answer(&Method::GET, &url, Cause::Malformed, None))
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(no_answer(&Method::GET, &url, Cause::of(&error), Some(error))),
            Err(_) => Err(no_answer(&Method::GET, &url, Cause::Timeout, None)),
        }
    }

    /// Whether plain HTTP may be spoken to the URL's host.
    pub fn plain_allowed(&self, url: &Url) -> bool {
        host::is_loopback_url(url) || host::declared(&self.settings.insecure_hosts, url)
    }

    /// Whether `origin` may send us to `target`, by a redirect or as a token realm.
    ///
    /// # Errors
    /// Says why not, to follow "the server points to …".
    pub fn check_target(&self, origin: &Url, target: &Url) -> Result<(), &'static str> {
        match target.scheme() {
            "https" => {}
            "http" if self.plain_allowed(target) => {}
            "http" => return Err("which is plain HTTP"),
            _ => return Err("which is neither HTTP nor HTTPS"),
        }
        if !target.has_host() {
            return Err("which names no host");
        }
        host::may_follow(origin, target).then_some(()).ok_or("an address inside this network")
    }

    pub(super) fn check_redirect(&self, request: &Request, target: &Url) -> Result<(), &'static str> {
        let plain = request.plain_onward && request.url.scheme() == "http" && target.scheme() == "http";
        match plain && target.has_host() && host::may_follow(&request.url, target) {
            true => Ok(()),
            false => self.check_target(&request.url, target),
        }
    }

    /// Sends a request, follows redirects, and tries again where that may help
    /// (429, 5xx, broken or silent connections) if the request is repeatable.
    ///
    /// # Errors
    /// When no answer came. A final 429 or 5xx is an answer.
    pub async fn send(&self, request: &Request) -> Result<Response, Error> {
        let mut backoff = Backoff::new(self.settings.retry);
        loop {
            let outcome = self.follow(request).await.map_err(|error| self.note_proxy(error, &request.url));
            if !request.repeatable {
                return outcome;
            }
            let again = match &outcome {
                Ok(response) if retry::worth_repeating(response.status()) => {
                    let wait = response.retry_after();
                    let what =
                        format!("{} {}: {}", request.method, redacted(&response.url), response.status());
                    self.pause(&mut backoff, wait, &what).await
                }
                Ok(_) => false,
                Err(error) => self.pause_unanswered(&mut backoff, error).await,
            };
            if !again {
                return outcome;
            }
        }
    }

    /// Counts a failure, says so and sleeps; false when no try is left. For
    /// callers that repeat more than one request.
    pub async fn pause(
        &self,
        backoff: &mut Backoff,
        retry_after: Option<Duration>,
        what: &(dyn std::fmt::Display + Sync),
    ) -> bool {
        self.pause_within(backoff, retry_after, what, self.settings.retry.attempts).await
    }

    /// The same after no answer came, if another try may bring one.
    async fn pause_unanswered(&self, backoff: &mut Backoff, error: &Error) -> bool {
        let tries = match error.cause() {
            Some(Cause::ConnectionRefused) => REFUSED_TRIES.min(self.settings.retry.attempts),
            Some(cause) if cause.is_passing() => self.settings.retry.attempts,
            _ => return false,
        };
        self.pause_within(backoff, None, error, tries).await
    }

    async fn pause_within(
        &self,
        backoff: &mut Backoff,
        retry_after: Option<Duration>,
        what: &(dyn std::fmt::Display + Sync),
        all: u32,
    ) -> bool {
        let Some(wait) = backoff.failed(retry_after) else { return false };
        let number = backoff.failures() + 1;
        if number > all {
            return false;
        }
        self.reporter
            .info(format!("{what}; trying again in {:.1} s (try {number} of {all})", wait.as_secs_f64()));
        tokio::time::sleep(wait).await;
        true
    }

    fn note_proxy(&self, mut error: Error, url: &Url) -> Error {
        if let Error::NoAnswer { proxied, .. } = &mut error {
            *proxied = self.proxied && !host::is_loopback_url(url);
        }
        error
    }

    async fn follow(&self, request: &Request) -> Result<Response, Error> {
        let mut next = request.clone();
        for _ in 0..=REDIRECTS {
            let answer = self.exchange(&next).await?;
            let left_host = host::authority(&next.url) != host::authority(&request.url);
            let Some(target) = redirect_target(&next, &answer)? else {
                let moved = next.url != request.url;
                if moved && answer.status() == 401 && next.headers.remove(AUTHORIZATION).is_some() {
                    // Storage behind the registry's own name may refuse the registry's token.
                    let answer = self.exchange(&next).await?;
                    return Ok(self.response(next, answer, left_host));
                }
                return Ok(self.response(next, answer, left_host));
            };
            self.check_redirect(request, &target).map_err(|reason| forbidden(&next, &target, reason))?;
            if host::authority(&target) != host::authority(&next.url) || target.scheme() != next.url.scheme()
            {
                next.headers.remove(AUTHORIZATION);
            }
            if answer.status() == StatusCode::SEE_OTHER && next.method != Method::HEAD {
                (next.method, next.body) = (Method::GET, Body::Empty);
            }
            next.url = target;
        }
        Err(no_answer(&request.method, &request.url, Cause::TooManyRedirects, None))
    }

    fn response(&self, request: Request, inner: reqwest::Response, left_host: bool) -> Response {
        Response {
            inner,
            url: request.url,
            left_host,
            method: request.method,
            idle: self.settings.idle_timeout,
        }
    }

    /// One request, one answer.
    async fn exchange(&self, request: &Request) -> Result<reqwest::Response, Error> {
        let body = request.body.open().await.map_err(|source| body_error(&request.body, source))?;
        let mut builder = self
            .client(&request.url)
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        let writes = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
        if let Some(length) = request.body.length().or(writes.then_some(0)) {
            builder = builder.header(reqwest::header::CONTENT_LENGTH, length);
        }
        if let Some(body) = body {
            builder = builder.body(body);
        }
        let failed = |cause, source| no_answer(&request.method, &request.url, cause, source);
        let answer = self.watched(&request.body, builder.send()).await.ok_or(Cause::Timeout);
        match answer {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failed(Cause::of(&error), Some(error.without_url()))),
            Err(cause) => Err(failed(cause, None)),
        }
    }

    /// Waits for an answer as long as the body moves, and a while longer.
    async fn watched<T>(&self, body: &Body, answer: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(answer);
        let mut last = None;
        loop {
            let sent = body.sent();
            let complete = body.length().is_some_and(|length| sent >= length);
            let patience = self.settings.idle_timeout * if complete { ANSWER_PATIENCE } else { 1 };
            if last == Some(sent) {
                return None;
            }
            last = Some(sent);
            if let Ok(answer) = timeout(patience, &mut answer).await {
                return Some(answer);
            }
        }
    }

    fn client(&self, url: &Url) -> &reqwest::Client {
        let given = |(host, client)| host::declared(std::slice::from_ref(host), url).then_some(client);
        if let Some(client) = self.special.iter().map(|(host, client)| (host, client)).find_map(given) {
            return client;
        }
        let lenient = host::declared(&self.settings.skip_tls_verify, url) || self.plain_allowed(url);
        if lenient { &self.unverified } else { &self.verified }
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The environment may hold a proxy's password.
        f.debug_struct("Http").field("insecure_hosts", &self.settings.insecure_hosts).finish_non_exhaustive()
    }
}

fn connect(options: &Options, tls: rustls::ClientConfig) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .no_proxy();
    for proxy in proxy::from_environment(&options.environment)? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| Error::Setup(error.to_string()))
}

fn certificates(extra: &ExtraCertificates) -> Result<Vec<rustls_pki_types::CertificateDer<'static>>, Error> {
    roots::parse(&extra.pem).map_err(|reason| Error::Certificates {
        host: extra.host.clone().unwrap_or_else(|| "every host".to_owned()),
        reason,
    })
}

fn parse_origin(scheme: &str, host: &str) -> Result<Url, Error> {
    let text = format!("{scheme}://{host}/");
    // Nothing but a host survives this: no path, query or user name can hide in it.
    let clean = |url: &Url| {
        url.path() == "/"
            && url[url::Position::BeforePath..].len() == 1
            && url.username().is_empty()
            && url.password().is_none()
    };
    match Url::parse(&text).ok().filter(clean) {
        Some(url) => Ok(url),
        None => Err(Error::Setup(format!("`{host}` is not a host name"))),
    }
}

/// Where a redirect leads; `None` for every other answer.
fn redirect_target(request: &Request, answer: &reqwest::Response) -> Result<Option<Url>, Error> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let malformed = || no_answer(&request.method, &request.url, Cause::Malformed, None);
    let Some(location) = answer.headers().get(LOCATION) else { return Ok(None) };
    let text = location.to_str().map_err(|_| malformed())?;
    request.url.join(text).map(Some).map_err(|_| malformed())
}

pub(super) fn no_answer(method: &Method, url: &Url, cause: Cause, source: Option<reqwest::Error>) -> Error {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    Error::NoAnswer {
        method: method.clone(),
        url: redacted(url),
        authority: format!("{host}:{port}"),
        cause,
        proxied: false,
        source: source.map(reqwest::Error::without_url),
    }
}

fn forbidden(request: &Request, target: &Url, reason: &'static str) -> Error {
    Error::Forbidden {
        method: request.method.clone(),
        url: redacted(&request.url),
        target: redacted(target),
        reason,
    }
}

fn body_error(body: &Body, source: std::io::Error) -> Error {
    let path = match body {
        Body::File { path, .. } => path.clone(),
        Body::Empty | Body::Bytes(_) => std::path::PathBuf::new(),
    };
    Error::Body { path, source }
}
