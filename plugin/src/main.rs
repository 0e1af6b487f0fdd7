//! The entrypoint of the plugin image. It answers to several names: `coracle`
//! is the command line, `executor` will take kaniko's flags, anything else is
//! the plugin, which turns `PLUGIN_*` or `CORACLE_*` settings and the CI's
//! facts into a build.
//!
//! The environment is read here, once; the rest takes it as a map.

mod door;
mod files;
mod labels;
mod normalise;
mod outputs;
mod plugin_mode;
mod program;
mod request;
mod settings;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use coracle::build::ErrorKind;
use coracle::ci::Environment;

use crate::files::WorkingDirectory;
use crate::plugin_mode::say;

/// What the first argument asks for.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// The command line, with all arguments.
    CommandLine,
    /// Kaniko's flags.
    Kaniko,
    /// Our help, on standard output.
    Help,
    /// Our version.
    Version,
    /// README's table of settings.
    SettingsTable,
    /// Another program, if there is one of that name.
    Program,
    /// A flag nobody knows.
    UnknownFlag,
    /// The plugin.
    Plugin,
    /// Neither arguments nor settings.
    Nothing,
}

const HELP: &str = "\
coracle-plugin builds and pushes container images inside CI, as a plugin of
Drone, Woodpecker and others: settings come as PLUGIN_<NAME> or CORACLE_<NAME>.

  PLUGIN_REPO=registry.example.com/team/app PLUGIN_TAGS=1.2,latest \\
  PLUGIN_USERNAME=me PLUGIN_PASSWORD=... coracle-plugin

With arguments it is something else:
  build, check, images ...   the coracle command line (`coracle --help`)
  sh, /bin/bash, cat ...     any other program, unchanged

All settings: `coracle-plugin --settings-table`
Exit codes: 0 done or skipped, 1 other, 2 settings, 3 build, 4 push, 5 authentication
";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // A RUN's stub is this program again: it must be found out before anything else.
    if let Some(code) = door::stub(&arguments) {
        return ExitCode::from(code);
    }
    let (environment, skipped) = environment();
    ExitCode::from(enter(arguments, environment, &skipped))
}

/// The environment as text, and the names of variables that are none.
#[expect(clippy::disallowed_methods, reason = "main.rs is the one place that reads the environment")]
fn environment() -> (Environment, Vec<String>) {
    let mut environment = Environment::new();
    let mut skipped = Vec::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => {
                environment.insert(name, value);
            }
            (Ok(name), Err(_)) => skipped.push(name),
            (Err(name), _) => skipped.push(name.to_string_lossy().into_owned()),
        }
    }
    (environment, skipped)
}

fn enter(arguments: Vec<OsString>, environment: Environment, skipped: &[String]) -> u8 {
    let usage = ErrorKind::Usage.exit_code();
    match entry(&arguments, settings::has_settings(&environment)) {
        Entry::CommandLine => door::hand_over(arguments, environment),
        Entry::Kaniko => {
            say("error: kaniko's executor flags come in a later version; use settings or `coracle build`\n");
            usage
        }
        Entry::Help => show(HELP),
        Entry::Version => show(concat!("coracle-plugin ", env!("CARGO_PKG_VERSION"), "\n")),
        Entry::SettingsTable => show(&settings::settings_markdown()),
        Entry::Program => run_program(&arguments[1..], &environment),
        Entry::UnknownFlag => {
            let flag = arguments[1].to_string_lossy();
            say(&format!("error: there is no flag `{flag}`; settings come as variables (see --help)\n"));
            usage
        }
        Entry::Plugin => {
            for name in skipped {
                say(&format!("warning: the variable `{name}` is not UTF-8 and is left out\n"));
            }
            plugin_mode::run(environment, &WorkingDirectory)
        }
        Entry::Nothing => {
            say(HELP);
            usage
        }
    }
}

fn entry(arguments: &[OsString], has_settings: bool) -> Entry {
    let own = arguments.first().and_then(|name| Path::new(name).file_name()).unwrap_or_default();
    match own.to_str() {
        Some("coracle") => return Entry::CommandLine,
        Some("executor" | "warmer") => return Entry::Kaniko,
        _ => {}
    }
    match arguments.get(1).map(OsString::as_os_str) {
        None if has_settings => Entry::Plugin,
        None => Entry::Nothing,
        Some(first) => entry_of(first),
    }
}

fn entry_of(first: &OsStr) -> Entry {
    match first.to_str() {
        Some("--help" | "-h") => Entry::Help,
        Some("--version" | "-V") => Entry::Version,
        Some("--settings-table") => Entry::SettingsTable,
        Some(command) if door::SUB_COMMANDS.contains(&command) => Entry::CommandLine,
        Some(flag) if flag.starts_with('-') => Entry::UnknownFlag,
        _ => Entry::Program,
    }
}

fn run_program(arguments: &[OsString], environment: &Environment) -> u8 {
    let name = arguments[0].to_string_lossy();
    let Some(program) = program::find(&arguments[0], environment) else {
        say(&format!("error: `{name}` is neither a command of coracle nor a program (see --help)\n"));
        return ErrorKind::Usage.exit_code();
    };
    let error = program::become_it(&program, arguments);
    say(&format!("error: `{}` cannot be run: {error}\n", program.display()));
    ErrorKind::Other.exit_code()
}

fn show(text: &str) -> u8 {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(_closed) => ErrorKind::Other.exit_code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[&str], has_settings: bool, expected: Entry) {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        assert_eq!(entry(&arguments, has_settings), expected, "{arguments:?}");
    }

    #[test]
    fn entries() {
        check(&["/usr/bin/coracle", "sh"], true, Entry::CommandLine);
        check(&["/kaniko/executor", "--no-push"], true, Entry::Kaniko);
        check(&["coracle-plugin"], true, Entry::Plugin);
        check(&["coracle-plugin"], false, Entry::Nothing);
        check(&[], false, Entry::Nothing);
        check(&["/bin/coracle-plugin", "sh", "-c", "x"], true, Entry::Program);
        check(&["p", "build", "."], true, Entry::CommandLine);
        check(&["p", "--frob"], true, Entry::UnknownFlag);
        check(&["p", "-h"], true, Entry::Help);
        check(&["p", "--settings-table"], false, Entry::SettingsTable);
    }
}
