//! `coracle doctor`: what works here, what does not, and the smallest change.
//!
//! The sandbox is surveyed first, while the process has one thread; then the
//! registries that were named are asked. Nothing is built and nothing entered.

mod machine;
mod report;
mod snippets;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use self::machine::{Clock, Space};
use self::report::{Answer, Report};
use super::arguments::DoctorArguments;
use super::door::{DoorError, credentials, state_directory};
use super::failure::{Failure, chain};
use crate::net::{self, RetryPolicy};
use crate::progress::Silent;
use crate::registry::{self, Greeting};
use crate::sandbox::{self, Rung};

/// How long a registry may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Exit code where no RUN can be had.
pub(super) const NO_RUN: u8 = 3;

/// Prints the report; the exit code is [`NO_RUN`] when RUN cannot run here.
///
/// # Errors
/// When the state directory cannot be used, or nothing can be printed.
pub(super) fn run(
    arguments: &DoctorArguments,
    environment: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let state_dir = state_directory(arguments.state_dir.as_deref(), environment)?;
    let started = Instant::now();
    let survey = sandbox::survey(&state_dir).map_err(DoorError::Sandbox)?;
    let probe = started.elapsed();
    let registries = ask(arguments, environment, &state_dir)?;
    let dates = registries
        .iter()
        .filter_map(|(host, answer)| Some((host.as_str(), answer.as_ref().ok()?.date.as_deref()?)));
    let report = Report {
        clock: Clock::check(SystemTime::now(), dates),
        space: Space::of(&state_dir).map_err(|error| error.to_string()),
        proxies: machine::proxies(environment),
        survey,
        probe,
        state_dir,
        registries,
    };
    let text = if arguments.json { report.to_json() } else { report.to_text() };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Print)?;
    Ok(if report.survey.taken().rung == Rung::None { NO_RUN } else { 0 })
}

fn ask(
    arguments: &DoctorArguments,
    environment: &BTreeMap<String, String>,
    temporary: &std::path::Path,
) -> Result<Vec<(String, Answer)>, Failure> {
    if arguments.registries.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(DoorError::Runtime)?;
    let client = match client(arguments, environment, temporary) {
        Ok(client) => client,
        Err(problem) => {
            return Ok(arguments
                .registries
                .iter()
                .map(|host| (host.clone(), Err(problem.clone())))
                .collect());
        }
    };
    Ok(runtime.block_on(async {
        let mut answers = Vec::new();
        for host in &arguments.registries {
            let greeted = client.greet(host).await.map_err(|error| one_line(&error));
            answers.push((host.clone(), greeted));
        }
        answers
    }))
}

fn client(
    arguments: &DoctorArguments,
    environment: &BTreeMap<String, String>,
    temporary: &std::path::Path,
) -> Result<registry::Client, String> {
    let credentials = credentials(environment).map_err(|error| one_line(&error))?;
    let net = net::Options {
        insecure_hosts: arguments.insecure_registries.clone(),
        environment: environment.clone(),
        connect_timeout: PATIENCE,
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        ..net::Options::default()
    };
    let options = registry::Options { net, ..registry::Options::new(temporary.to_owned()) };
    registry::Client::new(options, credentials, Arc::new(Silent)).map_err(|error| one_line(&error))
}

/// An error with its causes, without the heading.
fn one_line(error: &dyn std::error::Error) -> String {
    let text = chain(error);
    text.trim_start_matches("error: ").trim_end().replace("\n  caused by: ", ": ").replace('\n', " ")
}

type Registries = Vec<(String, Result<Greeting, String>)>;
