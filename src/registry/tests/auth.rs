//! Logging in: Basic, Bearer, identity tokens, and being refused.

use std::sync::Arc;

use futures_util::future::join_all;

use super::super::credentials::{AmbientSource, Credential, CredentialError, Lookup};
use super::super::test_registry::{Auth, Behaviour, TestRegistry};
use super::super::{BlobSource, Client, Credentials, ErrorKind, Pushed};
use super::{Bench, explicit, noise, options};
use crate::image::{Descriptor, Platform, media_type};
use crate::secret::Secret;

fn basic() -> Auth {
    Auth::Basic { users: vec!["u:p", "reader:p"], readers: vec!["reader"] }
}

fn bearer() -> Auth {
    Auth::Bearer { users: vec!["u:p", "reader:p"], readers: vec!["reader"], identity: None, post: true }
}

fn bench(auth: Auth, credentials: impl Fn(&TestRegistry) -> Credentials) -> Bench {
    let mut bench = Bench::with(Behaviour { auth, ..Behaviour::default() }, Credentials::anonymous());
    let credentials = credentials(&bench.registry);
    bench.client = Client::new(options(&bench.directory), credentials, bench.heard.clone()).unwrap();
    bench
}

#[tokio::test]
async fn a_password_opens_both_kinds() {
    for auth in [basic(), bearer()] {
        let bench = bench(auth.clone(), |registry| explicit(registry, "u", "p"));
        bench.client.check_push(&bench.reference("app:1")).await.unwrap();
        bench.publish("base", "1", b"x");
        let platform: Platform = "linux/amd64".parse().unwrap();
        bench.client.resolve(&bench.reference("base:1"), &platform).await.unwrap();
    }
}

