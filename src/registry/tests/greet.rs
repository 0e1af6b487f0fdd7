//! Greeting a registry: what it wants, and whether what is known will do.

use super::super::test_registry::{Auth, Behaviour};
use super::super::{Client, Credentials, ErrorKind, Login};
use super::{Bench, explicit, options};

async fn check(auth: Auth, pair: Option<(&str, &str)>, expected: fn(&Login) -> bool) {
    let mut bench =
        Bench::with(Behaviour { auth: auth.clone(), ..Behaviour::default() }, Credentials::anonymous());
    if let Some((user, password)) = pair {
        let credentials = explicit(&bench.registry, user, password);
        bench.client = Client::new(options(&bench.directory), credentials, bench.heard.clone()).unwrap();
    }
    let greeting = bench.client.greet(&bench.registry.host()).await.unwrap();
    assert!(expected(&greeting.login), "{auth:?} {pair:?}: {greeting:?}");
    assert!(greeting.url.ends_with("/v2/"), "{greeting:?}");
    let said = format!("{greeting:?} {}", bench.heard.text());
    assert!(!said.contains("wrong"), "{said}");
}

#[tokio::test]
async fn tells_what_is_wanted_and_what_will_do() {
    check(Auth::None, None, |login| *login == Login::NotAsked).await;
    let bearer = Auth::Bearer { users: vec!["u:p"], readers: Vec::new(), identity: None, post: true };
    for auth in [Auth::Basic { users: vec!["u:p"], readers: Vec::new() }, bearer] {
        check(
            auth.clone(),
            Some(("u", "p")),
            |login| matches!(login, Login::Accepted { who } if who == "setting username"),
        )
        .await;
        for pair in [Some(("u", "wrong")), None] {
            check(auth.clone(), pair, |login| matches!(login, Login::Refused { .. })).await;
        }
    }
}

#[tokio::test]
async fn nobody_there() {
    let bench = Bench::new();
    let error = bench.client.greet("127.0.0.1:9").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}
