//! What each instruction does to the config.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::draft::{Draft, Site};
use super::op::{Op, WorkdirOp};
use super::report::Report;
use super::{check, copy, duration, expose, history, path, run, signal};
use crate::dockerfile::{
    Arg, CommandForm, HealthcheckFlags, HealthcheckKind, InstructionKind, KeyValue, Word,
};
use crate::image::Healthcheck;

/// Does one instruction. `None` when it is wrong; what is wrong was said.
pub(super) fn apply(draft: &mut Draft, site: Site<'_>, report: &mut Report) -> Option<()> {
    match &site.command.instruction.kind {
        InstructionKind::Add(flags, add, sources) => copy::add(draft, site, flags, add, sources, report),
        InstructionKind::Arg(args) => arg(draft, site, args, report),
        InstructionKind::Cmd(form) => cmd(draft, site, form, report),
        InstructionKind::Copy(flags, from, sources) => {
            copy::copy(draft, site, flags, from.as_ref(), sources, report)
        }
        InstructionKind::Entrypoint(form) => entrypoint(draft, site, form, report),
        InstructionKind::Env(pairs, legacy) => env(draft, site, pairs, *legacy, report),
        InstructionKind::Expose(words) => expose_ports(draft, site, words, report),
        InstructionKind::Healthcheck(kind) => healthcheck(draft, site, kind, report),
        InstructionKind::Label(pairs, legacy) => label(draft, site, pairs, *legacy, report),
        InstructionKind::Maintainer(name) => {
            draft.config.author.clone_from(&name.text);
            draft.record(site, format!("MAINTAINER {}", name.text));
            Some(())
        }
        // No step and no history, as in BuildKit.
        InstructionKind::Onbuild(text, _) => {
            draft.config.config.on_build.push(text.clone());
            Some(())
        }
        InstructionKind::Run(flags, form, heredocs) => run::run(draft, site, flags, form, heredocs, report),
        InstructionKind::Shell(shell) => {
            draft.config.config.shell.clone_from(shell);
            draft.record(site, history::list("SHELL", shell));
            Some(())
        }
        InstructionKind::Stopsignal(word) => stopsignal(draft, site, word, report),
        InstructionKind::User(word) => user(draft, site, word, report),
        InstructionKind::Volume(words) => volume(draft, site, words, report),
        InstructionKind::Workdir(word) => workdir(draft, site, word, report),
    }
}

/// Arguments that are settings of BuildKit's scanner, never variables of a RUN.
const NOT_FOR_RUN: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Each argument sees those before it, also on the same line.
fn arg(draft: &mut Draft, site: Site<'_>, args: &[Arg], report: &mut Report) -> Option<()> {
    let mut texts = Vec::new();
    let mut sound = true;
    for Arg { name, default } in args {
        let name_text = &name.text;
        check::secret_name(report, name.span, "ARG", name_text);
        let given = site.options.build_args.get(name_text).cloned();
        let value = match (given, default) {
            (Some(value), _) => Some(value),
            (None, Some(default)) => {
                let value = draft.expander(site, report).word(default);
                sound &= value.is_some();
                value
            }
            (None, None) => site.globals.values.get(name_text).map(str::to_owned),
        };
        if let Some(value) = value.as_ref().filter(|_| !NOT_FOR_RUN.contains(&name_text.as_str())) {
            draft.variables.set(name_text, value);
        }
        texts.push(match &value {
            Some(value) => format!("{name_text}={value}"),
            None => name_text.clone(),
        });
        draft.declared.push((name_text.clone(), value));
    }
    draft.record(site, format!("ARG {}", texts.join(" ")));
    sound.then_some(())
}

fn env(
    draft: &mut Draft,
    site: Site<'_>,
    pairs: &[KeyValue],
    legacy: bool,
    report: &mut Report,
) -> Option<()> {
    if legacy {
        check::legacy_pair(report, site.span(), "ENV");
    }
    let pairs = expand_pairs(draft, site, pairs, report)?;
    for (name, value) in &pairs {
        check::secret_name(report, site.span(), "ENV", name);
        draft.variables.set(name, value);
        draft.config.config.set_env(name, value);
    }
    draft.record(site, history::pairs("ENV", &pairs));
    Some(())
}

