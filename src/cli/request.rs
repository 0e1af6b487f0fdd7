//! `coracle build`: arguments + environment → [`BuildRequest`] → [`conduct`] →
//! the files and lines that were asked for.
//!
//! Everything wrong is collected and said at once. Apart from the Dockerfile
//! that `-f -` reads, this opens nothing.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::arguments::BuildArguments;
use super::around::{agents, extra_host, network, shm_size, ulimit};
use super::context::context_source;
use super::door::{DoorOptions, ProgressMode, conduct, credentials, state_directory};
use super::failure::Failure;
use super::fields::fields;
use super::output::{self, takes_stdout};
use super::refused::{NETWORK_HOST, refusals};
use super::results;
use crate::build::{
    self, BuildRequest, CachePolicy, ContextSource, Destination, DiskQuota, DockerfileSource, SecretSource,
};
use crate::fetch::Location;
use crate::image::{Platform, Reference};
use crate::plan::{self, NamedContext};
use crate::registry::Credentials;
use crate::sandbox::{Rung, StorageKind};
use crate::secret::Secret;

/// Variables that reach RUN and are neither config nor part of a key
/// (Dockerfile reference, "Predefined ARGs").
const PROXY_NAMES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Builds what `arguments` ask for.
///
/// # Errors
/// All usage errors at once, or what the build failed with.
pub(super) fn run(arguments: BuildArguments, environment: BTreeMap<String, String>) -> Result<(), Failure> {
    let mut wrong = refusals(&arguments);
    let request = understand(&arguments, &environment, &mut wrong);
    let door = door(&arguments, &environment, &mut wrong);
    let (Some(door), true) = (door, wrong.is_empty()) else {
        return Err(Failure::Usage(wrong));
    };
    let mut request = request;
    if arguments.file.as_deref() == Some(Path::new("-")) {
        request.dockerfile = DockerfileSource::Text(read_input(&mut io::stdin().lock())?);
    }
    let digest_to_stderr = request.outputs.iter().any(takes_stdout);
    let Some(outcome) = conduct(request, door.into_options(&arguments, environment))? else { return Ok(()) };
    results::write(&outcome, arguments.iidfile.as_deref(), arguments.metadata_file.as_deref())?;
    match digest_to_stderr {
        true => results::print(&outcome, &mut io::stderr()),
        false => results::print(&outcome, &mut io::stdout()),
    }
}

/// What the arguments say about a plan, for requests that build nothing.
///
/// # Errors
/// All usage errors at once.
pub(super) fn plan_options(
    arguments: &BuildArguments,
    environment: &BTreeMap<String, String>,
) -> Result<plan::Options, Failure> {
    let mut wrong = Vec::new();
    let request = understand(arguments, environment, &mut wrong);
    match wrong.is_empty() {
        true => Ok(build::plan_options(&request)),
        false => Err(Failure::Usage(wrong)),
    }
}

/// What goes past the request.
struct Door {
    state_dir: PathBuf,
    isolation: Option<Rung>,
    storage: Option<StorageKind>,
    disk_quota: Option<DiskQuota>,
    credentials: Credentials,
    progress: ProgressMode,
}

impl Door {
    fn into_options(self, arguments: &BuildArguments, environment: BTreeMap<String, String>) -> DoorOptions {
        DoorOptions {
            state_dir: self.state_dir,
            isolation: self.isolation,
            storage: self.storage,
            disk_quota: self.disk_quota,
            insecure_registries: arguments.insecure_registries.clone(),
            skip_tls_verify: Vec::new(),
            credentials: self.credentials,
            progress: self.progress,
            environment,
        }
    }
}

