//! Fetching access tokens (Docker registry token authentication, and its
//! OAuth2 variant for identity tokens).

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::credentials::Credential;
use super::{Error, Reply, answer};
use crate::net::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use crate::net::{Body, Http, Method, Request, Response, Url};
use crate::secret::Secret;

/// Longest answer of a token server.
const LIMIT: usize = 1024 * 1024;

/// Life of a token that does not say, and least life assumed, in seconds.
const LIFE: u64 = 60;

/// No token is trusted for longer than this, whatever it says, in seconds.
const LONGEST_LIFE: u64 = 24 * 3600;

/// Who we are to token servers.
const CLIENT_ID: &str = "coracle";

/// The name that stands for "the password is an identity token" at Azure, the
/// one family of registries that issues them.
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// An access token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) value: Secret,
    /// When to fetch another: at 80 % of its life.
    pub(super) renew_at: Instant,
}

/// Where tokens for a registry come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) registry: String,
    /// The registry as it was addressed: decides which realms are acceptable.
    pub(super) origin: Url,
    pub(super) realm: String,
    pub(super) service: Option<String>,
}

/// No token.
pub(super) enum Failure {
    /// The token server does not accept the credential.
    Refused(Box<Reply>),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Fetches a token for `scopes` (`repository:NAME:ACTIONS`), shown `credential`.
pub(super) async fn fetch(
    http: &Http,
    server: &Server,
    credential: Option<&Credential>,
    scopes: &[String],
) -> Result<Token, Failure> {
    let realm = server.realm_url(http)?;
    let response = match credential {
        Some(Credential::IdentityToken(token)) => {
            let response = server.send(http, exchange(realm.clone(), server, token, scopes)).await?;
            // Artifactory answers 401 to POST where GET works; older servers have no POST at all.
            if matches!(response.status().as_u16(), 401 | 404 | 405) {
                let request = with_basic(query(realm, server, Some(TOKEN_USER), scopes), TOKEN_USER, token);
                server.send(http, request).await?
            } else {
                response
            }
        }
        Some(Credential::Password { username, password }) => {
            let request = query(realm, server, Some(username), scopes);
            server.send(http, with_basic(request, username, password)).await?
        }
        Some(Credential::RegistryToken(_)) | None => {
            server.send(http, query(realm, server, None, scopes)).await?
        }
    };
    server.read(response).await
}

impl Server {
    fn realm_url(&self, http: &Http) -> Result<Url, Error> {
        let refused = |reason| Error::Realm {
            registry: self.registry.clone(),
            realm: self.realm.split('?').next().unwrap_or_default().to_owned(),
            reason,
        };
        let realm = Url::parse(&self.realm).map_err(|_| refused("which is not a URL"))?;
        http.check_target(&self.origin, &realm).map_err(refused)?;
        Ok(realm)
    }

    async fn send(&self, http: &Http, request: Request) -> Result<Response, Error> {
        let failed = |source| Error::NoAnswer { registry: self.registry.clone(), source: Box::new(source) };
        http.send(&request).await.map_err(failed)
    }

    async fn read(&self, mut response: Response) -> Result<Token, Failure> {
        let what = || format!("{} (token server)", self.registry);
        match response.status().as_u16() {
            200..=299 => {}
            400 | 401 | 403 => return Err(Failure::Refused(answer::read(response).await)),
            _ => {
                return Err(Error::Refused { what: what(), reply: answer::read(response).await }.into());
            }
        }
        let (method, url) = (response.method().to_string(), response.log_url());
        let body = response
            .bytes(LIMIT)
            .await
            .map_err(|source| Error::NoAnswer { registry: self.registry.clone(), source: Box::new(source) })?
            .ok_or_else(|| Error::TooLarge { what: what(), limit: LIMIT as u64 })?;
        parse(&body).ok_or_else(|| {
            let registry = self.registry.clone();
            Error::Protocol { registry, method, url, problem: "without a token" }.into()
        })
    }
}

#[derive(Deserialize)]
struct Reading {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

fn parse(body: &[u8]) -> Option<Token> {
    let reading: Reading = serde_json::from_slice(body).ok()?;
    let value = reading.token.filter(|t| !t.is_empty()).or(reading.access_token.filter(|t| !t.is_empty()))?;
    // Bytes that no header may have would make a token that is never shown.
    let value = Some(value).filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))?;
    // A float to integer cast saturates, so a hostile number is only a long or short life.
    let life = reading.expires_in.map_or(LIFE, |seconds| seconds as u64).clamp(LIFE, LONGEST_LIFE);
    let renew_at = Instant::now() + Duration::from_secs(life) * 4 / 5;
    Some(Token { value: Secret::new(value), renew_at })
}

