//! What a bad network and a bad registry do, and what comes of it.

use std::time::Duration;

use super::super::test_registry::{Behaviour, FaultKind};
use super::super::{BlobSource, Credentials, Error, Pushed};
use super::{Bench, noise};
use crate::image::{Descriptor, Platform, media_type};

async fn push(bench: &Bench, bytes: &[u8]) -> Result<Pushed, Error> {
    let file = BlobSource::File(bench.file("source", bytes));
    let descriptor = Descriptor::of(media_type::LAYER_GZIP, bytes);
    let pushed = bench.client.push_blob(&bench.reference("app:1"), &descriptor, file, None).await?;
    assert!(bench.registry.blob("app", &descriptor.digest.to_string()).as_deref() == Some(bytes));
    Ok(pushed)
}

#[tokio::test]
async fn passing_failures_are_survived() {
    for (on, kind) in [
        ("HEAD /v2/app/blobs", FaultKind::Status(503, vec![("retry-after", "0")])),
        ("POST /v2/app/blobs", FaultKind::Status(429, vec![])),
        ("PUT /v2/app/blobs", FaultKind::Status(500, vec![])),
        ("PUT /v2/app/blobs", FaultKind::Status(404, vec![])),
        ("PUT /v2/app/blobs", FaultKind::CutRequest(300_000)),
    ] {
        for times in [1, 3] {
            let bench = Bench::new();
            let on_what = format!("{on} {kind:?} {times}");
            bench.registry.fail(on, times, kind.clone());
            let pushed = push(&bench, &noise(1_000_000)).await;
            assert!(pushed.is_ok(), "{on_what}: {pushed:?}");
            assert!(bench.heard.text().contains("trying again in"), "{on_what}");
        }
    }
}

#[tokio::test]
async fn what_cannot_pass_is_not_repeated() {
    for status in [400, 401, 403, 405, 501] {
        let bench = Bench::new();
        bench.registry.fail("POST ", 100, FaultKind::Status(status, vec![]));
        assert!(push(&bench, b"x").await.is_err());
        assert_eq!(bench.registry.count("POST "), 1, "{status}");
    }
}

#[tokio::test]
async fn the_last_failure_is_the_error() {
    let bench = Bench::new();
    bench.registry.fail("POST ", 100, FaultKind::Status(503, vec![]));
    let error = push(&bench, b"x").await.unwrap_err();
    assert_eq!(bench.registry.count("POST "), 4);
    assert_eq!(error.reply().unwrap().status, 503);
    assert!(error.is_passing());
}

#[tokio::test]
async fn kept_bytes_are_not_sent_again() {
    let behaviour = Behaviour { keeps_cut_uploads: true, ..Behaviour::default() };
    let bench = Bench::with(behaviour, Credentials::anonymous());
    bench.registry.fail("PUT /v2/app/blobs", 1, FaultKind::CutRequest(700_000));
    push(&bench, &noise(1_000_000)).await.unwrap();
    assert_eq!((bench.registry.count("POST "), bench.registry.count("PATCH ")), (1, 1));
}

#[tokio::test]
async fn a_proxy_that_cuts_long_bodies_gets_short_ones() {
    let bench = Bench::new();
    bench.registry.fail("PUT /v2/app/blobs", 2, FaultKind::CutRequest(4_500_000));
    push(&bench, &noise(9_000_000)).await.unwrap();
    assert_eq!(bench.registry.count("PATCH "), 3);
}

#[tokio::test]
async fn a_push_outlives_a_silence() {
    let bench = Bench::impatient();
    bench.registry.fail("PUT /v2/app/blobs", 1, FaultKind::Slow(Duration::from_secs(30)));
    push(&bench, &noise(1_000_000)).await.unwrap();
    assert!(bench.heard.text().contains("did not answer in time"));
}

#[tokio::test]
async fn a_silent_registry_is_given_up() {
    let bench = Bench::impatient();
    bench.publish("base", "1", b"x");
    bench.registry.fail("/manifests/", 100, FaultKind::Slow(Duration::from_secs(30)));
    let platform: Platform = "linux/amd64".parse().unwrap();
    let error = bench.client.resolve(&bench.reference("base:1"), &platform).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("did not answer in time"), "{source}");
}