/// Arguments and environment as a request; what is wrong is added to `wrong`.
fn understand(
    arguments: &BuildArguments,
    environment: &BTreeMap<String, String>,
    wrong: &mut Vec<String>,
) -> BuildRequest {
    let wishes: Vec<_> =
        arguments.outputs.iter().filter_map(|spec| keep(output::parse(spec), wrong)).collect();
    let names = arguments.tags.iter().chain(wishes.iter().flat_map(|wish| &wish.names));
    let mut build_args = build_args(&arguments.build_args, environment, wrong);
    let epoch = keep(source_date_epoch(&mut build_args, environment), wrong).flatten();
    let request = BuildRequest {
        context: context(&arguments.context, wrong),
        dockerfile: arguments.file.as_deref().map_or(DockerfileSource::Default, dockerfile),
        target: arguments.target.clone(),
        proxy_args: proxy_args(&build_args, environment),
        named_contexts: pairs("--build-context", "NAME=SOURCE", &arguments.build_contexts, wrong)
            .into_iter()
            .filter_map(|(name, source)| keep(named_context(name, source), wrong))
            .collect(),
        labels: labels(&arguments.labels, wrong),
        default_labels: Vec::new(),
        annotations: annotations(&arguments.annotations, wrong),
        platform: platform(&arguments.platforms, wrong),
        destinations: destinations(names, wrong),
        push: arguments.push || wishes.iter().any(|wish| wish.push),
        outputs: wishes.iter().filter_map(|wish| wish.output.clone()).collect(),
        secrets: arguments.secrets.iter().filter_map(|spec| keep(secret(spec, environment), wrong)).collect(),
        ssh: agents(&arguments.ssh, environment, wrong),
        cache: CachePolicy {
            disabled: arguments.no_cache,
            disabled_stages: arguments.no_cache_filter.clone(),
        },
        pull: arguments.pull,
        source_date_epoch: epoch,
        extra_hosts: arguments.add_hosts.iter().filter_map(|text| keep(extra_host(text), wrong)).collect(),
        shm_size: keep(arguments.shm_size.as_deref().map(shm_size).transpose(), wrong).flatten(),
        ulimits: arguments.ulimits.iter().filter_map(|text| keep(ulimit(text), wrong)).collect(),
        network: keep(network(&arguments.network), wrong).unwrap_or_default(),
        // As buildx does it: who gives every RUN the host's network allows it to each.
        host_network: arguments.network == "host" || arguments.allow.iter().any(|name| name == NETWORK_HOST),
        dry_run: false,
        build_args,
    };
    check_together(&request, arguments, wrong);
    request
}

/// What is wrong only in combination.
fn check_together(request: &BuildRequest, arguments: &BuildArguments, wrong: &mut Vec<String>) {
    if request.push && arguments.tags.is_empty() && request.destinations.is_empty() {
        wrong.push("there is nothing to push to; name the image with --tag HOST/REPOSITORY:TAG".to_owned());
    }
    if request.context == ContextSource::Stdin && arguments.file.as_deref() == Some(Path::new("-")) {
        wrong.push("standard input can be the context or the Dockerfile, not both".to_owned());
    }
    if request.outputs.iter().filter(|output| takes_stdout(output)).count() > 1 {
        wrong.push("only one --output can have dest=-".to_owned());
    }
    let stdin = request.secrets.values().any(|source| *source == SecretSource::File("-".into()));
    if stdin {
        wrong.push("--secret cannot read standard input; give a file or env=NAME".to_owned());
    }
}

fn door(
    arguments: &BuildArguments,
    environment: &BTreeMap<String, String>,
    wrong: &mut Vec<String>,
) -> Option<Door> {
    let progress = match arguments.quiet {
        true => Some(ProgressMode::Quiet),
        false => keep(arguments.progress.parse(), wrong),
    };
    let isolation = arguments.isolation.as_ref().or(environment.get("CORACLE_ISOLATION"));
    let isolation = isolation
        .filter(|rung| !rung.is_empty() && *rung != "default")
        .map(|rung| rung.parse::<Rung>().map_err(|error| format!("--isolation {error}")));
    let storage = environment.get("CORACLE_STORAGE").filter(|text| !text.is_empty());
    let storage = storage.map(|text| text.parse().map_err(|error| format!("CORACLE_STORAGE: {error}")));
    let quota = arguments.disk_quota.as_ref().or(environment.get("CORACLE_DISK_QUOTA"));
    let quota = quota.filter(|text| !text.is_empty());
    let quota = quota.map(|text| text.parse::<DiskQuota>().map_err(|error| format!("--disk-quota: {error}")));
    let state_dir =
        state_directory(arguments.state_dir.as_deref(), environment).map_err(|error| one_line(&error));
    Some(Door {
        isolation: keep(isolation.transpose(), wrong)?,
        storage: keep(storage.transpose(), wrong)?,
        disk_quota: keep(quota.transpose(), wrong)?,
        state_dir: keep(state_dir, wrong)?,
        credentials: keep(credentials(environment).map_err(|error| one_line(&error)), wrong)?,
        progress: progress?,
    })
}