fn label(
    draft: &mut Draft,
    site: Site<'_>,
    pairs: &[KeyValue],
    legacy: bool,
    report: &mut Report,
) -> Option<()> {
    if legacy {
        check::legacy_pair(report, site.span(), "LABEL");
    }
    let pairs = expand_pairs(draft, site, pairs, report)?;
    for (name, value) in &pairs {
        draft.labelled.insert(name.clone());
        draft.config.config.labels.insert(name.clone(), value.clone());
    }
    draft.record(site, history::pairs("LABEL", &pairs));
    Some(())
}

fn expand_pairs(
    draft: &Draft,
    site: Site<'_>,
    pairs: &[KeyValue],
    report: &mut Report,
) -> Option<Vec<(String, String)>> {
    let mut expander = draft.expander(site, report);
    let pairs: Vec<_> =
        pairs.iter().map(|KeyValue { key, value }| (expander.word(key), expander.word(value))).collect();
    pairs.into_iter().map(|(name, value)| Some((name?, value?))).collect()
}

fn expose_ports(draft: &mut Draft, site: Site<'_>, words: &[Word], report: &mut Report) -> Option<()> {
    let mut ports = Vec::new();
    let mut sound = true;
    for word in words {
        let split = draft.expander(site, report).split(word);
        sound &= split.is_some();
        for text in split.unwrap_or_default() {
            match expose::ports(&text, word.span, report) {
                Some(found) => ports.extend(found),
                None => sound = false,
            }
        }
    }
    if !sound {
        return None;
    }
    insert_all(&mut draft.config.config.exposed_ports, &ports);
    draft.record(site, history::list("EXPOSE", &ports));
    Some(())
}

fn volume(draft: &mut Draft, site: Site<'_>, words: &[Word], report: &mut Report) -> Option<()> {
    let volumes = draft.expander(site, report).words(words)?;
    if volumes.iter().any(String::is_empty) {
        report.error(site.span(), "VOLUME needs a path, this one is empty");
        return None;
    }
    insert_all(&mut draft.config.config.volumes, &volumes);
    draft.record(site, history::list("VOLUME", &volumes));
    Some(())
}

fn insert_all(set: &mut BTreeMap<String, Value>, names: &[String]) {
    for name in names {
        set.insert(name.clone(), Value::Object(Map::new()));
    }
}

fn user(draft: &mut Draft, site: Site<'_>, word: &Word, report: &mut Report) -> Option<()> {
    let user = draft.expander(site, report).word(word)?;
    draft.record(site, format!("USER {user}"));
    draft.config.config.user = user;
    Some(())
}

fn workdir(draft: &mut Draft, site: Site<'_>, word: &Word, report: &mut Report) -> Option<()> {
    let wanted = draft.expander(site, report).word(word)?;
    if !draft.workdir_set && !wanted.starts_with('/') {
        check::relative_workdir(report, word.span, &wanted);
    }
    draft.workdir_set = true;
    let windows = draft.config.os == "windows";
    let directory = match windows {
        true => path::windows_workdir(draft.directory(), &wanted),
        false => path::workdir(draft.directory(), &wanted),
    };
    let created_by = format!("WORKDIR {directory}");
    let path = path::join("/", &directory);
    let is_root = directory == "/";
    draft.config.config.working_dir = if windows { directory.replace('/', "\\") } else { directory };
    if is_root {
        draft.record(site, created_by);
    } else {
        let user = draft.config.config.user.clone();
        draft.step(site, Op::Workdir(WorkdirOp { path, user }), created_by);
    }
    Some(())
}

/// The command line of a shell or exec form, with SHELL as it is now.
pub(super) fn command_line(draft: &Draft, form: &CommandForm) -> Vec<String> {
    match form {
        CommandForm::Exec(words) => words.clone(),
        CommandForm::Shell(line) => in_shell(draft, line),
    }
}

