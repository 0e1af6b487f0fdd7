//! What can be wrong with a source of credentials. No message holds a value.

use thiserror::Error;

/// Why a source of credentials is unusable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// Neither JSON nor base64 of it, or not of a docker config's shape.
    #[error("E_CONFIG: {origin} is not a docker config: {reason}")]
    Config {
        /// Where the text came from.
        origin: String,
        /// What is wrong with it; no content.
        reason: String,
    },
    /// The entry chosen has an `auth` that cannot be decoded.
    #[error("E_AUTH_FIELD: {origin}, key `{key}`: `auth` must be base64 of `user:password` with a user name")]
    AuthField {
        /// Where the text came from.
        origin: String,
        /// The key as written.
        key: String,
    },
    /// A helper program failed.
    #[error("`docker-credential-{program}` failed for `{key}`: {reason}")]
    Helper {
        /// The suffix of its name.
        program: String,
        /// What it was asked for.
        key: String,
        /// What went wrong; nothing of its output's secrets.
        reason: String,
    },
}

impl CredentialError {
    /// The stable code, for tables and tests.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "E_CONFIG",
            Self::AuthField { .. } => "E_AUTH_FIELD",
            Self::Helper { .. } => "E_HELPER",
        }
    }
}
