//! Labels from what the CI says, below every other label in precedence.

use coracle::ci::Facts;
use jiff::Timestamp;

use crate::normalise::{Normalised, version_of};
use crate::settings::Pairs;

const PREFIX: &str = "org.opencontainers.image.";

/// What the labels are made of, besides the facts.
pub(crate) struct LabelSources<'a> {
    /// The `link` setting.
    pub(crate) link: Option<&'a str>,
    /// The tag that stands for the default branch, as it was given to the image.
    pub(crate) default_tag: &'a str,
    /// Seconds since 1970; nothing when no time would be the same twice.
    pub(crate) created: Option<i64>,
}

/// The labels of the OCI image spec (annotations.md) that are known. What is not
/// known gives no label.
pub(crate) fn automatic(normalised: &Normalised, sources: &LabelSources<'_>) -> Pairs {
    let facts = &normalised.facts;
    let repository = facts.repository_url.as_deref();
    let ref_name = facts.tag.as_deref().or(facts.branch.as_deref());
    let labels = [
        ("created", sources.created.and_then(rfc3339)),
        ("revision", facts.sha.clone()),
        ("source", repository.map(str::to_owned)),
        ("url", sources.link.or(repository).map(str::to_owned)),
        ("version", version(normalised, facts, sources.default_tag)),
        ("ref.name", ref_name.map(str::to_owned)),
    ];
    labels.into_iter().filter_map(|(name, value)| Some((format!("{PREFIX}{name}"), value?))).collect()
}

fn rfc3339(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

fn version(normalised: &Normalised, facts: &Facts, default_tag: &str) -> Option<String> {
    let from_git = facts.tag.as_deref().and_then(version_of);
    let moving = |tag: &str| tag == "latest" || tag == default_tag;
    let from_image = || normalised.destinations.iter().map(|name| &name.tag).find(|tag| !moving(tag));
    from_git.or_else(|| from_image().cloned())
}
