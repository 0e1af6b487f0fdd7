//! Where the image goes: repositories × tags, or full references.

use std::io;
use std::path::Path;

use coracle::ci::{Facts, System};

use super::references::{Completion, FULL, Registry, Repository, is_tag, repository, unexpanded};
use super::tags::{self, AutoTagOptions, AutoTags};
use crate::settings::{Code, Finding, Key, Reader, Written, shown, split_list};

/// A repository and a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageName {
    /// `host[:port]`.
    pub(crate) host: String,
    /// The path below it.
    pub(crate) path: String,
    /// The tag.
    pub(crate) tag: String,
}

impl ImageName {
    /// `host/path:tag`.
    pub(crate) fn reference(&self) -> String {
        format!("{}/{}:{}", self.host, self.path, self.tag)
    }
}

/// What the destination settings come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Destinations {
    /// In order, each once.
    pub(crate) names: Vec<ImageName>,
    /// Nothing matched under `auto_tag`.
    pub(crate) unmatched: Option<Unmatched>,
}

/// What to do when no automatic tag matches. Never a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// Do nothing, successfully.
    Skip,
    /// Build without pushing.
    Build,
}

const LATEST: &str = "latest";

/// Reads all of them.
pub(crate) fn read(reader: &mut Reader<'_>, facts: &Facts, completion: Completion<'_>) -> Destinations {
    let mut result = Destinations::default();
    let expand_tag = reader.flag(Key::ExpandTag).unwrap_or(false);
    let auto_tag = reader.flag(Key::AutoTag).unwrap_or(false);
    if expand_tag && auto_tag {
        let written = reader.settings.written(Key::AutoTag);
        reader.wrong(
            Code::Conflict,
            &written,
            "it cannot be used together with expand_tag",
            "one of the two",
            "auto_tag: true",
        );
        return result;
    }
    let full = full_references(reader, Key::Destinations);
    if reader.settings.is_written(Key::Destinations) {
        result.names = full;
    } else {
        result = repositories_and_tags(reader, facts, completion, auto_tag, expand_tag);
    }
    if result.unmatched.is_none() {
        result.names.extend(full_references(reader, Key::ExtraTags));
        result.names.extend(extra_tags_file(reader));
    }
    let mut seen = std::collections::HashSet::new();
    result.names.retain(|name| seen.insert(name.reference()));
    result
}

/// Full references: no registry in front, `latest` where there is no tag.
fn full_references(reader: &mut Reader<'_>, key: Key) -> Vec<ImageName> {
    let written = reader.settings.written(key);
    let items = reader.list(key);
    items.iter().filter_map(|item| full_reference(reader, item, &written)).collect()
}

fn full_reference(reader: &mut Reader<'_>, item: &str, written: &Written) -> Option<ImageName> {
    let found = repository(item, written, FULL, reader.findings)?;
    let tag = found.tag.clone().unwrap_or_else(|| LATEST.to_owned());
    check_tag(reader, &tag, written).then(|| named(&found, tag))
}

fn extra_tags_file(reader: &mut Reader<'_>) -> Vec<ImageName> {
    let written = Written::named("extra_tags");
    let items = tags_in(reader, ".extratags").unwrap_or_default();
    items.iter().filter_map(|item| full_reference(reader, item, &written)).collect()
}

fn named(repository: &Repository, tag: String) -> ImageName {
    ImageName { host: repository.host.clone(), path: repository.path.clone(), tag }
}

fn repositories_and_tags(
    reader: &mut Reader<'_>,
    facts: &Facts,
    completion: Completion<'_>,
    auto_tag: bool,
    expand_tag: bool,
) -> Destinations {
    let repositories = repositories(reader, facts, completion);
    let (explicit, written) = explicit_tags(reader, auto_tag);
    let mut tags: Vec<String> = Vec::new();
    if auto_tag {
        match automatic_tags(reader, facts) {
            Ok(automatic) => tags = automatic,
            Err(unmatched) => return Destinations { names: Vec::new(), unmatched },
        }
    }
    for tag in explicit.iter().flatten() {
        if check_tag(reader, tag, &written) {
            tags.extend(if expand_tag { tags::expand(tag) } else { vec![tag.clone()] });
        }
    }
    let given = auto_tag || explicit.is_some();
    let mut names = Vec::new();
    for repository in &repositories {
        match &repository.tag {
            Some(tag) if given => report_two_tags(reader, tag),
            Some(tag) => names.push(named(repository, tag.clone())),
            None if given => names.extend(tags.iter().map(|tag| named(repository, tag.clone()))),
            None => names.push(named(repository, LATEST.to_owned())),
        }
    }
    Destinations { names, unmatched: None }
}

fn report_two_tags(reader: &mut Reader<'_>, tag: &str) {
    let key = if reader.settings.is_written(Key::TagsFile) { Key::TagsFile } else { Key::Tags };
    let variable = reader.settings.written(key).variable;
    let written = Written { setting: "tags".to_owned(), variable };
    let problem = format!("`repo` already has the tag `{}`", shown(tag));
    reader.wrong(Code::Conflict, &written, problem, "tags in one place", "tags: 1.2.3");
}

