//! Which credential is used for which registry.
//!
//! Explicit sources (settings, flags) are final: what they say is used, and a
//! registry that refuses it ends the build. Ambient sources (files of the
//! machine, the CI's variables) are candidates, tried in order until one works,
//! and nobody at the end. A credential only ever goes to the host and path it
//! was given for.

mod config;
mod error;
mod helper;
mod key;
mod sources;
mod variables;

use std::sync::Arc;

pub use config::{ConfigFile, Lookup};
pub use error::CredentialError;
pub use helper::{Answer, HelperPrograms, Helpers};

use crate::secret::Secret;

/// What a registry is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// User name and password.
    Password {
        /// The user.
        username: String,
        /// The password or access token.
        password: Secret,
    },
    /// An OAuth2 refresh token, exchanged for access tokens.
    IdentityToken(Secret),
    /// A bearer token, sent as it is.
    RegistryToken(Secret),
}

/// A user name and password for one host, or one path below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// `host[:port][/path]`; a scheme and a trailing slash are cut.
    pub target: String,
    /// The user.
    pub username: String,
    /// The password or access token.
    pub password: Secret,
    /// Where it came from, for messages: `setting username`.
    pub source: String,
}

/// A source the user named. Earlier ones win for the same host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explicit {
    /// The one main pair: for its whole host, before every other source.
    Main(Login),
    /// A further pair: the longest path wins.
    Login(Login),
    /// A docker config: its JSON, or base64 of it.
    Config {
        /// The text.
        text: Secret,
        /// Where it came from, for messages.
        source: String,
    },
}

/// A credential and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What is shown; `None` is nobody.
    pub credential: Option<Credential>,
    /// For messages: `~/.docker/config.json, key registry.example.com/team`.
    pub source: String,
    /// The user named the source: a refusal is final.
    pub explicit: bool,
}

/// Asks one ambient source. Files, variables and a plain [`Login`] implement it;
/// further ones (cloud identities) are added with [`Credentials::add_ambient`].
pub trait AmbientSource: Send + Sync {
    /// The credential for `host/path` of a repository, if the source has one.
    /// May block.
    ///
    /// # Errors
    /// When the source has an entry that cannot be read.
    fn find(&self, host: &str, repository: &str) -> Result<Lookup, CredentialError>;

    /// The secrets it holds already, for the redactor of the log.
    fn secrets(&self) -> Vec<Secret> {
        Vec::new()
    }
}

/// What may be shown, best first, and what was odd about finding it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Best first.
    pub list: Vec<Candidate>,
    /// `W_…` codes with their text.
    pub warnings: Vec<String>,
}

/// Everything that may be shown to registries.
#[derive(Clone, Default)]
pub struct Credentials {
    main: Vec<Login>,
    logins: Vec<Login>,
    configs: Vec<Arc<ConfigFile>>,
    ambient: Vec<Arc<dyn AmbientSource>>,
    warnings: Vec<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("logins", &(self.main.len() + self.logins.len()))
            .field("configs", &self.configs.len())
            .field("ambient", &self.ambient.len())
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// None at all.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Adds an ambient source behind those there are.
    pub fn add_ambient(&mut self, source: Arc<dyn AmbientSource>) {
        self.ambient.push(source);
    }

    /// What was wrong with sources that were passed over (`W_…` codes in front).
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Every secret known so far, for the redactor of the log: passwords of
    /// logins, their Basic form, and whatever the config texts hold.
    pub fn secrets(&self) -> Vec<Secret> {
        let mut secrets = Vec::new();
        for login in self.main.iter().chain(&self.logins) {
            secrets.push(login.password.clone());
            secrets.push(Secret::new(config::basic_text(&login.username, &login.password)));
        }
        secrets.extend(self.configs.iter().flat_map(|config| config.secrets()));
        secrets.extend(self.ambient.iter().flat_map(|source| source.secrets()));
        secrets
    }

    /// Whether an explicit source has something for `host`.
    pub fn covers(&self, host: &str) -> bool {
        let host = key::normalise(host);
        let login = |login: &Login| key::host_of(&key::normalise(&login.target)) == host;
        self.main.iter().chain(&self.logins).any(login)
            || self.configs.iter().any(|config| config.covers(&host))
    }

    /// What to show the registry `host` for `repository`, best first. May block
    /// on helper programs. Ends with nobody unless the user named a source.
    ///
    /// # Errors
    /// When the entry chosen cannot be read.
    pub fn candidates(&self, host: &str, repository: &str) -> Result<Candidates, CredentialError> {
        if let Some(login) = self.login(host, repository) {
            return Ok(Candidates { list: vec![login.candidate()], warnings: Vec::new() });
        }
        let mut found = Candidates::default();
        for config in &self.configs {
            found.add(config.find(host, repository)?, true);
            if !found.list.is_empty() {
                return Ok(found);
            }
        }
        for source in &self.ambient {
            match source.find(host, repository) {
                Ok(lookup) => found.add(lookup, false),
                // Desktop installations leave helpers behind that only work there.
                Err(error @ CredentialError::Helper { .. }) => {
                    found.warnings.push(format!("W_HELPER_FAILED: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        found.list.push(Candidate::nobody());
        Ok(found)
    }

    fn login(&self, host: &str, repository: &str) -> Option<&Login> {
        let host = key::normalise(host);
        let main = self.main.iter().find(|login| key::host_of(&key::normalise(&login.target)) == host);
        main.or_else(|| {
            key::chain(&host, repository)
                .find_map(|key| self.logins.iter().find(|login| key::normalise(&login.target) == key))
        })
    }
}

impl Candidate {
    /// Shows nothing.
    pub fn nobody() -> Self {
        Self { credential: None, source: "no credentials".to_owned(), explicit: false }
    }
}

impl Login {
    fn candidate(&self) -> Candidate {
        let (username, password) = (self.username.clone(), self.password.clone());
        Candidate {
            credential: Some(Credential::Password { username, password }),
            source: self.source.clone(),
            explicit: true,
        }
    }
}

impl Candidates {
    fn add(&mut self, lookup: Lookup, explicit: bool) {
        self.warnings.extend(lookup.warnings);
        let known = self.list.iter().any(|candidate| candidate.credential == lookup.credential);
        if lookup.credential.is_some() && !known {
            self.list.push(Candidate { credential: lookup.credential, source: lookup.from, explicit });
        }
    }
}

#[cfg(test)]
mod vectors;
