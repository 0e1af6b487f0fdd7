//! From text to syntax tree: decoding, stages, what may stand where.

use super::ast::{Dockerfile, Instruction, InstructionKind, Stage};
use super::check::Checks;
use super::heredoc;
use super::instruction::{Head, Reader};
use super::lexer::{Statement, statements};
use super::span::{Diagnostic, Position, Severity, Source, Span};
use super::{directives, lint};

const STARTS_WITH_FROM: &str = "a Dockerfile starts with `FROM image`; only `ARG` may come before it";

/// What [`parse`] understood, and everything that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// What was understood: instructions that are wrong are missing.
    pub dockerfile: Dockerfile,
    /// Errors and warnings, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether the build must be refused.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Parses a Dockerfile; `# check=` decides about warnings. `name` is what
/// diagnostics call the file.
pub fn parse(name: &str, text: &[u8]) -> Parsed {
    parse_checked(name, text, None)
}

/// The same with the value of the build argument `BUILDKIT_DOCKERFILE_CHECK`,
/// which replaces `# check=`. A value that cannot be read switches nothing
/// off; whoever took it from the user says so ([`Checks::parse`]).
pub fn parse_checked(name: &str, text: &[u8], checks: Option<&str>) -> Parsed {
    let mut diagnostics = Vec::new();
    let text = decode(text, &mut diagnostics);
    let header = directives::read(&text, &mut diagnostics);
    let escape = header.directives.escape;
    let statements = statements(&text, header.lines, escape, &mut diagnostics);
    let heads: Vec<Head<'_>> = statements.iter().map(Head::new).collect();
    let mut dockerfile = Dockerfile { directives: header.directives, ..Dockerfile::default() };
    assemble(&heads, escape, &mut dockerfile, &mut diagnostics);
    lint::run(&statements, &heads, &dockerfile, &mut diagnostics);
    let directive = dockerfile.directives.check.as_ref().map(|(value, _)| value.as_str());
    let wanted = Checks::parse(checks.or(directive).unwrap_or_default()).unwrap_or_default();
    wanted.apply(&mut diagnostics);
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
    dockerfile.source = Source { name: name.to_owned(), text };
    Parsed { dockerfile, diagnostics }
}

/// Parses one ONBUILD trigger of a base image. Triggers are always read with
/// a backslash as escape character.
///
/// # Errors
/// Everything that is wrong with it, with places in the trigger's text.
pub fn parse_trigger(text: &str) -> Result<Instruction, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let statements = statements(text, 0, '\\', &mut diagnostics);
    let [statement] = statements.as_slice() else {
        let message = format!("the trigger holds {} instructions instead of one", statements.len());
        let place = statements.get(1).map_or_else(first_character, |second| Head::new(second).span());
        return Err(vec![Diagnostic::error(place, message)]);
    };
    let head = Head::new(statement);
    if head.name == "FROM" {
        let message = "`FROM` cannot be a trigger of `ONBUILD`";
        diagnostics.push(Diagnostic::error(head.keyword.span(), message));
    }
    let instruction = Reader { escape: '\\', diagnostics: &mut diagnostics }.instruction(&head);
    instruction.filter(|_| diagnostics.is_empty()).ok_or(diagnostics)
}

/// Whether a RUN's shell text is one heredoc and nothing else (`RUN <<EOF`):
/// then the body is the script. Otherwise a command reads the bodies, and the
/// shell wants the text followed by them.
pub fn is_sole_heredoc(shell: &str) -> bool {
    heredoc::parse_word(shell.trim()).is_some()
}

/// The text without byte order mark. Bytes that are not UTF-8 are replaced,
/// and reported once.
fn decode(text: &[u8], diagnostics: &mut Vec<Diagnostic>) -> String {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let error = match std::str::from_utf8(text) {
        Ok(text) => return text.to_owned(),
        Err(error) => error,
    };
    let before = String::from_utf8_lossy(&text[..error.valid_up_to()]).into_owned();
    let line = before.matches('\n').count() as u32 + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + 1;
    let span = Span { start: Position { line, column }, end: Position { line, column: column + 1 } };
    let message = "this is not UTF-8; what cannot be read is replaced by `\u{fffd}`";
    diagnostics.push(Diagnostic::warning("", span, message).with_hint("save the file as UTF-8"));
    String::from_utf8_lossy(text).into_owned()
}

/// Reads every statement and sorts it into its stage.
fn assemble(
    heads: &[Head<'_>],
    escape: char,
    dockerfile: &mut Dockerfile,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if !heads.iter().any(|head| head.name == "FROM") {
        diagnostics.push(no_from(heads));
    }
    let has_from = heads.iter().any(|head| head.name == "FROM");
    let mut seen_from = false;
    // After a FROM that cannot be read, what follows is checked, but belongs nowhere.
    let mut lost = false;
    for head in heads {
        let mut reader = Reader { escape, diagnostics };
        if head.name == "FROM" {
            seen_from = true;
            let from = reader.from(head);
            lost = from.is_none();
            dockerfile.stages.extend(from.map(|from| Stage { from, instructions: Vec::new() }));
            continue;
        }
        let Some(instruction) = reader.instruction(head) else { continue };
        match (seen_from, dockerfile.stages.last_mut()) {
            (true, _) if lost => {}
            (true, Some(stage)) => stage.instructions.push(instruction),
            _ if matches!(instruction.kind, InstructionKind::Arg(_)) => {
                dockerfile.global_args.push(instruction)
            }
            _ if has_from => diagnostics.push(before_from(head)),
            _ => {}
        }
    }
}

fn before_from(head: &Head<'_>) -> Diagnostic {
    let message = format!("`{}` stands before the first `FROM`", head.name);
    Diagnostic::error(head.keyword.span(), message).with_hint(STARTS_WITH_FROM)
}

fn no_from(heads: &[Head<'_>]) -> Diagnostic {
    let first_other = heads.iter().find(|head| head.name != "ARG");
    let hint = STARTS_WITH_FROM;
    match (first_other.or(heads.last()), heads.is_empty()) {
        (Some(head), false) => Diagnostic::error(head.keyword.span(), "there is no `FROM`").with_hint(hint),
        _ => Diagnostic::error(first_character(), "the Dockerfile holds no instructions").with_hint(hint),
    }
}

fn first_character() -> Span {
    Span { start: Position { line: 1, column: 1 }, end: Position { line: 1, column: 2 } }
}

impl Statement {
    /// Its blank continuation line, for the check of that name.
    pub(super) fn blank_line(&self) -> Option<Span> {
        self.blank
    }
}

#[cfg(test)]
mod tests;
