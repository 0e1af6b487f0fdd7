//! From raw settings and the CI's facts to what the build is meant to be.
//!
//! Nothing is asked of a network here, and of the disk only the files settings
//! name. Everything wrong is collected; what comes out beside errors is only
//! good for finding further ones.

mod arguments;
mod cache;
mod destinations;
mod logins;
mod references;
mod tags;
#[cfg(test)]
mod vectors;

use coracle::ci::{Environment, Facts, Files};

pub(crate) use self::cache::{Cache, Mirrors};
pub(crate) use self::destinations::{ImageName, Unmatched};
pub(crate) use self::logins::{Credentials, Login, is_google};
pub(crate) use self::references::DOCKER_HUB;
use self::references::{Registry, one_spelling};
pub(crate) use self::tags::version_of;
use crate::settings::{
    Code, Effect, Finding, Findings, Key, Kind, Pairs, Reader, SecretSpec, Setting, Settings, TABLE, Written,
    shown,
};

/// What the settings mean.
#[derive(Clone, Debug)]
pub(crate) struct Normalised {
    /// The context as written.
    pub(crate) context: String,
    /// The Dockerfile as written; the default when absent.
    pub(crate) dockerfile: Option<String>,
    /// Build arguments.
    pub(crate) build_arguments: Pairs,
    /// Proxy variables for RUN.
    pub(crate) proxies: Pairs,
    /// Secrets of the build.
    pub(crate) secrets: Vec<SecretSpec>,
    /// Platforms as written.
    pub(crate) platforms: Vec<String>,
    /// Names of the image.
    pub(crate) destinations: Vec<ImageName>,
    /// Push to all of them.
    pub(crate) push: bool,
    /// Nothing matched under `auto_tag`: what to do.
    pub(crate) unmatched: Option<Unmatched>,
    /// A docker-archive to write.
    pub(crate) tar_path: Option<String>,
    /// Labels from the settings.
    pub(crate) labels: Pairs,
    /// Add labels from the CI's facts.
    pub(crate) auto_label: bool,
    /// The tag that stands for the default branch.
    pub(crate) default_tag: String,
    /// Wipe the state directory at the end.
    pub(crate) purge: bool,
    /// The cache in a registry.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "decided and checked; the build has no such cache yet")
    )]
    pub(crate) cache: Cache,
    /// Images whose layers may be reused.
    #[cfg_attr(not(test), expect(dead_code, reason = "as `cache`"))]
    pub(crate) cache_from: Vec<String>,
    /// Mirrors, by registry.
    #[cfg_attr(not(test), expect(dead_code, reason = "decided and checked; registries have no mirrors yet"))]
    pub(crate) mirrors: Mirrors,
    /// Hosts that may be unverified or plain HTTP.
    pub(crate) insecure: Vec<String>,
    /// Hosts whose certificates are not verified.
    pub(crate) skip_tls_verify: Vec<String>,
    /// Credentials.
    pub(crate) credentials: Credentials,
    /// Facts, with what the settings override.
    pub(crate) facts: Facts,
}

/// Decides what the settings mean.
pub(crate) fn normalise(
    settings: &Settings,
    facts: &Facts,
    environment: &Environment,
    files: &dyn Files,
    findings: &mut Findings,
) -> Normalised {
    let mut reader = Reader { settings, environment, files, findings };
    let reader = &mut reader;
    report_effects(reader);
    check_words(reader);
    let facts = overridden(facts, reader);
    let registry = registry(reader);
    let expand_repo = reader.flag(Key::ExpandRepo).unwrap_or(true);
    let google = google_registry(reader, registry.as_ref());
    let completion = destinations::completion(registry.as_ref().or(google.as_ref()), expand_repo);
    let found = destinations::read(reader, &facts, completion);
    let dry_run = reader.flag(Key::DryRun).unwrap_or(false);
    check_push_only(reader, dry_run);
    let push = !dry_run && !found.names.is_empty() && found.unmatched.is_none();
    report_missing(reader, &found, dry_run);
    let hosts: Vec<String> = found.names.iter().map(|name| name.host.clone()).collect();
    let situation = logins::Situation { registry: registry.as_ref(), hosts: &hosts, push };
    let credentials = logins::read(reader, &situation);
    let build_arguments = arguments::build_arguments(reader);
    Normalised {
        context: reader.text(Key::Context).unwrap_or_else(|| ".".to_owned()),
        dockerfile: reader.text(Key::Dockerfile),
        proxies: arguments::proxies(reader, &build_arguments),
        build_arguments,
        secrets: reader.secrets(),
        platforms: platforms(reader),
        push,
        unmatched: found.unmatched,
        tar_path: reader.text(Key::TarPath),
        labels: arguments::labels(reader),
        auto_label: reader.flag(Key::AutoLabel).unwrap_or(true),
        default_tag: reader.text(Key::DefaultTag).unwrap_or_else(|| "latest".to_owned()),
        purge: reader.flag(Key::Purge).unwrap_or(true),
        cache: cache::read(reader, completion, &found.names),
        cache_from: cache::cache_from(reader),
        mirrors: cache::mirrors(reader, &credentials.mirrors),
        insecure: insecure(reader, registry.as_ref(), &hosts),
        skip_tls_verify: unverified(reader, registry.as_ref(), &hosts),
        destinations: found.names,
        credentials,
        facts,
    }
}

