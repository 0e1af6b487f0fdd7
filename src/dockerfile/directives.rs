//! Parser directives: `# name=value` lines at the very top.
//!
//! They end at the first line that is not one, be it blank, a comment or an
//! instruction. `syntax` may also be written `// syntax=…` or stand in a JSON
//! object, for files of other languages; those lines are skipped.

use super::ast::Directives;
use super::check::Checks;
use super::span::{Diagnostic, Position, Span, shown};

/// What stood at the top of the file.
pub(super) struct Header {
    /// Their values.
    pub(super) directives: Directives,
    /// How many lines they take.
    pub(super) lines: usize,
}

/// Reads the header.
pub(super) fn read(text: &str, diagnostics: &mut Vec<Diagnostic>) -> Header {
    let mut header = Header { directives: Directives::default(), lines: 0 };
    if text.starts_with("//") {
        header.read_lines(text, "//", diagnostics);
    } else if text.starts_with('{') {
        header.read_json(text);
    } else {
        header.read_lines(text, "#", diagnostics);
    }
    header
}

impl Header {
    fn read_lines(&mut self, text: &str, comment: &str, diagnostics: &mut Vec<Diagnostic>) {
        let mut seen: Vec<String> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            // A `#!` line may come first; the directives follow it.
            if index == 0 && line.starts_with("#!") {
                self.lines = 1;
                continue;
            }
            let Some((name, value, span)) = directive(line, comment, index) else { break };
            // BuildKit looks for `syntax` in files of other languages, and for it and
            // `check` below a `#!` line; `escape` must stand at the very top.
            match (comment, name.as_str()) {
                ("//", "escape" | "check") => break,
                (_, "escape") if text.starts_with("#!") => continue,
                _ => {}
            }
            if seen.contains(&name) {
                let message = format!("directive `{name}` is given twice");
                diagnostics.push(Diagnostic::error(span, message).with_hint("keep one of the two lines"));
            } else {
                self.apply(&name, value, span, diagnostics);
            }
            seen.push(name);
            self.lines = index + 1;
        }
    }

    fn apply(&mut self, name: &str, value: &str, span: Span, diagnostics: &mut Vec<Diagnostic>) {
        let owned = Some((value.to_owned(), span));
        match name {
            "syntax" => self.directives.syntax = owned,
            "check" => {
                if let Err(error) = Checks::parse(value) {
                    diagnostics.push(Diagnostic::error(span, error.to_string()));
                }
                self.directives.check = owned;
            }
            _ => match value {
                "\\" | "`" => self.directives.escape = if value == "`" { '`' } else { '\\' },
                _ => {
                    let message =
                        format!("escape character `{}` is neither `\\` nor a backtick", shown(value));
                    diagnostics
                        .push(Diagnostic::error(span, message).with_hint("remove the line to use `\\`"));
                }
            },
        }
    }

    /// `{"syntax": "…"}`, on one line or several.
    fn read_json(&mut self, text: &str) {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
        let Some(Ok(serde_json::Value::Object(object))) = values.next() else { return };
        let Some(serde_json::Value::String(syntax)) = object.get("syntax") else { return };
        let end = values.byte_offset();
        if !text[end..].lines().next().unwrap_or_default().trim().is_empty() {
            return;
        }
        self.lines = text[..end].lines().count();
        let start = Position { line: 1, column: 1 };
        let past = Position { line: 1, column: 2 };
        self.directives.syntax = Some((syntax.clone(), Span { start, end: past }));
    }
}

/// Name in lower case, value, and the place of the value.
fn directive<'a>(line: &'a str, comment: &str, index: usize) -> Option<(String, &'a str, Span)> {
    let inside = line.trim_start().strip_prefix(comment)?;
    let (name, value) = inside.split_once('=')?;
    let (name, value) = (name.trim().to_lowercase(), value.trim());
    if !["syntax", "escape", "check"].contains(&name.as_str()) || value.is_empty() {
        return None;
    }
    let end = line.trim_end().chars().count() as u32 + 1;
    let number = index as u32 + 1;
    let start = Position { line: number, column: end - value.chars().count() as u32 };
    Some((name, value, Span { start, end: Position { line: number, column: end } }))
}
