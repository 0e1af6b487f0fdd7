//! Build checks that need nothing but the text, named as BuildKit names them.
//!
//! Checks that need the plan (undefined variables, platforms, ignored files,
//! instructions given twice) live there.

use std::collections::BTreeMap;

use super::ast::{Dockerfile, InstructionKind, Stage};
use super::instruction::{Head, KEYWORDS};
use super::lexer::Statement;
use super::span::{Diagnostic, Span};

/// Names that mean something else in `FROM` and `COPY --from`.
const RESERVED_STAGES: [&str; 2] = ["context", "scratch"];

/// Every finding; which of them are wanted is for the caller to say.
pub(super) fn run(
    statements: &[Statement],
    heads: &[Head<'_>],
    dockerfile: &Dockerfile,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for statement in statements {
        diagnostics.extend(statement.blank_line().map(|place| {
            Diagnostic::warning("NoEmptyContinuation", place, "empty line inside a continued instruction")
                .with_hint("remove the line, or make it a comment")
        }));
    }
    keyword_casing(heads, diagnostics);
    for head in heads.iter().filter(|head| head.name == "FROM") {
        from_casing(head, diagnostics);
    }
    stage_names(&dockerfile.stages, diagnostics);
    for stage in &dockerfile.stages {
        maintainers(stage, diagnostics);
    }
    descriptions(dockerfile, diagnostics);
}

/// All keywords from the first FROM on should be written in one way.
fn keyword_casing(heads: &[Head<'_>], diagnostics: &mut Vec<Diagnostic>) {
    let first = heads.iter().position(|head| head.name == "FROM").unwrap_or(heads.len());
    let known = heads[first..].iter().filter(|head| KEYWORDS.contains(&head.name.as_str()));
    let keywords: Vec<_> = known.map(|head| head.keyword).collect();
    let lower = keywords.iter().filter(|keyword| is_lower(keyword.text())).count();
    let upper = keywords.iter().filter(|keyword| is_upper(keyword.text())).count();
    type InMajority = fn(&str) -> bool;
    let (majority, fits): (_, InMajority) =
        if lower > upper { ("lowercase", is_lower) } else { ("uppercase", is_upper) };
    for keyword in keywords.into_iter().filter(|keyword| !fits(keyword.text())) {
        let message =
            format!("`{}` is not written in {majority} like most instructions here", keyword.text());
        diagnostics.push(Diagnostic::warning("ConsistentInstructionCasing", keyword.span(), message));
    }
}

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}

fn from_casing(head: &Head<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let words = head.arguments.words();
    let [_, keyword, name] = words.as_slice() else { return };
    if !is_lower(name.text()) {
        let message = format!("stage name `{}` should be lowercase", name.text());
        diagnostics.push(Diagnostic::warning("StageNameCasing", name.span(), message));
    }
    let from = head.keyword.text();
    let matches = match (is_lower(from), is_upper(from)) {
        (true, _) => is_lower(keyword.text()),
        (_, true) => is_upper(keyword.text()),
        // A keyword in mixed case has a finding of its own.
        _ => true,
    };
    if !matches {
        let message = format!("`{}` and `{from}` are written in different cases", keyword.text());
        diagnostics.push(Diagnostic::warning("FromAsCasing", keyword.span(), message));
    }
}

fn stage_names(stages: &[Stage], diagnostics: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for name in stages.iter().filter_map(|stage| stage.from.name.as_ref()) {
        let lower = name.text.to_lowercase();
        if RESERVED_STAGES.contains(&lower.as_str()) {
            let message = format!("`{lower}` has a meaning of its own and should not name a stage");
            diagnostics.push(Diagnostic::warning("ReservedStageName", name.span, message));
        }
        if let Some(line) = seen.get(&lower) {
            let message = format!("stage name `{lower}` is taken already (line {line})");
            let hint = "`FROM` and `COPY --from` will mean the later one";
            diagnostics.push(Diagnostic::warning("DuplicateStageName", name.span, message).with_hint(hint));
        }
        seen.entry(lower).or_insert(name.span.start.line);
    }
}

/// Checks of single instructions.
fn maintainers(stage: &Stage, diagnostics: &mut Vec<Diagnostic>) {
    let found =
        stage.instructions.iter().filter(|found| matches!(found.kind, InstructionKind::Maintainer(_)));
    diagnostics.extend(found.map(|instruction| {
        Diagnostic::warning("MaintainerDeprecated", instruction.span, "`MAINTAINER` is deprecated")
            .with_hint("use `LABEL org.opencontainers.image.authors=…`")
    }));
}

/// Comments above FROM … AS and ARG describe what they declare.
fn descriptions(dockerfile: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    let stages = dockerfile.stages.iter();
    for from in stages.clone().map(|stage| &stage.from) {
        let names = from.name.iter().map(|name| name.text.to_lowercase()).collect();
        diagnostics.extend(description("FROM", names, from.comment.as_deref(), from.span));
    }
    let all = dockerfile.global_args.iter().chain(stages.flat_map(|stage| &stage.instructions));
    for instruction in all {
        if let InstructionKind::Arg(args) = &instruction.kind {
            let names = args.iter().map(|arg| arg.name.text.clone()).collect();
            diagnostics.extend(description("ARG", names, instruction.comment.as_deref(), instruction.span));
        }
    }
}

fn description(keyword: &str, names: Vec<String>, comment: Option<&str>, span: Span) -> Option<Diagnostic> {
    let first = comment?.lines().last()?.split(' ').next()?;
    let example = match names.as_slice() {
        [] => return None,
        [name] => name.as_str(),
        _ => "name",
    };
    if names.iter().any(|name| name == first) {
        return None;
    }
    let message = format!("the comment above `{keyword}` should be of the form `# {example} description`");
    let hint = "put an empty line between them if it is not a description";
    Some(Diagnostic::warning("InvalidDefinitionDescription", span, message).with_hint(hint))
}
