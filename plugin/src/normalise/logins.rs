//! Which user name and password go to which registry.
//!
//! A pair is only ever meant for the host (and path) it was given for. Where
//! the settings do not say which, the rules here find it or refuse to guess.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle::secret::Secret;
use serde_json::Value;

use super::references::{DOCKER_HUB, Registry, one_spelling};
use crate::settings::{Code, Finding, Key, Reader, Written};

/// A pair for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    /// `host[:port][/path]`.
    pub(crate) registry: String,
    /// The user.
    pub(crate) username: String,
    /// The password or token.
    pub(crate) password: Secret,
    /// `setting:username`, `env:DOCKER_USERNAME`, for messages.
    pub(crate) source: &'static str,
    /// Other sources may be tried after this one is refused.
    pub(crate) ambient: bool,
}

/// Everything the settings say about credentials.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    /// Pairs, in order of precedence.
    pub(crate) logins: Vec<Login>,
    /// The text of a docker `config.json`.
    pub(crate) config: Option<Secret>,
    /// A Google service account key.
    pub(crate) json_key: Option<Secret>,
    /// Mirrors of other registries than Docker Hub, from `logins`.
    pub(crate) mirrors: Vec<(String, Vec<String>)>,
}

/// What credentials depend on.
pub(crate) struct Situation<'a> {
    /// The `registry` setting, or what stands in for it.
    pub(crate) registry: Option<&'a Registry>,
    /// Hosts of all destinations.
    pub(crate) hosts: &'a [String],
    /// A push will happen.
    pub(crate) push: bool,
}

const PUSH: &str = "setting:username";
const LEGACY: &str = "env:DOCKER_USERNAME";

/// Whether a key for a cloud's registry is given: then the `DOCKER_*` pair is not for pushing.
pub(crate) fn has_cloud_key(reader: &Reader<'_>, registry_host: Option<&str>) -> bool {
    const PREFIXED: [Key; 8] = [
        Key::JsonKey,
        Key::AccessKey,
        Key::SecretKey,
        Key::AssumeRole,
        Key::OidcTokenId,
        Key::ClientId,
        Key::ClientSecret,
        Key::ClientCertificate,
    ];
    const AWS: &[&str] = &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "ECR_ACCESS_KEY", "ECR_SECRET_KEY"];
    const GOOGLE: &[&str] = &["GCR_JSON_KEY", "GOOGLE_CREDENTIALS"];
    const AZURE: &[&str] = &[
        "CLIENT_ID",
        "CLIENT_SECRET",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "SERVICE_PRINCIPAL_CLIENT_ID",
    ];
    let unprefixed = match registry_host {
        Some(host) if is_aws(host) => AWS,
        Some(host) if is_google(host) => GOOGLE,
        Some(host) if is_azure(host) => AZURE,
        _ => &[],
    };
    PREFIXED.iter().any(|key| reader.settings.is_written(*key))
        || unprefixed.iter().any(|name| reader.variable(name).is_some())
}

/// Whether the host is one of Google's registries.
pub(crate) fn is_google(host: &str) -> bool {
    host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with(".pkg.dev")
}