/// The GET form; what the realm's own query says is kept.
fn query(mut realm: Url, server: &Server, account: Option<&str>, scopes: &[String]) -> Request {
    {
        let mut pairs = realm.query_pairs_mut();
        if let Some(service) = &server.service {
            pairs.append_pair("service", service);
        }
        for scope in scopes {
            pairs.append_pair("scope", scope);
        }
        if let Some(account) = account {
            pairs.append_pair("account", account);
        }
    }
    accept_json(Request::get(realm))
}

/// The POST form, for identity tokens.
fn exchange(realm: Url, server: &Server, token: &Secret, scopes: &[String]) -> Request {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    if let Some(service) = &server.service {
        form.append_pair("service", service);
    }
    form.append_pair("client_id", CLIENT_ID);
    form.append_pair("scope", &scopes.join(" "));
    form.append_pair("refresh_token", token.expose_str().unwrap_or_default());
    accept_json(Request::new(Method::POST, realm))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
        .body(Body::Bytes(form.finish().into()))
}

fn accept_json(request: Request) -> Request {
    request.header(ACCEPT, HeaderValue::from_static("application/json"))
}

fn with_basic(request: Request, username: &str, password: &Secret) -> Request {
    request.header(AUTHORIZATION, basic(username, password))
}

/// The value of a Basic `Authorization` header.
pub(super) fn basic(username: &str, password: &Secret) -> HeaderValue {
    let pair = [username.as_bytes(), b":", password.expose()].concat();
    sensitive(&format!("Basic {}", STANDARD.encode(pair))).expect("base64 is legal in a header")
}

/// The value of a Bearer header; `None` when the token has bytes no header may have.
pub(super) fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.expose_str()?))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_answers() {
        for (body, expected) in [
            (r#"{"token":"a","access_token":"b"}"#, Some(("a", 60))),
            (r#"{"access_token":"b","expires_in":300,"refresh_token":"c"}"#, Some(("b", 300))),
            (r#"{"token":"a","expires_in":5}"#, Some(("a", 60))),
            (r#"{"token":"a","expires_in":1e300}"#, Some(("a", LONGEST_LIFE))),
            (r#"{"token":"a","expires_in":-1}"#, Some(("a", 60))),
            (r#"{"token":""}"#, None),
            (r#"{"token":"a\nb"}"#, None),
            ("[]", None),
        ] {
            let token = parse(body.as_bytes());
            let found = token.as_ref().map(|token| {
                let life = token.renew_at.duration_since(Instant::now()).as_secs_f64() / 0.8;
                (token.value.expose_str().unwrap(), life.round() as u64)
            });
            assert_eq!(found, expected, "{body}");
        }
    }

    #[test]
    fn the_realms_query_is_kept() {
        let server = Server {
            registry: "r.io".into(),
            origin: Url::parse("https://r.io/").unwrap(),
            realm: String::new(),
            service: Some("s".into()),
        };
        let realm = Url::parse("https://r.io/token?tenant=x").unwrap();
        let request =
            query(realm, &server, Some("u"), &["repository:a:pull".into(), "repository:b:pull".into()]);
        assert_eq!(
            request.url.query(),
            Some("tenant=x&service=s&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull&account=u")
        );
    }
}
