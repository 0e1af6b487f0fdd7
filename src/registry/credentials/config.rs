//! Docker's config file (`config.json`, containers' `auth.json`, the old
//! `.dockercfg`): which entry is for a repository, and what it says.
//!
//! docker_credential decodes the entry chosen; choosing it is done here, since
//! that crate knows no path-scoped keys, no old form and no limit on helpers.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use docker_credential::DockerCredential;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{AmbientSource, Answer, Credential, CredentialError, Helpers, key};
use crate::secret::Secret;

/// One config text, parsed.
pub struct ConfigFile {
    origin: String,
    raw: Raw,
    helpers: Arc<dyn Helpers>,
}

/// What a source has for a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The credential; `None` when the source has none.
    pub credential: Option<Credential>,
    /// The `auths` key as written, `credHelpers` or `credsStore`.
    pub from: String,
    /// `W_…` codes with their text.
    pub warnings: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Any of these at the top makes it the new form.
const KEYS: [&str; 4] = ["auths", "credHelpers", "credsStore", "HttpHeaders"];

impl ConfigFile {
    /// Reads JSON, or base64 of it. `origin` is for messages.
    ///
    /// # Errors
    /// [`CredentialError::Config`] when it is neither.
    pub fn parse(text: &[u8], origin: &str, helpers: Arc<dyn Helpers>) -> Result<Self, CredentialError> {
        let failed =
            |reason: &str| CredentialError::Config { origin: origin.to_owned(), reason: reason.to_owned() };
        let text = text.trim_ascii();
        let decoded = match text.first() {
            Some(b'{') => text.to_vec(),
            Some(_) => {
                let compact: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
                lenient().decode(compact).map_err(|_| failed("it is neither JSON nor base64 of JSON"))?
            }
            None => b"{}".to_vec(),
        };
        // serde_json's messages may quote the value they stumble over: keep the place only.
        let place = |error: serde_json::Error| {
            failed(&format!("no valid JSON at line {}, column {}", error.line(), error.column()))
        };
        let top: Map<String, Value> = serde_json::from_slice(&decoded).map_err(place)?;
        let raw = if KEYS.iter().any(|key| top.contains_key(*key)) {
            serde_json::from_value(Value::Object(top)).map_err(|_| failed("a field has the wrong type"))?
        } else {
            Raw { auths: Some(old_form(top)), ..Raw::default() }
        };
        Ok(Self { origin: origin.to_owned(), raw, helpers })
    }

    /// What this file has for `host/repository`: `credHelpers`, then `auths`
    /// from the longest path to the host, then `credsStore`. May block on a helper.
    ///
    /// # Errors
    /// When the entry chosen cannot be decoded or its helper fails.
    pub fn lookup(&self, host: &str, repository: &str) -> Result<Lookup, CredentialError> {
        let mut lookup = Lookup::default();
        let wanted = key::normalise(host);
        if let Some(program) = self.helper_for(&wanted) {
            lookup.credential = self.ask(program, host, &mut lookup.warnings)?;
            lookup.from = "credHelpers".to_owned();
        }
        if lookup.credential.is_none()
            && let Some((key, entry)) = self.entry(host, repository)
        {
            lookup.credential = self.read(key, entry)?;
            lookup.from = key.to_owned();
        }
        let store = self.raw.creds_store.as_deref().filter(|program| !program.is_empty());
        if let (None, Some(program)) = (&lookup.credential, store) {
            lookup.credential = self.ask(program, host, &mut lookup.warnings)?;
            lookup.from = "credsStore".to_owned();
        }
        if lookup.credential.is_none() {
            lookup.from.clear();
        }
        Ok(lookup)
    }

    /// Whether any `auths` or `credHelpers` key has this (normalised) host.
    pub(super) fn covers(&self, host: &str) -> bool {
        let auths = self.raw.auths.iter().flatten().map(|(key, _)| key);
        let helpers = self.raw.cred_helpers.iter().flatten().map(|(key, _)| key);
        auths.chain(helpers).any(|key| key::host_of(&key::normalise(key)) == host)
    }

