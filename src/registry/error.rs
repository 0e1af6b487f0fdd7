//! What can go wrong with a registry, in the user's terms.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::credentials::CredentialError;
use crate::image::{Digest, ManifestError, Platform};
use crate::net;

/// What a registry (or its token server) said when it did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The verb that was answered.
    pub method: String,
    /// Who answered, without query.
    pub url: String,
    /// The HTTP status.
    pub status: u16,
    /// The registry's own code, `MANIFEST_UNKNOWN`; may be empty.
    pub code: String,
    /// The registry's message; may be empty.
    pub message: String,
}

/// The kinds of failure a caller treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing answered.
    Unreachable,
    /// Who we are was not accepted, or had to be said and was not known.
    Unauthorized,
    /// Who we are is known, and may not do this.
    Denied,
    /// No such repository, tag or blob.
    NotFound,
    /// Anything else.
    Other,
}

/// Why something with a registry failed.
#[derive(Debug, Error)]
pub enum Error {
    /// No answer.
    #[error("no answer from the registry `{registry}`")]
    NoAnswer {
        /// Which.
        registry: String,
        /// Why.
        #[source]
        source: Box<net::Error>,
    },
    /// The client cannot be made with these options.
    #[error("the registry client cannot be set up")]
    Setup(#[source] Box<net::Error>),
    /// The credential was not accepted.
    #[error("not logged in to `{registry}` for `{repository}` with {who}: {reply}")]
    Unauthorized {
        /// Which.
        registry: String,
        /// For what.
        repository: String,
        /// Source of the credential, or `no credentials`.
        who: String,
        /// The user name shown, where it was one and a password.
        username: Option<String>,
        /// Whether a credential was shown at all.
        shown: bool,
        /// What was said.
        reply: Box<Reply>,
    },
    /// The credential does not allow it.
    #[error("`{registry}` does not let us {action} `{repository}` with {who}: {reply}")]
    Denied {
        /// Which.
        registry: String,
        /// For what.
        repository: String,
        /// `pull` or `push`.
        action: &'static str,
        /// Source of the credential, or `no credentials`.
        who: String,
        /// What was said.
        reply: Box<Reply>,
    },
    /// It is not there.
    #[error("`{what}` was not found: {reply}")]
    NotFound {
        /// A reference, with digest for a blob.
        what: String,
        /// What was said.
        reply: Box<Reply>,
    },
    /// The registry refused something else, or failed for good.
    #[error("`{what}`: {reply}")]
    Refused {
        /// A reference, with digest for a blob.
        what: String,
        /// What was said.
        reply: Box<Reply>,
    },
    /// The index has nothing for the platform.
    #[error("`{reference}` has no image for `{wanted}`; it has {}", list(.available))]
    Platform {
        /// The index.
        reference: String,
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        available: Vec<Platform>,
    },
    /// The bytes are not the ones that were named.
    #[error("`{what}` has digest `{actual}` instead of `{expected}`")]
    Digest {
        /// A reference.
        what: String,
        /// As named.
        expected: Digest,
        /// As received.
        actual: Digest,
    },
    /// There are more or fewer bytes than were named.
    #[error("`{what}` has {actual} bytes instead of {expected}")]
    Size {
        /// A reference with digest.
        what: String,
        /// As named.
        expected: u64,
        /// As received, at least.
        actual: u64,
    },
    /// Too long to be what it should be.
    #[error("`{what}` is longer than {limit} bytes")]
    TooLarge {
        /// A reference.
        what: String,
        /// In bytes.
        limit: u64,
    },
    /// The manifest cannot be used.
    #[error("`{reference}` cannot be used")]
    Manifest {
        /// Whose.
        reference: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The answer breaks the protocol.
    #[error("the registry `{registry}` answered {method} {url} {problem}")]
    Protocol {
        /// Which.
        registry: String,
        /// The verb.
        method: String,
        /// Without query.
        url: String,
        /// What is wrong with the answer.
        problem: &'static str,
    },
    /// The token server is not one we may show a credential to.
    #[error("the registry `{registry}` wants us to log in at `{realm}`, {reason}")]
    Realm {
        /// Which.
        registry: String,
        /// Where.
        realm: String,
        /// Why not.
        reason: &'static str,
    },
    /// The registry sends us where nothing may be sent.
    #[error("the registry `{registry}` sends us to `{target}`, {reason}")]
    Elsewhere {
        /// Which.
        registry: String,
        /// The host it names.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// A file cannot be read or written.
    #[error("cannot {verb} `{path}`")]
    File {
        /// `read` or `write`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A source of credentials is broken.
    #[error("the credentials for `{registry}` cannot be read")]
    Credentials {
        /// For which.
        registry: String,
        /// Why.
        #[source]
        source: CredentialError,
    },
}

impl Error {
    /// Which kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoAnswer { source, .. } if source.cause().is_some_and(net::Cause::is_unreachable) => {
                ErrorKind::Unreachable
            }
            Self::Unauthorized { .. } | Self::Credentials { .. } => ErrorKind::Unauthorized,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::NotFound { .. } => ErrorKind::NotFound,
            _ => ErrorKind::Other,
        }
    }

    /// Whether the same may work a moment later. Retries were made already.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NoAnswer { source, .. } => source.cause().is_some_and(net::Cause::is_passing),
            Self::Refused { reply, .. } => {
                reply.status == 429 || (reply.status >= 500 && !matches!(reply.status, 501 | 505))
            }
            _ => false,
        }
    }

    /// What the registry said, where it said something.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Unauthorized { reply, .. }
            | Self::Denied { reply, .. }
            | Self::NotFound { reply, .. }
            | Self::Refused { reply, .. } => Some(reply),
            _ => None,
        }
    }

    /// What to do about it, apart from the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoAnswer { source, .. } => source.hint(),
            Self::Unauthorized { registry, shown: false, .. } => Some(format!(
                "no user name and password were found for `{registry}`; give them, or log in before"
            )),
            Self::Unauthorized { registry, who, username, .. } => {
                Some(unauthorized_hint(registry, who, username.as_deref().unwrap_or_default()))
            }
            Self::Denied { registry, who, .. } => Some(denied_hint(registry, who)),
            Self::NotFound { reply, .. }
                if reply.code == "NAME_UNKNOWN" || reply.url.contains("/uploads/") =>
            {
                Some("the repository (or its project) must be created first on this registry".to_owned())
            }
            Self::Refused { what, reply } if reply.status == 429 && what.starts_with("docker.io/") => {
                Some("Docker Hub limits anonymous pulls: log in, or use a mirror".to_owned())
            }
            Self::Refused { reply, .. } if reply.message.contains("immutable") => Some(
                "the tag exists and this repository's tags cannot be moved: push under another tag"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

fn unauthorized_hint(registry: &str, who: &str, username: &str) -> String {
    let base = format!("`{registry}` refused the user name or password from {who}");
    // Harbor's robots are called `robot$name`, and shells and YAML eat the `$` or double it.
    let dollar_lost = username.starts_with("robot") && !username.contains('$');
    match registry {
        _ if dollar_lost || username.contains("$$") => {
            format!("{base}; a Harbor robot's name is `robot$name`, with exactly one `$`")
        }
        "docker.io" => format!("{base}; Docker Hub wants an access token where two-factor login is on"),
        "ghcr.io" => {
            format!("{base}; GHCR wants a classic token or the job's own, not the account's password")
        }
        _ => base,
    }
}

fn denied_hint(registry: &str, who: &str) -> String {
    let base = format!("the login from {who} works, but lacks the right");
    match registry {
        "ghcr.io" => format!("{base}: in GitHub Actions the job needs `permissions: packages: write`"),
        "docker.io" => {
            format!("{base}: the access token needs Read & Write, and the namespace must be yours")
        }
        _ => base,
    }
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(|platform| format!("`{platform}`")).collect();
    if names.is_empty() { "none that names a platform".to_owned() } else { names.join(", ") }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} answered {}", self.method, self.url, self.status)?;
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => Ok(()),
            ("", message) => write!(f, " ({message})"),
            (code, "") => write!(f, " ({code})"),
            (code, message) => write!(f, " ({code}: {message})"),
        }
    }
}
