//! What is wrong with the settings, and what is odd about them: collected, so
//! that one run of a pipeline reports everything.

use std::fmt;

/// Defines the codes with the names under which users may look them up.
macro_rules! codes {
    ($($variant:ident $name:literal,)*) => {
        /// The stable code of a finding. `E_` ends the run, `W_` does not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($variant,)* }

        impl Code {
            /// Its name.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

codes! {
    Bool "E_BOOL",
    Int "E_INT",
    Duration "E_DURATION",
    Json "E_JSON",
    List "E_LIST",
    KeyValue "E_KV",
    Value "E_VALUE",
    Tag "E_TAG",
    Repo "E_REPO",
    Registry "E_REGISTRY",
    Platform "E_PLATFORM",
    Unexpanded "E_UNEXPANDED",
    RepoMissing "E_REPO_MISSING",
    Conflict "E_CONFLICT",
    Semver "E_SEMVER",
    AutoTagUnmatched "E_AUTO_TAG_UNMATCHED",
    SecretSpec "E_SECRET_SPEC",
    SecretMissing "E_SECRET_MISSING",
    SecretUnresolved "E_SECRET_UNRESOLVED",
    Login "E_LOGIN",
    Config "E_CONFIG",
    CredentialIncomplete "E_CRED_INCOMPLETE",
    CredentialAmbiguous "E_CRED_AMBIGUOUS",
    File "E_FILE",
    Unknown "E_UNKNOWN",
    Unsupported "E_UNSUPPORTED",
    AliasWarning "W_ALIAS",
    FileWarning "W_FILE",
    CredentialInferredWarning "W_CRED_INFERRED",
    RegistryPrefixWarning "W_REGISTRY_PREFIX",
    UnknownWarning "W_UNKNOWN",
    NoDaemonWarning "W_NO_DAEMON",
    NoEffectWarning "W_NO_EFFECT",
    EnvironmentUnsetWarning "W_ENV_UNSET",
    SchemeWarning "W_SCHEME",
    HttpWarning "W_HTTP",
    LowercaseWarning "W_LOWERCASE",
    NotSemverWarning "W_NOT_SEMVER",
    CredentialIncompleteWarning "W_CRED_INCOMPLETE",
}

impl Code {
    /// Whether the run ends.
    pub(crate) fn is_error(self) -> bool {
        self.name().starts_with("E_")
    }
}

/// How a user wrote a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The alias in lower case, without prefix: `tags`.
    pub(crate) setting: String,
    /// The variable it came in, where there is one: `PLUGIN_TAGS`.
    pub(crate) variable: Option<String>,
}

impl Written {
    /// A setting that nobody wrote, or whose variable does not matter.
    pub(crate) fn named(setting: &str) -> Self {
        Self { setting: setting.to_owned(), variable: None }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variable {
            Some(variable) if *variable != self.setting => write!(f, "`{}` ({variable})", self.setting),
            _ => write!(f, "`{}`", self.setting),
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Its code.
    pub(crate) code: Code,
    /// The setting that is wrong.
    pub(crate) written: Written,
    /// What is wrong; holds no value that may be secret.
    pub(crate) problem: String,
    /// What was expected, and one example.
    pub(crate) expected: Option<(String, String)>,
    /// The nearest known name.
    pub(crate) suggest: Option<String>,
}

impl Finding {
    /// A finding about the setting as it was written.
    pub(crate) fn new(code: Code, written: &Written, problem: impl Into<String>) -> Self {
        Self { code, written: written.clone(), problem: problem.into(), expected: None, suggest: None }
    }

    /// Adds what was expected, and an example of it.
    pub(crate) fn expected(mut self, expected: impl Into<String>, example: impl Into<String>) -> Self {
        self.expected = Some((expected.into(), example.into()));
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting {}: {}", self.written, self.problem)?;
        if let Some((expected, example)) = &self.expected {
            write!(f, "; expected {expected}, for example `{example}`")?;
        }
        if let Some(suggest) = &self.suggest {
            write!(f, "; did you mean `{suggest}`?")?;
        }
        write!(f, " [{}]", self.code.name())
    }
}

/// All findings of one run, each said once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding, unless the same code was said of the same setting with the same words.
    pub(crate) fn add(&mut self, finding: Finding) {
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// Those that end the run.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter(|finding| finding.code.is_error())
    }

    /// The others.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter(|finding| !finding.code.is_error())
    }

    /// Whether the run ends.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }
}

/// A value as a message may show it: on one line, short, and without the user
/// information of a URL, which may be a password.
pub(crate) fn shown(value: &str) -> String {
    let visible = match (value.rfind('@'), value.find("://")) {
        // Before the `@` of a URL, or of `user:password@`, stands what may be a token.
        (Some(at), scheme) if scheme.is_some() || value[..at].contains(':') => {
            let start = scheme.map_or(0, |start| start + 3);
            format!("{}***{}", value.get(..start.min(at)).unwrap_or_default(), &value[at..])
        }
        _ => value.to_owned(),
    };
    let line: String = visible.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= 80 { line } else { line.chars().take(79).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_information_is_not_shown() {
        for (value, expected) in [
            ("https://u:p@h/x", "https://***@h/x"),
            ("u:p@h/x", "***@h/x"),
            ("https://token@h/x", "https://***@h/x"),
            ("me/app@sha256", "me/app@sha256"),
            ("a\nb", "a b"),
        ] {
            assert_eq!(shown(value), expected);
        }
    }

    #[test]
    fn reads_as_one_line() {
        let written = Written { setting: "tags".to_owned(), variable: Some("PLUGIN_TAGS".to_owned()) };
        let finding = Finding::new(Code::Tag, &written, "`a/b` is not a tag").expected("a tag", "1.2");
        assert_eq!(
            finding.to_string(),
            "setting `tags` (PLUGIN_TAGS): `a/b` is not a tag; expected a tag, for example `1.2` [E_TAG]"
        );
    }
}