    fn helper_for(&self, host: &str) -> Option<&str> {
        let helpers = self.raw.cred_helpers.as_ref()?;
        let (_, program) = helpers.iter().find(|(key, _)| key::normalise(key) == host)?;
        (!program.is_empty()).then_some(program)
    }

    /// The most specific entry. Several spellings of one key: a filled one wins.
    fn entry(&self, host: &str, repository: &str) -> Option<(&str, &Entry)> {
        let auths = self.raw.auths.as_ref()?;
        key::chain(host, repository).find_map(|wanted| {
            let same = || auths.iter().filter(|(key, _)| key::normalise(key) == wanted);
            let filled = same().find(|(_, entry)| entry.as_ref().is_some_and(|entry| !entry.is_empty()));
            let (key, entry) = filled.or_else(|| same().next())?;
            Some((key.as_str(), entry.as_ref().unwrap_or(&EMPTY)))
        })
    }

    fn read(&self, key: &str, entry: &Entry) -> Result<Option<Credential>, CredentialError> {
        if let Some(token) = filled(&entry.registrytoken) {
            return Ok(Some(Credential::RegistryToken(Secret::new(token))));
        }
        if let Some(token) = filled(&entry.identitytoken) {
            return Ok(Some(Credential::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = filled(&entry.auth) {
            return decode(auth).map(Some).ok_or_else(|| CredentialError::AuthField {
                origin: self.origin.clone(),
                key: key.to_owned(),
            });
        }
        Ok(filled(&entry.username).map(|username| Credential::Password {
            username: username.to_owned(),
            password: Secret::new(entry.password.clone().unwrap_or_default()),
        }))
    }

    fn ask(
        &self,
        program: &str,
        host: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Credential>, CredentialError> {
        match self.helpers.get(program, &key::for_helper(host))? {
            Answer::Found(credential) => Ok(Some(credential)),
            Answer::NotFound => Ok(None),
            Answer::Missing => {
                warnings.push(format!(
                    "W_HELPER_MISSING: {} names the credential helper `docker-credential-{program}`, which is not on PATH",
                    self.origin
                ));
                Ok(None)
            }
        }
    }
}

impl AmbientSource for ConfigFile {
    fn find(&self, host: &str, repository: &str) -> Result<Lookup, CredentialError> {
        let mut lookup = self.lookup(host, repository)?;
        lookup.from = match lookup.from.as_str() {
            "" => String::new(),
            key @ ("credHelpers" | "credsStore") => format!("{}, {key}", self.origin),
            key => format!("{}, key {key}", self.origin),
        };
        Ok(lookup)
    }

    fn secrets(&self) -> Vec<Secret> {
        let mut secrets = Vec::new();
        for entry in self.raw.auths.iter().flatten().filter_map(|(_, entry)| entry.as_ref()) {
            let fields = [&entry.auth, &entry.password, &entry.identitytoken, &entry.registrytoken];
            secrets.extend(fields.into_iter().filter_map(filled).map(Secret::new));
            if let Some(Credential::Password { password, .. }) = filled(&entry.auth).and_then(decode) {
                secrets.push(password);
            }
        }
        secrets
    }
}

static EMPTY: Entry =
    Entry { auth: None, username: None, password: None, identitytoken: None, registrytoken: None };

impl Entry {
    fn is_empty(&self) -> bool {
        let fields = [&self.auth, &self.username, &self.identitytoken, &self.registrytoken];
        fields.into_iter().all(|field| filled(field).is_none())
    }
}

fn filled(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}

/// The entries of the old form; a top level without any is an empty config.
fn old_form(top: Map<String, Value>) -> BTreeMap<String, Option<Entry>> {
    let looks_right = |value: &Value| {
        ["auth", "username", "identitytoken", "registrytoken"].iter().any(|field| value.get(field).is_some())
    };
    top.into_iter()
        .filter(|(_, value)| looks_right(value))
        .filter_map(|(key, value)| Some((key, Some(serde_json::from_value(value).ok()?))))
        .collect()
}

/// The pair in an `auth` field. Old dockers padded it with NUL bytes.
fn decode(auth: &str) -> Option<Credential> {
    let text = json!({ "auths": { "entry": { "auth": auth } } }).to_string();
    match docker_credential::get_credential_from_reader(text.as_bytes(), "entry").ok()? {
        DockerCredential::UsernamePassword(username, password) if !username.is_empty() => {
            let password = Secret::new(password.trim_end_matches('\0'));
            Some(Credential::Password { username, password })
        }
        _ => None,
    }
}

fn lenient() -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&base64::alphabet::STANDARD, config)
}

/// How a pair looks in a Basic header, which must not reach a log either.
pub(super) fn basic_text(username: &str, password: &Secret) -> String {
    STANDARD.encode([username.as_bytes(), b":", password.expose()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoPrograms;

    impl Helpers for NoPrograms {
        fn get(&self, _program: &str, _key: &str) -> Result<Answer, CredentialError> {
            Ok(Answer::Missing)
        }
    }

    fn config(text: &str) -> ConfigFile {
        ConfigFile::parse(text.as_bytes(), "here", Arc::new(NoPrograms)).unwrap()
    }

    /// Which key `r.io/team/app` gets, and with which user.
    fn check(text: &str, from: &str, user: &str) {
        let lookup = config(text).lookup("r.io", "team/app").unwrap();
        let username = match lookup.credential {
            Some(Credential::Password { username, .. }) => username,
            _ => String::new(),
        };
        assert_eq!((lookup.from.as_str(), username.as_str()), (from, user), "{text}");
    }

    #[test]
    fn what_the_table_leaves_out() {
        check(r#"{"auths":{"r.io/team":{},"r.io":{"auth":"dTpw"}}}"#, "", "");
        check(r#"{"auths":{"r.io":null,"https://r.io":{"auth":"dTpw"}}}"#, "https://r.io", "u");
        check(r#"{"auths":{"r.io":{"auth":"dTpw","username":"x","password":"y"}}}"#, "r.io", "u");
        check(r#"{"auths":{"r.io":{"auth":"","email":"e","username":"x"}}}"#, "r.io", "x");
        check(r#"{"auths":{"r.io/other":{"auth":"***"},"r.io":{"auth":"dTpw"}}}"#, "r.io", "u");
        check(r#"{"auths":null,"credsStore":""}"#, "", "");
        check(r#"{"detachKeys":"ctrl-a"}"#, "", "");
        check("", "", "");
    }

    #[test]
    fn errors_quote_nothing() {
        let text = r#"{"auths":{"r.io":{"auth":"c2VjcmV0"}}}"#;
        let error = config(text).lookup("r.io", "x").unwrap_err().to_string();
        assert!(!error.contains("c2VjcmV0") && error.contains("here, key `r.io`"), "{error}");
        for text in [r#"{"auths":"secret"}"#, r#"{"a": secret}"#, "secret"] {
            let parsed = ConfigFile::parse(text.as_bytes(), "here", Arc::new(NoPrograms));
            let error = parsed.err().unwrap().to_string();
            assert!(!error.contains("secret") && error.starts_with("E_CONFIG: here"), "{error}");
        }
    }

    #[test]
    fn the_redactor_learns_all_forms() {
        let config = config(r#"{"auths":{"r.io":{"auth":"dTpwYXNz"},"s.io":{"identitytoken":"tok"}}}"#);
        let secrets: Vec<_> = config.secrets().iter().map(|s| s.expose_str().unwrap().to_owned()).collect();
        assert_eq!(secrets, ["dTpwYXNz", "pass", "tok"]);
    }
}
