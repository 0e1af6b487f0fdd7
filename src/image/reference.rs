//! Image references: `registry/repository[:tag][@digest]`, with Docker's short
//! spellings (`debian` is `docker.io/library/debian:latest`).
//!
//! Parsing is oci-client's; what is checked on top is what a registry would
//! refuse later, and what would make a reference unsafe as part of a URL.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Digest;

/// A validated, fully spelled reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Not of the form at all.
    #[error(
        "`{text}` is not an image reference: {reason} (expected `[registry/]repository[:tag][@sha256:…]`, for example `registry.example.com/team/app:1.2`)"
    )]
    Malformed {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Reference {
    /// `docker.io`, or `host[:port]`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path below the registry, `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag as written, `latest` where neither tag nor digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest as written.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What to ask the registry for: the digest where there is one, else the tag.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository by digest only.
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository by tag.
    ///
    /// # Errors
    /// When `tag` is not a legal tag.
    pub fn tagged(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let malformed = |reason: String| ReferenceError::Malformed { text: text.to_owned(), reason };
        if text.contains("://") {
            return Err(malformed("it has a URL scheme".to_owned()));
        }
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(malformed("64 hex digits are an image id, not a name".to_owned()));
        }
        let parsed = oci_client::Reference::try_from(text).map_err(|error| malformed(error.to_string()))?;
        let digest = match parsed.digest() {
            Some(digest) => {
                Some(digest.parse().map_err(|error: super::DigestError| malformed(error.to_string()))?)
            }
            None => None,
        };
        let registry = match parsed.registry() {
            "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io",
            other => other,
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository: parsed.repository().to_owned(),
            tag: parsed.tag().map(str::to_owned),
            digest,
        })
    }
}

fn check_tag(tag: &str) -> Result<(), ReferenceError> {
    let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rest = tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest && tag.len() <= 128 {
        return Ok(());
    }
    Err(ReferenceError::Malformed {
        text: tag.to_owned(),
        reason:
            "a tag has at most 128 letters, digits, `_`, `.` and `-`, and starts with none of the last two"
                .to_owned(),
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let digest = Digest::of("x");
        for (text, expected) in [
            ("debian", "docker.io/library/debian:latest".to_owned()),
            ("debian:bookworm", "docker.io/library/debian:bookworm".to_owned()),
            ("index.docker.io/me/app", "docker.io/me/app:latest".to_owned()),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c".to_owned()),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest".to_owned()),
            (&format!("r.io/a@{digest}"), format!("r.io/a@{digest}")),
            (&format!("r.io/a:b@{digest}"), format!("r.io/a:b@{digest}")),
        ] {
            assert_eq!(text.parse::<Reference>().map(|r| r.to_string()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses() {
        for text in
            ["", "Upper/Case", "a b", "https://r.io/a", "r.io/a:b:c", "r.io/../x", "a:", &"a".repeat(64)]
        {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