/// An error with its causes, for a list of lines.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// The value, or its error among the others.
pub(super) fn keep<T>(result: Result<T, String>, wrong: &mut Vec<String>) -> Option<T> {
    result.map_err(|line| wrong.push(line)).ok()
}

fn context(path: &Path, wrong: &mut Vec<String>) -> ContextSource {
    keep(context_source(path), wrong).unwrap_or(ContextSource::Empty)
}

/// A name is one that FROM could say, as for buildx; `:latest` means nothing.
fn named_context(name: String, source: String) -> Result<(String, NamedContext), String> {
    let wrong = |reason: &dyn std::fmt::Display| format!("--build-context `{name}`: {reason}");
    name.parse::<Reference>().map_err(|error| wrong(&error))?;
    let context = if let Some(image) = source.strip_prefix("docker-image://") {
        NamedContext::Image(image.parse().map_err(|error| wrong(&error))?)
    } else if let Some(layout) = source.strip_prefix("oci-layout://") {
        NamedContext::OciLayout(layout.to_owned())
    } else if source.starts_with("target:") {
        return Err(wrong(&"`target:` is known to `docker buildx bake` only; name a directory or an image"));
    } else {
        match Location::of_context(&source) {
            Some(Ok(_)) => NamedContext::Other(source),
            Some(Err(error)) => return Err(wrong(&error)),
            None => match std::fs::metadata(&source) {
                Ok(found) if found.is_dir() => NamedContext::Directory(source.into()),
                Ok(_) => return Err(wrong(&format_args!("`{source}` is no directory"))),
                Err(error) => return Err(wrong(&format_args!("`{source}` cannot be read: {error}"))),
            },
        }
    };
    Ok((name.strip_suffix(":latest").unwrap_or(&name).to_owned(), context))
}

fn dockerfile(path: &Path) -> DockerfileSource {
    match path.to_str().map(|text| (text, text.to_ascii_lowercase())) {
        Some((text, lower)) if lower.starts_with("https://") || lower.starts_with("http://") => {
            DockerfileSource::Remote(text.to_owned())
        }
        _ => DockerfileSource::Path(path.to_owned()),
    }
}

fn destinations<'a>(names: impl Iterator<Item = &'a String>, wrong: &mut Vec<String>) -> Vec<Destination> {
    let mut found: Vec<Destination> = Vec::new();
    for name in names {
        let Some(reference) = keep(tag(name), wrong) else { continue };
        if found.iter().all(|other| other.reference != reference) {
            found.push(Destination { reference });
        }
    }
    found
}

fn tag(name: &str) -> Result<Reference, String> {
    let reference: Reference = name.parse().map_err(|error| format!("--tag {error}"))?;
    match reference.digest() {
        Some(_) => Err(format!("--tag `{name}` has a digest; a digest is the result of a build, give a tag")),
        None => Ok(reference),
    }
}

/// `NAME=VALUE` as it is; `NAME` takes the environment's value and is dropped
/// when there is none, as Docker does.
fn build_args(
    texts: &[String],
    environment: &BTreeMap<String, String>,
    wrong: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for text in texts {
        match text.split_once('=') {
            Some(("", _)) => wrong.push(format!("--build-arg `{text}` has no name (expected NAME=VALUE)")),
            Some((name, value)) => found.push((name.to_owned(), value.to_owned())),
            None => found.extend(environment.get(text).map(|value| (text.clone(), value.clone()))),
        }
    }
    found
}

/// From a build argument, else from the environment, where it becomes a build
/// argument too: BuildKit's command line does the same.
fn source_date_epoch(
    build_args: &mut Vec<(String, String)>,
    environment: &BTreeMap<String, String>,
) -> Result<Option<i64>, String> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let given = build_args.iter().rev().find(|(name, _)| name == NAME).map(|(_, value)| value.clone());
    let from_environment = || environment.get(NAME).filter(|value| !value.is_empty()).cloned();
    let Some(text) = given.clone().or_else(from_environment).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if given.is_none() {
        build_args.push((NAME.to_owned(), text.clone()));
    }
    let seconds = text.parse::<i64>().ok().filter(|seconds| *seconds >= 0);
    seconds.map(Some).ok_or_else(|| format!("{NAME} `{text}` is no number of seconds since 1970"))
}

