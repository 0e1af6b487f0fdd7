//! The one file that knows the rooms below: everything the plugin asks of
//! `sandbox`, `cli` and `registry` goes through here.
//!
//! INTEGRATION: `stub`, `hand_over` and `conduct` are stand-ins until those rooms
//! exist; each says what it becomes. Nothing else in this crate has to change.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use coracle::build::{BuildRequest, ErrorKind, Outcome};
use coracle::ci::Environment;
use coracle::secret::Secret;

use crate::normalise::Login;

/// First arguments that are sub-commands of `coracle`.
///
/// INTEGRATION: keep equal to the names of `cli`'s commands.
pub(crate) const SUB_COMMANDS: &[&str] = &["build", "check", "images", "version", "help"];

/// Everything about a run that is not the request.
#[derive(Debug)]
#[expect(dead_code, reason = "INTEGRATION: `conduct` reads them")]
pub(crate) struct Door {
    /// The state directory, when the user named one.
    pub(crate) state_dir: Option<PathBuf>,
    /// The rung that must be used, one of `sandbox::Rung`'s names.
    pub(crate) isolation: Option<&'static str>,
    /// Registries that may be unverified or plain HTTP.
    pub(crate) insecure_registries: Vec<String>,
    /// Registries whose certificates are not verified.
    pub(crate) skip_tls_verify: Vec<String>,
    /// Explicit pairs, in order of precedence. Those marked ambient are not final.
    pub(crate) logins: Vec<Login>,
    /// The text of a docker `config.json` that a setting gave, after the pairs.
    pub(crate) docker_config: Option<Secret>,
    /// Say nothing but errors.
    pub(crate) quiet: bool,
    /// The whole environment: ambient credentials, proxies, CA files.
    pub(crate) environment: Environment,
    /// Wipe the state directory afterwards, unless it was named or is a mount point.
    pub(crate) purge: bool,
}

/// Why a run failed, already in words.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Gives the exit code.
    pub(crate) kind: ErrorKind,
    /// Lines for standard error.
    pub(crate) report: String,
}

/// Answers when this process is a re-executed stub of a RUN: its exit code.
pub(crate) fn stub(arguments: &[OsString]) -> Option<u8> {
    // INTEGRATION: coracle::sandbox::stub(arguments)
    let _not_yet = arguments;
    None
}

/// Hands over to the command line; `arguments` begin with the program's name.
pub(crate) fn hand_over(arguments: Vec<OsString>, environment: Environment) -> Result<u8, Failure> {
    // INTEGRATION: Ok(coracle::cli::run(arguments, environment))
    drop((arguments, environment));
    Err(not_yet("cli"))
}

/// Builds, and wipes the state directory afterwards where that is wished. The
/// process must have one thread; where a user namespace is needed this returns in
/// a child only.
pub(crate) fn conduct(request: BuildRequest, door: Door) -> Result<Outcome, Failure> {
    // INTEGRATION: the fields map onto coracle::cli::DoorOptions:
    //   state_dir            or store::locate(&environment)
    //   isolation            parsed as sandbox::Rung (the name was checked)
    //   insecure_registries, skip_tls_verify, environment: as they are
    //   credentials          logins with `ambient: false` as explicit pairs (the one whose source is
    //                        `setting:username` or `env:DOCKER_USERNAME` as the main one), then
    //                        docker_config as an explicit config text; those with `ambient: true`
    //                        behind the ambient files
    //   progress             Quiet when `quiet`, else Auto
    // then coracle::cli::conduct(request, options), with DoorError's kind and report.
    drop(request);
    let state_dir = door.state_dir.clone().unwrap_or_default();
    let purge = should_purge(&door, &state_dir);
    let outcome = Err(not_yet("build"));
    if purge {
        // INTEGRATION: store::purge(&state_dir), success or not; that a build holds the lock is
        // no failure, anything else a warning on standard error.
    }
    outcome
}

/// Whether the rest of the state directory may go: it was not named, in either
/// spelling (`CORACLE_STATE_DIR` arrives as the setting `state_dir`), and is no
/// volume. Asked before the sandbox mounts anything.
fn should_purge(door: &Door, state_dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    door.purge && door.state_dir.is_none() && !is_mount_point(state_dir, &mounts)
}

/// Whether `mounts` (in the form of proc_pid_mountinfo(5)) has `directory` as a mount point.
fn is_mount_point(directory: &Path, mounts: &str) -> bool {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    // Blanks, tabs, line breaks and backslashes are written as octal escapes.
    let plain = |point: &str| {
        point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
    };
    points.into_iter().any(|point| Path::new(&plain(point)) == directory)
}

fn not_yet(room: &str) -> Failure {
    Failure { kind: ErrorKind::Other, report: format!("error: the {room} room is not integrated yet\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points() {
        let mounts =
            "36 35 98:0 /m /no/such/dir rw - ext3 /dev/root rw\n37 35 0:1 / /no/a\\040b rw - tmpfs x rw\n";
        for (directory, expected) in
            [("/no/such/dir", true), ("/no/such/dir/", true), ("/no/a b", true), ("/no/such", false)]
        {
            assert_eq!(is_mount_point(Path::new(directory), mounts), expected, "{directory}");
        }
    }
}
