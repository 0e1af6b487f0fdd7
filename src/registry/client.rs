//! The client: one per build, shared by everything that pulls or pushes.

use std::path::PathBuf;
use std::sync::Arc;

use super::auth::Gate;
use super::scope::Access;
use super::{Credentials, Error, answer};
use crate::image::Reference;
use crate::net::{self, Http, Request, Response, Url};
use crate::progress::Reporter;

/// How to talk to registries.
#[derive(Clone, Debug)]
pub struct Options {
    /// TLS, proxies, insecure hosts, retries.
    pub net: net::Options,
    /// An existing directory for blobs that have to pass through this machine
    /// because no registry can mount them. Files in it remove themselves.
    pub temporary: PathBuf,
    /// Blobs of one image on their way at the same time, at least 1.
    pub parallel: usize,
}

impl Options {
    /// The defaults, with `temporary` for blobs that pass through.
    pub fn new(temporary: PathBuf) -> Self {
        Self { net: net::Options::default(), temporary, parallel: 4 }
    }
}

/// Pulls from and pushes to any registry. Requests of one build share its
/// connections, logins and tokens.
pub struct Client {
    pub(super) http: Http,
    pub(super) gate: Gate,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) temporary: PathBuf,
    pub(super) parallel: usize,
}

/// Docker Hub's API does not live under its name.
const HUB_API: &str = "registry-1.docker.io";

impl Client {
    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// When a certificate or a proxy address given cannot be used.
    pub fn new(
        options: Options,
        credentials: Credentials,
        reporter: Arc<dyn Reporter>,
    ) -> Result<Self, Error> {
        for warning in credentials.warnings() {
            reporter.warn(warning.clone());
        }
        Ok(Self {
            http: Http::new(options.net, reporter.clone()).map_err(|error| Error::Setup(Box::new(error)))?,
            gate: Gate::new(credentials, reporter.clone()),
            reporter,
            temporary: options.temporary,
            parallel: options.parallel.max(1),
        })
    }

    /// `https://host/v2/<repository>/<rest>`, or plain HTTP where that is allowed and spoken.
    pub(super) async fn url(&self, reference: &Reference, rest: &str) -> Result<Url, Error> {
        let origin = self.origin(reference).await?;
        let path = format!("v2/{}/{rest}", reference.repository());
        // References are validated: lower-case words, digits, `.`, `_`, `-` and `/`.
        Ok(origin.join(&path).expect("a validated repository makes a relative URL"))
    }

    async fn origin(&self, reference: &Reference) -> Result<Url, Error> {
        self.http.origin(api_host(reference.registry())).await.map_err(|source| no_answer(reference, source))
    }

    /// Sends a request, logged in for pulling.
    pub(super) async fn pulling(&self, reference: &Reference, request: Request) -> Result<Response, Error> {
        self.send(&access(reference, "pull"), reference, request).await
    }

    /// Sends a request, logged in for pushing.
    pub(super) async fn pushing(&self, reference: &Reference, request: Request) -> Result<Response, Error> {
        self.send(&access(reference, "push"), reference, request).await
    }

    /// Sends a request, logged in for pushing and for mounting from a repository.
    pub(super) async fn mounting(
        &self,
        reference: &Reference,
        from: &Reference,
        request: Request,
    ) -> Result<Response, Error> {
        let mount_from = Some(from.repository().to_owned());
        self.send(&Access { mount_from, ..access(reference, "push") }, reference, request).await
    }

    async fn send(
        &self,
        access: &Access,
        reference: &Reference,
        request: Request,
    ) -> Result<Response, Error> {
        let origin = self.origin(reference).await?;
        self.gate.send(&self.http, &origin, access, request).await
    }

    /// The error that an answer without success is. `what` names the thing asked for.
    pub(super) async fn refused(
        &self,
        reference: &Reference,
        action: &'static str,
        what: String,
        response: Response,
    ) -> Error {
        let left_host = response.left_host;
        let reply = answer::read(response).await;
        match reply.status {
            404 => Error::NotFound { what, reply },
            401 | 403 if !left_host => Error::Denied {
                registry: reference.registry().to_owned(),
                repository: reference.repository().to_owned(),
                action,
                who: self.gate.who(&access(reference, action)).await,
                reply,
            },
            _ => Error::Refused { what, reply },
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("http", &self.http).finish_non_exhaustive()
    }
}

fn access(reference: &Reference, action: &'static str) -> Access {
    Access {
        registry: reference.registry().to_owned(),
        repository: reference.repository().to_owned(),
        action,
        mount_from: None,
    }
}

/// Where the API of a registry is.
pub(super) fn api_host(registry: &str) -> &str {
    if registry == "docker.io" { HUB_API } else { registry }
}

/// No answer from the registry of `reference`.
pub(super) fn no_answer(reference: &Reference, source: net::Error) -> Error {
    Error::NoAnswer { registry: reference.registry().to_owned(), source: Box::new(source) }
}

/// An answer that breaks the protocol.
pub(super) fn protocol(reference: &Reference, response: &Response, problem: &'static str) -> Error {
    Error::Protocol {
        registry: reference.registry().to_owned(),
        method: response.method().to_string(),
        url: response.log_url(),
        problem,
    }
}
