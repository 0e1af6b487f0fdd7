//! The docker-like command line: arguments become a [`BuildRequest`], a failure
//! becomes an exit code, events become lines or bars.
//!
//! Promises: everything wrong with the arguments is said at once, before
//! anything runs; stdout carries what a script reads (a digest, a list of
//! names) and nothing else; a flag that cannot be honoured is refused in one
//! line that says what to use instead. The plugin shares [`conduct`].
//!
//! [`BuildRequest`]: crate::build::BuildRequest

mod answer;
mod arguments;
mod around;
mod ask;
mod context;
mod doctor;
mod door;
mod failure;
mod fields;
mod images;
mod output;
mod purge;
mod refused;
mod request;
mod results;
mod switches;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};

use clap::Parser;

use self::arguments::{Command, CommandLine};
pub use self::door::{DoorError, DoorOptions, ProgressMode, conduct, state_directory, stub};
use self::failure::Failure;
use crate::build::ErrorKind;

/// Runs the `coracle` binary and returns its exit code (README, "Exit codes").
///
/// `arguments` begin with the program's name; `environment` is the whole
/// environment, which nothing below this function reads by itself.
pub fn run(arguments: Vec<OsString>, environment: BTreeMap<String, String>) -> u8 {
    let line = match CommandLine::try_parse_from(switches::plain(arguments)) {
        Ok(line) => line,
        Err(error) => return show_usage(&error),
    };
    let done = match line.command {
        Command::Doctor(doctor) => match doctor::run(&doctor, &environment, &mut io::stdout()) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Command::Build(build) if build.only_asks() => ask::of_build(&build, &environment),
        Command::Build(build) => request::run(*build, environment),
        Command::Check(check) => ask::of_check(&check),
        Command::Images(images) => images::run(&images, &environment, &mut io::stdout()),
        Command::Purge(purge) => purge::run(&purge, &environment),
        Command::Version => write_version(&mut io::stdout()),
    };
    match done {
        Ok(()) => 0,
        Err(failure) => {
            failure.report(&mut io::stderr());
            failure.kind().exit_code()
        }
    }
}

/// The environment as the rooms take it. A variable that is not UTF-8 can be
/// no setting of ours and is left out.
pub fn environment_map(variables: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Help and version go to stdout and are no failure; the rest is usage.
fn show_usage(error: &clap::Error) -> u8 {
    let code = if error.use_stderr() { ErrorKind::Usage.exit_code() } else { 0 };
    match error.print() {
        Ok(()) => code,
        Err(_closed_output) => ErrorKind::Other.exit_code(),
    }
}

fn write_version(out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "coracle {}", env!("CARGO_PKG_VERSION")).map_err(Failure::Print)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(arguments: &[&str]) -> u8 {
        let line = std::iter::once("coracle").chain(arguments.iter().copied());
        let state = ("CORACLE_STATE_DIR".to_owned(), "/nowhere/state".to_owned());
        run(line.map(OsString::from).collect(), BTreeMap::from([state]))
    }

    #[test]
    fn usage_errors_are_two() {
        assert_eq!(code(&["frobnicate"]), 2);
        assert_eq!(code(&["build"]), 2);
        assert_eq!(code(&["build", "--no-such-flag", "."]), 2);
        assert_eq!(code(&["build", "--load", "."]), 2);
        assert_eq!(code(&["version"]), 0);
        assert_eq!(code(&["--help"]), 0);
        assert_eq!(code(&["doctor", "--no-such-flag"]), 2);
    }

    #[test]
    fn a_variable_that_is_not_text_is_left_out() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![0xff]);
        let map = environment_map([("A".into(), "1".into()), ("B".into(), odd)].into_iter());
        assert_eq!(map, BTreeMap::from([("A".to_owned(), "1".to_owned())]));
    }
}
