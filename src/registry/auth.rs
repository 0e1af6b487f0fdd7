//! Being let in: which credential is shown, which token is in use, and what
//! happens when the registry does not accept them.
//!
//! ```text
//! request ─► token known? ─► send ─► 401 ─► learn the challenge, or renew the
//!                                    │      token, or widen the scope, or try
//!                                    │      the next credential ─► send again
//!                                    └► 403 ─► next ambient credential, if any
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Mutex as AsyncMutex;

use super::challenge::{self, Challenge};
use super::credentials::{Candidate, Credential, Credentials};
use super::scope::{Access, Attempt};
use super::token::{self, Failure, Server, Token};
use super::{Error, Reply, answer};
use crate::net::header::{AUTHORIZATION, HeaderValue};
use crate::net::{Http, Request, Response, Url};
use crate::progress::Reporter;

/// Everything known about logging in to the registries of one build.
pub(super) struct Gate {
    credentials: Arc<Credentials>,
    reporter: Arc<dyn Reporter>,
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
}

#[derive(Default)]
struct Host {
    /// What the registry asked for last.
    challenge: Mutex<Option<Challenge>>,
    /// Which credential each repository is at.
    chosen: AsyncMutex<BTreeMap<String, Chosen>>,
    tokens: Mutex<BTreeMap<TokenKey, Arc<AsyncMutex<Slot>>>>,
}

#[derive(Clone)]
struct Chosen {
    list: Vec<Candidate>,
    current: usize,
    announced: bool,
}

/// Requests sent for one before giving up: a few per credential there can be.
const ROUNDS: usize = 40;

/// Candidate number, repository and scopes.
type TokenKey = (usize, String, Vec<String>);

/// Concurrent requests wait here for one fetch. A refusal is kept: asking
/// again with the same password could lock the account.
#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Token(Token),
    Refused(Box<Reply>),
}

/// What to do after a 401.
enum Next {
    Again,
    /// The credential in use will not do; the error when there is no other.
    NextCandidate(Error),
}

impl Gate {
    pub(super) fn new(credentials: Credentials, reporter: Arc<dyn Reporter>) -> Self {
        Self { credentials: Arc::new(credentials), reporter, hosts: Mutex::default() }
    }

    /// Sends a request, logging in as needed. Answers other than 401 are
    /// returned, 403 only when no other credential is left.
    pub(super) async fn send(
        &self,
        http: &Http,
        origin: &Url,
        access: &Access,
        mut request: Request,
    ) -> Result<Response, Error> {
        if request.url.origin() != origin.origin() {
            return self.elsewhere(http, origin, access, &request).await;
        }
        let host = self.host(&access.registry);
        let mut attempt = self.attempt(&host, access).await?;
        let mut refused = None;
        for _ in 0..ROUNDS {
            attempt.challenge = host.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let header = match self.authorization(http, &host, origin, access, &attempt).await {
                Ok(header) => header,
                Err(Failure::Other(error)) => return Err(error),
                Err(Failure::Refused(reply)) => {
                    let error = unauthorized(access, &attempt, reply);
                    attempt = self.next(&host, access, &attempt, &mut refused, error).await?;
                    continue;
                }
            };
            request.headers.remove(AUTHORIZATION);
            if let Some(value) = &header {
                request.headers.insert(AUTHORIZATION, value.clone());
            }
            let failed =
                |source| Error::NoAnswer { registry: access.registry.clone(), source: Box::new(source) };
            let response = http.send(&request).await.map_err(failed)?;
            match response.status().as_u16() {
                401 if !response.left_host => {
                    match self.after_401(&host, access, &mut attempt, header, response).await {
                        Next::Again => {}
                        Next::NextCandidate(error) => {
                            attempt = self.next(&host, access, &attempt, &mut refused, error).await?;
                        }
                    }
                }
                403 if !response.left_host => {
                    match self.after_403(&host, access, &mut attempt, &response).await {
                        true => {}
                        false => return Ok(response),
                    }
                }
                _ => {
                    if response.status().is_success() {
                        self.announce(&host, access, &attempt).await;
                    }
                    return Ok(response);
                }
            }
        }
        Err(Error::Protocol {
            registry: access.registry.clone(),
            method: request.method.to_string(),
            url: origin.to_string(),
            problem: "with ever new ways to log in",
        })
    }