/// Whether a switch is off: then nothing need be said about it.
pub(crate) fn is_off(settings: &Settings, key: Key) -> bool {
    // Attestations have levels, and `false` switches them off.
    let is_switch = Setting::of(key).kind == Kind::Flag || key == Key::Provenance;
    is_switch
        && settings.get(key).is_some_and(|given| {
            matches!(given.value.to_ascii_lowercase().as_str(), "0" | "f" | "false" | "n" | "no" | "off")
        })
}

/// Settings that do nothing, and those that are refused.
fn report_effects(reader: &mut Reader<'_>) {
    for setting in TABLE {
        let given = reader.settings.is_written(setting.key);
        let written = reader.settings.written(setting.key);
        let off = is_off(reader.settings, setting.key);
        match setting.effect {
            Effect::NoDaemon if given => {
                let problem = "there is no daemon to configure; remove it";
                reader.findings.add(Finding::new(Code::NoDaemonWarning, &written, problem));
            }
            Effect::None if given && !off => {
                let problem = "it has no effect here; remove it";
                reader.findings.add(Finding::new(Code::NoEffectWarning, &written, problem));
            }
            Effect::Refused(reason) if given && !off => {
                reader.findings.add(Finding::new(Code::Unsupported, &written, reason));
            }
            _ => {}
        }
    }
}

/// Values that are checked though little or nothing comes of them.
fn check_words(reader: &mut Reader<'_>) {
    reader.word(Key::SnapshotMode, &["full", "redo", "time"]);
    reader.word(Key::LogFormat, &["text", "color", "json"]);
    reader.word(Key::RegistryType, &["Docker", "ECR", "GCR", "GAR", "ACR"]);
    reader.word(Key::Verbosity, &["info", "trace", "debug", "warn", "warning", "error", "fatal", "panic"]);
    reader.integer(Key::PushRetry);
    reader.integer(Key::ImageDownloadRetry);
    for setting in TABLE.iter().filter(|setting| setting.kind == Kind::Flag) {
        reader.flag(setting.key);
    }
}

/// Settings go before what the CI says.
fn overridden(facts: &Facts, reader: &Reader<'_>) -> Facts {
    let mut facts = facts.clone();
    facts.default_branch = reader.text(Key::DefaultBranch).or(facts.default_branch);
    facts.sha = reader.text(Key::Sha).or(facts.sha);
    if let Some(name) = reader.text(Key::Ref) {
        facts.tag = name.strip_prefix("refs/tags/").map(str::to_owned);
        facts.branch = name.strip_prefix("refs/heads/").map(str::to_owned);
        facts.ref_name = Some(name);
    }
    facts
}

/// The registry setting; `DOCKER_REGISTRY` takes its place unless the pair that
/// comes with it is only for base images.
fn registry(reader: &mut Reader<'_>) -> Option<Registry> {
    if let Some(given) = reader.given(Key::Registry) {
        return Registry::parse(given.value, given.written, reader.findings);
    }
    let both = reader.settings.is_written(Key::Username) && reader.settings.is_written(Key::Password);
    if both || logins::has_cloud_key(reader, None) {
        return None;
    }
    let text = reader.variable("DOCKER_REGISTRY")?.trim();
    Registry::parse(text, &Written::named("DOCKER_REGISTRY"), reader.findings)
}

