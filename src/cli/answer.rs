//! Answers to `--call`, as text and in BuildKit's JSON (its packages
//! `frontend/subrequests/lint`, `outline` and `targets`), with columns added.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::dockerfile::{Diagnostic, Severity, Source, Span};
use crate::plan::{Summary, TargetSummary};

/// What a check found, as JSON.
pub(super) fn findings(found: &[Diagnostic], source: &Source) -> String {
    let warnings: Vec<Value> = found.iter().filter(|found| found.check.is_some()).map(warning).collect();
    let mut answer = json!({ "warnings": warnings, "sources": sources(source) });
    let errors: Vec<Value> = found
        .iter()
        .filter(|found| found.severity == Severity::Error && found.check.is_none())
        .map(
            |found| json!({ "message": found.message, "hint": found.hint, "location": location(found.span) }),
        )
        .collect();
    if let Some(first) = errors.first() {
        answer["buildError"] = first.clone();
        answer["errors"] = errors.into();
    }
    pretty(&answer)
}

fn warning(found: &Diagnostic) -> Value {
    let rule = found.check.unwrap_or_default();
    json!({
        "ruleName": rule,
        "url": format!("https://docs.docker.com/go/dockerfile/rule/{}/", kebab(rule)),
        "level": if found.severity == Severity::Error { "error" } else { "warning" },
        "detail": found.message,
        "hint": found.hint,
        "location": location(found.span),
    })
}

/// `JSONArgsRecommended` → `json-args-recommended`.
fn kebab(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut text = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let after_lower = at > 0 && letters[at - 1].is_lowercase();
        let before_lower = at > 0 && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_lower || before_lower) {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// What the target takes from outside.
pub(super) fn outline(summary: &Summary, source: &Source, json: bool) -> String {
    if json {
        return pretty(&outline_json(summary, source));
    }
    let mut text = String::new();
    let name = summary.name.as_deref().unwrap_or("(default)");
    text.push_str(&format!("TARGET:      {name}\n"));
    if let Some(description) = &summary.description {
        text.push_str(&format!("DESCRIPTION: {description}\n"));
    }
    let none = String::new();
    let args: Vec<[&str; 3]> = summary
        .args
        .iter()
        .map(|arg| {
            [&arg.name, arg.value.as_ref().unwrap_or(&none), arg.description.as_ref().unwrap_or(&none)]
                .map(String::as_str)
        })
        .collect();
    table(&mut text, ["BUILD ARG", "VALUE", "DESCRIPTION"], &args);
    for (title, given) in [("SECRET", &summary.secrets), ("SSH", &summary.ssh)] {
        let required = |required| if required { "true" } else { "" };
        let rows: Vec<[&str; 2]> =
            given.iter().map(|one| [one.id.as_str(), required(one.required)]).collect();
        table(&mut text, [title, "REQUIRED"], &rows);
    }
    let caches: Vec<[&str; 1]> = summary.caches.iter().map(|cache| [cache.id.as_str()]).collect();
    table(&mut text, ["CACHE"], &caches);
    text
}

fn outline_json(summary: &Summary, source: &Source) -> Value {
    let args: Vec<Value> = summary
        .args
        .iter()
        .map(|arg| {
            json!({ "name": arg.name, "description": arg.description, "value": arg.value, "location": location(arg.span) })
        })
        .collect();
    let given = |list: &[crate::plan::GivenSummary], key: &str| -> Vec<Value> {
        list.iter()
            .map(|one| json!({ key: one.id, "required": one.required, "location": location(one.span) }))
            .collect()
    };
    json!({
        "name": summary.name,
        "description": summary.description,
        "args": args,
        "secrets": given(&summary.secrets, "name"),
        "ssh": given(&summary.ssh, "name"),
        "sources": [STANDARD.encode(&source.text)],
    })
}

/// The stages that can be built.
pub(super) fn targets(targets: &[TargetSummary], source: &Source, json: bool) -> String {
    if json {
        let list: Vec<Value> = targets
            .iter()
            .map(|target| {
                json!({
                    "name": target.name,
                    "default": target.is_default,
                    "description": target.description,
                    "base": target.base,
                    "platform": target.platform,
                    "location": location(target.span),
                })
            })
            .collect();
        return pretty(&json!({ "targets": list, "sources": [STANDARD.encode(&source.text)] }));
    }
    let shown: Vec<(String, &TargetSummary)> = targets
        .iter()
        .filter_map(|target| match (&target.name, target.is_default) {
            (Some(name), true) => Some((format!("{name} (default)"), target)),
            (None, true) => Some(("(default)".to_owned(), target)),
            (Some(name), false) => Some((name.clone(), target)),
            (None, false) => None,
        })
        .collect();
    let rows: Vec<[&str; 2]> = shown
        .iter()
        .map(|(name, target)| [name.as_str(), target.description.as_deref().unwrap_or_default()])
        .collect();
    let mut text = String::new();
    table(&mut text, ["TARGET", "DESCRIPTION"], &rows);
    text.trim_start().to_owned()
}

/// A table with a blank line before it; nothing where there are no rows.
fn table<const N: usize>(text: &mut String, titles: [&str; N], rows: &[[&str; N]]) {
    if rows.is_empty() {
        return;
    }
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([titles[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    text.push('\n');
    for row in std::iter::once(&titles).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
}

fn location(span: Span) -> Value {
    let place = |line: u32, character: u32| json!({ "line": line, "character": character });
    json!({
        "sourceIndex": 0,
        "ranges": [{
            "start": place(span.start.line, span.start.column),
            "end": place(span.end.line, span.end.column),
        }],
    })
}

fn sources(source: &Source) -> Value {
    json!([{ "filename": source.name, "language": "Dockerfile", "data": STANDARD.encode(&source.text) }])
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_names_are_addresses() {
        for (name, expected) in [
            ("StageNameCasing", "stage-name-casing"),
            ("JSONArgsRecommended", "json-args-recommended"),
            ("FromAsCasing", "from-as-casing"),
            ("UndefinedArgInFrom", "undefined-arg-in-from"),
        ] {
            assert_eq!(kebab(name), expected);
        }
    }

    #[test]
    fn tables_are_aligned() {
        let mut text = String::new();
        table(&mut text, ["A", "B"], &[["long", "x"], ["é", ""]]);
        assert_eq!(text, "\nA      B\nlong   x\né\n");
        table(&mut text, ["C"], &[]);
        assert!(!text.contains('C'));
    }
}
