//! From text to statements: lines joined, comments kept apart, heredoc bodies
//! attached.

use super::heredoc::{self, Opening};
use super::line::{Fragment, Line};
use super::span::{Diagnostic, Position, Span, shown};

/// What BuildKit's line scanner takes, in bytes without the newline.
const LINE_LIMIT: usize = 65_535;

/// A heredoc with its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    /// How it was opened.
    pub(super) opening: Opening,
    /// Exactly as in the file, tabs included.
    pub(super) raw: String,
    /// The place of the body.
    pub(super) span: Span,
}

/// One instruction's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    /// Its lines, joined; without leading white space.
    pub(super) line: Line,
    /// Comment lines directly above, joined by newlines.
    pub(super) comment: Option<String>,
    /// Its heredocs, in order.
    pub(super) bodies: Vec<Body>,
    /// Where it ends, heredocs included; unset without heredocs.
    pub(super) end: Option<Position>,
    /// The first blank line inside it.
    pub(super) blank: Option<Span>,
}

/// Splits a text into statements. The first `skip` lines are left out.
pub(super) fn statements(
    text: &str,
    skip: usize,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Statement> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut lexer = Lexer { lines, next: skip, escape, diagnostics };
    let mut found = Vec::new();
    while let Some(statement) = lexer.statement() {
        found.push(statement);
    }
    found
}

struct Lexer<'a> {
    /// With their newlines.
    lines: Vec<&'a str>,
    /// Index of the next one.
    next: usize,
    escape: char,
    diagnostics: &'a mut Vec<Diagnostic>,
}

/// A physical line: its text with the newline, and its number.
type Physical<'a> = (&'a str, u32);

impl<'a> Lexer<'a> {
    fn line(&mut self) -> Option<Physical<'a>> {
        let raw = *self.lines.get(self.next)?;
        self.next += 1;
        let number = self.next as u32;
        let length = raw.strip_suffix('\n').unwrap_or(raw).len();
        if length > LINE_LIMIT {
            let message = format!("the line has {length} bytes; {LINE_LIMIT} are allowed");
            let span = Span { start: at(number, 1), end: at(number, 2) };
            let hint = "break it with line continuations, or COPY a file instead";
            self.diagnostics.push(Diagnostic::error(span, message).with_hint(hint));
        }
        Some((raw, number))
    }

    fn statement(&mut self) -> Option<Statement> {
        let mut comments: Vec<&str> = Vec::new();
        let (raw, number) = loop {
            let (raw, number) = self.line()?;
            match raw.trim() {
                "" => comments.clear(),
                text if text.starts_with('#') => match text[1..].trim() {
                    "" => comments.clear(),
                    comment => comments.push(comment),
                },
                _ => break (raw, number),
            }
        };
        let comment = (!comments.is_empty()).then(|| comments.join("\n"));
        let mut statement = Statement { comment, ..Statement::default() };
        self.join(raw, number, &mut statement);
        self.bodies(&mut statement);
        Some(statement)
    }

    /// Reads the first line and those it continues on.
    fn join(&mut self, raw: &'a str, number: u32, statement: &mut Statement) {
        let content = without_newline(raw);
        let text = content.trim_start();
        let indent = content[..content.len() - text.len()].chars().count() as u32;
        let mut open = self.push(text, at(number, indent + 1), statement);
        while open {
            let Some((raw, number)) = self.line() else { break };
            let content = without_newline(raw);
            if content.trim().is_empty() {
                let end = at(number, content.chars().count() as u32 + 1);
                statement.blank.get_or_insert(Span { start: at(number, 1), end });
            } else if !content.trim_start().starts_with('#') {
                open = self.push(content, at(number, 1), statement);
            }
        }
    }

    /// Appends a line without its continuation character; says whether it had one.
    fn push(&self, content: &str, place: Position, statement: &mut Statement) -> bool {
        let continued = continued(content, self.escape);
        statement.line.push(continued.unwrap_or(content), place);
        continued.is_some()
    }

    /// Reads the bodies of the heredocs that the statement opens.
    fn bodies(&mut self, statement: &mut Statement) {
        for (opening, place) in heredoc::openings(statement.line.whole()) {
            let first = self.next;
            match self.body(&opening) {
                Some((body, end)) => {
                    statement.end = Some(end);
                    statement.bodies.push(Body { opening, ..body });
                }
                None => {
                    self.diagnostics.push(unterminated(&opening, place, &self.lines[first..], first));
                    statement.end = Some(at(self.lines.len() as u32, 1));
                    return;
                }
            }
        }
    }

    /// One body up to its end marker, and where the marker ends.
    fn body(&mut self, opening: &Opening) -> Option<(Body, Position)> {
        let mut raw = String::new();
        let start = at(self.next as u32 + 1, 1);
        let mut end = start;
        loop {
            let (line, number) = self.line()?;
            let content = without_newline(line);
            let marker = if opening.strip_tabs { content.trim_start_matches('\t') } else { content };
            let past = at(number, content.chars().count() as u32 + 1);
            if marker == opening.name {
                return Some((Body { opening: opening.clone(), raw, span: Span { start, end } }, past));
            }
            raw.push_str(line);
            end = past;
        }
    }
}

fn at(line: u32, column: u32) -> Position {
    Position { line, column }
}

fn without_newline(raw: &str) -> &str {
    raw.trim_end_matches(['\r', '\n'])
}

/// The line without its continuation character, if it ends with one. Two in a
/// row are not one: the first hides the second.
fn continued(content: &str, escape: char) -> Option<&str> {
    let before = content.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before)
}

fn unterminated(opening: &Opening, place: Span, rest: &[&str], first: usize) -> Diagnostic {
    let name = shown(&opening.name);
    let almost = rest.iter().position(|line| line.trim() == opening.name.trim());
    let hint = match almost {
        Some(index) => format!(
            "line {} has white space beside `{name}`; the end marker must stand alone{}",
            first + index + 1,
            if opening.strip_tabs { ", with nothing but tabs before it" } else { "" },
        ),
        None => format!("end the document with a line that holds `{name}` and nothing else"),
    };
    Diagnostic::error(place, format!("heredoc `{name}` has no end marker")).with_hint(hint)
}

impl Statement {
    /// Its text without white space around it.
    pub(super) fn text(&self) -> Fragment<'_> {
        self.line.whole().trim()
    }
}
