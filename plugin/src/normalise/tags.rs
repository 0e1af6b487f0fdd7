//! Tags from git: which tags a git tag or branch stands for.
//!
//! The input is the ref, never the branch variable: on pull requests that holds
//! the branch the request wants to go to, and a pull request must not overwrite
//! `latest`.

use coracle::ci::Facts;

use super::references::is_tag;

/// What a git ref stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AutoTags {
    /// These tags.
    Matched {
        /// In order.
        tags: Vec<String>,
        /// It was a git tag that is no version, date or number.
        not_a_version: bool,
    },
    /// Nothing.
    Unmatched,
    /// The git tag can be no image tag.
    Illegal(String),
}

/// What shapes automatic tags.
#[derive(Clone, Debug)]
pub(crate) struct AutoTagOptions {
    /// Git tags must begin with this.
    pub(crate) prefix: String,
    /// Put behind every tag.
    pub(crate) suffix: String,
    /// The tag of the default branch.
    pub(crate) default_tag: String,
    /// Releases get `default_tag` too.
    pub(crate) latest: bool,
}

/// What the text of a tag is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// A date, or a number too long for a version.
    Date,
    /// `X[.Y[.Z]]`, missing parts filled up.
    Release([String; 3]),
    /// `X.Y.Z` with a pre-release or build metadata.
    Qualified,
    /// Anything else.
    Other,
}

/// The tags for what is being built.
pub(crate) fn automatic(facts: &Facts, options: &AutoTagOptions) -> AutoTags {
    if facts.is_pull_request() {
        return AutoTags::Unmatched;
    }
    let Some(name) = facts.ref_name.as_deref() else { return AutoTags::Unmatched };
    if let Some(tag) = name.strip_prefix("refs/tags/") {
        return match tag.strip_prefix(&options.prefix) {
            Some(rest) => of_git_tag(without_v(rest), options),
            None => AutoTags::Unmatched,
        };
    }
    let branch = name.strip_prefix("refs/heads/");
    if branch.is_some() && branch == facts.default_branch.as_deref() {
        return AutoTags::Matched { tags: vec![default_tag(options)], not_a_version: false };
    }
    AutoTags::Unmatched
}

fn of_git_tag(text: &str, options: &AutoTagOptions) -> AutoTags {
    let shape = shape(text);
    let mut tags = match &shape {
        Shape::Release(parts) => version_tags(parts, parts[0].trim_start_matches('0').is_empty()),
        Shape::Qualified => vec![text.replace('+', "_")],
        Shape::Date => vec![text.to_owned()],
        Shape::Other if is_tag(text) => vec![text.to_owned()],
        Shape::Other => return AutoTags::Illegal(text.to_owned()),
    };
    if !options.suffix.is_empty() {
        tags = tags.into_iter().map(|tag| format!("{tag}-{}", options.suffix)).collect();
    }
    if options.latest && matches!(shape, Shape::Release(_)) {
        tags.push(default_tag(options));
    }
    AutoTags::Matched { tags, not_a_version: shape == Shape::Other }
}

/// The suffix takes the default tag's place: `latest` becomes `arm64`.
fn default_tag(options: &AutoTagOptions) -> String {
    if options.suffix.is_empty() { options.default_tag.clone() } else { options.suffix.clone() }
}

/// Expands one explicit tag; what is no version stays as it was written.
pub(crate) fn expand(tag: &str) -> Vec<String> {
    match shape(without_v(tag)) {
        Shape::Release(parts) => version_tags(&parts, false),
        _ => vec![tag.to_owned()],
    }
}

/// The version in a git tag, for the version label; nothing when it is none.
pub(crate) fn version_of(git_tag: &str) -> Option<String> {
    let text = without_v(git_tag);
    matches!(shape(text), Shape::Release(_) | Shape::Qualified).then(|| text.to_owned())
}

