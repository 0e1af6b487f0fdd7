//! The plugin: settings in, image out. Everything wrong with the settings is
//! said at once, before anything runs.

use std::io::{self, Write};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use coracle::build::{ErrorKind, Outcome, Output};
use coracle::ci::{Dialect, Environment, Facts, Files, System};

use crate::door::{self, Failure};
use crate::normalise::{Unmatched, normalise};
use crate::outputs::{self, Reports};
use crate::request::{self, Job};
use crate::settings::{self, Findings};

/// Runs the plugin and returns the exit code.
pub(crate) fn run(mut environment: Environment, files: &dyn Files) -> u8 {
    let mut findings = Findings::default();
    settings::apply_env_file(&mut environment, files, &mut findings);
    let facts = Facts::detect(&environment, files);
    let wanted = decide(&environment, files, &facts, &mut findings);
    report_findings(&findings, facts.system);
    let unknown_ci = report_unknown_ci(&environment);
    if findings.has_errors() || unknown_ci {
        return ErrorKind::Usage.exit_code();
    }
    match wanted {
        None => {
            say("nothing to do: neither a git tag nor the default branch (auto_tag_unmatched: skip)\n");
            0
        }
        Some(job) => build(*job),
    }
}

/// The job; nothing when `auto_tag` matches nothing and that is no failure.
fn decide(
    environment: &Environment,
    files: &dyn Files,
    facts: &Facts,
    findings: &mut Findings,
) -> Option<Box<Job>> {
    let raw = settings::read(environment, findings);
    let normalised = normalise(&raw, facts, environment, files, findings);
    let skip = normalised.unmatched == Some(Unmatched::Skip);
    let job = request::job(normalised, &raw, environment, files, now(), findings);
    (!skip).then(|| Box::new(job))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn build(job: Job) -> u8 {
    let Job { request, door, reports } = job;
    let credentials: Vec<String> =
        door.logins.iter().map(|login| format!("{} ({})", login.registry, login.source)).collect();
    if let Err((path, error)) = prepare(&request.outputs) {
        say(&format!("error: the directory of `{path}` cannot be created: {error}\n"));
        return ErrorKind::Other.exit_code();
    }
    let quiet = door.quiet;
    let start = Instant::now();
    match door::conduct(request, door) {
        Ok(None) => 0,
        Ok(Some(outcome)) => {
            if !quiet {
                say(&summary(&outcome, start.elapsed().as_secs_f64(), &credentials));
            }
            finish(&outcome, &reports)
        }
        Err(failure) => report_failure(&failure),
    }
}

/// Says why a run failed and returns the exit code.
fn report_failure(failure: &Failure) -> u8 {
    say(&failure.report);
    failure.kind.exit_code()
}

/// Directories for files that settings name.
fn prepare(outputs: &[Output]) -> Result<(), (String, io::Error)> {
    for output in outputs {
        if let Output::DockerArchive(Some(path))
        | Output::OciArchive(Some(path))
        | Output::OciDirectory(path) = output
        {
            outputs::create_parent(path).map_err(|error| (path.display().to_string(), error))?;
        }
    }
    Ok(())
}

fn finish(outcome: &Outcome, reports: &Reports) -> u8 {
    let mut code = 0;
    for error in reports.write(outcome) {
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        say(&format!("error: {error}{source}\n"));
        code = ErrorKind::Other.exit_code();
    }
    let mut text: String = reports.lines(outcome).into_iter().map(|line| line + "\n").collect();
    text.push_str(&format!("{}\n", outcome.digest));
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(error) => {
            say(&format!("error: standard output cannot be written: {error}\n"));
            ErrorKind::Other.exit_code()
        }
    }
}

/// The last lines of a log.
fn summary(outcome: &Outcome, seconds: f64, credentials: &[String]) -> String {
    let verb = if outcome.pushed.is_empty() { "built" } else { "pushed" };
    let names = if outcome.pushed.is_empty() { &outcome.names } else { &outcome.pushed };
    let mut text: String = names.iter().map(|name| format!("{verb} {name}\n")).collect();
    let (steps, cached) = (outcome.executed + outcome.cached, outcome.cached);
    text.push_str(&format!(
        "digest {}, {}, {cached} of {steps} steps from the cache, {seconds:.1} s\n",
        outcome.digest,
        human_size(outcome.size),
    ));
    if !outcome.pushed.is_empty() && !credentials.is_empty() {
        text.push_str(&format!("credentials: {}\n", credentials.join(", ")));
    }
    text
}

fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

fn report_findings(findings: &Findings, system: System) {
    let dialect = Dialect::of(system);
    for warning in findings.warnings() {
        say(&format!("warning: {warning}\n"));
    }
    for error in findings.errors() {
        let text = format!("error: {error}\n");
        match dialect.error_line(None, "settings", &error.to_string()) {
            // The CI shows the command as an annotation and hides the line itself.
            Some(line) => say(&format!("{line}\n{text}")),
            None => say(&text),
        }
    }
}

/// `CORACLE_CI` is no setting, but a name nobody knows would quietly mean nothing.
fn report_unknown_ci(environment: &Environment) -> bool {
    let given = environment.get("CORACLE_CI").map(|name| name.trim()).filter(|name| !name.is_empty());
    let Some(name) = given.filter(|name| System::named(name).is_none()) else { return false };
    let shown = settings::shown(name);
    let known = System::names().join(", ");
    say(&format!("error: CORACLE_CI: `{shown}` is no CI system; expected one of {known} [E_VALUE]\n"));
    true
}

/// Writes to standard error.
pub(crate) fn say(text: &str) {
    // When standard error is closed the exit code still speaks.
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, expected) in
            [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000_000_000, "2000.0 GB")]
        {
            assert_eq!(human_size(bytes), expected);
        }
    }
}
