//! Key-value lists: build arguments and labels, in every form the CIs send.
//!
//! A comma list has no escaping on the wire, so commas inside a value must be
//! found again: a fragment opens a new entry when it looks like `KEY=`, and
//! belongs to the value before it otherwise.

use serde_json::Value;

use super::decode::{Reader, item_text, split_escaped};
use super::finding::{Code, Finding, Written, shown};

/// Keys and values, in order, each key once.
pub(crate) type Pairs = Vec<(String, String)>;

/// A key and its value; no value when the key stood alone.
pub(crate) type Entry = (String, Option<String>);

/// What a key may look like, and whether it may stand alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyRule {
    /// A variable's name; alone it takes its value from the environment.
    BuildArgument,
    /// A label's name; never alone.
    Label,
}

impl KeyRule {
    fn is_key(self, text: &str) -> bool {
        match self {
            Self::BuildArgument => is_build_argument_name(text),
            Self::Label => {
                text.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
            }
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::BuildArgument => "VERSION=1.2,MODE=release",
            Self::Label => "org.example.team=blue",
        }
    }
}

/// Whether `text` is a legal name of a build argument.
pub(crate) fn is_build_argument_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What is wrong with a list. Values are never part of it: build arguments hold tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PairsError {
    /// It begins like JSON and is none.
    Json,
    /// A value is a list or a map.
    Nested(String),
    /// A key is missing or illegal.
    Key(String),
    /// A label without a value.
    NoValue(String),
}

impl PairsError {
    pub(super) fn finding(&self, written: &Written, rule: KeyRule) -> Finding {
        let (code, problem) = match self {
            Self::Json => (Code::Json, "it begins like JSON, but is not valid JSON".to_owned()),
            Self::Nested(key) => {
                (Code::KeyValue, format!("the value of `{}` is itself a list or a map", shown(key)))
            }
            Self::Key(key) if key.is_empty() => {
                (Code::KeyValue, "an entry has no key before its `=`".to_owned())
            }
            Self::Key(key) => (Code::KeyValue, format!("`{}` is not a legal key", shown(key))),
            Self::NoValue(key) => (Code::KeyValue, format!("`{}` has no `=` and value", shown(key))),
        };
        Finding::new(code, written, problem).expected("`KEY=value` entries or a map", rule.example())
    }
}

/// Puts a pair at the end; an earlier one with the same key goes.
pub(crate) fn put(pairs: &mut Pairs, key: String, value: String) {
    pairs.retain(|(known, _)| *known != key);
    pairs.push((key, value));
}

/// Decodes a list. `is_set` tells whether a variable is set and not empty.
pub(super) fn decode(
    text: &str,
    rule: KeyRule,
    is_set: &dyn Fn(&str) -> bool,
) -> Result<Vec<Entry>, PairsError> {
    let entries = match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') => from_json(text)?,
        _ if text.contains('\n') => text.lines().filter_map(from_line).collect(),
        _ => rejoin(split_escaped(text), rule, is_set),
    };
    for (key, value) in &entries {
        if !rule.is_key(key) {
            return Err(PairsError::Key(key.clone()));
        }
        if value.is_none() && rule == KeyRule::Label {
            return Err(PairsError::NoValue(key.clone()));
        }
    }
    Ok(entries)
}

/// Decodes entries that are separated by `;` and nothing else.
pub(crate) fn semicolons(text: &str) -> Vec<Entry> {
    text.split(';').filter_map(from_line).collect()
}

/// Names alone take their values from the environment; those that are unset go, with a warning.
pub(crate) fn bare_names_from(entries: Vec<Entry>, reader: &mut Reader<'_>) -> Pairs {
    let mut pairs = Pairs::new();
    for (key, value) in entries {
        let value = value.or_else(|| reader.environment.get(&key).cloned());
        match value {
            Some(value) => put(&mut pairs, key, value),
            None => report_unset(&key, reader),
        }
    }
    pairs
}

/// Reports a variable that a setting names and that is not set.
pub(crate) fn report_unset(variable: &str, reader: &mut Reader<'_>) {
    let problem = "no such variable is set; the build argument is left out";
    reader.findings.add(Finding::new(Code::EnvironmentUnsetWarning, &Written::named(variable), problem));
}

fn from_line(line: &str) -> Option<Entry> {
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    Some(match line.split_once('=') {
        Some((key, value)) => (key.trim().to_owned(), Some(value.trim().to_owned())),
        None => (line.to_owned(), None),
    })
}