#[tokio::test]
async fn wrong_and_denied_are_told_apart() {
    for auth in [basic(), bearer()] {
        for (user, password, expected) in
            [("u", "wrong", ErrorKind::Unauthorized), ("reader", "p", ErrorKind::Denied)]
        {
            let bench = bench(auth.clone(), |registry| explicit(registry, user, password));
            let error = bench.client.check_push(&bench.reference("app:1")).await.unwrap_err();
            assert_eq!(error.kind(), expected, "{auth:?} {user}: {error}");
            assert!(error.to_string().contains("setting username"), "{error}");
            let all = format!("{error} {error:?} {:?} {}", error.hint(), bench.heard.text());
            assert!(!all.contains("wrong"), "{all}");
        }
        let bench = bench(auth.clone(), |_| Credentials::anonymous());
        let error = bench.client.check_push(&bench.reference("app:1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{auth:?}: {error}");
        assert!(error.hint().unwrap().contains("no user name and password were found"));
    }
}

#[tokio::test]
async fn a_refused_password_is_not_tried_again_and_again() {
    let bench = bench(bearer(), |registry| explicit(registry, "u", "wrong"));
    let to = bench.reference("app:1");
    let failures = join_all((0..8).map(|_| bench.client.check_push(&to))).await;
    assert!(failures.iter().all(Result::is_err));
    assert_eq!(bench.registry.count("/token"), 1);
    let error = failures.into_iter().next().unwrap().unwrap_err();
    assert!(error.hint().unwrap().contains("refused the user name or password from setting username"));
}

#[tokio::test]
async fn a_robot_that_lost_its_dollar_is_told_so() {
    for (username, expected) in [("robotci", true), ("robot$$ci", true), ("robot$ci", false), ("u", false)] {
        let bench = bench(basic(), |registry| explicit(registry, username, "wrong"));
        let error = bench.client.check_push(&bench.reference("app:1")).await.unwrap_err();
        assert_eq!(error.hint().unwrap().contains("Harbor"), expected, "{username}");
    }
}

async fn push_many(bench: &Bench, count: usize) {
    let blobs: Vec<Vec<u8>> = (0..count).map(|number| noise(1000 + number)).collect();
    let to = bench.reference("app:1");
    let pushes = blobs.iter().map(|bytes| {
        let source = BlobSource::Bytes(bytes.clone().into());
        let descriptor = Descriptor::of(media_type::LAYER_GZIP, bytes);
        let to = &to;
        async move { bench.client.push_blob(to, &descriptor, source, None).await }
    });
    for pushed in join_all(pushes).await {
        assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    }
}

#[tokio::test]
async fn one_token_serves_all_and_is_renewed_once() {
    let bench = bench(bearer(), |registry| explicit(registry, "u", "p"));
    push_many(&bench, 8).await;
    assert_eq!(bench.registry.count("/token"), 1);
    let asked = "GET /token?tenant=t&service=test&scope=repository:app:pull,push&account=u";
    assert_eq!(bench.registry.count(asked), 1, "{:?}", bench.registry.log());
    bench.registry.revoke_tokens();
    let to = bench.reference("app:1");
    let checks = join_all((0..8).map(|_| bench.client.check_push(&to))).await;
    assert!(checks.iter().all(Result::is_ok));
    assert_eq!(bench.registry.count("/token"), 2);
}

#[tokio::test]
async fn a_mount_asks_for_both_repositories() {
    let bench = bench(bearer(), |registry| explicit(registry, "u", "p"));
    let bytes = noise(100);
    bench.registry.put_blob("base", &bytes);
    let (to, from) = (bench.reference("app:1"), bench.reference("base:1"));
    let descriptor = Descriptor::of(media_type::LAYER_GZIP, &bytes);
    let source = BlobSource::Remote(from);
    let pushed = bench.client.push_blob(&to, &descriptor, source, None).await.unwrap();
    assert_eq!(pushed, Pushed::Mounted);
    assert_eq!(bench.registry.count("scope=repository:app:pull,push&scope=repository:base:pull"), 1);
}

/// An ambient source with one entry for every host.
struct Fixed(Credential, &'static str);

impl AmbientSource for Fixed {
    fn find(&self, _host: &str, _repository: &str) -> Result<Lookup, CredentialError> {
        let (credential, from) = (Some(self.0.clone()), self.1.to_owned());
        Ok(Lookup { credential, from, warnings: vec![] })
    }
}

fn ambient(list: &[(&str, &str, &'static str)]) -> Credentials {
    let mut credentials = Credentials::anonymous();
    for (username, password, name) in list {
        let (username, password) = ((*username).to_owned(), Secret::new(*password));
        let credential = Credential::Password { username, password };
        credentials.add_ambient(Arc::new(Fixed(credential, name)));
    }
    credentials
}

#[tokio::test]
async fn ambient_credentials_are_tried_in_turn() {
    for auth in [basic(), bearer()] {
        let list = [("u", "old", "first"), ("reader", "p", "second"), ("u", "p", "third")];
        let bench = bench(auth.clone(), |_| ambient(&list));
        bench.client.check_push(&bench.reference("app:1")).await.unwrap();
        let text = bench.heard.text();
        assert!(text.contains("logged in with third") && !text.contains("with second"), "{auth:?}: {text}");
    }
}

#[tokio::test]
async fn a_bad_ambient_login_does_not_hinder_a_public_pull() {
    let auth = Auth::Bearer { users: vec!["u:p"], readers: vec![""], identity: None, post: true };
    let bench = bench(auth, |_| ambient(&[("u", "old", "first")]));
    bench.publish("base", "1", b"x");
    let platform: Platform = "linux/amd64".parse().unwrap();
    bench.client.resolve(&bench.reference("base:1"), &platform).await.unwrap();
    let error = bench.client.check_push(&bench.reference("app:1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.to_string().contains("with first"), "{error}");
}

#[tokio::test]
async fn identity_tokens_are_exchanged_or_shown() {
    for (post, asked) in [(true, "POST /token"), (false, "GET /token")] {
        let auth = Auth::Bearer { users: vec![], readers: vec![], identity: Some("refresh"), post };
        let bench = bench(auth, |_| {
            let mut credentials = Credentials::anonymous();
            let token = Credential::IdentityToken(Secret::new("refresh"));
            credentials.add_ambient(Arc::new(Fixed(token, "store")));
            credentials
        });
        bench.client.check_push(&bench.reference("app:1")).await.unwrap();
        assert_eq!(bench.registry.count(asked), 1, "{:?}", bench.registry.log());
    }
}