/// The environment's proxies; a build argument of the same name wins.
fn proxy_args(
    build_args: &[(String, String)],
    environment: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for lower in PROXY_NAMES {
        for name in [lower.to_owned(), lower.to_ascii_uppercase()] {
            let given = build_args.iter().rev().find(|(other, _)| *other == name).map(|(_, value)| value);
            let value = given.or_else(|| environment.get(&name)).filter(|value| !value.is_empty());
            found.extend(value.map(|value| (name, value.clone())));
        }
    }
    found
}

fn labels(texts: &[String], wrong: &mut Vec<String>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for text in texts {
        match text.split_once('=').unwrap_or((text, "")) {
            ("", _) => wrong.push(format!("--label `{text}` has no name (expected KEY=VALUE)")),
            (key, value) => found.push((key.to_owned(), value.to_owned())),
        }
    }
    found
}

/// `KEY=VALUE` or `manifest:KEY=VALUE`; there is no index to annotate.
fn annotations(texts: &[String], wrong: &mut Vec<String>) -> Vec<(String, String)> {
    pairs("--annotation", "KEY=VALUE", texts, wrong)
        .into_iter()
        .filter_map(|(key, value)| match key.split_once(':') {
            None => Some((key, value)),
            Some(("manifest", key)) => Some((key.to_owned(), value)),
            Some((level, _)) => {
                wrong.push(format!("--annotation `{key}`: only the manifest is annotated, not `{level}`"));
                None
            }
        })
        .collect()
}

fn pairs(flag: &str, form: &str, texts: &[String], wrong: &mut Vec<String>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for text in texts {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                found.push((key.to_owned(), value.to_owned()));
            }
            _ => wrong.push(format!("{flag} `{text}` is not of the form {form}")),
        }
    }
    found
}

fn platform(texts: &[String], wrong: &mut Vec<String>) -> Option<Platform> {
    if texts.len() > 1 {
        wrong.push("--platform: several platforms are not supported yet; build one at a time".to_owned());
    }
    let parsed = texts.first()?.parse().map_err(|error| format!("--platform {error}"));
    keep(parsed, wrong)
}

/// `id=ID[,src=PATH|,source=PATH|,env=NAME][,type=file|env]`. Without a source
/// it is the variable of that name if there is one, else the file (BuildKit).
fn secret(spec: &str, environment: &BTreeMap<String, String>) -> Result<(String, SecretSource), String> {
    let named = |reason: String| format!("--secret `{spec}`: {reason}");
    let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
    for (key, value) in fields(spec).map_err(named)? {
        let value = value.filter(|value| !value.is_empty());
        let place = match key.as_str() {
            "id" => &mut id,
            "type" => &mut kind,
            "src" | "source" => &mut file,
            "env" => &mut variable,
            other => return Err(named(format!("`{other}` is unknown (id, src, env, type)"))),
        };
        *place = Some(value.ok_or_else(|| named(format!("`{key}` has no value")))?);
    }
    let id = id.ok_or_else(|| named("`id` is missing".to_owned()))?;
    match kind.as_deref() {
        None | Some("file") => {}
        Some("env") => variable = variable.or(file.take()).or_else(|| Some(id.clone())),
        Some(other) => return Err(named(format!("type `{other}` is unknown (file, env)"))),
    }
    if variable.is_none() && file.is_none() && kind.is_none() && environment.contains_key(&id) {
        variable = Some(id.clone());
    }
    match (variable, file) {
        (Some(_), Some(_)) => Err(named("`src` and `env` exclude each other".to_owned())),
        (Some(name), None) => match environment.get(&name) {
            Some(value) => Ok((id, SecretSource::Value(Secret::new(value.as_bytes())))),
            None => Err(named(format!("the variable `{name}` is not set"))),
        },
        (None, file) => Ok((id.clone(), SecretSource::File(PathBuf::from(file.unwrap_or(id))))),
    }
}

fn read_input(input: &mut dyn Read) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    input.read_to_end(&mut text).map_err(Failure::Input)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
