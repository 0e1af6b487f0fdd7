//! Resolving and pulling.

use super::super::test_registry::{FaultKind, digest_of};
use super::super::{Error, ErrorKind};
use super::{Bench, noise};
use crate::image::{Descriptor, Digest, Platform, media_type};

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

#[tokio::test]
async fn resolves_a_tag_and_a_digest() {
    let bench = Bench::new();
    let manifest = bench.publish("base", "1", b"layer");
    let by_tag = bench.client.resolve(&bench.reference("base:1"), &amd64()).await.unwrap();
    assert_eq!(by_tag.manifest, manifest);
    assert_eq!(by_tag.digest, Digest::of(manifest.to_bytes()));
    assert_eq!(Digest::of(&by_tag.config), manifest.config.digest);
    let by_digest = bench.client.resolve(&bench.reference("base").at(by_tag.digest), &amd64()).await.unwrap();
    assert_eq!(by_digest, by_tag);
    let agents: Vec<_> = bench.registry.log().into_iter().filter_map(|logged| logged.agent).collect();
    assert!(agents.iter().all(|agent| agent.starts_with("coracle/")), "{agents:?}");
}

/// An index of one image for `platforms`, the attestation entry buildx adds included.
fn index(bench: &Bench, platforms: &[(&str, &str)]) {
    let entry = |(os, architecture): &(&str, &str)| {
        let manifest = bench.publish("multi", "one", architecture.as_bytes()).to_bytes();
        let digest = bench.registry.put_manifest("multi", "one", media_type::MANIFEST, &manifest);
        serde_json::json!({
            "mediaType": media_type::MANIFEST, "digest": digest, "size": manifest.len(),
            "platform": { "os": os, "architecture": architecture },
        })
    };
    let entries: Vec<_> = platforms.iter().chain(&[("unknown", "unknown")]).map(entry).collect();
    let index =
        serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries });
    bench.registry.put_manifest("multi", "1", media_type::INDEX, index.to_string().as_bytes());
}

#[tokio::test]
async fn an_index_is_resolved_by_platform() {
    let bench = Bench::new();
    index(&bench, &[("linux", "arm64"), ("linux", "amd64")]);
    let resolved = bench.client.resolve(&bench.reference("multi:1"), &amd64()).await.unwrap();
    assert_eq!(resolved.manifest.layers[0].digest, Digest::of("amd64"));
    let missing = "linux/s390x".parse().unwrap();
    let error = bench.client.resolve(&bench.reference("multi:1"), &missing).await.unwrap_err();
    let expected = format!(
        "`{}/multi:1` has no image for `linux/s390x`; it has `linux/amd64`, `linux/arm64`",
        bench.registry.host()
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn wrong_bytes_are_refused() {
    let bench = Bench::new();
    let manifest = bench.publish("base", "1", b"layer");
    let digest = Digest::of(manifest.to_bytes());
    for (on, what) in [
        ("/manifests/1", "a tag whose digest header says otherwise"),
        (&*format!("/manifests/{digest}"), "a manifest by digest"),
        (&*format!("/blobs/{}", manifest.config.digest), "a config"),
    ] {
        bench.registry.fail(on, 1, FaultKind::Corrupt);
        let reference = bench.reference("base:1");
        let reference = if on.contains("manifests/sha") { reference.at(digest) } else { reference };
        let error = bench.client.resolve(&reference, &amd64()).await.unwrap_err();
        assert!(matches!(error, Error::Digest { .. }), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_huge_manifest_is_not_read() {
    let bench = Bench::new();
    bench.registry.put_manifest("base", "1", media_type::MANIFEST, &vec![b' '; 5 * 1024 * 1024]);
    let error = bench.client.resolve(&bench.reference("base:1"), &amd64()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 4_194_304, .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let bench = Bench::new();
    let error = bench.client.resolve(&bench.reference("base:1"), &amd64()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let host = bench.registry.host();
    let expected = format!(
        "`{host}/base:1` was not found: GET http://{host}/v2/base/manifests/1 answered 404 (MANIFEST_UNKNOWN: the test says so)"
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_blob_arrives() {
    let bench = Bench::new();
    let bytes = noise(3_000_000);
    bench.registry.put_blob("base", &bytes);
    let into = bench.directory.path().join("blob");
    let descriptor = Descriptor::of(media_type::LAYER_GZIP, &bytes);
    bench.client.pull_blob(&bench.reference("base"), &descriptor, &into).await.unwrap();
    assert!(std::fs::read(into).unwrap() == bytes);
    let end = "direction: Pull, what: \"";
    assert!(bench.heard.text().contains(end) && bench.heard.text().contains("done: 3000000"));
}

/// How often the blob was asked for, and the offsets.
fn asked(bench: &Bench, bytes: &[u8]) -> usize {
    bench.registry.count(&format!("GET /v2/base/blobs/{}", digest_of(bytes)))
}

#[tokio::test]
async fn a_broken_transfer_goes_on_or_starts_again() {
    for (ranges, breaks) in [(true, 3), (false, 3)] {
        let bench = Bench::new();
        let bytes = noise(900_000);
        bench.registry.behave(|behaviour| behaviour.ranges = ranges);
        bench.registry.put_blob("base", &bytes);
        bench.registry.fail("GET /v2/base/blobs", breaks, FaultKind::CutResponse(200_000));
        let into = bench.directory.path().join("blob");
        let descriptor = Descriptor::of(media_type::LAYER_GZIP, &bytes);
        bench.client.pull_blob(&bench.reference("base"), &descriptor, &into).await.unwrap();
        assert!(std::fs::read(into).unwrap() == bytes);
        assert_eq!(asked(&bench, &bytes), breaks + 1);
    }
}

#[tokio::test]
async fn a_transfer_that_never_ends_well_ends() {
    let bench = Bench::new();
    let bytes = noise(50_000);
    bench.registry.put_blob("base", &bytes);
    bench.registry.fail("GET /v2/base/blobs", 100, FaultKind::CutResponse(10));
    let into = bench.directory.path().join("blob");
    let descriptor = Descriptor::of(media_type::LAYER_GZIP, &bytes);
    let error = bench.client.pull_blob(&bench.reference("base"), &descriptor, &into).await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
    assert_eq!(asked(&bench, &bytes), 4);
    assert!(!into.exists());
}

#[tokio::test]
async fn a_wrong_blob_is_refused_and_removed() {
    let bench = Bench::new();
    let bytes = noise(1000);
    bench.registry.put_blob("base", &bytes);
    let into = bench.directory.path().join("blob");
    let right = Descriptor::of(media_type::LAYER_GZIP, &bytes);
    bench.registry.fail("GET /v2/base/blobs", 1, FaultKind::Corrupt);
    let error = bench.client.pull_blob(&bench.reference("base"), &right, &into).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    for size in [999, 1001] {
        let descriptor = Descriptor { size, ..right.clone() };
        let error = bench.client.pull_blob(&bench.reference("base"), &descriptor, &into).await.unwrap_err();
        assert!(matches!(error, Error::Size { .. }), "{error}");
        assert!(!into.exists());
    }
}
