//! The endpoints of the OCI distribution spec.

use std::sync::Arc;

use super::auth::{check, refusal, token};
use super::http::{Request, Response};
use super::{Mount, State, digest_of};

/// Answers a request that arrived whole.
pub(super) fn answer(state: &mut State, request: &Request) -> Response {
    if request.path == "/token" {
        return token(state, request);
    }
    if request.path == "/v2/" {
        return check(state, request, &[]).unwrap_or_else(|| Response::new(200));
    }
    let Some((repository, kind, rest)) = split(&request.path) else { return Response::new(404) };
    let writes = !matches!(request.method.as_str(), "GET" | "HEAD") || rest.starts_with("uploads");
    let mut needs = vec![(repository.clone(), if writes { "push" } else { "pull" })];
    let from = request.query("from").map(str::to_owned);
    needs.extend(from.map(|from| (from, "pull")));
    if let Some(refused) = check(state, request, &needs) {
        return refused;
    }
    if state.behaviour.longest_body.is_some_and(|longest| request.body.len() > longest) {
        return Response::new(413);
    }
    if writes && !state.behaviour.push {
        return refusal(403, "DENIED");
    }
    match (kind, rest.strip_prefix("uploads/")) {
        ("blobs", Some("")) => start(state, request, &repository),
        ("blobs", Some(id)) => upload(state, request, &repository, id),
        ("blobs", None) => blob(state, request, &repository, &rest),
        ("manifests", _) if request.method == "PUT" => put_manifest(state, request, &repository, &rest),
        ("manifests", _) => manifest(state, &repository, &rest),
        _ => tags(state, &repository),
    }
}

/// A request broke off: what of an upload arrived may stay.
pub(super) fn cut_upload(state: &mut State, request: &Request) {
    let Some((repository, "blobs", rest)) = split(&request.path) else { return };
    let Some(id) = rest.strip_prefix("uploads/") else { return };
    let keeps = state.behaviour.keeps_cut_uploads;
    let uploads = &mut state.repositories.entry(repository).or_default().uploads;
    match uploads.get_mut(id) {
        Some(bytes) if keeps => bytes.extend_from_slice(&request.body),
        _ => {
            uploads.remove(id);
        }
    }
}

/// `/v2/<repository>/<kind>/<rest>`.
fn split(path: &str) -> Option<(String, &'static str, String)> {
    let path = path.strip_prefix("/v2/")?;
    ["blobs", "manifests", "tags"].into_iter().find_map(|kind| {
        let (repository, rest) = path.split_once(&format!("/{kind}/"))?;
        Some((repository.to_owned(), kind, rest.to_owned()))
    })
}

fn start(state: &mut State, request: &Request, repository: &str) -> Response {
    if let (Some(digest), Some(from)) = (request.query("mount"), request.query("from")) {
        let found = state.repositories.get(from).and_then(|from| from.blobs.get(digest)).cloned();
        match (state.behaviour.mount, found) {
            (Mount::Forbidden, _) => return refusal(403, "DENIED"),
            (Mount::Works, Some(bytes)) => {
                let blobs = &mut state.repositories.entry(repository.to_owned()).or_default().blobs;
                blobs.insert(digest.to_owned(), bytes);
                return Response::new(201).with("docker-content-digest", digest);
            }
            _ => {}
        }
    }
    state.next_id += 1;
    let id = format!("upload-{}", state.next_id);
    let uploads = &mut state.repositories.entry(repository.to_owned()).or_default().uploads;
    uploads.insert(id.clone(), Vec::new());
    let location = upload_location(state, repository, &id);
    Response::new(202).with("location", location).with("range", "0-0")
}

/// With a query, as distribution has it.
fn upload_location(state: &State, repository: &str, id: &str) -> String {
    let path = format!("/v2/{repository}/blobs/uploads/{id}?_state=a%3Db");
    if state.behaviour.relative_location { path } else { format!("http://{}{path}", state.address) }
}

