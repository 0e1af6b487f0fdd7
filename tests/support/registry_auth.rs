//! Logins of the test registry: Basic, and Bearer with a token server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::http::{Request, Response};
use super::{Behaviour, State};

/// Who gets in.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    /// Everybody.
    None,
    /// User name and password with each request.
    Basic {
        /// `user:password` pairs.
        users: Vec<&'static str>,
        /// Who of them may only pull.
        readers: Vec<&'static str>,
    },
    /// Tokens from `/token`.
    Bearer {
        /// `user:password` pairs.
        users: Vec<&'static str>,
        /// Who of them may only pull; `""` is everybody who shows nothing.
        readers: Vec<&'static str>,
        /// The refresh token that is as good as the first user.
        identity: Option<&'static str>,
        /// `POST /token` works.
        post: bool,
    },
}

/// What a token allows: `repository:NAME:ACTIONS`.
pub(super) type Grant = Vec<String>;

/// `None` when the request may go on.
pub(super) fn check(state: &State, request: &Request, needs: &[(String, &str)]) -> Option<Response> {
    match &state.behaviour.auth {
        Auth::None => None,
        Auth::Basic { users, readers } => basic(request, users, readers, needs),
        Auth::Bearer { .. } => bearer(state, request, needs),
    }
}

fn basic(request: &Request, users: &[&str], readers: &[&str], needs: &[(String, &str)]) -> Option<Response> {
    let Some(user) = shown_pair(request).filter(|pair| users.contains(&pair.as_str())) else {
        return Some(refusal(401, "UNAUTHORIZED").with("www-authenticate", "Basic realm=\"test\""));
    };
    let name = user.split(':').next().unwrap_or_default();
    let pushes = needs.iter().any(|(_, action)| *action == "push");
    (pushes && readers.contains(&name)).then(|| refusal(403, "DENIED"))
}

fn bearer(state: &State, request: &Request, needs: &[(String, &str)]) -> Option<Response> {
    let wanted: Vec<String> =
        needs.iter().map(|(name, action)| format!("repository:{name}:{action}")).collect();
    let challenge = |error: &str| {
        format!(
            "Bearer realm=\"http://{}/token?tenant=t\",service=\"test\",scope=\"{}\"{error}",
            state.address,
            wanted.join(" ")
        )
    };
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let Some(grant) = token.and_then(|token| state.tokens.get(token)) else {
        let error = if token.is_some() { ",error=\"invalid_token\"" } else { "" };
        return Some(refusal(401, "UNAUTHORIZED").with("www-authenticate", challenge(error)));
    };
    let granted = |(name, action): &(String, &str)| {
        let prefix = format!("repository:{name}:");
        grant
            .iter()
            .filter_map(|scope| scope.strip_prefix(&prefix))
            .any(|actions| actions.split(',').any(|have| have == *action))
    };
    if needs.iter().all(granted) {
        return None;
    }
    let error = ",error=\"insufficient_scope\"";
    Some(refusal(401, "DENIED").with("www-authenticate", challenge(error)))
}

/// The token server.
pub(super) fn token(state: &mut State, request: &Request) -> Response {
    let Behaviour { auth: Auth::Bearer { users, readers, identity, post }, .. } = &state.behaviour else {
        return Response::new(404);
    };
    if request.method == "POST" && !post {
        return Response::new(404);
    }
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body).into_owned().collect();
    let shown_identity =
        form.iter().find(|(name, _)| name == "refresh_token").map(|(_, value)| value.as_str());
    let shown = shown_pair(request);
    let password = shown.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, password)| password);
    let user = match (&shown, shown_identity) {
        (_, Some(token)) if Some(token) == *identity => "identity",
        (_, Some(_)) => return refusal(401, "UNAUTHORIZED"),
        (Some(_), None) if identity.is_some() && password == *identity => "identity",
        (Some(pair), None) if users.contains(&pair.as_str()) => pair.split(':').next().unwrap_or_default(),
        (Some(_), None) => return refusal(401, "UNAUTHORIZED"),
        (None, None) if readers.contains(&"") => "",
        (None, None) => return refusal(401, "UNAUTHORIZED"),
    };
    let reads_only = readers.contains(&user);
    let asked = request.query.iter().chain(&form).filter(|(name, _)| name == "scope");
    let scopes = asked.flat_map(|(_, value)| value.split(' ').map(str::to_owned));
    let grant: Vec<String> =
        scopes.map(|scope| if reads_only { scope.replace(",push", "") } else { scope }).collect();
    state.next_id += 1;
    let token = format!("token-{}", state.next_id);
    state.tokens.insert(token.clone(), grant);
    let body = format!("{{\"token\":\"{token}\",\"expires_in\":300}}");
    Response::new(200).with("content-type", "application/json").body(body)
}

fn shown_pair(request: &Request) -> Option<String> {
    let encoded = request.header("authorization")?.strip_prefix("Basic ")?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

/// An error in the distribution spec's form.
pub(super) fn refusal(status: u16, code: &str) -> Response {
    let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"the test says so\"}}]}}");
    Response::new(status).with("content-type", "application/json").body(body)
}