#[tokio::test]
async fn storage_elsewhere_never_sees_the_login() {
    let storage = Bench::new();
    let behaviour = Behaviour {
        auth: super::super::test_registry::Auth::Basic { users: vec!["u:p"], readers: vec![] },
        blobs_at: Some(format!("http://{}", storage.registry.host())),
        ..Behaviour::default()
    };
    let mut bench = Bench::with(behaviour, Credentials::anonymous());
    bench.client = super::super::Client::new(
        super::options(&bench.directory),
        super::explicit(&bench.registry, "u", "p"),
        bench.heard.clone(),
    )
    .unwrap();
    let bytes = noise(10_000);
    bench.registry.put_blob("base", &bytes);
    storage.registry.put_blob("base", &bytes);
    let descriptor = Descriptor::of(media_type::LAYER_GZIP, &bytes);
    let into = bench.directory.path().join("blob");
    bench.client.pull_blob(&bench.reference("base"), &descriptor, &into).await.unwrap();
    let log = storage.registry.log();
    assert!(!log.is_empty() && log.iter().all(|logged| logged.authorization.is_none()), "{log:?}");
}

#[tokio::test]
async fn redirects_go_round_only_so_long() {
    let bench = Bench::new();
    let bytes = noise(10);
    bench.registry.put_blob("base", &bytes);
    let own = format!("http://{}", bench.registry.host());
    bench.registry.behave(|behaviour| behaviour.blobs_at = Some(own));
    let descriptor = Descriptor::of(media_type::LAYER_GZIP, &bytes);
    let into = bench.directory.path().join("blob");
    let error = bench.client.pull_blob(&bench.reference("base"), &descriptor, &into).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("too many redirects"), "{error}");
    assert_eq!(bench.registry.count("/blobs/"), 11);
}

#[tokio::test]
async fn redirects_do_not_lead_into_the_network() {
    for target in ["https://169.254.169.254", "https://10.0.0.1", "http://example.com", "file://x"] {
        let bench = Bench::new();
        let bytes = noise(10);
        bench.registry.put_blob("base", &bytes);
        bench.registry.behave(|behaviour| behaviour.blobs_at = Some(target.to_owned()));
        let descriptor = Descriptor::of(media_type::LAYER_GZIP, &bytes);
        let into = bench.directory.path().join("blob");
        let error = bench.client.pull_blob(&bench.reference("base"), &descriptor, &into).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("the server points to"), "{target}: {source}");
    }
}

/// What comes of a push where starting the upload is answered so.
async fn check_hostile(status: u16, header: (&'static str, &'static str), expected: &str) {
    let bench = Bench::new();
    bench.registry.fail("POST ", 100, FaultKind::Status(status, vec![header]));
    let error = push(&bench, b"x").await.unwrap_err().to_string();
    assert!(error.contains(expected), "{header:?}: {error}");
}

#[tokio::test]
async fn a_hostile_registry_leads_nowhere() {
    let inside = "an address inside this network";
    for realm in ["https://169.254.169.254/token", "https://[fe80::1]/", "https://100.100.100.200/"] {
        let challenge: &'static str = Box::leak(format!("Bearer realm=\"{realm}\"").into_boxed_str());
        check_hostile(401, ("www-authenticate", challenge), inside).await;
    }
    let plain = "Bearer realm=\"http://example.com/token\"";
    check_hostile(401, ("www-authenticate", plain), "which is plain HTTP").await;
    check_hostile(401, ("www-authenticate", "Bearer realm=\"token\""), "which is not a URL").await;
    check_hostile(202, ("location", "https://10.0.0.1/upload"), inside).await;
    check_hostile(202, ("location", "http://example.com/upload"), "which is plain HTTP").await;
    check_hostile(202, ("location", "https://["), "with a Location that is no URL").await;
    check_hostile(202, ("x-nothing", ""), "without a Location").await;
}