    /// A registry may let us upload to another host; our login is not for that.
    async fn elsewhere(
        &self,
        http: &Http,
        origin: &Url,
        access: &Access,
        request: &Request,
    ) -> Result<Response, Error> {
        let registry = access.registry.clone();
        http.check_target(origin, &request.url).map_err(|reason| Error::Elsewhere {
            registry: registry.clone(),
            target: request.url.host_str().unwrap_or_default().to_owned(),
            reason,
        })?;
        http.send(request).await.map_err(|source| Error::NoAnswer { registry, source: Box::new(source) })
    }

    /// The source of the credential in use, for messages.
    pub(super) async fn who(&self, access: &Access) -> String {
        let host = self.host(&access.registry);
        let chosen = host.chosen.lock().await;
        let source = |chosen: &Chosen| chosen.list[chosen.current].source.clone();
        chosen.get(&access.repository).map_or_else(|| "no credentials".to_owned(), source)
    }

    fn host(&self, registry: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(registry.to_owned()).or_default().clone()
    }

    /// The credential the repository is at; looked up once, off the async threads.
    async fn attempt(&self, host: &Host, access: &Access) -> Result<Attempt, Error> {
        let mut chosen = host.chosen.lock().await;
        if !chosen.contains_key(&access.repository) {
            let list = self.look_up(access).await?;
            chosen.insert(access.repository.clone(), Chosen { list, current: 0, announced: false });
        }
        let entry = &chosen[&access.repository];
        Ok(Attempt::new(access, entry.current, &entry.list))
    }

    async fn look_up(&self, access: &Access) -> Result<Vec<Candidate>, Error> {
        let credentials = self.credentials.clone();
        let (registry, repository) = (access.registry.clone(), access.repository.clone());
        let found = tokio::task::spawn_blocking(move || credentials.candidates(&registry, &repository))
            .await
            .expect("looking up credentials does not panic, and nobody aborts it")
            .map_err(|source| Error::Credentials { registry: access.registry.clone(), source })?;
        for warning in found.warnings {
            self.reporter.warn(warning);
        }
        Ok(found.list)
    }

    /// The next credential after one that will not do, else the error of the
    /// first that was refused: that nobody may do it without one says less. Does
    /// not skip one when another request moved on already.
    async fn next(
        &self,
        host: &Host,
        access: &Access,
        failed: &Attempt,
        refused: &mut Option<Error>,
        error: Error,
    ) -> Result<Attempt, Error> {
        let error = refused.take().unwrap_or(error);
        let mut chosen = host.chosen.lock().await;
        let entry = chosen.get_mut(&access.repository).expect("an attempt was made from it");
        if entry.current == failed.number && !entry.advance(access) {
            return Err(error);
        }
        *refused = Some(error);
        Ok(Attempt::new(access, entry.current, &entry.list))
    }

    async fn after_401(
        &self,
        host: &Host,
        access: &Access,
        attempt: &mut Attempt,
        shown: Option<HeaderValue>,
        response: Response,
    ) -> Next {
        let challenge = challenge::choose(response.headers());
        if let Some(challenge) = &challenge {
            let mut known = host.challenge.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(challenge.clone());
        }
        let reply = answer::read(response).await;
        let Some(challenge) = challenge else {
            return Next::NextCandidate(unauthorized(access, attempt, reply));
        };
        let expected = attempt.challenge.as_ref().is_some_and(|known| same_kind(known, &challenge));
        if shown.is_none() && !expected {
            return Next::Again;
        }
        let Challenge::Bearer { scope, error, .. } = challenge else {
            return Next::NextCandidate(unauthorized(access, attempt, reply));
        };
        let insufficient = error.as_deref() == Some("insufficient_scope");
        if !attempt.renewed && !insufficient && shown.is_some() {
            attempt.renewed = true;
            host.forget(access, attempt, shown.as_ref()).await;
            return Next::Again;
        }
        if attempt.widen(scope.as_deref()) {
            return Next::Again;
        }
        Next::NextCandidate(match insufficient {
            true => denied(access, attempt, reply, scope),
            false => unauthorized(access, attempt, reply),
        })
    }

    /// Whether to send again: with a wider scope, or another ambient credential.
    async fn after_403(
        &self,
        host: &Host,
        access: &Access,
        attempt: &mut Attempt,
        response: &Response,
    ) -> bool {
        if let Some(Challenge::Bearer { scope, error, .. }) = challenge::choose(response.headers())
            && error.as_deref() == Some("insufficient_scope")
            && attempt.widen(scope.as_deref())
        {
            return true;
        }
        let mut chosen = host.chosen.lock().await;
        let entry = chosen.get_mut(&access.repository).expect("an attempt was made from it");
        if entry.current == attempt.number && !entry.advance(access) {
            return false;
        }
        *attempt = Attempt::new(access, entry.current, &entry.list);
        true
    }

