//! The `coracle` binary: hands arguments and environment to [`coracle::cli`],
//! nothing more. A re-executed sandbox stub is answered before anything else.

use std::ffi::OsString;
use std::process::ExitCode;

use coracle::cli;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = cli::stub(&arguments) {
        return ExitCode::from(code);
    }
    ExitCode::from(cli::run(arguments, cli::environment_map(environment())))
}

#[expect(clippy::disallowed_methods, reason = "the one place where the binary reads its environment")]
fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}
