//! The cache in a registry, and mirrors.

use std::collections::BTreeMap;
use std::time::Duration;

use super::destinations::ImageName;
use super::references::{Completion, DOCKER_HUB, FULL, repository};
use crate::settings::{Code, Key, Reader, shown};

/// How long an entry of the cache counts when nobody says.
const DEFAULT_TTL: Duration = Duration::from_secs(336 * 3600);

/// The cache in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    /// Whether to use it.
    pub(crate) enabled: bool,
    /// The repository, without a tag.
    pub(crate) repository: Option<String>,
    /// How long an entry counts.
    pub(crate) ttl: Duration,
}

/// Reads the cache settings. The default repository stands beside the first destination.
pub(crate) fn read(reader: &mut Reader<'_>, completion: Completion<'_>, destinations: &[ImageName]) -> Cache {
    let quiet = Completion { warn: false, ..completion };
    let written = reader.settings.written(Key::CacheRepo);
    let named = reader.text(Key::CacheRepo);
    let given = named.and_then(|text| repository(&text, &written, quiet, reader.findings)).map(|r| r.name());
    let enabled = reader.flag(Key::EnableCache).unwrap_or(given.is_some());
    let ttl = reader.duration(Key::CacheTtl).unwrap_or(DEFAULT_TTL);
    Cache { enabled, repository: given.or_else(|| destinations.first().map(beside)), ttl }
}

/// Docker Hub has two-part names only.
fn beside(name: &ImageName) -> String {
    let separator = if name.host == DOCKER_HUB { '-' } else { '/' };
    format!("{}/{}{separator}cache", name.host, name.path)
}

/// `cache_from`: specs of BuildKit's, or image references.
pub(crate) fn cache_from(reader: &mut Reader<'_>) -> Vec<String> {
    let Some(given) = reader.given(Key::CacheFrom) else { return Vec::new() };
    let (value, written) = (given.value.to_owned(), given.written.clone());
    if value.contains("type=") {
        return specs(&value);
    }
    let items: Vec<String> = match crate::settings::split_list(&value) {
        Ok(items) => items.iter().flat_map(|item| item.split(';')).map(|i| i.trim().to_owned()).collect(),
        Err(()) => {
            reader.wrong(
                Code::List,
                &written,
                "an item is a list or a map",
                "image references",
                "me/app:cache",
            );
            Vec::new()
        }
    };
    let references = items.iter().filter(|item| !item.is_empty()).filter_map(|item| {
        let found = repository(item, &written, FULL, reader.findings)?;
        Some(format!("{}:{}", found.name(), found.tag.as_deref().unwrap_or("latest")))
    });
    references.collect()
}

/// Specs separated by `;`, line breaks, or a comma before `type=`.
fn specs(value: &str) -> Vec<String> {
    let separated = value.replace(",type=", ";type=").replace('\n', ";");
    separated.split(';').map(str::trim).filter(|spec| !spec.is_empty()).map(str::to_owned).collect()
}

/// Mirrors by the registry they stand for; `http://` in front is kept as a mark.
pub(crate) type Mirrors = BTreeMap<String, Vec<String>>;

/// Mirrors of Docker Hub from the settings, and those that `logins` names.
pub(crate) fn mirrors(reader: &mut Reader<'_>, from_logins: &[(String, Vec<String>)]) -> Mirrors {
    let keys = [Key::Mirror, Key::RegistryMirrors, Key::Mirrors, Key::KanikoMirror, Key::DockerPluginMirror];
    let mut found = Mirrors::new();
    for key in keys {
        let written = reader.settings.written(key);
        for item in reader.list(key) {
            match location(&item, reader) {
                Some(mirror) => add(&mut found, DOCKER_HUB, mirror),
                None => {
                    let problem = format!("`{}` is not a mirror", shown(&item));
                    reader.wrong(
                        Code::Registry,
                        &written,
                        problem,
                        "`host[:port][/path]`",
                        "mirror.example.com:5000",
                    );
                }
            }
        }
    }
    for (registry, items) in from_logins {
        for mirror in items.iter().filter_map(|item| location(item, reader)) {
            add(&mut found, registry, mirror);
        }
    }
    found
}

fn add(mirrors: &mut Mirrors, registry: &str, mirror: String) {
    let list = mirrors.entry(registry.to_owned()).or_default();
    if !list.contains(&mirror) {
        list.push(mirror);
    }
}

fn location(item: &str, reader: &Reader<'_>) -> Option<String> {
    let item = match item {
        "gitlab" => reader.variable("CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX")?,
        other => other,
    };
    let item = item.trim().trim_end_matches('/');
    let item = item.strip_prefix("https://").unwrap_or(item);
    let host = item.strip_prefix("http://").unwrap_or(item);
    let legal = !host.is_empty() && !host.contains(['$', '@', ' ']) && !host.contains("://");
    legal.then(|| item.to_owned())
}
