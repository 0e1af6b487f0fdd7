//! Which build checks are wanted: `# check=skip=…;error=…`.
//!
//! The same text may come from the build argument `BUILDKIT_DOCKERFILE_CHECK`,
//! which replaces the directive. `plan` has checks of its own and applies the
//! same rules to them.

use super::span::{Diagnostic, Severity};

/// What to do with warnings that have a check's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Every check but the experimental ones is off.
    pub skip_all: bool,
    /// Names of checks that are off.
    pub skip: Vec<String>,
    /// Every experimental check is on.
    pub experimental_all: bool,
    /// Names of experimental checks that are on.
    pub experimental: Vec<String>,
    /// A finding fails the build.
    pub error: bool,
}

/// Why a `check` value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksError {
    /// Not `key=value`.
    #[error("check option `{0}` is not of the form `key=value`")]
    NoValue(String),
    /// A key other than `skip`, `error` and `experimental`.
    #[error("unknown check option `{0}`; there are `skip`, `error` and `experimental`")]
    UnknownOption(String),
    /// `error=` something that is neither true nor false.
    #[error("check option `error` must be true or false, not `{0}`")]
    NotBoolean(String),
}

/// Checks that are off unless asked for.
const EXPERIMENTAL: [&str; 2] = ["CopyIgnoredFile", "InvalidDefinitionDescription"];

impl Checks {
    /// Reads `skip=A,B;error=true`. An empty text means: everything on,
    /// nothing fails the build.
    ///
    /// # Errors
    /// See [`ChecksError`].
    pub fn parse(text: &str) -> Result<Self, ChecksError> {
        let mut checks = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(checks);
        }
        for option in text.split(';') {
            let (key, value) =
                option.split_once('=').ok_or_else(|| ChecksError::NoValue(option.trim().to_owned()))?;
            let value = value.trim();
            match key.trim() {
                "skip" => (checks.skip_all, checks.skip) = names(value),
                "experimental" => (checks.experimental_all, checks.experimental) = names(value),
                "error" => checks.error = boolean(value)?,
                unknown => return Err(ChecksError::UnknownOption(unknown.to_owned())),
            }
        }
        Ok(checks)
    }

    /// Whether a check is wanted.
    pub fn wants(&self, check: &str) -> bool {
        if EXPERIMENTAL.contains(&check) {
            return self.experimental_all || self.experimental.iter().any(|name| name == check);
        }
        !self.skip_all && !self.skip.iter().any(|name| name == check)
    }

    /// Drops findings nobody wants, and makes the others errors when
    /// `error=true`. Diagnostics without a check's name stay as they are.
    pub fn apply(&self, diagnostics: &mut Vec<Diagnostic>) {
        diagnostics.retain(|diagnostic| diagnostic.check.is_none_or(|check| self.wants(check)));
        if self.error {
            let findings = diagnostics.iter_mut().filter(|diagnostic| diagnostic.check.is_some());
            findings.for_each(|diagnostic| diagnostic.severity = Severity::Error);
        }
    }
}

/// As in BuildKit blanks around a comma belong to the names.
fn names(value: &str) -> (bool, Vec<String>) {
    match value {
        "all" => (true, Vec::new()),
        _ => (false, value.split(',').map(str::to_owned).collect()),
    }
}

/// What Go's `strconv.ParseBool` takes.
fn boolean(value: &str) -> Result<bool, ChecksError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ChecksError::NotBoolean(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Span;

    fn check(text: &str, wanted: &[&str], unwanted: &[&str], error: bool) {
        let checks = Checks::parse(text).unwrap();
        assert_eq!(checks.error, error, "{text}");
        wanted.iter().for_each(|name| assert!(checks.wants(name), "{text}: {name} is wanted"));
        unwanted.iter().for_each(|name| assert!(!checks.wants(name), "{text}: {name} is not wanted"));
    }

    #[test]
    fn options_say_what_is_wanted() {
        check("", &["StageNameCasing"], &["CopyIgnoredFile"], false);
        check("skip=all", &[], &["StageNameCasing"], false);
        check(" skip = A,B ", &["C"], &["A", "B"], false);
        check("skip=A, B", &["B"], &["A"], false);
        check("skip=A;error=true", &["B"], &["A"], true);
        check("error=false", &["B"], &[], false);
        check("error=1;skip=A", &["B"], &["A"], true);
        check("experimental=all", &["CopyIgnoredFile", "A"], &[], false);
        check("skip=all;experimental=CopyIgnoredFile", &["CopyIgnoredFile"], &["A"], false);
    }

    #[test]
    fn wrong_options_are_refused() {
        assert_eq!(Checks::parse("skip"), Err(ChecksError::NoValue("skip".into())));
        assert_eq!(Checks::parse("skp=all"), Err(ChecksError::UnknownOption("skp".into())));
        assert_eq!(Checks::parse("error=maybe"), Err(ChecksError::NotBoolean("maybe".into())));
    }

    #[test]
    fn findings_become_errors_and_others_stay() {
        let mut diagnostics = vec![
            Diagnostic::warning("A", Span::default(), "a"),
            Diagnostic::warning("B", Span::default(), "b"),
            Diagnostic::warning("", Span::default(), "c"),
        ];
        Checks::parse("skip=A;error=true").unwrap().apply(&mut diagnostics);
        let left: Vec<_> = diagnostics.iter().map(|d| (d.message.as_str(), d.severity)).collect();
        assert_eq!(left, [("b", Severity::Error), ("c", Severity::Warning)]);
    }
}