/// `line` as the last argument of SHELL.
pub(super) fn in_shell(draft: &Draft, line: &str) -> Vec<String> {
    let mut words = match draft.config.config.shell.as_slice() {
        [] if draft.config.os == "windows" => ["cmd", "/S", "/C"].map(str::to_owned).to_vec(),
        [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        shell => shell.to_vec(),
    };
    words.push(line.to_owned());
    words
}

/// Docker leaves empty lists out of a config.
fn unless_empty(words: &[String]) -> Option<Vec<String>> {
    if words.is_empty() { None } else { Some(words.to_vec()) }
}

fn check_form(draft: &Draft, site: Site<'_>, instruction: &str, form: &CommandForm, report: &mut Report) {
    if let (CommandForm::Shell(line), []) = (form, draft.config.config.shell.as_slice()) {
        check::shell_form(report, site.span(), instruction, line);
    }
}

fn cmd(draft: &mut Draft, site: Site<'_>, form: &CommandForm, report: &mut Report) -> Option<()> {
    check::used_once(report, draft.cmd.replace(site.span()), "CMD");
    check_form(draft, site, "CMD", form, report);
    let words = command_line(draft, form);
    draft.config.config.cmd = unless_empty(&words);
    // BuildKit sets it on every platform.
    draft.config.config.args_escaped = true;
    draft.record(site, history::quoted_list("CMD", &words));
    Some(())
}

fn entrypoint(draft: &mut Draft, site: Site<'_>, form: &CommandForm, report: &mut Report) -> Option<()> {
    check::used_once(report, draft.entrypoint.replace(site.span()), "ENTRYPOINT");
    check_form(draft, site, "ENTRYPOINT", form, report);
    let words = command_line(draft, form);
    draft.config.config.entrypoint = unless_empty(&words);
    // The base's CMD was meant for the base's entry point.
    if draft.cmd.is_none() {
        draft.config.config.cmd = None;
    }
    draft.record(site, history::quoted_list("ENTRYPOINT", &words));
    Some(())
}

fn stopsignal(draft: &mut Draft, site: Site<'_>, word: &Word, report: &mut Report) -> Option<()> {
    let name = draft.expander(site, report).word(word)?;
    if !signal::is_known(&name) {
        report.error(
            word.span,
            format!("`{name}` is not a signal (expected a name such as `SIGTERM` or a number)"),
        );
        return None;
    }
    draft.record(site, format!("STOPSIGNAL {name}"));
    draft.config.config.stop_signal = name;
    Some(())
}

fn healthcheck(draft: &mut Draft, site: Site<'_>, kind: &HealthcheckKind, report: &mut Report) -> Option<()> {
    check::used_once(report, draft.healthcheck.replace(site.span()), "HEALTHCHECK");
    let check = match kind {
        HealthcheckKind::None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
        HealthcheckKind::Cmd(flags, form) => health_command(flags, form, report)?,
    };
    draft.record(site, history::healthcheck(&check));
    draft.config.config.healthcheck = Some(check);
    Some(())
}

fn health_command(flags: &HealthcheckFlags, form: &CommandForm, report: &mut Report) -> Option<Healthcheck> {
    let HealthcheckFlags { interval, timeout, start_period, start_interval, retries } = flags;
    let mut test = match form {
        CommandForm::Exec(words) => words.clone(),
        CommandForm::Shell(line) => vec![line.clone()],
    };
    test.insert(0, if matches!(form, CommandForm::Exec(_)) { "CMD" } else { "CMD-SHELL" }.to_owned());
    // All are read before the first failure counts: every mistake is said.
    let times = [
        time("interval", interval.as_ref(), report),
        time("timeout", timeout.as_ref(), report),
        time("start-period", start_period.as_ref(), report),
        time("start-interval", start_interval.as_ref(), report),
    ];
    let retries = tries(retries.as_ref(), report);
    let [interval, timeout, start_period, start_interval] = times;
    Some(Healthcheck {
        test,
        interval: interval?,
        timeout: timeout?,
        start_period: start_period?,
        start_interval: start_interval?,
        retries: retries?,
    })
}

/// Docker's shortest time, a millisecond.
const SHORTEST: i64 = 1_000_000;

/// Nanoseconds; 0 means the default.
fn time(flag: &str, word: Option<&Word>, report: &mut Report) -> Option<i64> {
    let Some(word) = word.filter(|word| !word.text.is_empty()) else { return Some(0) };
    let time = duration::parse(&word.text).and_then(|time| match time {
        0 | SHORTEST.. => Ok(time),
        _ => Err(format!("`{}` is less than 1ms", word.text)),
    });
    report.take(word.span, time.map_err(|reason| format!("`--{flag}`: {reason}")))
}

fn tries(word: Option<&Word>, report: &mut Report) -> Option<i64> {
    let Some(word) = word.filter(|word| !word.text.is_empty()) else { return Some(0) };
    let tries = word.text.parse::<i32>().ok().filter(|tries| *tries >= 0);
    let wrong = || format!("`--retries={}` is not a number of tries", word.text);
    report.take(word.span, tries.map(i64::from).ok_or_else(wrong))
}
