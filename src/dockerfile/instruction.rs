//! One statement to one instruction: how many arguments, which flags, which
//! form. Every function reports what is wrong and gives `None` then.

use super::arguments::{JsonArray, json_array, key_values, quoted_words};
use super::ast::{
    Arg, CommandForm, From, HealthcheckFlags, HealthcheckKind, Heredoc, Instruction, InstructionKind,
    RunFlags, Word,
};
use super::copy;
use super::flags::{Flag, Flags, Kind, Table, check_flags, split_flags};
use super::heredoc::without_tabs;
use super::lexer::{Body, Statement};
use super::line::Fragment;
use super::span::{Diagnostic, Span};
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

const FROM_FLAGS: &Table = &[("platform", Kind::Value)];
const RUN_FLAGS: &Table =
    &[("mount", Kind::List), ("network", Kind::Value), ("security", Kind::Value), ("device", Kind::List)];
const HEALTHCHECK_FLAGS: &Table = &[
    ("interval", Kind::Value),
    ("timeout", Kind::Value),
    ("start-period", Kind::Value),
    ("start-interval", Kind::Value),
    ("retries", Kind::Value),
];
/// What `RUN --network` and `RUN --security` take; neither is expanded.
const NETWORKS: [&str; 3] = ["default", "none", "host"];
const SECURITY_MODES: [&str; 2] = ["sandbox", "insecure"];

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
    statement: &'a Statement,
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
        let name = keyword.text().to_uppercase();
        Self { keyword, name, flags, rest, arguments, bodies: &statement.bodies, statement }
    }

    /// The whole instruction, heredocs included.
    pub(super) fn span(&self) -> Span {
        let span = self.keyword.up_to(self.rest.trim()).span();
        let start = self.keyword.span().start;
        Span { start, end: self.statement.end.unwrap_or(span.end).max(span.end) }
    }

    /// One line for logs: keyword in upper case, the rest as written.
    fn text(&self) -> String {
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
        content: if strip_tabs { without_tabs(&body.raw) } else { body.raw.clone() },
        span: body.span,
    }
}

