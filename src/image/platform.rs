//! Operating system and architecture, `linux/arm64/v8`
//! (OCI image spec, image-index.md#platform-variants).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A platform in normalised spelling (`amd64`, never `x86_64`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOOS.
    pub os: String,
    /// GOARCH.
    pub architecture: String,
    /// CPU variant, where the architecture has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlatformError {
    /// Not `os/arch` or `os/arch/variant`.
    #[error("`{0}` is not a platform (expected `os/arch` or `os/arch/variant`, for example `linux/amd64`)")]
    Malformed(String),
}

impl Platform {
    /// The platform this program was compiled for.
    pub fn host() -> Self {
        Self::normalised("linux", std::env::consts::ARCH, None)
    }

    /// Whether an image for `other` runs where `self` is asked for: same
    /// system and architecture, and the same variant where both name one.
    pub fn accepts(&self, other: &Platform) -> bool {
        let variant = match (&self.variant, &other.variant) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        self.os == other.os && self.architecture == other.architecture && variant
    }

    fn normalised(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant.filter(|v| *v != "v1")),
            ("aarch64" | "arm64", variant) => ("arm64", variant.filter(|v| !matches!(*v, "8" | "v8"))),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("i386" | "x86" | "386", _) => ("386", None),
            ("powerpc64", variant) => ("ppc64", variant),
            ("loongarch64", variant) => ("loong64", variant),
            other => other,
        };
        Self {
            os: if os == "macos" { "darwin" } else { os }.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Parses `os/arch[/variant]`, or `os` or `arch` alone, the rest being the host's.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let lower = text.trim().to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let legal = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        if !parts.iter().all(legal) {
            return Err(PlatformError::Malformed(text.to_owned()));
        }
        match parts[..] {
            ["linux"] => Ok(Self::host()),
            ["local"] => Ok(Self::host()),
            [architecture] if KNOWN_ARCHITECTURES.contains(&architecture) => {
                Ok(Self::normalised("linux", architecture, None))
            }
            [os, architecture] => Ok(Self::normalised(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::normalised(os, architecture, Some(variant))),
            _ => Err(PlatformError::Malformed(text.to_owned())),
        }
    }
}

const KNOWN_ARCHITECTURES: [&str; 16] = [
    "386", "aarch64", "amd64", "arm", "arm64", "armel", "armhf", "i386", "loong64", "mips64le", "ppc64",
    "ppc64le", "riscv64", "s390x", "x86", "x86_64",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_normalises() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("ARM64", "linux/arm64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "/", "linux/", "a b/c", "linux/amd64/v1/x", "nonsense"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
