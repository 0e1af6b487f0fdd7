//! Golden tests: `tests/dockerfile/<case>/Dockerfile` and what is made of it.
//!
//! `expected` holds the syntax tree, one line per instruction with its place,
//! and then the diagnostics as the user sees them. `CORACLE_BLESS=1 cargo test
//! --lib dockerfile::golden` writes what the parser says now; look at the
//! difference before you commit it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

#[test]
fn every_case_is_read_as_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dockerfile");
    let mut directories: Vec<PathBuf> = fs::read_dir(&cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    directories.sort();
    assert!(directories.len() >= 40, "only {} cases in {}", directories.len(), cases.display());
    let wrong: Vec<String> = directories.iter().filter_map(|directory| compare(directory)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests, not for the library")]
fn bless() -> bool {
    std::env::var_os("CORACLE_BLESS").is_some_and(|value| value == "1")
}

/// What differs in one case.
fn compare(directory: &Path) -> Option<String> {
    let text = fs::read(directory.join("Dockerfile")).unwrap();
    let found = describe(&text);
    let file = directory.join("expected");
    if bless() {
        fs::write(&file, &found).unwrap();
        return None;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    let case = directory.file_name().unwrap().display();
    (found != expected).then(|| format!("{case} (- expected, + found):\n{}", difference(&expected, &found)))
}

/// Lines only one side has, in order, with two equal lines around each.
fn difference(expected: &str, found: &str) -> String {
    let left: Vec<&str> = expected.lines().collect();
    let right: Vec<&str> = found.lines().collect();
    let mut common = vec![vec![0usize; right.len() + 1]; left.len() + 1];
    for i in (0..left.len()).rev() {
        for j in (0..right.len()).rev() {
            common[i][j] = if left[i] == right[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut rows: Vec<(char, &str)> = Vec::new();
    while i < left.len() || j < right.len() {
        if i < left.len() && j < right.len() && left[i] == right[j] {
            rows.push((' ', left[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == right.len() || (i < left.len() && common[i + 1][j] >= common[i][j + 1]) {
            rows.push(('-', left[i]));
            i += 1;
        } else {
            rows.push(('+', right[j]));
            j += 1;
        }
    }
    let near = |index: usize| {
        rows.iter().enumerate().any(|(other, (mark, _))| *mark != ' ' && index.abs_diff(other) <= 2)
    };
    let shown = rows.iter().enumerate().filter(|(index, _)| near(*index));
    shown.map(|(_, (mark, line))| format!("  {mark} {line}\n")).collect()
}

/// Tree and diagnostics as text.
pub(super) fn describe(text: &[u8]) -> String {
    let parsed = parse("Dockerfile", text);
    let mut out = String::new();
    tree(&parsed.dockerfile, &mut out);
    for diagnostic in &parsed.diagnostics {
        write!(out, "\n{}", diagnostic.render(&parsed.dockerfile.source)).unwrap();
    }
    out
}

fn tree(dockerfile: &Dockerfile, out: &mut String) {
    let directives = &dockerfile.directives;
    for (name, value) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some((value, span)) = value {
            writeln!(out, "{} directive {name} {value:?}", place(*span)).unwrap();
        }
    }
    if directives.escape != '\\' {
        writeln!(out, "directive escape {:?}", directives.escape).unwrap();
    }
    for instruction in &dockerfile.global_args {
        describe_instruction(instruction, "", out);
    }
    for stage in &dockerfile.stages {
        let From { span, text, platform, image, name, comment } = &stage.from;
        writeln!(out, "{} FROM {}", place(*span), word(image)).unwrap();
        writeln!(out, "    text {text:?}").unwrap();
        option("platform", platform.as_ref(), out);
        option("as", name.as_ref(), out);
        comment.iter().for_each(|comment| writeln!(out, "    comment {comment:?}").unwrap());
        for instruction in &stage.instructions {
            describe_instruction(instruction, "  ", out);
        }
    }
}

fn describe_instruction(instruction: &Instruction, indent: &str, out: &mut String) {
    let mut inner = String::new();
    let summary = kind(&instruction.kind, &mut inner);
    writeln!(out, "{indent}{} {summary}", place(instruction.span)).unwrap();
    writeln!(out, "{indent}    text {:?}", instruction.text).unwrap();
    if let Some(comment) = &instruction.comment {
        writeln!(out, "{indent}    comment {comment:?}").unwrap();
    }
    inner.lines().for_each(|line| writeln!(out, "{indent}{line}").unwrap());
}

fn kind(kind: &InstructionKind, out: &mut String) -> String {
    match kind {
        InstructionKind::Add(flags, own, sources) => {
            copy_flags(flags, out);
            option("checksum", own.checksum.as_ref(), out);
            own.keep_git_dir.iter().for_each(|value| writeln!(out, "    keep-git-dir {value}").unwrap());
            own.unpack.iter().for_each(|value| writeln!(out, "    unpack {value}").unwrap());
            format!("ADD {}", copy_sources(sources, out))
        }
        InstructionKind::Copy(flags, from, sources) => {
            copy_flags(flags, out);
            option("from", from.as_ref(), out);
            format!("COPY {}", copy_sources(sources, out))
        }
        InstructionKind::Arg(args) => {
            let args: Vec<String> = args
                .iter()
                .map(|arg| match &arg.default {
                    Some(default) => format!("{} = {}", word(&arg.name), word(default)),
                    None => word(&arg.name),
                })
                .collect();
            format!("ARG {}", args.join(", "))
        }
        InstructionKind::Cmd(form) => format!("CMD {}", command(form)),
        InstructionKind::Entrypoint(form) => format!("ENTRYPOINT {}", command(form)),
        InstructionKind::Env(pairs, legacy) => format!("ENV {}", key_values(pairs, *legacy)),
        InstructionKind::Label(pairs, legacy) => format!("LABEL {}", key_values(pairs, *legacy)),
        InstructionKind::Expose(ports) => format!("EXPOSE {}", words(ports)),
        InstructionKind::Healthcheck(HealthcheckKind::None) => "HEALTHCHECK NONE".to_owned(),
        InstructionKind::Healthcheck(HealthcheckKind::Cmd(flags, form)) => {
            option("interval", flags.interval.as_ref(), out);
            option("timeout", flags.timeout.as_ref(), out);
            option("start-period", flags.start_period.as_ref(), out);
            option("start-interval", flags.start_interval.as_ref(), out);
            option("retries", flags.retries.as_ref(), out);
            format!("HEALTHCHECK CMD {}", command(form))
        }
        InstructionKind::Maintainer(name) => format!("MAINTAINER {}", word(name)),
        InstructionKind::Onbuild(text, trigger) => {
            trigger.iter().for_each(|trigger| describe_instruction(trigger, "    ", out));
            format!("ONBUILD {text:?}")
        }
        InstructionKind::Run(flags, form, heredocs) => {
            flags.mounts.iter().for_each(|mount| option("mount", Some(mount), out));
            option("network", flags.network.as_ref(), out);
            option("security", flags.security.as_ref(), out);
            flags.devices.iter().for_each(|device| option("device", Some(device), out));
            heredocs.iter().for_each(|heredoc| describe_heredoc(heredoc, out));
            format!("RUN {}", command(form))
        }
        InstructionKind::Shell(words) => format!("SHELL {words:?}"),
        InstructionKind::Stopsignal(signal) => format!("STOPSIGNAL {}", word(signal)),
        InstructionKind::User(user) => format!("USER {}", word(user)),
        InstructionKind::Volume(paths) => format!("VOLUME {}", words(paths)),
        InstructionKind::Workdir(path) => format!("WORKDIR {}", word(path)),
    }
}

fn copy_flags(flags: &CopyFlags, out: &mut String) {
    option("chown", flags.chown.as_ref(), out);
    option("chmod", flags.chmod.as_ref(), out);
    for (name, given) in [("link", flags.link), ("parents", flags.parents)] {
        if given {
            writeln!(out, "    {name}").unwrap();
        }
    }
    flags.exclude.iter().for_each(|pattern| option("exclude", Some(pattern), out));
}

fn copy_sources(sources: &CopySources, out: &mut String) -> String {
    sources.heredocs.iter().for_each(|heredoc| describe_heredoc(heredoc, out));
    format!("[{}] -> {}", words(&sources.paths), word(&sources.destination))
}

fn describe_heredoc(heredoc: &Heredoc, out: &mut String) {
    let Heredoc { name, expand, strip_tabs, content, span, raw: _ } = heredoc;
    let (expand, strip) =
        (if *expand { "" } else { " quoted" }, if *strip_tabs { " strip-tabs" } else { "" });
    writeln!(out, "    {} heredoc {name:?}{expand}{strip} {content:?}", place(*span)).unwrap();
}

fn option(name: &str, value: Option<&Word>, out: &mut String) {
    value.iter().for_each(|value| writeln!(out, "    {name} {}", word(value)).unwrap());
}

fn command(form: &CommandForm) -> String {
    match form {
        CommandForm::Shell(line) => format!("shell {line:?}"),
        CommandForm::Exec(words) => format!("exec {words:?}"),
    }
}

fn key_values(pairs: &[KeyValue], legacy: bool) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|pair| format!("{} = {}", word(&pair.key), word(&pair.value))).collect();
    format!("{}{}", if legacy { "legacy " } else { "" }, pairs.join(", "))
}

fn words(words: &[Word]) -> String {
    words.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn word(word: &Word) -> String {
    format!("{:?}@{}", word.text, place(word.span))
}

fn place(span: Span) -> String {
    let (start, end) = (span.start, span.end);
    if start.line == end.line {
        format!("{}:{}-{}", start.line, start.column, end.column)
    } else {
        format!("{}:{}-{}:{}", start.line, start.column, end.line, end.column)
    }
}
