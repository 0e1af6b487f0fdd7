//! Places to fetch from, as users write them: `https://…`, `git@host:path`,
//! `https://host/repo.git#ref:directory`, `https://host/repo.git?ref=…`
//! (Dockerfile reference, "ADD" and "git contexts").
//!
//! Nothing of a location that passes here can be mistaken by git for an option,
//! a glob, a revision expression or a path outside the repository.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use thiserror::Error as ThisError;

use crate::net::Url;

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file on an HTTP server.
    Http(Url),
    /// A git repository.
    Git(GitLocation),
}

/// A directory of a git repository at some commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitLocation {
    /// As git is given it.
    pub remote: String,
    /// Branch, tag, full ref or commit; the remote's HEAD when absent.
    pub reference: Option<String>,
    /// Directory that counts as the root; empty for the whole.
    pub subdirectory: PathBuf,
    /// The commit that the reference must be, in full or abbreviated.
    pub checksum: Option<String>,
    /// `.git` is wanted too.
    pub keep_git_dir: bool,
    /// Submodules are wanted too.
    pub submodules: bool,
    /// Files get the time of the commit, not that of the checkout.
    pub commit_time: bool,
    /// The checksum is what is fetched, wherever the reference points by now.
    pub by_commit: bool,
}

/// Why a text is no place to fetch from.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("`{shown}` cannot be fetched: {reason}")]
pub struct LocationError {
    /// Without user and password.
    shown: String,
    reason: String,
}

impl Location {
    /// What a build context is, by its spelling: `None` for a local path.
    ///
    /// # Errors
    /// When it is remote and malformed.
    pub fn of_context(text: &str) -> Option<Result<Self, LocationError>> {
        let lower = text.to_ascii_lowercase();
        let web = lower.starts_with("http://") || lower.starts_with("https://");
        let path = text.split(['?', '#']).next().unwrap_or(text);
        if let Some(rest) = text.strip_prefix("github.com/") {
            return Some(GitLocation::parse(&format!("https://github.com/{rest}")).map(Self::Git));
        }
        let git = ["git://", "ssh://"].iter().any(|scheme| lower.starts_with(scheme)) || is_scp(text);
        if git || web && path.ends_with(".git") {
            return Some(GitLocation::parse(text).map(Self::Git));
        }
        web.then(|| web_url(text).map(Self::Http))
    }

    /// What a remote source of ADD is.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn of_add(text: &str) -> Result<Self, LocationError> {
        // A directory on an HTTP server is none of ADD's sources.
        let local = || web_url(text).map(Self::Http);
        if text.starts_with("github.com/") { local() } else { Self::of_context(text).unwrap_or_else(local) }
    }
}

fn web_url(text: &str) -> Result<Url, LocationError> {
    let url = Url::parse(text).map_err(|error| wrong(text, error.to_string()))?;
    match url.has_host() {
        true => Ok(url),
        false => Err(wrong(text, "it names no host")),
    }
}

