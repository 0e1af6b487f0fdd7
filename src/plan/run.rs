//! `RUN`: the command line, its surroundings, and what is refused.

use std::collections::BTreeMap;

use super::copy::check_names;
use super::draft::{Draft, Site};
use super::graph::Source;
use super::metadata::{command_line, in_shell};
use super::op::{Mount, MountSource, Network, Op, RunOp};
use super::report::Report;
use super::{Options, history, mount, path};
use crate::dockerfile::{CommandForm, Diagnostic, Heredoc, RunFlags, Word, is_sole_heredoc};

/// Adds the step of a RUN.
pub(super) fn run(
    draft: &mut Draft,
    site: Site<'_>,
    flags: &RunFlags,
    form: &CommandForm,
    heredocs: &[Heredoc],
    report: &mut Report,
) -> Option<()> {
    refuse_privileges(flags, report);
    let network = network(site.options, flags.network.as_ref(), report);
    let mounts = mounts(draft, site, &flags.mounts, report);
    let (argv, scripts) = command(draft, form, heredocs);
    let named = if scripts.is_empty() { Some(()) } else { check_names(site, heredocs, report) };
    let (mounts, secret_env) = mounts?;
    named?;
    let env = draft.variables.pairs().to_vec();
    let op = RunOp {
        hidden_env: hidden(site.options, draft),
        argv,
        env,
        cwd: path::join("/", draft.directory()),
        user: draft.config.config.user.clone(),
        mounts,
        network: network?,
        scripts,
        secret_env,
    };
    let created_by = history::run(&op.argv, &args_in_use(draft));
    draft.step(site, Op::Run(Box::new(op)), created_by);
    if let (true, Some(step), [heredoc, ..]) = (is_script(form, heredocs), draft.steps.last_mut(), heredocs) {
        step.text.push_str(&format!(" ({})", summary(&heredoc.content)));
    }
    Some(())
}

/// Arguments declared so far with the values a RUN sees, each once, in order.
fn args_in_use(draft: &Draft) -> Vec<(String, String)> {
    let mut args: Vec<(String, String)> = Vec::new();
    for (name, value) in &draft.declared {
        let seen = draft.variables.get(name).map(str::to_owned);
        let value = seen.or_else(|| value.clone()).unwrap_or_default();
        match args.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => args.push((name.clone(), value)),
        }
    }
    args
}

fn is_script(form: &CommandForm, heredocs: &[Heredoc]) -> bool {
    matches!((form, heredocs), (CommandForm::Shell(line), [_]) if is_sole_heredoc(line))
}

fn command(draft: &Draft, form: &CommandForm, heredocs: &[Heredoc]) -> (Vec<String>, Vec<(String, String)>) {
    match (form, heredocs) {
        (CommandForm::Shell(_), [heredoc]) if is_script(form, heredocs) => script(draft, heredoc),
        (CommandForm::Shell(line), [_, ..]) => {
            // The shell reads them again: the text as it stood in the file.
            let bodies = heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.raw, heredoc.name));
            (in_shell(draft, &format!("{line}{}", bodies.collect::<String>())), Vec::new())
        }
        (form, _) => (command_line(draft, form), Vec::new()),
    }
}

/// `RUN <<EOF`: the body is a program for SHELL, or for what its first line names.
fn script(draft: &Draft, heredoc: &Heredoc) -> (Vec<String>, Vec<(String, String)>) {
    if !heredoc.content.starts_with("#!") {
        return (in_shell(draft, &heredoc.content), Vec::new());
    }
    let scripts = vec![(heredoc.name.clone(), heredoc.content.clone())];
    (in_shell(draft, &format!("/dev/pipes/{}", heredoc.name)), scripts)
}

fn summary(body: &str) -> String {
    let mut lines = body.trim().lines();
    let first = lines.next().unwrap_or_default().to_owned();
    if lines.next().is_some() { first + "..." } else { first }
}

/// What an unprivileged builder cannot give.
fn refuse_privileges(flags: &RunFlags, report: &mut Report) {
    if let Some(word) = &flags.security {
        match word.text.as_str() {
            "sandbox" => {}
            "insecure" => report.error(
                word.span,
                "`--security=insecure` is refused: it gives the command all privileges of the machine, and this builder has none to give",
            ),
            other => report.error(word.span, format!("`--security={other}` is neither `sandbox` nor `insecure`")),
        }
    }
    for device in &flags.devices {
        let message = format!("`--device={}` is refused: this builder hands out no devices", device.text);
        report.error(device.span, message);
    }
}

fn network(options: &Options, word: Option<&Word>, report: &mut Report) -> Option<Network> {
    let Some(word) = word else { return Some(options.network) };
    match word.text.as_str() {
        "default" => Some(options.network),
        "host" if options.host_network => Some(Network::Host),
        "host" => {
            let message =
                "`--network=host` needs the entitlement `network.host`, which this build does not have";
            let hint = "allow it with `--allow network.host` or `--network host`, or leave `--network=host` out: \
                        RUN has the builder's network anyway";
            report.push(Diagnostic::error(word.span, message).with_hint(hint));
            None
        }
        "none" => Some(Network::None),
        other => {
            let hint = "expected `default`, `none` or `host`";
            let message = format!("`--network={other}` is not a network");
            report.push(Diagnostic::error(word.span, message).with_hint(hint));
            None
        }
    }
}

type Mounts = (Vec<Mount>, Vec<(String, String, bool)>);

fn mounts(draft: &Draft, site: Site<'_>, words: &[Word], report: &mut Report) -> Option<Mounts> {
    let namespace = site.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS").map(String::as_str);
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    let (mut mounts, mut secret_env) = (Vec::new(), Vec::new());
    let mut sound = true;
    for word in words {
        let source = match mount::from_name(word).map(|from| site.source(&from)) {
            None => None,
            Some(source) => {
                let source = source.and_then(|source| mount_source(site, source));
                sound &= source.is_some();
                source
            }
        };
        let mut expander = draft.expander(site, report);
        match mount::read(word, &mut expander, draft.directory(), source, namespace) {
            Some(read) => {
                mounts.extend(read.mount);
                secret_env.extend(read.secret_env);
            }
            None => sound = false,
        }
    }
    sound.then_some((mounts, secret_env))
}

fn mount_source(site: Site<'_>, source: Source) -> Option<MountSource> {
    Some(match source {
        Source::Stage(stage) => MountSource::Stage(site.id(stage)?),
        Source::Image(reference) => MountSource::Image(reference),
        Source::Named(name) => MountSource::Named(name),
        Source::Empty => MountSource::Empty,
    })
}

/// Build arguments that are proxies without an ARG, as in BuildKit.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Proxy variables in both cases, others as they are; `--build-arg` wins over the
/// builder's own, and what the image or an ARG sets over both.
fn hidden(options: &Options, draft: &Draft) -> Vec<(String, String)> {
    let mut hidden: BTreeMap<String, &str> = BTreeMap::new();
    let is_proxy = |name: &str| PROXIES.contains(&name.to_ascii_lowercase().as_str());
    let own = options.proxy_args.iter().map(|(name, value)| (name, value));
    let given = options.build_args.iter().filter(|(name, _)| is_proxy(name));
    for (name, value) in own.chain(given) {
        let names = match is_proxy(name) {
            true => vec![name.to_ascii_uppercase(), name.to_ascii_lowercase()],
            false => vec![name.clone()],
        };
        hidden.extend(names.into_iter().map(|name| (name, value.as_str())));
    }
    hidden.retain(|name, _| draft.variables.get(name).is_none());
    hidden.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}
