//! Secret specs: `id=ID,src=FILE`, `id=ID,env=VARIABLE`, `id=ID`. Values of
//! secrets never come through here: a spec only says where one is.

use super::decode::{Reader, split_escaped, split_list};
use super::finding::{Code, Written, shown};
use super::table::Key;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretFrom {
    /// In a file.
    File(String),
    /// In a variable.
    Variable(String),
}

/// A secret of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretSpec {
    /// Its id in the Dockerfile.
    pub(crate) id: String,
    /// Where it is.
    pub(crate) from: SecretFrom,
}

/// The secrets of all four settings, in their order.
pub(crate) fn secrets(reader: &mut Reader<'_>) -> Vec<SecretSpec> {
    let mut found = Vec::new();
    for key in [Key::Secret, Key::Secrets] {
        let Some(given) = reader.given(key) else { continue };
        let written = given.written.clone();
        for spec in specs(given.value) {
            let read = spec.and_then(|fragments| parse(&fragments, reader));
            add(read, &written, &mut found, reader);
        }
    }
    for (key, is_file) in [(Key::SecretsFromEnv, false), (Key::SecretsFromFile, true)] {
        let Some(given) = reader.given(key) else { continue };
        let written = given.written.clone();
        for item in reader.list(key) {
            let read = pair(&item, is_file, reader);
            add(read, &written, &mut found, reader);
        }
    }
    found
}

/// What is wrong with a spec.
enum SpecError {
    Malformed(String),
    Unset(String),
}

fn add(
    read: Result<SecretSpec, SpecError>,
    written: &Written,
    found: &mut Vec<SecretSpec>,
    reader: &mut Reader<'_>,
) {
    let example = match written.setting.as_str() {
        "secrets_from_env" => "npm=NPM_TOKEN",
        "secrets_from_file" => "npm=/run/secrets/npm",
        _ => "id=npm,env=NPM_TOKEN",
    };
    match read {
        Ok(spec) if found.iter().any(|known| known.id == spec.id) => {
            let problem = format!("the id `{}` is given twice", shown(&spec.id));
            reader.wrong(Code::SecretSpec, written, problem, "each id once", example);
        }
        Ok(spec) => found.push(spec),
        Err(SpecError::Malformed(problem)) => {
            reader.wrong(Code::SecretSpec, written, problem, "an id and a file or variable", example);
        }
        Err(SpecError::Unset(variable)) => {
            let problem = format!("the variable `{}` is not set", shown(&variable));
            let expected = "a variable that this step gets (secrets are often withheld from pull requests)";
            reader.wrong(Code::SecretMissing, written, problem, expected, example);
        }
    }
}

type Fragments = Vec<(String, String)>;

/// Cuts a value into specs: items of a JSON array or lines apart, and in a comma
/// list wherever a key comes again.
fn specs(value: &str) -> Vec<Result<Fragments, SpecError>> {
    let items = match value.trim_start().starts_with('[').then(|| split_list(value)) {
        Some(Ok(items)) => items,
        Some(Err(())) => {
            return vec![Err(SpecError::Malformed("an item is itself a list or a map".to_owned()))];
        }
        None => value.lines().map(str::to_owned).collect(),
    };
    items.iter().filter(|item| !item.trim().is_empty()).flat_map(|item| specs_of_item(item)).collect()
}

fn specs_of_item(item: &str) -> Vec<Result<Fragments, SpecError>> {
    let mut all: Vec<Fragments> = vec![Vec::new()];
    for fragment in split_escaped(item).iter().map(|f| f.trim()).filter(|f| !f.is_empty()) {
        let Some((key, value)) = fragment.split_once('=') else {
            return vec![Err(SpecError::Malformed("a part is not `key=value`".to_owned()))];
        };
        let current = all.last_mut().expect("there is one spec from the start");
        let part = (key.trim().to_owned(), value.trim().to_owned());
        if current.iter().any(|(known, _)| is_same_key(known, &part.0)) {
            all.push(vec![part]);
        } else {
            current.push(part);
        }
    }
    all.into_iter().map(Ok).collect()
}

/// `source` is another name for `src`.
fn is_same_key(one: &str, other: &str) -> bool {
    let canonical = |key: &str| if key == "source" { "src".to_owned() } else { key.to_owned() };
    canonical(one) == canonical(other)
}

fn parse(fragments: &Fragments, reader: &Reader<'_>) -> Result<SecretSpec, SpecError> {
    let malformed = |problem: &str| SpecError::Malformed(problem.to_owned());
    let get = |key: &str| {
        fragments.iter().find(|(k, v)| is_same_key(k, key) && !v.is_empty()).map(|(_, value)| value.clone())
    };
    if let Some((key, _)) =
        fragments.iter().find(|(k, _)| !["id", "type", "env", "src", "source"].contains(&k.as_str()))
    {
        return Err(SpecError::Malformed(format!(
            "`{}` is not one of the keys id, type, src, env",
            shown(key)
        )));
    }
    let id = get("id").ok_or_else(|| malformed("a spec has no id"))?;
    let from = match (get("type").as_deref(), get("src"), get("env")) {
        (_, Some(_), Some(_)) => return Err(malformed("a spec has both src and env")),
        (Some("file"), None, Some(_)) => return Err(malformed("type=file does not go with env")),
        (Some("env"), Some(variable), None) | (Some("env") | None, None, Some(variable)) => {
            SecretFrom::Variable(variable)
        }
        (Some("file") | None, Some(path), None) => SecretFrom::File(path),
        (Some("env"), None, None) => SecretFrom::Variable(id.clone()),
        (Some("file"), None, None) => SecretFrom::File(id.clone()),
        (None, None, None) if reader.environment.contains_key(&id) => SecretFrom::Variable(id.clone()),
        (None, None, None) => SecretFrom::File(id.clone()),
        (Some(_), _, _) => return Err(malformed("the type is neither file nor env")),
    };
    checked(SecretSpec { id, from }, reader)
}

fn pair(item: &str, is_file: bool, reader: &Reader<'_>) -> Result<SecretSpec, SpecError> {
    match item.split_once('=').map(|(id, source)| (id.trim(), source.trim())) {
        Some((id, source)) if !id.is_empty() && !source.is_empty() => {
            let from = if is_file { SecretFrom::File } else { SecretFrom::Variable };
            checked(SecretSpec { id: id.to_owned(), from: from(source.to_owned()) }, reader)
        }
        _ => Err(SpecError::Malformed(format!("`{}` is not `id=source`", shown(item)))),
    }
}

fn checked(spec: SecretSpec, reader: &Reader<'_>) -> Result<SecretSpec, SpecError> {
    match &spec.from {
        SecretFrom::Variable(name) if !reader.environment.contains_key(name) => {
            Err(SpecError::Unset(name.clone()))
        }
        _ => Ok(spec),
    }
}