impl GitLocation {
    /// Reads a repository's URL with fragment or query.
    ///
    /// # Errors
    /// When part of it is malformed, unknown or could be misunderstood.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let (address, fragment) = text.split_once('#').map_or((text, None), |(a, f)| (a, Some(f)));
        let (remote, query) = match is_scp(address) {
            true => (address, None),
            false => address.split_once('?').map_or((address, None), |(a, q)| (a, Some(q))),
        };
        check_remote(text, remote)?;
        let mut location = Self {
            remote: remote.to_owned(),
            reference: None,
            subdirectory: PathBuf::new(),
            checksum: None,
            keep_git_dir: false,
            submodules: true,
            commit_time: false,
            by_commit: false,
        };
        if let Some(fragment) = fragment {
            let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
            location.set("ref", reference, text)?;
            location.set("subdir", directory, text)?;
        }
        let mut seen = BTreeSet::new();
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !seen.insert(key.to_string()) {
                return Err(wrong(text, format!("it says `{key}` twice")));
            }
            location.set(&key, &value, text)?;
        }
        if location.reference.is_none() && location.checksum.as_deref().is_some_and(is_commit) {
            location.reference.clone_from(&location.checksum);
        }
        Ok(location)
    }

    fn set(&mut self, key: &str, value: &str, text: &str) -> Result<(), LocationError> {
        // As Go's strconv.ParseBool reads it.
        let flag = |value: &str| match value {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(wrong(text, format!("`{key}={value}` is neither true nor false"))),
        };
        let full = match key {
            "tag" if !value.starts_with("refs/tags/") => format!("refs/tags/{value}"),
            "branch" if !value.starts_with("refs/heads/") => format!("refs/heads/{value}"),
            _ => value.to_owned(),
        };
        match key {
            "ref" | "tag" | "branch" if value.is_empty() => {}
            "ref" | "tag" | "branch" if self.reference.as_ref().is_some_and(|known| *known != full) => {
                return Err(wrong(text, "it names more than one ref"));
            }
            "ref" | "tag" | "branch" if is_reference(&full) => self.reference = Some(full),
            "ref" | "tag" | "branch" => return Err(wrong(text, format!("`{value}` cannot be a ref"))),
            "subdir" => {
                let wanted = subdirectory(value, text)?;
                if !self.subdirectory.as_os_str().is_empty() && self.subdirectory != wanted {
                    return Err(wrong(text, "it names more than one directory"));
                }
                self.subdirectory = wanted;
            }
            "mtime" => match value {
                "commit" => self.commit_time = true,
                "checkout" => self.commit_time = false,
                _ => return Err(wrong(text, format!("`mtime={value}` is neither `commit` nor `checkout`"))),
            },
            "fetch-by-commit" => self.by_commit = flag(value)?,
            "checksum" | "commit" => self.checksum = Some(checksum(value, text)?),
            "keep-git-dir" => self.keep_git_dir = flag(value)?,
            "submodules" => self.submodules = flag(value)?,
            _ => {
                return Err(wrong(
                    text,
                    format!(
                        "`{key}` is no part of a git address \
                (ref, tag, branch, subdir, checksum, commit, keep-git-dir, submodules, mtime, fetch-by-commit)"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Adds what `--checksum` says to what the address says.
    pub fn expect(&mut self, checksum: Option<&str>) {
        let Some(checksum) = checksum else { return };
        if self.reference.is_none() && is_commit(checksum) {
            self.reference = Some(checksum.to_owned());
        }
        self.checksum = Some(checksum.to_owned());
    }

    /// Whether `fetch-by-commit` has a commit to go by: in the address, or from `--checksum`.
    ///
    /// # Errors
    /// When it has none.
    pub(super) fn check_by_commit(&self) -> Result<(), LocationError> {
        match self.by_commit && !self.checksum.as_deref().is_some_and(is_commit) {
            true => Err(wrong(&self.remote, "`fetch-by-commit` needs a `checksum` that is a whole commit")),
            false => Ok(()),
        }
    }

    /// The remote, fit for a log.
    pub fn shown(&self) -> String {
        shown(&self.remote)
    }

    /// Host of the remote, with its port.
    pub(super) fn authority(&self) -> Option<String> {
        let url = Url::parse(&self.remote).ok()?;
        let host = url.host_str()?;
        Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }
}

fn subdirectory(text: &str, whole: &str) -> Result<PathBuf, LocationError> {
    let mut clean = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(wrong(whole, format!("the directory `{text}` leads out of the repository"))),
        }
    }
    if text.contains('\0') {
        return Err(wrong(whole, "its directory has a NUL byte"));
    }
    Ok(clean)
}

fn checksum(text: &str, whole: &str) -> Result<String, LocationError> {
    let sound = (7..=64).contains(&text.len()) && text.bytes().all(is_hex);
    match sound {
        true => Ok(text.to_owned()),
        false => Err(wrong(whole, format!("`{text}` is no commit"))),
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// A commit's full name, SHA-1 or SHA-256.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(is_hex)
}

/// What git-check-ref-format(1) lets through, and nothing that is an option.
pub(super) fn is_reference(text: &str) -> bool {
    let forbidden = |byte: u8| byte <= b' ' || byte == 0x7f || b"~^:?*[\\".contains(&byte);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    !text.is_empty()
        && text.len() <= 1024
        && !text.starts_with('-')
        && !text.ends_with('.')
        && text != "@"
        && !text.contains("..")
        && !text.contains("@{")
        && !text.bytes().any(forbidden)
        && text.split('/').all(part)
}

fn check_remote(text: &str, remote: &str) -> Result<(), LocationError> {
    if remote.starts_with('-') || remote.chars().any(|letter| letter.is_control() || letter == ' ') {
        return Err(wrong(text, "it has blanks or control characters"));
    }
    if is_scp(remote) {
        return Ok(());
    }
    let url = Url::parse(remote).map_err(|error| wrong(text, error.to_string()))?;
    // ssh takes a host that begins with a dash for an option.
    let sound = |part: &str| !part.is_empty() && !part.starts_with('-');
    let host = url.scheme() == "file" || url.host_str().is_some_and(sound);
    match host && (url.username().is_empty() || sound(url.username())) {
        true => Ok(()),
        false => Err(wrong(text, "it names no host")),
    }
}

/// `user@host:path`, git's short spelling of `ssh://`.
fn is_scp(text: &str) -> bool {
    let plain = |text: &str, extra: &[u8]| {
        text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    text.split_once('@')
        .and_then(|(user, rest)| Some((user, rest.split_once(':')?.0)))
        .is_some_and(|(user, host)| plain(user, b"-_.") && plain(host, b"-."))
}

fn wrong(text: &str, reason: impl Into<String>) -> LocationError {
    LocationError { shown: shown(text), reason: reason.into() }
}

/// A URL without user, password and query.
pub(super) fn shown(text: &str) -> String {
    let address = text.split('?').next().unwrap_or(text);
    match address.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let slash = if rest.contains('/') { "/" } else { "" };
            format!("{scheme}://{host}{slash}{path}")
        }
        None => address.to_owned(),
    }
}