fn is_aws(host: &str) -> bool {
    let account = host.split('.').next().unwrap_or_default();
    let own = account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && (host.contains(".dkr.ecr.") || host.contains(".dkr.ecr-fips."))
        && (host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"));
    own || host == "public.ecr.aws"
}

fn is_azure(host: &str) -> bool {
    [".azurecr.io", ".azurecr.cn", ".azurecr.us"].iter().any(|end| host.ends_with(end))
}

/// Reads all credentials.
pub(crate) fn read(reader: &mut Reader<'_>, situation: &Situation<'_>) -> Credentials {
    let mut credentials = Credentials {
        config: config(reader),
        json_key: json_key(reader, situation),
        ..Credentials::default()
    };
    let listed = listed(reader, &mut credentials.mirrors);
    let cloud = has_cloud_key(reader, situation.registry.map(|registry| registry.host.as_str()));
    let covered = covered_hosts(&listed, credentials.config.as_ref());
    if let Some((username, password, source)) = push_pair(reader, situation, cloud) {
        let registry = push_host(reader, situation, &covered);
        credentials.logins.push(Login { registry, username, password, source, ambient: false });
    }
    credentials.logins.extend(listed);
    credentials.logins.extend(heroku(reader));
    credentials.logins.extend(base_image(reader, situation));
    credentials.logins.extend(legacy_extra(reader, cloud));
    credentials
}

fn secret(reader: &Reader<'_>, key: Key) -> Option<Secret> {
    reader.given(key).map(|given| Secret::new(given.value))
}

/// The pair for pushing, from the settings or from `DOCKER_*`.
fn push_pair(
    reader: &mut Reader<'_>,
    situation: &Situation<'_>,
    cloud: bool,
) -> Option<(String, Secret, &'static str)> {
    let legacy_user = reader.variable("DOCKER_USERNAME").map(str::to_owned);
    let legacy_password = reader.variable("DOCKER_PASSWORD").map(Secret::new);
    match (reader.text(Key::Username), secret(reader, Key::Password)) {
        (Some(user), Some(password)) => Some((user, password, PUSH)),
        (None, None) if cloud => None,
        (None, None) => Some((legacy_user?, legacy_password?, LEGACY)),
        // A complete pair of somebody else's never lends a half.
        (Some(user), None) => match (legacy_user, legacy_password) {
            (None, Some(password)) => Some((user, password, PUSH)),
            _ => incomplete(reader, situation, "password"),
        },
        (None, Some(password)) => match (legacy_user, legacy_password) {
            (Some(user), None) => Some((user, password, PUSH)),
            _ => incomplete(reader, situation, "username"),
        },
    }
}

fn incomplete<T>(reader: &mut Reader<'_>, situation: &Situation<'_>, missing: &str) -> Option<T> {
    let written = Written::named(missing);
    let problem = "the other half of the pair is given and this one is not \
                   (is the secret exposed to this event? pull requests usually get none)";
    if situation.push {
        let example = format!("{missing}: {{from_secret: registry_{missing}}}");
        reader.wrong(Code::CredentialIncomplete, &written, problem, "both or none", example);
    } else {
        reader.findings.add(Finding::new(Code::CredentialIncompleteWarning, &written, problem));
    }
    None
}

/// The host the push pair is for.
fn push_host(reader: &mut Reader<'_>, situation: &Situation<'_>, covered: &BTreeSet<String>) -> String {
    if let Some(registry) = situation.registry {
        return registry.host.clone();
    }
    let hub = situation.hosts.iter().any(|host| host == DOCKER_HUB);
    let open: BTreeSet<&String> = situation.hosts.iter().filter(|host| !covered.contains(*host)).collect();
    let written = Written::named("registry");
    match open.iter().next() {
        Some(only) if !hub && open.len() == 1 => {
            let problem = format!("it is not given; username and password are used for `{only}`");
            reader.findings.add(Finding::new(Code::CredentialInferredWarning, &written, problem));
            (*only).clone()
        }
        Some(_) if !hub => {
            let hosts: Vec<&str> = open.iter().map(|host| host.as_str()).collect();
            let problem = format!("username and password may be for any of {}", hosts.join(", "));
            let expected = "the registry they are for, and `logins` for the others";
            reader.wrong(
                Code::CredentialAmbiguous,
                &written,
                problem,
                expected,
                format!("registry: {}", hosts[0]),
            );
            DOCKER_HUB.to_owned()
        }
        _ => DOCKER_HUB.to_owned(),
    }
}

fn covered_hosts(listed: &[Login], config: Option<&Secret>) -> BTreeSet<String> {
    let host = |location: &str| {
        let rest = location.split_once("://").map_or(location, |(_, rest)| rest);
        one_spelling(&rest.split('/').next().unwrap_or_default().to_ascii_lowercase())
    };
    let mut covered: BTreeSet<String> = listed.iter().map(|login| host(&login.registry)).collect();
    let text = config.and_then(Secret::expose_str).unwrap_or_default();
    let config: Value = serde_json::from_str(text).unwrap_or_default();
    for section in ["auths", "credHelpers"] {
        if let Some(Value::Object(entries)) = config.get(section) {
            covered.extend(entries.keys().map(|key| host(key)));
        }
    }
    covered
}

/// The pair for base images.
fn base_image(reader: &mut Reader<'_>, situation: &Situation<'_>) -> Option<Login> {
    let registry = match reader.given(Key::BaseImageRegistry) {
        Some(given) => Registry::parse(given.value, given.written, reader.findings)?,
        None => Registry::docker_hub(),
    };
    let (username, password) =
        match (reader.text(Key::BaseImageUsername), secret(reader, Key::BaseImagePassword)) {
            (Some(username), Some(password)) => (username, password),
            (Some(_), None) => return incomplete(reader, situation, "base_image_password"),
            (None, Some(_)) => return incomplete(reader, situation, "base_image_username"),
            (None, None) => return None,
        };
    let source = "setting:base_image";
    Some(Login { registry: registry.location(), username, password, source, ambient: false })
}

/// The `DOCKER_*` pair beside a push pair or cloud keys: for base images.
fn legacy_extra(reader: &mut Reader<'_>, cloud: bool) -> Option<Login> {
    let both = reader.settings.is_written(Key::Username) && reader.settings.is_written(Key::Password);
    if !both && !cloud {
        return None;
    }
    let username = reader.variable("DOCKER_USERNAME")?.to_owned();
    let password = Secret::new(reader.variable("DOCKER_PASSWORD")?);
    let registry = match reader.variable("DOCKER_REGISTRY") {
        Some(text) => Registry::parse(text.trim(), &Written::named("DOCKER_REGISTRY"), reader.findings)?,
        None => Registry::docker_hub(),
    };
    Some(Login { registry: registry.location(), username, password, source: LEGACY, ambient: true })
}

fn heroku(reader: &mut Reader<'_>) -> Option<Login> {
    reader.text(Key::App)?;
    let password = secret(reader, Key::ApiKey)?;
    let username = reader.text(Key::Email).unwrap_or_else(|| "_".to_owned());
    let registry = "registry.heroku.com".to_owned();
    Some(Login { registry, username, password, source: "setting:api_key", ambient: false })
}

/// The pairs of `logins`, and the mirrors it names.
fn listed(reader: &mut Reader<'_>, mirrors: &mut Vec<(String, Vec<String>)>) -> Vec<Login> {
    let Some(given) = reader.given(Key::Logins) else { return Vec::new() };
    let example = r#"[{"registry":"ghcr.io","username":"me","password":"…"}]"#;
    let written = given.written.clone();
    let Ok(value) = serde_json::from_str::<Value>(given.value) else {
        reader.wrong(Code::Json, &written, "it is not JSON", "a JSON list of logins", example);
        return Vec::new();
    };
    let mut logins: Vec<Login> = Vec::new();
    for (number, entry) in value.as_array().into_iter().flatten().enumerate() {
        match login(entry, &written, reader, mirrors) {
            Ok(Some(login)) if logins.iter().any(|known| known.registry == login.registry) => {}
            Ok(login) => logins.extend(login),
            Err(problem) => {
                let problem = format!("entry {}: {problem}", number + 1);
                reader.wrong(Code::Login, &written, problem, "registry, username and password", example);
            }
        }
    }
    if !value.is_array() {
        reader.wrong(Code::Login, &written, "it is not a list", "a JSON list of logins", example);
    }
    logins
}

fn login(
    entry: &Value,
    written: &Written,
    reader: &mut Reader<'_>,
    mirrors: &mut Vec<(String, Vec<String>)>,
) -> Result<Option<Login>, &'static str> {
    let Value::Object(fields) = entry else { return Err("it is not a map") };
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err("a field is not text"),
    };
    let name = text("registry")?.unwrap_or_else(|| DOCKER_HUB.to_owned());
    let Some(registry) = Registry::parse(name.trim(), written, reader.findings) else { return Ok(None) };
    if let Some(Value::Array(items)) = fields.get("mirrors") {
        let items = items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        mirrors.push((registry.host.clone(), items));
    }
    let cloud = fields.contains_key("aws_access_key_id") && fields.contains_key("aws_secret_access_key");
    match (text("username")?, text("password")?) {
        (Some(username), Some(password)) => Ok(Some(Login {
            registry: registry.location(),
            username,
            password: Secret::new(password),
            source: "setting:logins",
            ambient: false,
        })),
        (None, None) if cloud => Ok(None),
        (Some(_), None) if !cloud => Err("it has a username and no password"),
        (None, Some(_)) if !cloud => Err("it has a password and no username"),
        (None, None) if fields.contains_key("mirrors") => Ok(None),
        _ => Err("it has neither username nor password"),
    }
}

