//! Raw settings: which variable holds which setting, and nothing of what it
//! means. Reading needs neither network nor disk.
//!
//! A setting comes from `PLUGIN_<NAME>` under any of its aliases, else from
//! `CORACLE_<NAME>`, else from another program's variable. A value that is
//! blank is no value.

mod decode;
mod finding;
mod markdown;
mod pairs;
mod secret_spec;
mod table;
mod unknown;
mod variables;

use std::collections::HashMap;

use coracle::ci::Environment;

pub(crate) use self::decode::{Given, Reader, split_list};
pub(crate) use self::finding::{Code, Finding, Findings, Written, shown};
pub(crate) use self::markdown::settings_markdown;
pub(crate) use self::pairs::{Pairs, bare_names_from, is_build_argument_name, put, report_unset, semicolons};
pub(crate) use self::secret_spec::{SecretFrom, SecretSpec, secrets};
pub(crate) use self::table::{CLOUD_TOKENS, Effect, Key, Kind, RawSettings, Setting, TABLE};
use self::variables::Variables;
pub(crate) use self::variables::{apply_env_file, has_settings};

/// The raw values, and how each was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    raw: RawSettings,
    written: HashMap<Key, Written>,
}

impl Settings {
    /// The raw value; blank ones are absent, and all but secrets are trimmed.
    pub(crate) fn get(&self, key: Key) -> Option<Given<'_>> {
        let written = self.written.get(&key)?;
        let value = self.raw.get(key)?;
        let value = if Setting::of(key).kind == Kind::Secret { value } else { value.trim() };
        Some(Given { value, written })
    }

    /// Whether somebody wrote the setting, usable or not.
    pub(crate) fn is_written(&self, key: Key) -> bool {
        self.written.contains_key(&key)
    }

    /// How the setting was written; under its own name when nobody did.
    pub(crate) fn written(&self, key: Key) -> Written {
        self.written.get(&key).cloned().unwrap_or_else(|| Written::named(Setting::of(key).name))
    }
}

/// Reads the settings out of the environment. Names nobody knows, aliases that
/// disagree and secrets the CI left unresolved are reported here.
pub(crate) fn read(environment: &Environment, findings: &mut Findings) -> Settings {
    let variables = Variables::of(environment);
    let mut written = HashMap::new();
    let mut chosen = Vec::new();
    for setting in TABLE {
        let Some(variable) = variables.choose(setting, findings) else { continue };
        if is_unresolved(variable.value) {
            findings.add(
                Finding::new(
                    Code::SecretUnresolved,
                    &variable.written,
                    "the CI passed a `from_secret` object instead of the secret",
                )
                .expected("the secret as the whole value of a setting", "password: {from_secret: token}"),
            );
        } else {
            chosen.push((setting.name.to_ascii_uppercase(), variable.value.to_owned()));
        }
        written.insert(setting.key, variable.written);
    }
    // `envy` fills a struct of optional strings from pairs of strings: nothing there can fail.
    let raw = envy::from_iter(chosen).unwrap_or_default();
    let settings = Settings { raw, written };
    let strict = settings.get(Key::Strict).is_some_and(|given| decode::flag(given.value) == Some(true));
    unknown::report(&variables, strict, findings);
    settings
}

/// Whether a value is, or contains, a `from_secret` object (Drone resolves only the outermost).
fn is_unresolved(value: &str) -> bool {
    if !value.contains("from_secret") {
        return false;
    }
    match serde_json::from_str::<serde_json::Value>(value) {
        Ok(value) => contains_key(&value, "from_secret"),
        Err(_) => {
            value.chars().filter(|c| !c.is_whitespace()).collect::<String>().contains("{\"from_secret\":")
        }
    }
}

fn contains_key(value: &serde_json::Value, key: &str) -> bool {
    match value {
        serde_json::Value::Object(map) => map.iter().any(|(name, v)| name == key || contains_key(v, key)),
        serde_json::Value::Array(items) => items.iter().any(|item| contains_key(item, key)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> (Settings, Findings) {
        let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut findings = Findings::default();
        (read(&environment, &mut findings), findings)
    }

    fn check(pairs: &[(&str, &str)], key: Key, expected: Option<&str>) {
        let (settings, _) = settings(pairs);
        assert_eq!(settings.get(key).map(|given| given.value), expected, "{pairs:?}");
    }

    #[test]
    fn precedence() {
        check(&[("PLUGIN_REPO", "a"), ("CORACLE_REPO", "b")], Key::Repo, Some("a"));
        check(&[("PLUGIN_REPO", " "), ("CORACLE_REPO", "b")], Key::Repo, Some("b"));
        check(&[("PLUGIN_NO-PUSH", "a"), ("PLUGIN_NO_PUSH", "b")], Key::DryRun, Some("b"));
        check(&[("plugin_repo", "a")], Key::Repo, None);
        check(&[("KANIKO_NO_PUSH", "x"), ("CORACLE_DRY_RUN", "y")], Key::DryRun, Some("y"));
        check(&[("PLUGIN_REF", "r")], Key::Ref, Some("r"));
    }

    #[test]
    fn secrets_keep_their_blanks() {
        check(&[("PLUGIN_PASSWORD", " p\n")], Key::Password, Some(" p\n"));
        check(&[("PLUGIN_USERNAME", " u\n")], Key::Username, Some("u"));
    }

    #[test]
    fn unresolved_secrets_are_found() {
        let (_, findings) = settings(&[("PLUGIN_TAGS", r#"[{"from_secret":"x"}]"#)]);
        assert_eq!(findings.errors().map(|f| f.code).collect::<Vec<_>>(), [Code::SecretUnresolved]);
        let (_, findings) = settings(&[("PLUGIN_TAGS", "from_secret")]);
        assert!(!findings.has_errors());
    }

    /// `envy` would otherwise quietly give no settings at all.
    #[test]
    fn every_setting_arrives() {
        for setting in TABLE {
            let variable = match setting.names.first() {
                Some(name) => format!("PLUGIN_{name}"),
                None => setting.legacy[0].to_owned(),
            };
            check(&[(&variable, "1")], setting.key, Some("1"));
        }
    }
}
