//! Flags between an instruction's keyword and its arguments.

use super::ast::Word;
use super::line::Fragment;
use super::span::{Diagnostic, Span, shown};
use super::suggest::nearest;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing, `=true` or `=false`.
    Switch,
    /// A value, once.
    Value,
    /// A value, any number of times.
    List,
}

/// The flags an instruction knows.
type Table = [(&'static str, Kind)];

const FROM: &Table = &[("platform", Kind::Value)];
const RUN: &Table =
    &[("mount", Kind::List), ("network", Kind::Value), ("security", Kind::Value), ("device", Kind::List)];
const COPY: &Table = &[
    ("from", Kind::Value),
    ("chown", Kind::Value),
    ("chmod", Kind::Value),
    ("link", Kind::Switch),
    ("parents", Kind::Switch),
    ("exclude", Kind::List),
];
const ADD: &Table = &[
    ("chown", Kind::Value),
    ("chmod", Kind::Value),
    ("link", Kind::Switch),
    ("exclude", Kind::List),
    ("checksum", Kind::Value),
    ("keep-git-dir", Kind::Switch),
    ("unpack", Kind::Switch),
];
const HEALTHCHECK: &Table = &[
    ("interval", Kind::Value),
    ("timeout", Kind::Value),
    ("start-period", Kind::Value),
    ("start-interval", Kind::Value),
    ("retries", Kind::Value),
];

fn table(keyword: &str) -> &'static Table {
    match keyword {
        "FROM" => FROM,
        "RUN" => RUN,
        "COPY" => COPY,
        "ADD" => ADD,
        "HEALTHCHECK" => HEALTHCHECK,
        _ => &[],
    }
}

/// One flag as it stands, quotes and backslashes removed.
#[derive(Clone, Debug)]
pub(super) struct Flag<'a> {
    text: String,
    place: Fragment<'a>,
}

/// Takes the flags off the front: words that start with `--`, up to the first
/// that does not, or a lone `--`, which is dropped. Backslashes hide here
/// whatever `# escape=` says, as they do in BuildKit.
pub(super) fn split_flags(rest: Fragment<'_>) -> (Vec<Flag<'_>>, Fragment<'_>) {
    let mut flags = Vec::new();
    let mut rest = rest.trim_start();
    while rest.text().starts_with("--") {
        let (text, length) = flag_word(rest.text());
        let place = rest.slice(0..length);
        rest = rest.from(length).trim_start();
        if text == "--" {
            break;
        }
        flags.push(Flag { text, place });
    }
    (flags, rest.trim())
}

/// A word with quotes and backslashes removed, and its length as written.
fn flag_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((offset, character)) = characters.next() {
        match (character, quote) {
            ('\\', _) => word.extend(characters.next().map(|(_, hidden)| hidden)),
            (_, Some(open)) if character == open => quote = None,
            (_, Some(_)) => word.push(character),
            ('\'' | '"', None) => quote = Some(character),
            (_, None) if character.is_whitespace() => return (word, offset),
            _ => word.push(character),
        }
    }
    (word, text.len())
}

/// Flags that were recognised.
#[derive(Debug, Default)]
pub(super) struct Flags {
    found: Vec<(&'static str, Word)>,
}

impl Flags {
    /// The value of a flag that can be given once; an empty value counts as
    /// none, as in BuildKit.
    pub(super) fn value(&self, name: &str) -> Option<Word> {
        self.list(name).into_iter().find(|value| !value.text.is_empty())
    }

    /// Every value of a flag, in order.
    pub(super) fn list(&self, name: &str) -> Vec<Word> {
        self.found.iter().filter(|(found, _)| *found == name).map(|(_, value)| value.clone()).collect()
    }

    /// A switch, if it was given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.found.iter().find(|(found, _)| *found == name).map(|(_, value)| value.text != "false")
    }
}

/// Checks flags against what an instruction (in upper case) knows.
pub(super) fn check_flags(keyword: &str, flags: &[Flag<'_>], diagnostics: &mut Vec<Diagnostic>) -> Flags {
    let mut known = Flags::default();
    for flag in flags {
        match known.check(keyword, flag) {
            Ok(found) => known.found.push(found),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    known
}

impl Flags {
    fn check(&self, keyword: &str, flag: &Flag<'_>) -> Result<(&'static str, Word), Diagnostic> {
        let body = flag.text.strip_prefix("--").unwrap_or(&flag.text);
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let place = flag.place;
        let name_place = place.split_equals().map_or(place, |(name, _)| name).span();
        let Some((name, kind)) = table(keyword).iter().find(|(known, _)| *known == name) else {
            return Err(unknown(keyword, name, name_place));
        };
        if *kind != Kind::List && self.found.iter().any(|(found, _)| found == name) {
            return Err(Diagnostic::error(name_place, format!("flag `--{name}` is given twice")));
        }
        let span = place.split_equals().map_or(place, |(_, value)| value).span();
        let text = match (kind, value) {
            (Kind::Switch, value) => switch_value(name, value, span)?,
            (_, Some(value)) => value.to_owned(),
            (_, None) => {
                let message = format!("flag `--{name}` needs a value");
                let hint = format!("a flag's value follows a `=`: `--{name}=…`");
                return Err(Diagnostic::error(name_place, message).with_hint(hint));
            }
        };
        Ok((name, Word { text, span }))
    }
}

/// `true` or `false`, in any case; nothing at all is `true`.
fn switch_value(name: &str, value: Option<&str>, span: Span) -> Result<String, Diagnostic> {
    match value.map(str::to_lowercase).as_deref() {
        None | Some("true") => Ok("true".to_owned()),
        Some("false") => Ok("false".to_owned()),
        Some("") => Err(Diagnostic::error(span, format!("flag `--{name}` has a `=`, but no value"))),
        Some(other) => {
            let message = format!("flag `--{name}` takes `true` or `false`, not `{}`", shown(other));
            Err(Diagnostic::error(span, message))
        }
    }
}

fn unknown(keyword: &str, name: &str, place: Span) -> Diagnostic {
    let diagnostic = Diagnostic::error(place, format!("`{keyword}` has no flag `--{}`", shown(name)));
    let names: Vec<&str> = table(keyword).iter().map(|(name, _)| *name).collect();
    match (keyword, name, nearest(name, &names)) {
        (_, _, Some(near)) => diagnostic.with_hint(format!("did you mean `--{near}`?")),
        ("ADD", "from", _) => diagnostic.with_hint("use `COPY --from=…`"),
        ("CMD" | "ENTRYPOINT", ..) => diagnostic
            .with_hint(format!("a command that starts with `--` needs the JSON form: `{keyword} [\"--…\"]`")),
        _ if names.is_empty() => diagnostic.with_hint(format!("`{keyword}` has no flags at all")),
        _ => {
            let all: Vec<String> = names.iter().map(|name| format!("`--{name}`")).collect();
            diagnostic.with_hint(format!("it knows {}", all.join(", ")))
        }
    }
}