/// The docker config: JSON, the path of a file, or base64 of JSON.
fn config(reader: &mut Reader<'_>) -> Option<Secret> {
    let given = reader.given(Key::Config)?;
    let written = given.written.clone();
    let text = given.value.trim().to_owned();
    let found = json_object(&text)
        .or_else(|| reader.files.read_text(Path::new(&text)).ok().and_then(|file| json_object(&file)))
        .or_else(|| decoded(&text));
    if found.is_none() {
        let problem = "it is neither JSON, nor the path of a JSON file, nor base64 of JSON";
        reader.wrong(
            Code::Config,
            &written,
            problem,
            "a docker config",
            r#"{"auths":{"ghcr.io":{"auth":"…"}}}"#,
        );
    }
    found.map(Secret::new)
}

/// The Google key: JSON, or base64 of it. Un-prefixed variables count where the registry is Google's.
fn json_key(reader: &mut Reader<'_>, situation: &Situation<'_>) -> Option<Secret> {
    if let Some(given) = reader.given(Key::JsonKey) {
        let written = given.written.clone();
        let found = json_object(given.value.trim()).or_else(|| decoded(given.value.trim()));
        if found.is_none() {
            let problem = "it is neither JSON nor base64 of JSON";
            reader.wrong(
                Code::Json,
                &written,
                problem,
                "a service account key",
                r#"{"type":"service_account",…}"#,
            );
        }
        return found.map(Secret::new);
    }
    let google = situation.hosts.iter().any(|host| is_google(host));
    let text = reader.variable("GCR_JSON_KEY").or_else(|| reader.variable("GOOGLE_CREDENTIALS"))?.trim();
    if google { json_object(text).or_else(|| decoded(text)).map(Secret::new) } else { None }
}

fn json_object(text: &str) -> Option<String> {
    matches!(serde_json::from_str(text), Ok(Value::Object(_))).then(|| text.to_owned())
}

fn decoded(text: &str) -> Option<String> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes = STANDARD.decode(compact).ok()?;
    json_object(&String::from_utf8(bytes).ok()?)
}
