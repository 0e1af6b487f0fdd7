//! `coracle check` and `--call`: questions about a Dockerfile. Reads it and the
//! ignore file, opens nothing else, needs no sandbox and no state directory.
//!
//! `coracle build --check` asks registries for the configs of the base images, as
//! BuildKit does; `coracle check` does not, and does not judge what depends on them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::answer;
use super::arguments::{BuildArguments, CheckArguments};
use super::context::read_dockerfile;
use super::door;
use super::failure::Failure;
use super::request;
use crate::build;
use crate::context::ignore_file;
use crate::dockerfile::{self, Diagnostic, Parsed, Severity};
use crate::image::Platform;
use crate::net;
use crate::plan::{self, Network, Options, PlanError};
use crate::progress::{Plain, PlainOptions, Reporter};
use crate::registry::Credentials;

/// What is asked, and of which Dockerfile.
struct Question<'a> {
    context: &'a Path,
    file: Option<&'a Path>,
    options: Options,
    call: Call,
    json: bool,
    /// How registries are asked; without it they are not.
    registries: Option<Registries>,
}

/// How to talk to registries.
struct Registries {
    net: net::Options,
    credentials: Credentials,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Check,
    Outline,
    Targets,
}

/// `coracle build --call=…` and `--check`.
///
/// # Errors
/// Usage errors, a file that cannot be read, or errors of the Dockerfile.
pub(super) fn of_build(
    arguments: &BuildArguments,
    environment: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let (call, json) = match (arguments.check, arguments.call.as_str()) {
        (true, "build") => (Call::Check, false),
        (_, text) => read_call(text)?,
    };
    let options = request::plan_options(arguments, environment)?;
    let file = arguments.file.as_deref();
    let registries = Some(registries(arguments, environment)?);
    Question { context: &arguments.context, file, options, call, json, registries }
        .answer(&mut io::stdout(), &mut io::stderr())
}

fn registries(
    arguments: &BuildArguments,
    environment: &BTreeMap<String, String>,
) -> Result<Registries, Failure> {
    let credentials = door::credentials(environment).map_err(|error| usage(error.to_string()))?;
    let net = net::Options {
        insecure_hosts: arguments.insecure_registries.clone(),
        environment: environment.clone(),
        ..net::Options::default()
    };
    Ok(Registries { net, credentials })
}

/// `coracle check`.
///
/// # Errors
/// As [`of_build`].
pub(super) fn of_check(arguments: &CheckArguments) -> Result<(), Failure> {
    let (call, json) = read_call(&arguments.call)?;
    let json = match arguments.format.as_str() {
        "json" => true,
        "text" => json,
        other => return Err(usage(format!("--format `{other}` is unknown (text, json)"))),
    };
    let mut options = Options {
        target: arguments.target.clone(),
        build_args: BTreeMap::new(),
        platform: Platform::host(),
        build_platform: Platform::host(),
        named_contexts: BTreeMap::new(),
        labels: Vec::new(),
        default_labels: Vec::new(),
        proxy_args: Vec::new(),
        network: Network::Default,
        host_network: true,
    };
    for text in &arguments.build_args {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                options.build_args.insert(name.to_owned(), value.to_owned());
            }
            _ => return Err(usage(format!("--build-arg `{text}` is not of the form NAME=VALUE"))),
        }
    }
    let file = arguments.file.as_deref();
    Question { context: &arguments.context, file, options, call, json, registries: None }
        .answer(&mut io::stdout(), &mut io::stderr())
}

/// `check,format=json`.
fn read_call(text: &str) -> Result<(Call, bool), Failure> {
    let mut parts = text.split(',');
    let call = match parts.next().unwrap_or_default() {
        "check" | "lint" => Call::Check,
        "outline" => Call::Outline,
        "targets" => Call::Targets,
        other => return Err(usage(format!("--call `{other}` is unknown (build, check, outline, targets)"))),
    };
    let mut json = false;
    for part in parts {
        match part {
            "format=json" => json = true,
            "format=text" => json = false,
            other => {
                return Err(usage(format!("--call option `{other}` is unknown (format=text, format=json)")));
            }
        }
    }
    Ok((call, json))
}

fn usage(line: String) -> Failure {
    Failure::Usage(vec![line])
}

