//! Runs the records of `tests/vectors/plugin-settings.json` against the normaliser.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle::ci::{EventKind, Facts, MemoryFiles, System};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Normalised, Unmatched, normalise};
use crate::settings::{self, Findings, Pairs, SecretFrom};

#[derive(Deserialize)]
struct Vector {
    id: String,
    note: String,
    env: BTreeMap<String, String>,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    files: BTreeMap<PathBuf, String>,
    ci: Option<String>,
    expect: Option<Map<String, Value>>,
    error: Option<Value>,
}

fn facts(vector: &Vector) -> Facts {
    let text = |name: &str| vector.metadata.get(name).and_then(Value::as_str).map(str::to_owned);
    Facts {
        system: vector.ci.as_deref().and_then(System::named).unwrap_or_default(),
        ref_name: text("ref"),
        branch: text("branch"),
        default_branch: text("default_branch"),
        target_branch: text("target_branch"),
        event: text("event").map(|event| EventKind::named(&event)),
        ..Facts::default()
    }
}

fn map(pairs: &[&Pairs]) -> Value {
    pairs
        .iter()
        .flat_map(|pairs| pairs.iter())
        .map(|(k, v)| (k.clone(), Value::from(v.as_str())))
        .collect::<Map<_, _>>()
        .into()
}

/// The normalised form in the words of the records.
fn as_json(found: &Normalised, findings: &Findings) -> Value {
    let secrets: Vec<Value> = found
        .secrets
        .iter()
        .map(|secret| match &secret.from {
            SecretFrom::File(path) => json!({"id": secret.id, "src": path}),
            SecretFrom::Variable(name) => json!({"id": secret.id, "env": name}),
        })
        .collect();
    let credentials: Vec<Value> = found
        .credentials
        .logins
        .iter()
        .map(|login| {
            json!({"host": login.registry, "username": login.username,
                "password": login.password.expose_str().unwrap(), "source": login.source})
        })
        .collect();
    json!({
        "destinations": found.destinations.iter().map(super::ImageName::reference).collect::<Vec<_>>(),
        "push": found.push,
        "skip": found.unmatched == Some(Unmatched::Skip),
        "reason": found.unmatched.map(|_| "auto_tag_unmatched"),
        "purge": found.purge,
        "auto_label": found.auto_label,
        "dockerfile": found.dockerfile.as_deref().unwrap_or("Dockerfile"),
        "build_args": map(&[&found.build_arguments, &found.proxies]),
        "labels": map(&[&found.labels]),
        "secrets": secrets,
        "insecure": found.insecure,
        "tar_path": found.tar_path,
        "platforms": found.platforms,
        "cache": {
            "enabled": found.cache.enabled,
            "repo": found.cache.repository,
            "ttl_s": found.cache.ttl.as_secs(),
        },
        "cache_from": found.cache_from,
        "mirrors": found.mirrors,
        "credentials": credentials,
        "warnings": as_set(&findings.warnings().map(finding).collect::<Vec<_>>()),
    })
}

fn finding(finding: &settings::Finding) -> Value {
    let mut value = json!({"code": finding.code.name(), "setting": finding.written.setting});
    if let Some(suggest) = &finding.suggest {
        value["suggest"] = json!(suggest);
    }
    value
}

fn as_set(warnings: &[Value]) -> Value {
    let mut warnings = warnings.to_vec();
    warnings.sort_by_key(Value::to_string);
    warnings.into()
}

/// What differs from the record; nothing when it holds.
fn check(vector: &Vector) -> Option<String> {
    let mut findings = Findings::default();
    let files = MemoryFiles(vector.files.iter().map(|(k, v)| (k.clone(), v.clone().into_bytes())).collect());
    let mut environment = vector.env.clone();
    settings::apply_env_file(&mut environment, &files, &mut findings);
    let raw = settings::read(&environment, &mut findings);
    let found = normalise(&raw, &facts(vector), &environment, &files, &mut findings);
    let errors: Vec<Value> = findings.errors().map(finding).collect();
    let expected: Vec<Value> = vector.error.iter().cloned().collect();
    let plain = |value: &Value| json!({"code": value["code"], "setting": value["setting"]});
    if errors.iter().map(plain).collect::<Vec<_>>() != expected {
        return Some(format!("errors {errors:?}, expected {expected:?}"));
    }
    let found = as_json(&found, &findings);
    for (key, expected) in vector.expect.iter().flatten() {
        let expected = match (key.as_str(), expected) {
            ("warnings", Value::Array(warnings)) => as_set(warnings),
            _ => expected.clone(),
        };
        if found.get(key).unwrap_or(&Value::Null) != &expected {
            return Some(format!("{key}: {}, expected {expected}", found[key]));
        }
    }
    None
}

#[test]
fn all() {
    let text = include_str!("../../../tests/vectors/plugin-settings.json");
    let vectors: Vec<Vector> = serde_json::from_str(text).unwrap();
    assert!(vectors.len() >= 155);
    let failed: Vec<String> = vectors
        .iter()
        .filter_map(|vector| Some(format!("{} ({}): {}", vector.id, vector.note, check(vector)?)))
        .collect();
    assert!(failed.is_empty(), "{} of {} records:\n{}", failed.len(), vectors.len(), failed.join("\n"));
}

/// Copies of the shared references must not drift from them.
#[test]
fn equal_the_shared_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let shared = root.join("../shared/reference/vectors/plugin-settings.json");
    let Ok(shared) = std::fs::read(shared) else { return };
    assert_eq!(shared, std::fs::read(root.join("tests/vectors/plugin-settings.json")).unwrap());
}
