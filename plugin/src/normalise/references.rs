//! Registry and repository values as people write them, into one spelling.

use crate::settings::{Code, Finding, Findings, Written, shown};

/// Docker Hub in its one spelling.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// The other spellings people use.
const DOCKER_HUB_SPELLINGS: [&str; 4] =
    ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// A registry: a host and perhaps a path below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registry {
    /// `host[:port]`, lower case; Docker Hub is `docker.io`.
    pub(crate) host: String,
    /// Path components joined with `/`; empty when there are none.
    pub(crate) path: String,
    /// It was written with `http://`.
    pub(crate) plain_http: bool,
}

impl Registry {
    /// Docker Hub.
    pub(crate) fn docker_hub() -> Self {
        Self { host: DOCKER_HUB.to_owned(), path: String::new(), plain_http: false }
    }

    /// `host[:port][/path]`.
    pub(crate) fn location(&self) -> String {
        if self.path.is_empty() { self.host.clone() } else { format!("{}/{}", self.host, self.path) }
    }

    /// Reads a registry value; what is wrong with it is reported about `written`.
    pub(crate) fn parse(text: &str, written: &Written, findings: &mut Findings) -> Option<Self> {
        match Self::read(text) {
            Ok(registry) => {
                if registry.plain_http {
                    let problem = format!("`{}` is spoken to over plain HTTP", registry.host);
                    findings.add(Finding::new(Code::HttpWarning, written, problem));
                }
                Some(registry)
            }
            Err((code, problem)) => {
                let expected = "a host, with a port or path if need be";
                findings.add(
                    Finding::new(code, written, problem).expected(expected, "registry.example.com:5000"),
                );
                None
            }
        }
    }

    fn read(text: &str) -> Result<Self, (Code, String)> {
        if text.contains('$') {
            return Err((Code::Unexpanded, unexpanded(text)));
        }
        let wrong = |reason: &str| (Code::Registry, format!("`{}` is not a registry: {reason}", shown(text)));
        let (plain_http, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (false, rest),
            Some(_) => return Err(wrong("the scheme is neither http nor https")),
            None => (false, text),
        };
        let rest = rest.trim_end_matches('/');
        let rest = ["/v1", "/v2"].iter().find_map(|end| rest.strip_suffix(end)).unwrap_or(rest);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = host.to_ascii_lowercase();
        if !is_host(&host) {
            return Err(wrong("the host is malformed"));
        }
        if !looks_like_host(&host) {
            return Err(wrong("a host without a dot needs a port, or it would be read as part of a name"));
        }
        let path = path.trim_end_matches('/').to_ascii_lowercase();
        if !path.is_empty() && !path.split('/').all(is_component) {
            return Err(wrong("the path is malformed"));
        }
        Ok(Self { host: one_spelling(&host), path, plain_http })
    }
}

/// A repository, and the tag written with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    /// `host[:port]`.
    pub(crate) host: String,
    /// The path below it.
    pub(crate) path: String,
    /// The tag that was part of the value.
    pub(crate) tag: Option<String>,
}

impl Repository {
    /// `host/path`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }
}

/// How a repository without a host is completed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion<'a> {
    /// The registry to put in front; nothing: Docker Hub.
    pub(crate) registry: Option<&'a Registry>,
    /// Say so when it is.
    pub(crate) warn: bool,
}

/// Completion with Docker Hub: for full references.
pub(crate) const FULL: Completion<'static> = Completion { registry: None, warn: false };

/// Reads a repository value; what is wrong or was changed is reported about `written`.
pub(crate) fn repository(
    text: &str,
    written: &Written,
    completion: Completion<'_>,
    findings: &mut Findings,
) -> Option<Repository> {
    let parts = match read(text, completion) {
        Ok(parts) => parts,
        Err((code, problem)) => {
            let finding = Finding::new(code, written, problem);
            findings.add(finding.expected("`[registry/]name[:tag]`", "registry.example.com/team/app"));
            return None;
        }
    };
    let Repository { host, path, .. } = &parts.repository;
    if text.contains("://") {
        let problem = format!("a repository has no scheme; `{host}/{path}` is used");
        findings.add(Finding::new(Code::SchemeWarning, written, problem));
    }
    if parts.lowered {
        let problem = format!("a repository is lower case; `{host}/{path}` is used");
        findings.add(Finding::new(Code::LowercaseWarning, written, problem));
    }
    if parts.prefixed && completion.warn {
        let hint = "`expand_repo: false` for Docker Hub";
        let problem = format!("`{}` has no registry; `{host}/{path}` is used ({hint})", shown(text));
        findings.add(Finding::new(Code::RegistryPrefixWarning, written, problem));
    }
    Some(parts.repository)
}

/// A repository, and what was done to it.
struct Parts {
    repository: Repository,
    lowered: bool,
    prefixed: bool,
}