/// `repo`, else what the CI or Heroku's settings say.
fn repositories(reader: &mut Reader<'_>, facts: &Facts, completion: Completion<'_>) -> Vec<Repository> {
    let written = reader.settings.written(Key::Repo);
    let mut items = reader.list(Key::Repo);
    let mut completion = completion;
    if !reader.settings.is_written(Key::Repo) {
        let heroku = reader.text(Key::App).map(|app| {
            let process = reader.text(Key::ProcessType).unwrap_or_else(|| "web".to_owned());
            format!("registry.heroku.com/{app}/{process}")
        });
        let gitlab = reader.variable("CI_REGISTRY_IMAGE").filter(|_| facts.system == System::GitLab);
        items.extend(heroku.or_else(|| gitlab.map(str::to_owned)));
        completion = FULL;
    }
    let mut found = Vec::new();
    for item in &items {
        let Some(repository) = repository(item, &written, completion, reader.findings) else { continue };
        if repository.tag.as_ref().is_none_or(|tag| check_tag(reader, tag, &written)) {
            found.push(repository);
        }
    }
    found
}

/// Tags that were given, and where; `None` when there are none at all.
fn explicit_tags(reader: &mut Reader<'_>, auto_tag: bool) -> (Option<Vec<String>>, Written) {
    if let Some(given) = reader.given(Key::TagsFile) {
        let written = given.written.clone();
        let path = given.value.to_owned();
        return match tags_in(reader, &path) {
            Ok(tags) => (Some(tags), written),
            Err(error) => {
                let problem = format!("`{path}` cannot be read: {error}");
                reader.wrong(Code::File, &written, problem, "a file with tags", "tags_file: .tags");
                (Some(Vec::new()), written)
            }
        };
    }
    let written = reader.settings.written(Key::Tags);
    if reader.settings.is_written(Key::Tags) {
        return (Some(reader.list(Key::Tags)), written);
    }
    if auto_tag {
        return (None, written);
    }
    match tags_in(reader, ".tags") {
        Ok(tags) if !tags.is_empty() => (Some(tags), written),
        Ok(_) => (None, written),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (None, written),
        Err(error) => {
            let problem = format!("the file `.tags` cannot be read: {error}");
            reader.wrong(Code::File, &written, problem, "a readable file, or none", "tags: latest");
            (None, written)
        }
    }
}

fn tags_in(reader: &Reader<'_>, path: &str) -> io::Result<Vec<String>> {
    let text = reader.files.read_text(Path::new(path))?;
    // An array of arrays is as little a file of tags as any other text.
    split_list(&text).map_err(|()| io::ErrorKind::InvalidData.into())
}

fn automatic_tags(reader: &mut Reader<'_>, facts: &Facts) -> Result<Vec<String>, Option<Unmatched>> {
    let options = AutoTagOptions {
        prefix: reader.text(Key::AutoTagPrefix).unwrap_or_default(),
        suffix: tag_text(reader, Key::AutoTagSuffix).unwrap_or_default(),
        default_tag: tag_text(reader, Key::DefaultTag).unwrap_or_else(|| LATEST.to_owned()),
        latest: reader.flag(Key::AutoTagLatest).unwrap_or(facts.system == System::Woodpecker),
    };
    let unmatched = reader.word(Key::AutoTagUnmatched, &["skip", "build", "fail"]).unwrap_or("skip");
    let written = reader.settings.written(Key::AutoTag);
    match tags::automatic(facts, &options) {
        AutoTags::Matched { tags, not_a_version } => {
            if not_a_version {
                let problem = format!("the git tag is not a version; `{}` is used as it is", tags.join(", "));
                reader.findings.add(Finding::new(Code::NotSemverWarning, &written, problem));
            }
            Ok(tags.into_iter().filter(|tag| check_tag(reader, tag, &written)).collect())
        }
        AutoTags::Illegal(tag) => {
            report_illegal(reader, &written, &tag);
            Ok(Vec::new())
        }
        AutoTags::Unmatched => match unmatched {
            "fail" => {
                let what = facts.ref_name.as_deref().unwrap_or("nothing known");
                let problem = format!("`{}` is neither a git tag nor the default branch", shown(what));
                let expected = "a git tag, the default branch, or auto_tag_unmatched: skip";
                reader.wrong(Code::AutoTagUnmatched, &written, problem, expected, "refs/tags/v1.2.3");
                Err(None)
            }
            "build" => Err(Some(Unmatched::Build)),
            _ => Err(Some(Unmatched::Skip)),
        },
    }
}

fn report_illegal(reader: &mut Reader<'_>, written: &Written, tag: &str) {
    let problem = format!("the git tag `{}` can be no image tag", shown(tag));
    let expected = match tag.rsplit_once('/') {
        Some((prefix, _)) => format!("auto_tag_prefix: {prefix}/, or a version"),
        None => "a version".to_owned(),
    };
    reader.wrong(Code::Semver, written, problem, expected, "v1.2.3");
}

/// A setting that becomes a tag or part of one.
fn tag_text(reader: &mut Reader<'_>, key: Key) -> Option<String> {
    let text = reader.text(key)?;
    let written = reader.settings.written(key);
    check_tag(reader, &text, &written).then_some(text)
}

/// Whether `tag` is legal; reported when it is not.
fn check_tag(reader: &mut Reader<'_>, tag: &str, written: &Written) -> bool {
    let expected = "at most 128 letters, digits, `_`, `.` and `-`, the first none of the last two";
    if tag.contains('$') {
        reader.wrong(Code::Unexpanded, written, unexpanded(tag), expected, "1.2.3");
    } else if !is_tag(tag) {
        reader.wrong(Code::Tag, written, format!("`{}` is not a tag", shown(tag)), expected, "1.2.3");
    }
    is_tag(tag)
}

/// The registry a repository without a host gets, from `registry` and what stands in for it.
pub(crate) fn completion(registry: Option<&Registry>, expand_repo: bool) -> Completion<'_> {
    Completion { registry: registry.filter(|_| expand_repo), warn: true }
}
