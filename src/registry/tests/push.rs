//! Pushing, mounting, and what another client finds afterwards.

use bytes::Bytes;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;

use super::super::test_registry::{Behaviour, FaultKind, Mount};
use super::super::{BlobSource, Credentials, Error, ErrorKind, ImagePush, Pushed};
use super::{Bench, noise};
use crate::image::{Descriptor, Digest, Manifest, media_type};

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::of(media_type::LAYER_GZIP, bytes)
}

fn source(bytes: &[u8]) -> BlobSource {
    BlobSource::Bytes(Bytes::copy_from_slice(bytes))
}

async fn push(bench: &Bench, bytes: &[u8]) -> Pushed {
    let file = BlobSource::File(bench.file("source", bytes));
    bench.client.push_blob(&bench.reference("app:1"), &descriptor(bytes), file, None).await.unwrap()
}

#[tokio::test]
async fn a_blob_is_sent_once_in_one_request() {
    for relative_location in [false, true] {
        let behaviour = Behaviour { relative_location, ..Behaviour::default() };
        let bench = Bench::with(behaviour, Credentials::anonymous());
        let bytes = noise(6_000_000);
        assert_eq!(push(&bench, &bytes).await, Pushed::Uploaded);
        assert_eq!(bench.registry.blob("app", &descriptor(&bytes).digest.to_string()), Some(bytes.clone()));
        assert_eq!((bench.registry.count("PUT "), bench.registry.count("PATCH ")), (1, 0));
        assert_eq!(push(&bench, &bytes).await, Pushed::Existed);
        assert_eq!(bench.registry.count("POST "), 1);
    }
}

#[tokio::test]
async fn a_registry_that_wants_small_requests_gets_pieces() {
    let behaviour = Behaviour { longest_body: Some(4 * 1024 * 1024), ..Behaviour::default() };
    let bench = Bench::with(behaviour, Credentials::anonymous());
    let bytes = noise(9_000_000);
    assert_eq!(push(&bench, &bytes).await, Pushed::Uploaded);
    assert_eq!(bench.registry.count("PATCH "), 3);
    assert!(bench.registry.blob("app", &descriptor(&bytes).digest.to_string()) == Some(bytes));
}