fn read(text: &str, completion: Completion<'_>) -> Result<Parts, (Code, String)> {
    let wrong = |reason: &str| (Code::Repo, format!("`{}` is not a repository: {reason}", shown(text)));
    if text.contains('$') {
        return Err((Code::Unexpanded, unexpanded(text)));
    }
    if text.contains('@') {
        return Err(wrong("it has an `@`; a digest is not known before the build"));
    }
    let (name, tag) = split_tag(text.split_once("://").map_or(text, |(_, rest)| rest));
    let explicit = name.split_once('/').filter(|(first, _)| looks_like_host(first));
    let registry = completion.registry.filter(|r| r.host != DOCKER_HUB || !r.path.is_empty());
    let prefixed = explicit.is_none() && registry.is_some();
    let (host, given) = match (explicit, registry) {
        (Some((host, path)), _) => (one_spelling(&host.to_ascii_lowercase()), path.to_owned()),
        (None, Some(registry)) if registry.path.is_empty() => (registry.host.clone(), name.to_owned()),
        (None, Some(registry)) => (registry.host.clone(), format!("{}/{name}", registry.path)),
        (None, None) => (DOCKER_HUB.to_owned(), name.to_owned()),
    };
    if !is_host(&host) {
        return Err(wrong("the host is malformed"));
    }
    let lower = given.to_ascii_lowercase();
    let lowered = lower != given;
    let path = if host == DOCKER_HUB { hub_path(&lower) } else { lower };
    if !path.split('/').all(is_component) {
        return Err(wrong("each part is letters and digits, with `.`, `_` or `-` between them"));
    }
    Ok(Parts { repository: Repository { host, path, tag: tag.map(str::to_owned) }, lowered, prefixed })
}

/// Whether `text` is a legal tag.
pub(crate) fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// What to say about a value in which a variable was left.
pub(crate) fn unexpanded(text: &str) -> String {
    format!("`{}` has a `$` in it: the CI did not know that variable", shown(text))
}

/// Docker Hub in its one spelling, any other host as it is. `:443` is https's own port.
pub(crate) fn one_spelling(host: &str) -> String {
    let host = host.strip_suffix(":443").unwrap_or(host);
    if DOCKER_HUB_SPELLINGS.contains(&host) { DOCKER_HUB.to_owned() } else { host.to_owned() }
}

fn split_tag(text: &str) -> (&str, Option<&str>) {
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[last..].find(':') {
        Some(colon) => (&text[..last + colon], Some(&text[last + colon + 1..])),
        None => (text, None),
    }
}

/// Whether the first part of a name is a host: docker's rule.
fn looks_like_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
            _ => return false,
        },
        None => host.find(':').map_or((host, ""), |colon| host.split_at(colon)),
    };
    let port_is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    port_is_fine && name.split('.').all(label)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = text.split(alphanumeric).filter(|separator| !separator.is_empty());
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

/// Docker Hub's old API version in front goes, one-part names are `library/`'s.
fn hub_path(path: &str) -> String {
    let path = ["v1/", "v2/"].iter().find_map(|version| path.strip_prefix(version)).unwrap_or(path);
    if path.contains('/') { path.to_owned() } else { format!("library/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(text: &str) -> Result<String, &'static str> {
        let mut findings = Findings::default();
        let registry = Registry::parse(text, &Written::named("registry"), &mut findings);
        registry.map(|r| r.location()).ok_or_else(|| findings.errors().next().unwrap().code.name())
    }

    #[test]
    fn registries() {
        for (text, expected) in [
            ("GHCR.io", Ok("ghcr.io")),
            ("https://index.docker.io/v1/", Ok("docker.io")),
            ("https://r.io:443/", Ok("r.io")),
            ("r.io/Team/x/", Ok("r.io/team/x")),
            ("localhost", Ok("localhost")),
            ("[::1]:5000", Ok("[::1]:5000")),
            ("bad host", Err("E_REGISTRY")),
            ("registry", Err("E_REGISTRY")),
            ("registry:5000", Ok("registry:5000")),
            ("r.io:99999", Err("E_REGISTRY")),
            ("ftp://r.io", Err("E_REGISTRY")),
            ("https://u:p@r.io", Err("E_REGISTRY")),
            ("", Err("E_REGISTRY")),
            ("r.io/$X", Err("E_UNEXPANDED")),
        ] {
            assert_eq!(registry(text), expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn repositories() {
        let check = |text: &str, expected: Result<(&str, Option<&str>), &str>| {
            let mut findings = Findings::default();
            let found = repository(text, &Written::named("repo"), FULL, &mut findings);
            let found =
                found.map(|r| (r.name(), r.tag)).ok_or_else(|| findings.errors().next().unwrap().code.name());
            assert_eq!(
                found,
                expected.map(|(name, tag)| (name.to_owned(), tag.map(str::to_owned))),
                "{text}"
            );
        };
        check("alpine:3", Ok(("docker.io/library/alpine", Some("3"))));
        check("localhost:5000/a", Ok(("localhost:5000/a", None)));
        check("r.io/a__b/c--d.e", Ok(("r.io/a__b/c--d.e", None)));
        check("r.io/a___b", Err("E_REPO"));
        check("r.io/a..b", Err("E_REPO"));
        check("r.io/../x", Err("E_REPO"));
        check("r.io//x", Err("E_REPO"));
        check("r.io/", Err("E_REPO"));
        check("a@sha256:0", Err("E_REPO"));
        check("", Err("E_REPO"));
        check(".r.io/x", Err("E_REPO"));
    }

    #[test]
    fn tags() {
        for (text, expected) in [("1.2", true), ("_x", true), ("", false), (".x", false), ("a/b", false)] {
            assert_eq!(is_tag(text), expected, "{text}");
        }
        assert!(is_tag(&"a".repeat(128)));
        assert!(!is_tag(&"a".repeat(129)));
    }
}