fn from_json(text: &str) -> Result<Vec<Entry>, PairsError> {
    match serde_json::from_str(text).map_err(|_| PairsError::Json)? {
        Value::Object(map) => from_object(&map),
        Value::Array(items) => {
            let mut entries = Vec::new();
            for item in &items {
                match item {
                    Value::Null => {}
                    Value::Object(map) => entries.extend(from_object(map)?),
                    Value::String(line) => entries.extend(from_line(line)),
                    other => return Err(PairsError::Key(other.to_string())),
                }
            }
            Ok(entries)
        }
        _ => Err(PairsError::Json),
    }
}

fn from_object(map: &serde_json::Map<String, Value>) -> Result<Vec<Entry>, PairsError> {
    map.iter()
        .map(|(key, value)| {
            let value = item_text(value).map_err(|()| PairsError::Nested(key.clone()))?;
            Ok((key.trim().to_owned(), value))
        })
        .collect()
}

/// Finds the entries among fragments that were separated by commas.
fn rejoin(fragments: Vec<String>, rule: KeyRule, is_set: &dyn Fn(&str) -> bool) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut empty_before = 0;
    for fragment in fragments {
        if fragment.trim().is_empty() {
            empty_before += 1;
            continue;
        }
        match entries.last_mut() {
            Some((_, Some(value))) if !opens(fragment.trim(), rule, is_set) => {
                // Empty fragments in between were commas of this value.
                value.push_str(&",".repeat(empty_before + 1));
                value.push_str(&fragment);
            }
            // The first fragment opens an entry whatever it looks like, and so does
            // one after a name that stands alone: there is no value to glue it to.
            _ => entries.push(open(&fragment)),
        }
        empty_before = 0;
    }
    let trimmed = |(key, value): Entry| (key, value.map(|value| value.trim().to_owned()));
    entries.into_iter().map(trimmed).collect()
}

fn opens(fragment: &str, rule: KeyRule, is_set: &dyn Fn(&str) -> bool) -> bool {
    match fragment.split_once('=') {
        Some((key, _)) => rule.is_key(key),
        None => {
            let upper = !fragment.bytes().any(|b| b.is_ascii_lowercase());
            rule == KeyRule::BuildArgument && upper && rule.is_key(fragment) && is_set(fragment)
        }
    }
}

fn open(fragment: &str) -> Entry {
    match fragment.split_once('=') {
        Some((key, value)) => (key.trim().to_owned(), Some(value.to_owned())),
        None => (fragment.trim().to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, Option<&str>)]) {
        let entries = decode(text, KeyRule::BuildArgument, &|name| name == "TOKEN").unwrap();
        let entries: Vec<(&str, Option<&str>)> =
            entries.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(entries, expected, "{text:?}");
    }

    #[test]
    fn commas_are_given_back() {
        check("A=1,,x,B=2", &[("A", Some("1,,x")), ("B", Some("2"))]);
        check(",A=1,", &[("A", Some("1"))]);
        check("A=1, TOKEN ,x", &[("A", Some("1")), ("TOKEN", None), ("x", None)]);
        check("a,TOKEN", &[("a", None), ("TOKEN", None)]);
        check("A=1,token", &[("A", Some("1,token"))]);
        check("A==,b", &[("A", Some("=,b"))]);
    }

    #[test]
    fn other_forms() {
        check("A=1\n\nB\n", &[("A", Some("1")), ("B", None)]);
        check(r#"{"A":1.10,"B":null}"#, &[("A", Some("1.10")), ("B", None)]);
        check(r#"["A=1",{"B":false},null,"C"]"#, &[("A", Some("1")), ("B", Some("false")), ("C", None)]);
    }

    #[test]
    fn refuses() {
        let check = |text: &str, rule: KeyRule, expected: PairsError| {
            assert_eq!(decode(text, rule, &|_| false), Err(expected), "{text}");
        };
        check("=1", KeyRule::BuildArgument, PairsError::Key(String::new()));
        check("a b=1", KeyRule::BuildArgument, PairsError::Key("a b".to_owned()));
        check("[1]", KeyRule::BuildArgument, PairsError::Key("1".to_owned()));
        check("[\"A=1\"", KeyRule::BuildArgument, PairsError::Json);
        check("{\"A\":[]}", KeyRule::Label, PairsError::Nested("A".to_owned()));
        check("{\"A\":null}", KeyRule::Label, PairsError::NoValue("A".to_owned()));
    }

    #[test]
    fn later_pairs_move_to_the_end() {
        let mut pairs = vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())];
        put(&mut pairs, "A".to_owned(), "3".to_owned());
        assert_eq!(pairs, [("B".to_owned(), "2".to_owned()), ("A".to_owned(), "3".to_owned())]);
    }
}