/// With a Google key and no registry the registry is Google's.
fn google_registry(reader: &Reader<'_>, registry: Option<&Registry>) -> Option<Registry> {
    let wanted = registry.is_none() && reader.settings.is_written(Key::JsonKey);
    wanted.then(|| Registry { host: "gcr.io".to_owned(), ..Registry::docker_hub() })
}

fn check_push_only(reader: &mut Reader<'_>, dry_run: bool) {
    if reader.flag(Key::PushOnly) != Some(true) {
        return;
    }
    let written = reader.settings.written(Key::PushOnly);
    if dry_run {
        let problem = "it cannot be used together with dry_run";
        reader.wrong(Code::Conflict, &written, problem, "one of the two", "dry_run: false");
    } else if !reader.settings.is_written(Key::SourceTarPath) {
        let problem = "there is no local image store to push from, and source_tar_path is not given";
        reader.wrong(Code::Unsupported, &written, problem, "source_tar_path", "source_tar_path: image.tar");
    }
}

fn report_missing(reader: &mut Reader<'_>, found: &destinations::Destinations, dry_run: bool) {
    const ANY: [Key; 5] = [Key::Repo, Key::Destinations, Key::ExtraTags, Key::TarPath, Key::OciLayoutPath];
    let given = ANY.iter().any(|key| reader.settings.is_written(*key));
    let checking = reader.flag(Key::Check) == Some(true);
    if given || dry_run || checking || !found.names.is_empty() || found.unmatched.is_some() {
        return;
    }
    let problem = "nothing says where the image should go";
    let expected = "a repository; or destinations, tar_path, oci_layout_path or dry_run";
    reader.wrong(
        Code::RepoMissing,
        &Written::named("repo"),
        problem,
        expected,
        "repo: registry.example.com/team/app",
    );
}

fn platforms(reader: &mut Reader<'_>) -> Vec<String> {
    let written = reader.settings.written(Key::Platforms);
    let items = reader.list(Key::Platforms);
    for item in &items {
        let parts = item.split('/').count();
        let problem = if (2..=3).contains(&parts) {
            item.parse::<coracle::image::Platform>().err().map(|_| "it is malformed")
        } else {
            Some("system and architecture are both needed")
        };
        if let Some(problem) = problem {
            let problem = format!("`{}` is not a platform: {problem}", shown(item));
            reader.wrong(Code::Platform, &written, problem, "`os/arch` or `os/arch/variant`", "linux/amd64");
        }
    }
    items
}

/// Hosts that may be unverified or plain HTTP: those declared with `http://`, the
/// push hosts under `insecure`, and those named.
fn insecure(reader: &mut Reader<'_>, registry: Option<&Registry>, hosts: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(registry.filter(|registry| registry.plain_http).map(|registry| registry.host.clone()));
    if reader.flag(Key::Insecure).unwrap_or(false) {
        found.extend(push_hosts(registry, hosts));
    }
    found.extend(named_hosts(reader, Key::InsecureRegistry));
    unique(found)
}

fn unverified(reader: &mut Reader<'_>, registry: Option<&Registry>, hosts: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    if reader.flag(Key::SkipTlsVerify).unwrap_or(false) {
        found.extend(push_hosts(registry, hosts));
    }
    found.extend(named_hosts(reader, Key::SkipTlsVerifyRegistry));
    unique(found)
}

/// Hosts of registry and destinations. Never Docker Hub: it has no reason to be unverified.
fn push_hosts(registry: Option<&Registry>, hosts: &[String]) -> Vec<String> {
    let all = registry.map(|registry| registry.host.clone()).into_iter().chain(hosts.iter().cloned());
    all.filter(|host| host != DOCKER_HUB).collect()
}

fn named_hosts(reader: &mut Reader<'_>, key: Key) -> Vec<String> {
    let written = reader.settings.written(key);
    let items = reader.list(key);
    let mut hosts = Vec::new();
    for item in &items {
        // Only the host counts; that it may be plain HTTP is what the setting says anyway.
        let rest = item.split_once("://").map_or(item.as_str(), |(_, rest)| rest);
        let host = one_spelling(&rest.split('/').next().unwrap_or_default().to_ascii_lowercase());
        if host.is_empty() || host.contains(['$', '@', ' ']) {
            let problem = format!("`{}` is not a host", shown(item));
            reader.wrong(Code::Registry, &written, problem, "hosts", "registry.lan:5000");
        } else {
            hosts.push(host);
        }
    }
    hosts
}

fn unique(items: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    items.into_iter().filter(|item| seen.insert(item.clone())).collect()
}