impl Question<'_> {
    fn answer(&self, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
        let (name, text) = read_dockerfile(self.context, self.file)?;
        let checks = self.options.build_args.get("BUILDKIT_DOCKERFILE_CHECK").map(String::as_str);
        let parsed = dockerfile::parse_checked(&name, &text, checks);
        match self.call {
            Call::Check => self.check(&parsed, &self.findings(&parsed)?, out, err),
            Call::Targets => {
                sound(&parsed, &parsed.diagnostics, err)?;
                let targets = plan::targets(&parsed.dockerfile);
                print(out, &answer::targets(&targets, &parsed.dockerfile.source, self.json))
            }
            Call::Outline => {
                sound(&parsed, &parsed.diagnostics, err)?;
                let summary = match plan::summary(&parsed.dockerfile, &self.options) {
                    Ok(summary) => summary,
                    Err(PlanError::Diagnostics(wrong)) => return sound(&parsed, &wrong, err),
                    Err(other) => return Err(usage(other.to_string())),
                };
                print(out, &answer::outline(&summary, &parsed.dockerfile.source, self.json))
            }
        }
    }

    /// Everything there is to say, sorted by place.
    fn findings(&self, parsed: &Parsed) -> Result<Vec<Diagnostic>, Failure> {
        let mut all = parsed.diagnostics.clone();
        // What was not understood is missing in the plan: it would say nonsense.
        if !parsed.has_errors() || only_checks_failed(parsed) {
            let found = plan::lint(&parsed.dockerfile, &self.options, &self.bases(parsed)?);
            all.extend(found.diagnostics);
            let ignore = ignore_file(self.context, self.file).map_err(Failure::Context)?;
            let checks = plan::checks(&parsed.dockerfile, &self.options);
            all.extend(build::ignored_sources(&checks, &ignore, &found.context_sources));
        }
        all.sort_by_key(|diagnostic| diagnostic.span);
        all.dedup();
        Ok(all)
    }

    /// Configs of the base images, as far as they are asked for and can be had.
    fn bases(&self, parsed: &Parsed) -> Result<plan::Bases, Failure> {
        let Some(Registries { net, credentials }) = &self.registries else { return Ok(plan::Bases::new()) };
        let reporter: Arc<dyn Reporter> = Arc::new(Plain::new(io::stderr(), PlainOptions::default()));
        let asked = build::configs_to_check(
            &parsed.dockerfile,
            &self.options,
            net.clone(),
            credentials.clone(),
            reporter,
        );
        door::run_to_end(asked).map_err(Failure::Door)
    }

    fn check(
        &self,
        parsed: &Parsed,
        found: &[Diagnostic],
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        if self.json {
            print(out, &answer::findings(found, &parsed.dockerfile.source))?;
            return judge(found);
        }
        sound(parsed, found, err)
    }
}

/// Errors that are findings of checks, which `error=true` made errors.
fn only_checks_failed(parsed: &Parsed) -> bool {
    parsed.diagnostics.iter().all(|found| found.severity == Severity::Warning || found.check.is_some())
}

/// Draws what was found; errors among it are the failure.
fn sound(parsed: &Parsed, found: &[Diagnostic], err: &mut dyn Write) -> Result<(), Failure> {
    for diagnostic in found {
        let drawn = diagnostic.render(&parsed.dockerfile.source);
        writeln!(err, "{}", drawn.trim_end()).map_err(Failure::Print)?;
    }
    judge(found)
}

fn judge(found: &[Diagnostic]) -> Result<(), Failure> {
    match found.iter().filter(|found| found.severity == Severity::Error).count() {
        0 => Ok(()),
        errors => Err(Failure::Dockerfile { errors }),
    }
}

fn print(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    writeln!(out, "{}", text.trim_end()).map_err(Failure::Print)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        let check = |text: &str, expected: Option<(Call, bool)>| {
            assert_eq!(read_call(text).ok(), expected, "{text}");
        };
        check("check", Some((Call::Check, false)));
        check("lint", Some((Call::Check, false)));
        check("check,format=json", Some((Call::Check, true)));
        check("outline,format=text", Some((Call::Outline, false)));
        check("targets,format=json", Some((Call::Targets, true)));
        check("subrequests.describe", None);
        check("check,format=xml", None);
        check("", None);
    }
}