fn upload(state: &mut State, request: &Request, repository: &str, id: &str) -> Response {
    if request.query("_state") != Some("a=b") {
        return refusal(400, "BLOB_UPLOAD_INVALID");
    }
    let location = upload_location(state, repository, id);
    let target = state.repositories.entry(repository.to_owned()).or_default();
    let Some(bytes) = target.uploads.get_mut(id) else { return refusal(404, "BLOB_UPLOAD_UNKNOWN") };
    match request.method.as_str() {
        "DELETE" => {
            target.uploads.remove(id);
            Response::new(204)
        }
        "GET" => Response::new(204).with("location", location).with("range", range(bytes)),
        "PATCH" => {
            let start = request.header("content-range").and_then(|text| text.split('-').next());
            if start.is_some_and(|start| start != bytes.len().to_string()) {
                return Response::new(416).with("range", range(bytes));
            }
            bytes.extend_from_slice(&request.body);
            Response::new(202).with("location", location).with("range", range(bytes))
        }
        "PUT" => {
            bytes.extend_from_slice(&request.body);
            let actual = digest_of(bytes);
            if request.query("digest") != Some(&actual) {
                return refusal(400, "DIGEST_INVALID");
            }
            let bytes = target.uploads.remove(id).unwrap_or_default();
            target.blobs.insert(actual.clone(), Arc::new(bytes));
            Response::new(201).with("docker-content-digest", actual)
        }
        _ => Response::new(405),
    }
}

fn range(bytes: &[u8]) -> String {
    format!("0-{}", bytes.len().saturating_sub(1))
}

fn blob(state: &State, request: &Request, repository: &str, digest: &str) -> Response {
    let found = state.repositories.get(repository).and_then(|repository| repository.blobs.get(digest));
    let Some(bytes) = found else { return refusal(404, "BLOB_UNKNOWN") };
    if let (Some(base), "GET") = (&state.behaviour.blobs_at, request.method.as_str()) {
        return Response::new(307).with("location", format!("{base}{}", request.path));
    }
    let whole = Response::new(200).with("docker-content-digest", digest);
    let offset = request.header("range").and_then(|text| text.strip_prefix("bytes=")?.split('-').next());
    match offset.and_then(|text| text.parse::<usize>().ok()) {
        Some(offset) if state.behaviour.ranges && offset >= bytes.len() => Response::new(416),
        Some(offset) if state.behaviour.ranges => Response::new(206)
            .with("content-range", format!("bytes {offset}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(&bytes[offset..]),
        _ => whole.body(bytes.as_slice()),
    }
}

fn put_manifest(state: &mut State, request: &Request, repository: &str, name: &str) -> Response {
    let digest = digest_of(&request.body);
    if name.contains(':') && name != digest {
        return refusal(400, "DIGEST_INVALID");
    }
    let media_type = request.header("content-type").unwrap_or_default().to_owned();
    let target = state.repositories.entry(repository.to_owned()).or_default();
    if missing_blob(target, &request.body) {
        return refusal(404, "MANIFEST_BLOB_UNKNOWN");
    }
    for name in [name, &digest] {
        target.manifests.insert(name.to_owned(), (media_type.clone(), request.body.clone()));
    }
    Response::new(201).with("docker-content-digest", digest)
}

/// Real registries refuse a manifest whose blobs are not there.
fn missing_blob(repository: &super::Repository, manifest: &[u8]) -> bool {
    let Ok(parsed) = serde_json::from_slice::<serde_json::Value>(manifest) else { return true };
    let layers = parsed["layers"].as_array().cloned().unwrap_or_default();
    let named = layers.iter().chain([&parsed["config"]]).filter_map(|entry| entry["digest"].as_str());
    named.into_iter().any(|digest| !repository.blobs.contains_key(digest))
}

fn manifest(state: &State, repository: &str, name: &str) -> Response {
    let found = state.repositories.get(repository).and_then(|repository| repository.manifests.get(name));
    let Some((media_type, bytes)) = found else { return refusal(404, "MANIFEST_UNKNOWN") };
    Response::new(200)
        .with("content-type", media_type)
        .with("docker-content-digest", digest_of(bytes))
        .body(bytes.as_slice())
}

fn tags(state: &State, repository: &str) -> Response {
    let Some(found) = state.repositories.get(repository) else { return refusal(404, "NAME_UNKNOWN") };
    let body = serde_json::json!({ "name": repository, "tags": found.tags() });
    Response::new(200).with("content-type", "application/json").body(body.to_string())
}