impl Reader<'_> {
    /// Reads `FROM`.
    pub(super) fn from(&mut self, head: &Head<'_>) -> Option<From> {
        let flags = self.flags(head, FROM_FLAGS);
        let words = head.arguments.words();
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, keyword, name] if keyword.text().eq_ignore_ascii_case("as") => (image, Some(name)),
            _ => {
                let place = words.get(1).map_or(head.keyword, |second| second.up_to(head.arguments));
                self.report(
                    Diagnostic::error(place.span(), "`FROM` takes one argument or three")
                        .with_hint("write `FROM image` or `FROM image AS name`"),
                );
                return None;
            }
        };
        if let Some(name) = name.filter(|name| !is_stage_name(name.text())) {
            let message = format!("`{}` is not a name for a stage", name.text());
            let hint = "a stage's name starts with a letter; letters, digits, `-`, `_` and `.` follow";
            self.report(Diagnostic::error(name.span(), message).with_hint(hint));
            return None;
        }
        Some(From {
            span: head.span(),
            text: head.text(),
            platform: flags.value("platform"),
            image: image.word(),
            name: name.map(|name| name.word()),
            comment: head.statement.comment.clone(),
        })
    }

    /// Reads any other instruction.
    pub(super) fn instruction(&mut self, head: &Head<'_>) -> Option<Instruction> {
        let before = self.diagnostics.len();
        let kind = self.kind(head)?;
        (self.diagnostics.len() == before).then(|| Instruction {
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
        if head.arguments.text().is_empty() {
            self.no_arguments(head);
            return None;
        }
        match head.name.as_str() {
            "ADD" => copy::add(self, head),
            "COPY" => copy::copy(self, head),
            "RUN" => self.run(head),
            "HEALTHCHECK" => self.healthcheck(head),
            "ONBUILD" => self.onbuild(head),
            _ => {
                self.flags(head, &[]);
                self.without_flags(head)
            }
        }
    }

    fn without_flags(&mut self, head: &Head<'_>) -> Option<InstructionKind> {
        let whole = head.arguments.word();
        match head.name.as_str() {
            "ARG" => self.arg(head),
            "CMD" => Some(InstructionKind::Cmd(self.command(head.arguments)?)),
            "ENTRYPOINT" => Some(InstructionKind::Entrypoint(self.command(head.arguments)?)),
            "ENV" => self.key_values(head).map(|(pairs, legacy)| InstructionKind::Env(pairs, legacy)),
            "LABEL" => self.key_values(head).map(|(pairs, legacy)| InstructionKind::Label(pairs, legacy)),
            "EXPOSE" => Some(InstructionKind::Expose(
                head.arguments.words().into_iter().map(Fragment::word).collect(),
            )),
            "MAINTAINER" => Some(InstructionKind::Maintainer(whole)),
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
    pub(super) fn flags(&mut self, head: &Head<'_>, table: &Table) -> Flags {
        check_flags(&head.name, &head.flags, table, self.diagnostics)
    }

    fn no_arguments(&mut self, head: &Head<'_>) {
        let message = match head.name.as_str() {
            "COPY" | "ADD" => format!("`{}` needs a source and a destination", head.name),
            "WORKDIR" | "USER" | "STOPSIGNAL" | "MAINTAINER" => format!("`{}` needs an argument", head.name),
            _ => format!("`{}` needs at least one argument", head.name),
        };
        self.report(Diagnostic::error(head.keyword.span(), message));
    }

    fn key_values(&mut self, head: &Head<'_>) -> Option<(Vec<super::ast::KeyValue>, bool)> {
        key_values(head.keyword, head.arguments, self.escape, self.diagnostics)
    }

    /// The words of a JSON array; an array of anything but strings is reported.
    pub(super) fn strings(&mut self, text: Fragment<'_>) -> Result<Option<Vec<Word>>, ()> {
        match json_array(text) {
            JsonArray::Strings(words) => Ok(Some(words)),
            JsonArray::No => Ok(None),
            JsonArray::OtherValues => {
                let message = "the array holds something that is not a string";
                let hint = "put every element between double quotes";
                self.report(Diagnostic::error(text.span(), message).with_hint(hint));
                Err(())
            }
        }
    }

    /// A JSON array, or a line for the shell.
    fn command(&mut self, text: Fragment<'_>) -> Option<CommandForm> {
        Some(match self.strings(text).ok()? {
            Some(words) => CommandForm::Exec(words.into_iter().map(|word| word.text).collect()),
            None => CommandForm::Shell(text.text().to_owned()),
        })
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

    fn run(&mut self, head: &Head<'_>) -> Option<InstructionKind> {
        let flags = self.flags(head, RUN_FLAGS);
        let network = flags.value("network");
        let security = flags.value("security");
        self.one_of("network", network.as_ref(), &NETWORKS);
        self.one_of("security", security.as_ref(), &SECURITY_MODES);
        let command = self.command(head.arguments)?;
        if command == CommandForm::Exec(Vec::new()) {
            self.report(Diagnostic::error(head.arguments.span(), "`RUN` needs a program to run"));
            return None;
        }
        let flags =
            RunFlags { mounts: flags.list("mount"), network, security, devices: flags.list("device") };
        Some(InstructionKind::Run(flags, command, head.heredocs()))
    }

    fn one_of(&mut self, flag: &str, value: Option<&Word>, allowed: &[&str]) {
        let Some(value) = value.filter(|value| !allowed.contains(&value.text.as_str())) else { return };
        let message = format!("`--{flag}` does not take `{}`", value.text);
        let hint = match nearest(&value.text, allowed) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "it takes {}",
                allowed.iter().map(|a| format!("`{a}`")).collect::<Vec<_>>().join(", ")
            ),
        };
        self.report(Diagnostic::error(value.span, message).with_hint(hint));
    }

    fn healthcheck(&mut self, head: &Head<'_>) -> Option<InstructionKind> {
        let flags = self.flags(head, HEALTHCHECK_FLAGS);
        let (form, rest) = head.arguments.split_word();
        let kind = match form.text().to_ascii_uppercase().as_str() {
            "NONE" if rest.text().is_empty() => HealthcheckKind::None,
            "NONE" => {
                self.report(Diagnostic::error(rest.span(), "`HEALTHCHECK NONE` takes no arguments"));
                return None;
            }
            "CMD" => {
                let command = self.command(rest)?;
                if matches!(&command, CommandForm::Shell(line) if line.is_empty())
                    || command == CommandForm::Exec(Vec::new())
                {
                    self.report(Diagnostic::error(form.span(), "`HEALTHCHECK CMD` needs a command"));
                    return None;
                }
                HealthcheckKind::Cmd(healthcheck_flags(&flags), command)
            }
            _ => {
                let message = format!("`HEALTHCHECK` is followed by `CMD` or `NONE`, not `{}`", form.text());
                self.report(
                    Diagnostic::error(form.span(), message)
                        .with_hint("options come first, then `CMD`, then the command"),
                );
                return None;
            }
        };
        Some(InstructionKind::Healthcheck(kind))
    }

    fn shell(&mut self, head: &Head<'_>) -> Option<InstructionKind> {
        match self.strings(head.arguments).ok()? {
            Some(words) if !words.is_empty() => {
                Some(InstructionKind::Shell(words.into_iter().map(|word| word.text).collect()))
            }
            Some(_) => {
                self.report(Diagnostic::error(head.arguments.span(), "`SHELL` needs at least one argument"));
                None
            }
            None => {
                self.report(
                    Diagnostic::error(head.arguments.span(), "`SHELL` takes a JSON array")
                        .with_hint("for example `SHELL [\"/bin/bash\", \"-c\"]`"),
                );
                None
            }
        }
    }

    fn volume(&mut self, head: &Head<'_>) -> Option<InstructionKind> {
        let words = match self.strings(head.arguments).ok()? {
            Some(words) => words,
            None => head.arguments.words().into_iter().map(Fragment::word).collect(),
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
        self.flags(head, &[]);
        let trigger = Head::of(head.statement, head.arguments);
        if let Some(message) = refused_trigger(&trigger.name) {
            self.report(Diagnostic::error(trigger.keyword.span(), message));
            return None;
        }
        let mut text = head.rest.text().trim_end().to_owned();
        for body in head.bodies {
            text.push('\n');
            text.push_str(&body.raw);
            text.push_str(&body.opening.name);
        }
        let instruction = self.instruction(&trigger)?;
        Some(InstructionKind::Onbuild(text, Box::new(Instruction { comment: None, ..instruction })))
    }
}

/// Why an instruction cannot be a trigger, if it cannot.
pub(super) fn refused_trigger(name: &str) -> Option<String> {
    match name {
        "ONBUILD" => Some("`ONBUILD` cannot trigger another `ONBUILD`".to_owned()),
        "FROM" | "MAINTAINER" => Some(format!("`{name}` cannot be a trigger of `ONBUILD`")),
        _ => None,
    }
}

fn healthcheck_flags(flags: &Flags) -> HealthcheckFlags {
    HealthcheckFlags {
        interval: flags.value("interval"),
        timeout: flags.value("timeout"),
        start_period: flags.value("start-period"),
        start_interval: flags.value("start-interval"),
        retries: flags.value("retries"),
    }
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn unknown(keyword: Fragment<'_>) -> Diagnostic {
    let shown: String = keyword.text().chars().take(40).collect();
    let diagnostic = Diagnostic::error(keyword.span(), format!("unknown instruction `{shown}`"));
    match nearest(keyword.text(), &KEYWORDS) {
        Some(near) => diagnostic.with_hint(format!("did you mean `{near}`?")),
        None => diagnostic.with_hint("if this belongs to the line above, that line must end with `\\`"),
    }
}