    /// What goes into the header, as far as is known what the registry wants.
    async fn authorization(
        &self,
        http: &Http,
        host: &Host,
        origin: &Url,
        access: &Access,
        attempt: &Attempt,
    ) -> Result<Option<HeaderValue>, Failure> {
        match (attempt.challenge.clone(), &attempt.candidate.credential) {
            (None, _) => Ok(None),
            (Some(_), Some(Credential::RegistryToken(token))) => Ok(token::bearer(token)),
            (Some(Challenge::Basic), Some(Credential::Password { username, password })) => {
                Ok(Some(token::basic(username, password)))
            }
            (Some(Challenge::Basic), _) => Ok(None),
            (Some(Challenge::Bearer { realm, service, .. }), credential) => {
                let registry = access.registry.clone();
                let server = Server { registry, origin: origin.clone(), realm, service };
                let token = host.token(http, &server, access, attempt, credential.as_ref()).await?;
                Ok(token::bearer(&token.value))
            }
        }
    }

    /// Says once which of several sources worked.
    async fn announce(&self, host: &Host, access: &Access, attempt: &Attempt) {
        let asked = host.challenge.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let mut chosen = host.chosen.lock().await;
        let Some(entry) = chosen.get_mut(&access.repository) else { return };
        if !asked || entry.announced || attempt.candidate.explicit || attempt.candidate.credential.is_none() {
            return;
        }
        entry.announced = true;
        self.reporter.info(format!(
            "{}/{}: logged in with {}",
            access.registry, access.repository, attempt.candidate.source
        ));
    }
}

impl Host {
    async fn token(
        &self,
        http: &Http,
        server: &Server,
        access: &Access,
        attempt: &Attempt,
        credential: Option<&Credential>,
    ) -> Result<Token, Failure> {
        let slot = self.slot(access, attempt);
        let mut slot = slot.lock().await;
        match &*slot {
            Slot::Token(token) if Instant::now() < token.renew_at => return Ok(token.clone()),
            Slot::Refused(reply) => return Err(Failure::Refused(reply.clone())),
            _ => {}
        }
        let fetched = token::fetch(http, server, credential, &attempt.scopes).await;
        *slot = match &fetched {
            Ok(token) => Slot::Token(token.clone()),
            Err(Failure::Refused(reply)) => Slot::Refused(reply.clone()),
            Err(Failure::Other(_)) => Slot::Empty,
        };
        fetched
    }

    fn slot(&self, access: &Access, attempt: &Attempt) -> Arc<AsyncMutex<Slot>> {
        let key = (attempt.number, access.repository.clone(), attempt.scopes.clone());
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry(key).or_default().clone()
    }

    /// Drops the token that was not accepted, unless another request that
    /// failed with it has fetched a new one already.
    async fn forget(&self, access: &Access, attempt: &Attempt, shown: Option<&HeaderValue>) {
        let slot = self.slot(access, attempt);
        let mut slot = slot.lock().await;
        if matches!(&*slot, Slot::Token(token) if token::bearer(&token.value).as_ref() == shown) {
            *slot = Slot::Empty;
        }
    }
}

impl Chosen {
    /// Moves to the next credential, if there is one that makes sense: where a
    /// credential was refused, nobody may still pull, but not push; and a mount
    /// that is refused says nothing about the repository worked on.
    fn advance(&mut self, access: &Access) -> bool {
        let next = self.list.get(self.current + 1);
        let useful = access.mount_from.is_none()
            && next.is_some_and(|next| next.credential.is_some() || access.action != "push");
        self.current += usize::from(useful);
        useful
    }
}

fn same_kind(a: &Challenge, b: &Challenge) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn unauthorized(access: &Access, attempt: &Attempt, reply: Box<Reply>) -> Error {
    Error::Unauthorized {
        registry: access.registry.clone(),
        repository: access.repository.clone(),
        who: attempt.candidate.source.clone(),
        username: attempt.username(),
        shown: attempt.candidate.credential.is_some(),
        reply,
    }
}

fn denied(access: &Access, attempt: &Attempt, mut reply: Box<Reply>, wanted: Option<String>) -> Error {
    let scopes = attempt.scopes.join(" ");
    reply.message = match wanted {
        Some(wanted) => format!("{} (wanted `{wanted}`, asked for `{scopes}`)", reply.message),
        None => format!("{} (asked for `{scopes}`)", reply.message),
    };
    Error::Denied {
        registry: access.registry.clone(),
        repository: access.repository.clone(),
        action: access.action,
        who: attempt.candidate.source.clone(),
        reply,
    }
}
