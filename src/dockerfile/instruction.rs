//! One statement to one instruction: how many arguments, which flags, which
//! form. Every function reports what is wrong and gives `None` then.

use super::arguments::{JsonArray, json_array, key_values, quoted_words};
use super::ast::{Arg, Heredoc, Instruction, InstructionKind, KeyValue, Word};
use super::copy;
use super::flags::{Flag, Flags, check_flags, split_flags};
use super::heredoc::without_tabs;
use super::lexer::{Body, Statement};
use super::line::Fragment;
use super::span::{Diagnostic, Severity, Span, shown};
use super::suggest::nearest;

/// Every instruction there is.
pub(super) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A statement, split into its parts.
pub(super) struct Head<'a> {
    /// As written.
    pub(super) keyword: Fragment<'a>,
    /// The same in upper case.
    pub(super) name: String,
    flags: Vec<Flag<'a>>,
    /// Everything behind the keyword, flags included.
    rest: Fragment<'a>,
    /// What is left without the flags, trimmed.
    pub(super) arguments: Fragment<'a>,
    /// Heredocs, in order.
    pub(super) bodies: &'a [Body],
    /// Where it came from.
    pub(super) statement: &'a Statement,
}

/// What reading a statement needs to know and where it reports to.
pub(super) struct Reader<'a> {
    /// `# escape=`.
    pub(super) escape: char,
    /// Everything that is wrong.
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Head<'a> {
    /// Splits a statement.
    pub(super) fn new(statement: &'a Statement) -> Self {
        Self::of(statement, statement.text())
    }

    fn of(statement: &'a Statement, text: Fragment<'a>) -> Self {
        let (keyword, rest) = text.split_word();
        let (flags, arguments) = split_flags(rest);
        let name = keyword.text().to_ascii_uppercase();
        Self { keyword, name, flags, rest, arguments, bodies: &statement.bodies, statement }
    }

    /// The whole instruction, heredocs included.
    pub(super) fn span(&self) -> Span {
        let span = self.keyword.up_to(self.rest.trim()).span();
        let start = self.keyword.span().start;
        Span { start, end: self.statement.end.unwrap_or(span.end).max(span.end) }
    }

    /// One line for logs: keyword in upper case, the rest as written.
    pub(super) fn text(&self) -> String {
        format!("{} {}", self.name, self.rest.text().trim()).trim_end().to_owned()
    }

    /// The heredocs for the syntax tree.
    pub(super) fn heredocs(&self) -> Vec<Heredoc> {
        self.bodies.iter().map(heredoc).collect()
    }
}

fn heredoc(body: &Body) -> Heredoc {
    let strip_tabs = body.opening.strip_tabs;
    Heredoc {
        name: body.opening.name.clone(),
        expand: body.opening.expand,
        strip_tabs,
        raw: body.raw.clone(),
        content: if strip_tabs { without_tabs(&body.raw) } else { body.raw.clone() },
        span: body.span,
    }
}

