//! The table of credential lookups, `tests/vectors/credentials.json`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Answer, ConfigFile, Credential, CredentialError, Helpers, Lookup};
use crate::image::Reference;
use crate::secret::Secret;

const TABLE: &str = include_str!("../../../tests/vectors/credentials.json");

/// Helpers of one row: program → key → pair.
struct Fake(BTreeMap<String, BTreeMap<String, (String, String)>>);

impl Helpers for Fake {
    fn get(&self, program: &str, key: &str) -> Result<Answer, CredentialError> {
        let Some(keys) = self.0.get(program) else { return Ok(Answer::Missing) };
        let Some((username, secret)) = keys.get(key) else { return Ok(Answer::NotFound) };
        let secret = Secret::new(secret.as_str());
        Ok(Answer::Found(match username.as_str() {
            "<token>" => Credential::IdentityToken(secret),
            _ => Credential::Password { username: username.clone(), password: secret },
        }))
    }
}

/// The outcome of a row in the table's own words.
fn run(row: &Value) -> Value {
    let helpers = row.get("helpers").cloned().unwrap_or(json!({}));
    let helpers = Arc::new(Fake(serde_json::from_value(helpers).unwrap()));
    let reference: Reference = row["repository"].as_str().unwrap().parse().unwrap();
    let looked = ConfigFile::parse(row["config"].as_str().unwrap().as_bytes(), "the config", helpers)
        .and_then(|config| config.lookup(reference.registry(), reference.repository()));
    match looked {
        Ok(lookup) => json!({ "expect": described(lookup) }),
        Err(error) => json!({ "error": { "code": error.code() } }),
    }
}

fn described(lookup: Lookup) -> Value {
    let text = |secret: &Secret| secret.expose_str().unwrap().to_owned();
    let mut out = match &lookup.credential {
        Some(Credential::Password { username, password }) => {
            json!({ "username": username, "password": text(password) })
        }
        Some(Credential::IdentityToken(token)) => json!({ "identity_token": text(token) }),
        Some(Credential::RegistryToken(token)) => json!({ "registry_token": text(token) }),
        None => json!({ "anonymous": true }),
    };
    if !lookup.from.is_empty() {
        out["from"] = json!(lookup.from);
    }
    let codes: Vec<&str> = lookup.warnings.iter().map(|text| text.split(':').next().unwrap()).collect();
    if !codes.is_empty() {
        out["warnings"] = json!(codes);
    }
    out
}

#[test]
fn every_row_of_the_table() {
    let rows: Vec<Value> = serde_json::from_str(TABLE).unwrap();
    assert!(rows.len() >= 31);
    for row in rows {
        let mut expected = json!({});
        for field in ["expect", "error"] {
            if let Some(value) = row.get(field) {
                expected[field] = value.clone();
            }
        }
        assert_eq!(run(&row), expected, "{}: {}", row["id"], row["note"]);
    }
}

/// The table is a copy; where the original lies beside the repository, they agree.
#[test]
fn the_table_is_the_original() {
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/vectors/credentials.json");
    if original.exists() {
        assert_eq!(std::fs::read_to_string(original).unwrap(), TABLE);
    }
}
