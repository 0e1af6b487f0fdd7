//! The three shapes of arguments: a JSON array, quoted words, `key=value`.

use super::ast::{KeyValue, Word};
use super::line::{BLANKS, Fragment};
use super::span::{Diagnostic, shown};

/// What a text is when it is looked at as a JSON array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JsonArray {
    /// An array of strings, decoded.
    Strings(Vec<Word>),
    /// An array, but not of strings alone.
    OtherValues,
    /// Something else: the plain form.
    No,
}

/// Reads a JSON array. What is not valid JSON is not an error: `RUN [ -f x ]`
/// is a shell command.
pub(super) fn json_array(text: Fragment<'_>) -> JsonArray {
    let text = text.trim();
    if !text.text().starts_with('[') {
        return JsonArray::No;
    }
    let read = |text: &str| serde_json::from_str::<Vec<serde_json::Value>>(text).ok();
    let Some(values) = read(text.text()).or_else(|| read(&without_half_pairs(text.text()))) else {
        return JsonArray::No;
    };
    let strings: Option<Vec<&str>> = values.iter().map(serde_json::Value::as_str).collect();
    let Some(strings) = strings else { return JsonArray::OtherValues };
    let places = string_places(text);
    let words = strings
        .iter()
        .zip(places)
        .map(|(string, place)| Word { text: (*string).to_owned(), span: place.span() });
    JsonArray::Strings(words.collect())
}

/// Half of a surrogate pair is no character: Go's JSON takes it for U+FFFD.
fn without_half_pairs(text: &str) -> String {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut result = String::new();
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        let length = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                result.push('\u{fffd}');
                at += 6;
                continue;
            }
            (Some(_), _) => 6,
            // An escaped backslash does not begin the next escape.
            (None, _) if character == '\\' => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            (None, _) => character.len_utf8(),
        };
        result.push_str(&text[at..at + length]);
        at += length;
    }
    result
}

/// The string literals of a valid JSON array of strings.
fn string_places(array: Fragment<'_>) -> Vec<Fragment<'_>> {
    let mut places = Vec::new();
    let mut start = None;
    let mut bytes = array.text().bytes().enumerate();
    while let Some((offset, byte)) = bytes.next() {
        match (byte, start) {
            (b'\\', Some(_)) => {
                bytes.next();
            }
            (b'"', None) => start = Some(offset),
            (b'"', Some(from)) => {
                places.push(array.slice(from..offset + 1));
                start = None;
            }
            _ => {}
        }
    }
    places
}

/// Splits at blanks outside quotes. Quotes and escapes stay in the words; a
/// quote that is never closed takes the rest.
pub(super) fn quoted_words(text: Fragment<'_>, escape: char) -> Vec<Fragment<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut characters = text.text().char_indices();
    while let Some((offset, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => {
                words.extend(start.take().map(|from| text.slice(from..offset)));
                continue;
            }
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ => {}
        }
        start.get_or_insert(offset);
        if character == escape && quote != Some('\'') {
            characters.next();
        }
    }
    words.extend(start.map(|from| text.from(from)));
    words
}

/// `key=value …`, or the legacy `key value`; the flag says which. `None` when
/// something is wrong, which is reported.
pub(super) fn key_values(
    keyword: Fragment<'_>,
    arguments: Fragment<'_>,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Vec<KeyValue>, bool)> {
    let name = keyword.text().to_ascii_uppercase();
    let words = quoted_words(arguments, escape);
    let first = words.first()?;
    if !first.text().contains('=') {
        return legacy_pair(&name, arguments, diagnostics).map(|pair| (vec![pair], true));
    }
    let before = diagnostics.len();
    let pairs = words.iter().filter_map(|word| match word.split_equals() {
        Some((key, _)) if key.text().is_empty() => {
            diagnostics.push(Diagnostic::error(word.span(), format!("`{name}` needs a name before the `=`")));
            None
        }
        Some((key, value)) => Some(KeyValue { key: key.word(), value: value.word() }),
        None => {
            let message = format!("`{}` is not of the form `name=value`", shown(word.text()));
            let hint = "a value that holds blanks must be quoted, or its blanks escaped";
            diagnostics.push(Diagnostic::error(word.span(), message).with_hint(hint));
            None
        }
    });
    let pairs: Vec<KeyValue> = pairs.collect();
    (diagnostics.len() == before).then_some((pairs, false))
}

fn legacy_pair(name: &str, arguments: Fragment<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<KeyValue> {
    let (key, value) = arguments.split_word();
    if !arguments.text().contains(BLANKS) {
        let message = format!("`{name}` needs a value for `{}`", shown(key.text()));
        let hint = format!("write `{name} {}=value`", shown(key.text()));
        diagnostics.push(Diagnostic::error(key.span(), message).with_hint(hint));
        return None;
    }
    Some(KeyValue { key: key.word(), value: value.word() })
}
