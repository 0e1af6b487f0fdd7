//! Flags of `docker buildx build` that are understood and cannot be honoured:
//! one line each, with what to use instead. Ignoring them would lie.

use super::arguments::BuildArguments;
use super::fields::{fields, truth};

/// One line per flag that is refused.
pub(super) fn refusals(arguments: &BuildArguments) -> Vec<String> {
    let mut lines = Vec::new();
    let given = [
        (arguments.load, "--load: there is no daemon to load into; use --output type=docker,dest=FILE.tar"),
        (
            !arguments.cache_from.is_empty(),
            "--cache-from is not supported yet; keep --state-dir on a volume, it holds the cache of every step",
        ),
        (
            !arguments.cache_to.is_empty(),
            "--cache-to is not supported yet; keep --state-dir on a volume, it holds the cache of every step",
        ),
        (arguments.explain, "--explain is not supported yet; --progress plain shows which steps were cached"),
    ];
    lines.extend(given.iter().filter(|(is_given, _)| *is_given).map(|(_, line)| (*line).to_owned()));
    lines.extend(attestations(arguments));
    lines.extend(arguments.allow.iter().filter_map(|name| entitlement(name)));
    lines
}

fn attestations(arguments: &BuildArguments) -> Vec<String> {
    let wanted = |spec: &Option<String>| {
        spec.as_deref().is_some_and(|spec| !matches!(truth("", Some(spec)), Ok(false)) && !disabled(spec))
    };
    let mut lines = Vec::new();
    if wanted(&arguments.sbom) {
        lines.push("--sbom: attestations are not supported yet; use --sbom=false".to_owned());
    }
    if wanted(&arguments.provenance) {
        lines.push("--provenance: attestations are not supported yet; use --provenance=false".to_owned());
    }
    for spec in arguments.attests.iter().filter(|spec| !disabled(spec)) {
        lines.push(format!("--attest `{spec}`: attestations are not supported yet; leave it out"));
    }
    lines
}

fn disabled(spec: &str) -> bool {
    fields(spec).is_ok_and(|found| {
        found.iter().any(|(key, value)| key == "disabled" && truth("disabled", value.as_deref()) == Ok(true))
    })
}

/// The one entitlement there is to grant.
pub(super) const NETWORK_HOST: &str = "network.host";

fn entitlement(name: &str) -> Option<String> {
    let reason = match name.split('=').next() {
        _ if name == NETWORK_HOST => return None,
        Some("security.insecure") => {
            "it gives a RUN all rights of the machine, and an unprivileged builder has none to give"
        }
        Some("device") => "this builder hands out no devices",
        _ => return Some(format!("--allow `{name}` is unknown (there is {NETWORK_HOST})")),
    };
    Some(format!("--allow `{name}` cannot be granted: {reason}; leave it out"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::arguments::{Command, CommandLine};

    fn check(flags: &[&str], expected: usize) {
        let line = ["coracle", "build"].iter().chain(flags).chain(&["."]);
        let Ok(CommandLine { command: Command::Build(arguments) }) = CommandLine::try_parse_from(line) else {
            panic!("{flags:?} does not parse");
        };
        let lines = refusals(&arguments);
        assert_eq!(lines.len(), expected, "{flags:?}: {lines:?}");
        assert!(
            lines.iter().all(|line| !line.contains('\n') && line.contains(';') || line.contains("unknown"))
        );
    }

    #[test]
    fn refuses_in_one_line_each() {
        check(&["--load"], 1);
        check(&["--load"], 1);
        check(&["--cache-from=type=registry,ref=x", "--cache-to=type=inline"], 2);
        check(&["--allow=security.insecure,network.host"], 1);
        check(&["--allow=device", "--allow=device=vendor.com/x=y", "--allow=foo"], 3);
        check(&["--explain"], 1);
    }

    #[test]
    fn switching_off_is_no_wish() {
        check(&["--sbom=false", "--provenance=false", "--attest=type=sbom,disabled=true"], 0);
        check(&["--sbom", "--provenance=mode=max", "--attest=type=sbom"], 3);
        check(&["--cgroup-parent=/x", "--allow", "network.host"], 0);
    }
}