fn version_tags(parts: &[String; 3], leave_out_major: bool) -> Vec<String> {
    let [major, minor, patch] = parts;
    let mut tags = if leave_out_major { Vec::new() } else { vec![major.clone()] };
    tags.push(format!("{major}.{minor}"));
    tags.push(format!("{major}.{minor}.{patch}"));
    tags
}

/// Cuts one `v` or `V` before a digit.
fn without_v(text: &str) -> &str {
    text.strip_prefix(['v', 'V'])
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or(text)
}

fn shape(text: &str) -> Shape {
    if is_date(text) {
        return Shape::Date;
    }
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let parts: Vec<&str> = core.split('.').collect();
    let numbers = parts.iter().all(|part| is_number(part));
    match (parts[..].len(), rest) {
        (1..=3, "") if numbers => {
            let part = |at: usize| parts.get(at).map_or("0", |part| *part).to_owned();
            Shape::Release([part(0), part(1), part(2)])
        }
        (3, rest) if numbers && is_qualifier(rest) => Shape::Qualified,
        _ => Shape::Other,
    }
}

/// `YYYYMMDD`, `YYYY-MM-DD`, and any bare number of four or more digits.
fn is_date(text: &str) -> bool {
    let dashed = || {
        let parts: Vec<&str> = text.split('-').collect();
        parts.iter().map(|part| part.len()).eq([4, 2, 2]) && parts.iter().all(|part| is_number(part))
    };
    (is_number(text) && text.len() >= 4) || dashed()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `-pre`, `+meta` or both (semver.org, items 9 and 10).
fn is_qualifier(rest: &str) -> bool {
    let identifiers = |text: &str| {
        text.split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    let (pre, meta) = match rest.split_once('+') {
        Some((pre, meta)) => (pre, Some(meta)),
        None => (rest, None),
    };
    let pre_is_fine = pre.is_empty() || pre.strip_prefix('-').is_some_and(identifiers);
    pre_is_fine && meta.is_none_or(identifiers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tag: &str, expected: &[&str]) {
        let options = AutoTagOptions {
            prefix: String::new(),
            suffix: String::new(),
            default_tag: "latest".to_owned(),
            latest: true,
        };
        let facts = Facts { ref_name: Some(format!("refs/tags/{tag}")), ..Facts::default() };
        let AutoTags::Matched { tags, .. } = automatic(&facts, &options) else { panic!("{tag}") };
        assert_eq!(tags, expected, "{tag}");
    }

    #[test]
    fn shapes() {
        check("v1.2.3", &["1", "1.2", "1.2.3", "latest"]);
        check("V3", &["3", "3.0", "3.0.0", "latest"]);
        check("0.0.1", &["0.0", "0.0.1", "latest"]);
        check("00.1", &["00.1", "00.1.0", "latest"]);
        check("1.2.3-rc.1+b-5", &["1.2.3-rc.1_b-5"]);
        check("2024-01-31", &["2024-01-31"]);
        check("1234", &["1234"]);
        check("999", &["999", "999.0", "999.0.0", "latest"]);
        check("1.2-rc1", &["1.2-rc1"]);
        check("1.2.3.4", &["1.2.3.4"]);
        check("version", &["version"]);
        check("1.2.3-", &["1.2.3-"]);
    }

    #[test]
    fn expands() {
        for (tag, expected) in [
            ("v0.9", &["0", "0.9", "0.9.0"][..]),
            ("2024", &["2024"]),
            ("v2024", &["v2024"]),
            ("edge", &["edge"]),
            ("v1.2.3-rc1", &["v1.2.3-rc1"]),
        ] {
            assert_eq!(expand(tag), expected, "{tag}");
        }
    }

    #[test]
    fn versions() {
        assert_eq!(version_of("v1.2.3-rc1").as_deref(), Some("1.2.3-rc1"));
        assert_eq!(version_of("20240131"), None);
        assert_eq!(version_of("release-1"), None);
    }
}
