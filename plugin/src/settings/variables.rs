//! From the environment's names to ours: prefixes, dashes and dots, aliases.

use std::collections::BTreeMap;
use std::path::Path;

use coracle::ci::{Environment, Files};

use super::finding::{Code, Finding, Findings, Written};
use super::table::Setting;

/// The prefixes, in order of precedence.
const PREFIXES: [&str; 2] = ["PLUGIN_", "CORACLE_"];

/// What follows `CORACLE_` in variables that configure the program: never
/// unknown, and never a reason to think that there are settings.
const CONFIGURATION: [&str; 4] = ["STATE_DIR", "ISOLATION", "DISK_QUOTA", "CI"];

/// A variable and its value.
#[derive(Clone, Debug)]
pub(super) struct Variable<'a> {
    pub(super) written: Written,
    pub(super) value: &'a str,
}

/// All prefixed variables under their canonical names, and the environment itself.
pub(super) struct Variables<'a> {
    environment: &'a Environment,
    /// By position of the prefix and canonical name.
    canonical: BTreeMap<(usize, String), Variable<'a>>,
}

impl<'a> Variables<'a> {
    pub(super) fn of(environment: &'a Environment) -> Self {
        let mut canonical: BTreeMap<(usize, String), Variable<'a>> = BTreeMap::new();
        for (variable, value) in environment {
            let Some((prefix, rest)) = split_prefix(variable) else { continue };
            let name = canonical_name(rest);
            // Of two spellings of one name the canonical one wins.
            if rest != name && canonical.contains_key(&(prefix, name.clone())) {
                continue;
            }
            let written = Written { setting: name.to_lowercase(), variable: Some(variable.clone()) };
            canonical.insert((prefix, name), Variable { written, value });
        }
        Self { environment, canonical }
    }

    /// The variable that holds `setting`. Aliases after it that disagree are reported.
    pub(super) fn choose(&self, setting: &Setting, findings: &mut Findings) -> Option<Variable<'a>> {
        for prefix in 0..PREFIXES.len() {
            let mut given =
                setting.names.iter().filter_map(|name| self.canonical.get(&(prefix, (*name).to_owned())));
            let Some(first) = given.by_ref().find(|variable| !variable.value.trim().is_empty()) else {
                continue;
            };
            for other in given {
                let differs = other.value.trim() != first.value.trim() && !other.value.trim().is_empty();
                if differs {
                    let problem = format!("ignored, because {} means the same and goes first", first.written);
                    findings.add(Finding::new(Code::AliasWarning, &other.written, problem));
                }
            }
            return Some(first.clone());
        }
        setting.legacy.iter().find_map(|name| {
            let value = self.environment.get(*name).filter(|value| !value.trim().is_empty())?;
            Some(Variable { written: Written::named(name), value })
        })
    }

    /// Canonical names with their variables, blank values included, the
    /// program's configuration left out.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&str, &Variable<'a>)> {
        self.canonical
            .iter()
            .filter(|((prefix, name), _)| !is_configuration(*prefix, name))
            .map(|((_, name), variable)| (name.as_str(), variable))
    }
}

/// Whether there is any setting: then the program is a plugin.
pub(crate) fn has_settings(environment: &Environment) -> bool {
    environment.iter().any(|(variable, value)| {
        let Some((prefix, rest)) = split_prefix(variable) else { return false };
        !value.trim().is_empty() && !is_configuration(prefix, &canonical_name(rest))
    })
}

/// Adds the variables of the file that `env_file` names; those that exist win.
pub(crate) fn apply_env_file(environment: &mut Environment, files: &dyn Files, findings: &mut Findings) {
    let variables = Variables::of(environment);
    let setting = Setting::of(super::table::Key::EnvFile);
    let Some(Variable { written, value }) = variables.choose(setting, &mut Findings::default()) else {
        return;
    };
    let path = value.trim().to_owned();
    match files.read_text(Path::new(&path)) {
        Ok(text) => {
            for (name, value) in text.lines().filter_map(env_line) {
                environment.entry(name).or_insert(value);
            }
        }
        Err(error) => {
            findings.add(Finding::new(
                Code::FileWarning,
                &written,
                format!("`{path}` cannot be read: {error}"),
            ));
        }
    }
}

/// `[export ]NAME=value`; the value may be quoted; `#` begins a comment line.
fn env_line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let value = match (quoted('\''), quoted('"')) {
        (Some(literal), _) => literal.to_owned(),
        (None, Some(text)) => text.replace("\\n", "\n").replace("\\\"", "\""),
        (None, None) => value.to_owned(),
    };
    (!name.is_empty()).then(|| (name.to_owned(), value))
}

fn split_prefix(variable: &str) -> Option<(usize, &str)> {
    let (position, rest) =
        PREFIXES.iter().enumerate().find_map(|(at, prefix)| Some((at, variable.strip_prefix(prefix)?)))?;
    (!rest.is_empty()).then_some((position, rest))
}

/// Drone leaves dashes, dots and blanks of a setting's name as they are.
fn canonical_name(rest: &str) -> String {
    rest.replace(['-', '.', ' '], "_").to_ascii_uppercase()
}

fn is_configuration(prefix: usize, name: &str) -> bool {
    PREFIXES[prefix] == "CORACLE_" && (CONFIGURATION.contains(&name) || name.starts_with("AUTH_"))
}

#[cfg(test)]
mod tests {
    use coracle::ci::MemoryFiles;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn settings_or_not() {
        for (pairs, expected) in [
            (&[][..], false),
            (&[("PLUGIN_", "x")], false),
            (&[("PLUGIN_REPO", " ")], false),
            (&[("PLUGIN_REPO", "x")], true),
            (
                &[("CORACLE_STATE_DIR", "x"), ("CORACLE_AUTH_R_IO_USERNAME", "u"), ("CORACLE_CI", "none")],
                false,
            ),
            (&[("PLUGIN_STATE_DIR", "x")], true),
        ] {
            assert_eq!(has_settings(&environment(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn env_file_never_overrides() {
        let file = "# c\nexport PLUGIN_REPO='a=b'\nA = \"x\\ny\"\nB=from file\nnonsense\n";
        let files = MemoryFiles([("e".into(), file.into())].into());
        let mut given = environment(&[("PLUGIN_ENV_FILE", "e"), ("B", "")]);
        let mut findings = Findings::default();
        apply_env_file(&mut given, &files, &mut findings);
        let expected =
            environment(&[("PLUGIN_ENV_FILE", "e"), ("B", ""), ("A", "x\ny"), ("PLUGIN_REPO", "a=b")]);
        assert_eq!(given, expected);
        apply_env_file(&mut given, &MemoryFiles::default(), &mut findings);
        assert_eq!(findings.warnings().map(|f| f.code).collect::<Vec<_>>(), [Code::FileWarning]);
    }
}
