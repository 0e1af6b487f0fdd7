//! From a raw value to its type. Every error names the setting and the value,
//! is collected, and leaves the default in place, so that the rest is checked too.

use std::time::Duration;

use coracle::ci::{Environment, Files};
use serde_json::Value;

use super::finding::{Code, Finding, Findings, Written, shown};
use super::pairs::{self, KeyRule, Pairs};
use super::table::Key;
use super::{SecretSpec, Settings};

/// A raw value and how its setting was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// The value, not blank.
    pub(crate) value: &'a str,
    /// How the setting was written.
    pub(crate) written: &'a Written,
}

/// Everything decoding needs: raw settings, the environment they may refer to,
/// files, and where to put what is wrong.
pub(crate) struct Reader<'a> {
    /// The raw settings.
    pub(crate) settings: &'a Settings,
    /// The whole environment.
    pub(crate) environment: &'a Environment,
    /// Files that settings may name.
    pub(crate) files: &'a dyn Files,
    /// What is wrong so far.
    pub(crate) findings: &'a mut Findings,
}

impl<'a> Reader<'a> {
    /// The raw value.
    pub(crate) fn given(&self, key: Key) -> Option<Given<'a>> {
        self.settings.get(key)
    }

    /// The value as text.
    pub(crate) fn text(&self, key: Key) -> Option<String> {
        self.given(key).map(|given| given.value.to_owned())
    }

    /// The variable, when it is set to something.
    pub(crate) fn variable(&self, name: &str) -> Option<&'a str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    /// A switch.
    pub(crate) fn flag(&mut self, key: Key) -> Option<bool> {
        let given = self.given(key)?;
        let value = flag(given.value);
        if value.is_none() {
            let problem = format!("`{}` is neither yes nor no", shown(given.value));
            self.wrong(Code::Bool, given.written, problem, "`true` or `false`", "true");
        }
        value
    }

    /// A whole number.
    pub(crate) fn integer(&mut self, key: Key) -> Option<u64> {
        let given = self.given(key)?;
        let value = given.value.parse().ok();
        if value.is_none() {
            let problem = format!("`{}` is not a number", shown(given.value));
            self.wrong(Code::Int, given.written, problem, "a whole number", "3");
        }
        value
    }

    /// A span of time.
    pub(crate) fn duration(&mut self, key: Key) -> Option<Duration> {
        let given = self.given(key)?;
        let value = duration(given.value);
        if value.is_none() {
            let problem = format!("`{}` is not a duration", shown(given.value));
            let expected = "hours, or numbers with the units w, d, h, m, s, ms";
            self.wrong(Code::Duration, given.written, problem, expected, "36h30m");
        }
        value
    }

    /// A list; empty when it is not given.
    pub(crate) fn list(&mut self, key: Key) -> Vec<String> {
        let Some(given) = self.given(key) else { return Vec::new() };
        split_list(given.value).unwrap_or_else(|()| {
            let problem = "an item of the list is itself a list or a map";
            self.wrong(Code::List, given.written, problem, "a list of texts", "[\"1.2\", \"latest\"]");
            Vec::new()
        })
    }

    /// One of a few words; case is not looked at.
    pub(crate) fn word(&mut self, key: Key, allowed: &[&'static str]) -> Option<&'static str> {
        let given = self.given(key)?;
        let found = allowed.iter().copied().find(|word| word.eq_ignore_ascii_case(given.value));
        if found.is_none() {
            let problem = format!("`{}` is not one of its values", shown(given.value));
            self.wrong(
                Code::Value,
                given.written,
                problem,
                format!("one of {}", allowed.join(", ")),
                allowed[0],
            );
        }
        found
    }

    /// Build arguments: names alone stand for variables of the environment.
    pub(crate) fn build_arguments(&mut self, key: Key) -> Pairs {
        self.pairs(key, KeyRule::BuildArgument)
    }

    /// Labels.
    pub(crate) fn labels(&mut self, key: Key) -> Pairs {
        self.pairs(key, KeyRule::Label)
    }

    fn pairs(&mut self, key: Key, rule: KeyRule) -> Pairs {
        let Some(given) = self.given(key) else { return Pairs::new() };
        let is_set = |name: &str| self.variable(name).is_some();
        match pairs::decode(given.value, rule, &is_set) {
            Ok(entries) => pairs::bare_names_from(entries, self),
            Err(problem) => {
                self.findings.add(problem.finding(given.written, rule));
                Pairs::new()
            }
        }
    }

    /// The secrets of all settings that name some.
    pub(crate) fn secrets(&mut self) -> Vec<SecretSpec> {
        super::secrets(self)
    }

    /// Reports an error about a value.
    pub(crate) fn wrong(
        &mut self,
        code: Code,
        written: &Written,
        problem: impl Into<String>,
        expected: impl Into<String>,
        example: impl Into<String>,
    ) {
        self.findings.add(Finding::new(code, written, problem).expected(expected, example));
    }
}

/// A switch's value.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "y" | "yes" | "on" => Some(true),
        "0" | "f" | "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Hours, or numbers with units; the units of Go, and `d` and `w`.
fn duration(text: &str) -> Option<Duration> {
    const HOUR: f64 = 3600.0;
    if let Ok(hours) = text.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(hours) * 3600));
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit =
            rest[end..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| end + at);
        seconds += number
            * match &rest[end..unit] {
                "w" => 7.0 * 24.0 * HOUR,
                "d" => 24.0 * HOUR,
                "h" => HOUR,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// A list: a JSON array, or items separated by line breaks or commas. `Err` when
/// an item is itself a list or a map.
pub(crate) fn split_list(text: &str) -> Result<Vec<String>, ()> {
    if let Some(items) = json_array(text) {
        let texts: Result<Vec<Option<String>>, ()> = items.iter().map(item_text).collect();
        let trimmed = texts?.into_iter().flatten().map(|item| item.trim().to_owned());
        return Ok(trimmed.filter(|item| !item.is_empty()).collect());
    }
    let items = text.lines().flat_map(split_escaped);
    Ok(items.map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
}

fn json_array(text: &str) -> Option<Vec<Value>> {
    text.trim_start().starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// A scalar as text, a number in the spelling it had; null is nothing.
pub(super) fn item_text(value: &Value) -> Result<Option<String>, ()> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(_) | Value::Object(_) => Err(()),
    }
}

/// Splits at commas; `\,` is a comma.
pub(crate) fn split_escaped(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let current = parts.last_mut().expect("there is one part from the start");
        match character {
            '\\' if characters.next_if_eq(&',').is_some() => current.push(','),
            ',' => parts.push(String::new()),
            other => current.push(other),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        for text in ["1", "T", "true", "Y", "YES", "on"] {
            assert_eq!(flag(text), Some(true), "{text}");
        }
        for text in ["0", "f", "False", "n", "no", "OFF"] {
            assert_eq!(flag(text), Some(false), "{text}");
        }
        for text in ["", "2", "maybe", "truee"] {
            assert_eq!(flag(text), None, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("24", Some(86_400.0)),
            ("2w", Some(1_209_600.0)),
            ("36h30m", Some(131_400.0)),
            ("1.5h", Some(5400.0)),
            ("1d1ms", Some(86_400.001)),
            ("", None),
            ("h", None),
            ("1", Some(3600.0)),
            ("1.5", None),
            ("1x", None),
            ("-1h", None),
            ("1..5h", None),
            ("99999999999999999999999999w", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_secs_f64()), seconds, "{text}");
        }
    }

    #[test]
    fn lists() {
        let check = |text: &str, expected: &[&str]| {
            let expected: Vec<String> = expected.iter().map(|item| (*item).to_owned()).collect();
            assert_eq!(split_list(text), Ok(expected), "{text:?}");
        };
        check("a, b ,,c", &["a", "b", "c"]);
        check(r"a\,b,c", &["a,b", "c"]);
        check("a,b\r\nc\n", &["a", "b", "c"]);
        check(r#"["1.10", 1.10, true, null, " x "]"#, &["1.10", "1.10", "true", "x"]);
        check("[a,b", &["[a", "b"]);
        check("[]", &[]);
        assert_eq!(split_list("[{}]"), Err(()));
    }
}