#[tokio::test]
async fn mounts_where_it_can_and_sends_where_it_must() {
    for (mount, expected) in [
        (Mount::Works, Pushed::Mounted),
        (Mount::Ignored, Pushed::Uploaded),
        (Mount::Forbidden, Pushed::Uploaded),
    ] {
        let behaviour = Behaviour { mount, ..Behaviour::default() };
        let bench = Bench::with(behaviour, Credentials::anonymous());
        let bytes = noise(1000);
        bench.registry.put_blob("base", &bytes);
        let (to, from) = (bench.reference("app:1"), bench.reference("base:1"));
        // Without other bytes than those in the registry: a lazy base layer.
        let source = BlobSource::Remote(from.clone());
        let pushed = bench.client.push_blob(&to, &descriptor(&bytes), source, Some(&from)).await.unwrap();
        assert_eq!(pushed, expected, "{mount:?}");
        assert_eq!(bench.registry.blob("app", &descriptor(&bytes).digest.to_string()), Some(bytes));
        let left: Vec<_> = std::fs::read_dir(bench.directory.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(bench.registry.open_uploads(), 0);
    }
}

#[tokio::test]
async fn another_registrys_layer_passes_through() {
    let (bench, other) = (Bench::new(), Bench::new());
    let bytes = noise(100_000);
    other.registry.put_blob("base", &bytes);
    let source = BlobSource::Remote(other.reference("base:1"));
    let to = bench.reference("app:1");
    let pushed = bench.client.push_blob(&to, &descriptor(&bytes), source, None).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    assert_eq!(bench.registry.count("mount="), 0);
    assert_eq!(bench.registry.blob("app", &descriptor(&bytes).digest.to_string()), Some(bytes));
}

#[tokio::test]
async fn a_source_that_is_not_the_blob_is_refused() {
    let bench = Bench::new();
    let to = bench.reference("app:1");
    let error = bench.client.push_blob(&to, &descriptor(b"long"), source(b"shrt!"), None).await.unwrap_err();
    assert!(matches!(error, Error::Size { .. }), "{error}");
    let error = bench.client.push_blob(&to, &descriptor(b"long"), source(b"lang"), None).await.unwrap_err();
    assert_eq!(error.reply().map(|reply| reply.code.as_str()), Some("DIGEST_INVALID"), "{error}");
}

fn image(layers: &[&[u8]], config: &[u8]) -> Manifest {
    Manifest {
        media_type: media_type::MANIFEST.to_owned(),
        config: Descriptor::of(media_type::CONFIG, config),
        layers: layers.iter().map(|layer| descriptor(layer)).collect(),
        annotations: Default::default(),
    }
}

#[tokio::test]
async fn an_image_goes_to_many_names_and_another_client_pulls_it() {
    let bench = Bench::new();
    let (one, two) = (noise(200_000), noise(5_000_000));
    let config =
        br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = image(&[&one, &two, &one], config);
    let bytes = manifest.to_bytes();
    let destinations = ["app:1", "app:latest", "team/app:1"].map(|name| bench.reference(name));
    let push = ImagePush {
        destinations: &destinations,
        blobs: vec![
            (descriptor(&one), BlobSource::File(bench.file("one", &one)), None),
            (descriptor(&two), BlobSource::File(bench.file("two", &two)), None),
            (descriptor(&one), source(&one), None),
            (manifest.config.clone(), source(config), None),
        ],
        manifest: &bytes,
        media_type: media_type::MANIFEST,
    };
    let outcome = bench.client.push_image(&push).await.unwrap();
    let count = |wanted: Pushed| outcome.values().filter(|pushed| **pushed == wanted).count();
    assert_eq!((count(Pushed::Uploaded), count(Pushed::Mounted)), (3, 3));
    let log = bench.registry.log();
    let first_manifest = log.iter().position(|logged| logged.line.contains("/manifests/")).unwrap();
    assert!(log[first_manifest..].iter().all(|logged| logged.line.contains("/manifests/")));
    assert_eq!(bench.registry.tags("app"), ["1", "latest"]);
    assert_eq!(bench.registry.manifest("team/app", "1"), Some((media_type::MANIFEST.to_owned(), bytes)));
    pulled_by_another_client(&bench, "team/app:1", &[&one, &two, &one]).await;
}

async fn pulled_by_another_client(bench: &Bench, name: &str, layers: &[&[u8]]) {
    // reqwest takes a provider from the process here; a second test that
    // installs the same one is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    let client = oci_client::Client::try_from(config).unwrap();
    let reference = format!("{}/{name}", bench.registry.host()).parse().unwrap();
    let accepted = vec![media_type::LAYER_GZIP];
    let image = client.pull(&reference, &RegistryAuth::Anonymous, accepted).await.unwrap();
    // It returns them as they arrive.
    let (mut pulled, mut pushed): (Vec<&[u8]>, Vec<&[u8]>) =
        (image.layers.iter().map(|layer| layer.data.as_ref()).collect(), layers.to_vec());
    pulled.sort();
    pushed.sort();
    assert!(pulled == pushed);
}

/// The conductor spawns these: a future that is not `Send` would not compile here.
#[tokio::test]
async fn the_work_can_be_spawned() {
    let bench = std::sync::Arc::new(Bench::new());
    let there = bench.clone();
    let work = async move {
        let destinations = [there.reference("app:1")];
        let manifest = image(&[], b"{}");
        let bytes = manifest.to_bytes();
        let blobs = vec![(manifest.config, source(b"{}"), None)];
        let push = ImagePush {
            destinations: &destinations,
            blobs,
            manifest: &bytes,
            media_type: media_type::MANIFEST,
        };
        there.client.push_image(&push).await.unwrap();
        let platform = "linux/amd64".parse().unwrap();
        there.client.resolve(&destinations[0], &platform).await.unwrap();
        let descriptor = Descriptor::of(media_type::CONFIG, b"{}");
        let into = there.directory.path().join("blob");
        there.client.pull_blob(&destinations[0], &descriptor, &into).await.unwrap();
        there.client.check_push(&destinations[0]).await.unwrap();
    };
    tokio::spawn(work).await.unwrap();
    assert_eq!(bench.registry.tags("app"), ["1"]);
}

#[tokio::test]
async fn a_manifest_by_digest_must_be_that() {
    let bench = Bench::new();
    let to = bench.reference("app").at(Digest::of("other"));
    let error = bench.client.push_manifest(&to, b"{}", media_type::MANIFEST).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    let to = bench.reference("app").at(Digest::of("{}"));
    bench.client.push_manifest(&to, b"{}", media_type::MANIFEST).await.unwrap();
}

#[tokio::test]
async fn checking_a_push_leaves_nothing_behind() {
    let bench = Bench::new();
    bench.client.check_push(&bench.reference("app:1")).await.unwrap();
    assert_eq!((bench.registry.count("DELETE "), bench.registry.open_uploads()), (1, 0));
    bench.registry.behave(|behaviour| behaviour.push = false);
    let error = bench.client.check_push(&bench.reference("app:1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    bench.registry.fail("POST ", 1, FaultKind::Status(404, vec![]));
    let error = bench.client.check_push(&bench.reference("app:1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("must be created first"));
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = bench.client.check_push(&format!("{host}/app:1").parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains(&format!("`{host}` is unreachable: connection refused")), "{source}");
    assert!(error.hint().unwrap().contains(&host));
}