impl Reader<'_> {
    /// Reads any other instruction.
    pub(super) fn instruction(&mut self, head: &Head<'_>) -> Option<Instruction> {
        let before = self.diagnostics.len();
        let kind = self.kind(head)?;
        let said = &self.diagnostics[before..];
        let wrong = said.iter().any(|said| said.severity == Severity::Error);
        (!wrong).then(|| Instruction {
            span: head.span(),
            text: head.text(),
            comment: head.statement.comment.clone(),
            kind,
        })
    }

    fn kind(&mut self, head: &Head<'_>) -> Option<InstructionKind> {
        if !KEYWORDS.contains(&head.name.as_str()) {
            self.report(unknown(head.keyword));
            return None;
        }
        let before = self.diagnostics.len();
        let flags = self.flags(head);
        let may_be_empty = matches!(head.name.as_str(), "CMD" | "ENTRYPOINT");
        if head.arguments.text().is_empty() && !may_be_empty {
            if self.diagnostics.len() == before {
                self.no_arguments(head);
            }
            return None;
        }
        let whole = head.arguments.word();
        match head.name.as_str() {
            "ADD" => copy::add(self, head, &flags),
            "ARG" => self.arg(head),
            "CMD" => Some(InstructionKind::Cmd(self.command(head.arguments)?)),
            "COPY" => copy::copy(self, head, &flags),
            "ENTRYPOINT" => Some(InstructionKind::Entrypoint(self.command(head.arguments)?)),
            "ENV" => self.key_values(head).map(|(pairs, legacy)| InstructionKind::Env(pairs, legacy)),
            "EXPOSE" => Some(InstructionKind::Expose(words(head.arguments))),
            "HEALTHCHECK" => self.healthcheck(head, &flags),
            "LABEL" => self.key_values(head).map(|(pairs, legacy)| InstructionKind::Label(pairs, legacy)),
            "MAINTAINER" => Some(InstructionKind::Maintainer(whole)),
            "ONBUILD" => self.onbuild(head),
            "RUN" => self.run(head, &flags),
            "SHELL" => self.shell(head),
            "STOPSIGNAL" => Some(InstructionKind::Stopsignal(whole)),
            "USER" => Some(InstructionKind::User(whole)),
            "VOLUME" => self.volume(head),
            "WORKDIR" => Some(InstructionKind::Workdir(whole)),
            _ => None,
        }
    }

    /// Says something.
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Checks the flags.
    pub(super) fn flags(&mut self, head: &Head<'_>) -> Flags {
        check_flags(&head.name, &head.flags, self.diagnostics)
    }

    fn no_arguments(&mut self, head: &Head<'_>) {
        let message = match head.name.as_str() {
            "COPY" | "ADD" => format!("`{}` needs a source and a destination", head.name),
            "WORKDIR" | "USER" | "STOPSIGNAL" | "MAINTAINER" => format!("`{}` needs an argument", head.name),
            _ => format!("`{}` needs at least one argument", head.name),
        };
        self.report(Diagnostic::error(head.keyword.span(), message));
    }

    fn key_values(&mut self, head: &Head<'_>) -> Option<(Vec<KeyValue>, bool)> {
        key_values(head.keyword, head.arguments, self.escape, self.diagnostics)
    }

    fn arg(&mut self, head: &Head<'_>) -> Option<InstructionKind> {
        let args = quoted_words(head.arguments, self.escape).into_iter().filter_map(|word| {
            let Some((name, default)) = word.split_equals() else {
                return Some(Arg { name: word.word(), default: None });
            };
            if name.text().is_empty() {
                self.report(Diagnostic::error(word.span(), "`ARG` needs a name before the `=`"));
                return None;
            }
            Some(Arg { name: name.word(), default: Some(default.word()) })
        });
        Some(InstructionKind::Arg(args.collect()))
    }

    fn volume(&mut self, head: &Head<'_>) -> Option<InstructionKind> {
        let words = match self.strings(head.arguments).ok()? {
            Some(words) => words,
            None => words(head.arguments),
        };
        if words.is_empty() {
            self.report(Diagnostic::error(head.arguments.span(), "`VOLUME` needs at least one argument"));
        }
        for word in words.iter().filter(|word| word.text.trim().is_empty()) {
            self.report(Diagnostic::error(word.span, "the path of a volume must not be empty"));
        }
        let trimmed = words.into_iter().map(|word| Word { text: word.text.trim().to_owned(), ..word });
        Some(InstructionKind::Volume(trimmed.collect()))
    }

    fn onbuild(&mut self, head: &Head<'_>) -> Option<InstructionKind> {
        let trigger = Head::of(head.statement, head.arguments);
        if let Some(message) = refused_trigger(&trigger.name) {
            self.report(Diagnostic::error(trigger.keyword.span(), message));
            return None;
        }
        // Stored as written, blanks at the end included.
        let line = head.statement.line.whole().text();
        let mut text = head.rest.text().trim_end().to_owned() + &line[line.trim_end().len()..];
        for body in head.bodies {
            text.push('\n');
            text.push_str(&body.raw);
            text.push_str(&body.opening.name);
        }
        let before = self.diagnostics.len();
        let instruction = self.instruction(&trigger);
        if !refused_when_stored(&trigger) {
            self.diagnostics[before..].iter_mut().for_each(|wrong| wrong.severity = Severity::Warning);
        }
        let instruction = instruction.map(|found| Box::new(Instruction { comment: None, ..found }));
        Some(InstructionKind::Onbuild(text, instruction))
    }
}

/// Mistakes in a trigger that BuildKit's line parser finds already.
fn refused_when_stored(trigger: &Head<'_>) -> bool {
    let has_pairs = matches!(trigger.name.as_str(), "ENV" | "LABEL") && !trigger.arguments.text().is_empty();
    has_pairs || json_array(trigger.arguments) == JsonArray::OtherValues
}

/// Words between blanks.
pub(super) fn words(text: Fragment<'_>) -> Vec<Word> {
    text.words().into_iter().map(Fragment::word).collect()
}

/// Why an instruction cannot be a trigger, if it cannot.
fn refused_trigger(name: &str) -> Option<String> {
    match name {
        "ONBUILD" => Some("`ONBUILD` cannot trigger another `ONBUILD`".to_owned()),
        "FROM" | "MAINTAINER" => Some(format!("`{name}` cannot be a trigger of `ONBUILD`")),
        _ => None,
    }
}

fn unknown(keyword: Fragment<'_>) -> Diagnostic {
    let text = keyword.text();
    if text.is_empty() {
        let message = "a line continuation with nothing to continue";
        return Diagnostic::error(keyword.span(), message).with_hint("remove the line");
    }
    let diagnostic = Diagnostic::error(keyword.span(), format!("unknown instruction `{}`", shown(text)));
    // Text copied from a web page: the blank looks like one, but is not.
    if let Some(blank) = text.chars().find(|c| c.is_whitespace()) {
        let code = u32::from(blank);
        return diagnostic
            .with_hint(format!("it holds the special blank U+{code:04X}; type an ordinary one"));
    }
    match nearest(text, &KEYWORDS) {
        Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
        None => diagnostic.with_hint("if this belongs to the line above, that line must end with `\\`"),
    }
}
