//! The one file that knows the rooms below: everything the plugin asks of
//! `sandbox`, `cli` and `registry` goes through here.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use std::sync::Arc;

use coracle::build::{BuildRequest, ErrorKind, Outcome};
use coracle::ci::Environment;
use coracle::cli::{self, DoorError, DoorOptions, ProgressMode};
use coracle::registry::Credentials;
use coracle::registry::credentials::{self, AmbientSource, Credential, CredentialError, Explicit, Lookup};
use coracle::sandbox::Rung;
use coracle::secret::Secret;
use coracle::store;

use crate::normalise::Login;
use crate::plugin_mode::say;

/// First arguments that are sub-commands of `coracle`.
pub(crate) const SUB_COMMANDS: &[&str] = &["build", "check", "images", "version", "help"];

/// Everything about a run that is not the request.
#[derive(Debug)]
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
    cli::stub(arguments)
}

/// Hands over to the command line; `arguments` begin with the program's name.
pub(crate) fn hand_over(arguments: Vec<OsString>, environment: Environment) -> u8 {
    cli::run(arguments, environment)
}

/// Builds, and wipes the state directory afterwards where that is wished. The
/// process must have one thread; where a user namespace is needed this returns in
/// a child only.
pub(crate) fn conduct(request: BuildRequest, door: Door) -> Result<Option<Outcome>, Failure> {
    let state_dir = cli::state_directory(door.state_dir.as_deref(), &door.environment).map_err(failure)?;
    let purge = should_purge(&door, &state_dir);
    let options = options(door, state_dir.clone())?;
    let outcome = cli::conduct(request, options).map_err(failure);
    if purge {
        wipe(&state_dir);
    }
    outcome
}

fn options(door: Door, state_dir: PathBuf) -> Result<DoorOptions, Failure> {
    let isolation = door.isolation.map(str::parse::<Rung>).transpose();
    Ok(DoorOptions {
        state_dir,
        isolation: isolation.map_err(|error| refused(ErrorKind::Usage, &error))?,
        storage: None,
        insecure_registries: door.insecure_registries,
        skip_tls_verify: door.skip_tls_verify,
        credentials: credentials(door.logins, door.docker_config, &door.environment)?,
        progress: if door.quiet { ProgressMode::Quiet } else { ProgressMode::Auto },
        environment: door.environment,
    })
}

/// The settings' pairs before everything the machine has; ambient pairs behind it.
fn credentials(
    logins: Vec<Login>,
    docker_config: Option<Secret>,
    environment: &Environment,
) -> Result<Credentials, Failure> {
    let (ambient, named): (Vec<Login>, Vec<Login>) = logins.into_iter().partition(|login| login.ambient);
    let mut explicit: Vec<Explicit> = named.into_iter().map(explicit_pair).collect();
    explicit.extend(docker_config.map(|text| Explicit::Config { text, source: "setting config".to_owned() }));
    let mut credentials = Credentials::from_environment(environment, explicit)
        .map_err(|error| refused(ErrorKind::Authentication, &error))?;
    if !ambient.is_empty() {
        credentials.add_ambient(Arc::new(AmbientLogins(ambient.into_iter().map(registry_login).collect())));
    }
    Ok(credentials)
}

fn explicit_pair(login: Login) -> Explicit {
    let main = matches!(login.source, "setting:username" | "env:DOCKER_USERNAME");
    let login = registry_login(login);
    if main { Explicit::Main(login) } else { Explicit::Login(login) }
}

fn registry_login(login: Login) -> credentials::Login {
    credentials::Login {
        target: login.registry,
        username: login.username,
        password: login.password,
        source: login.source.replacen(':', " ", 1),
    }
}

/// Pairs that the environment supplies without being asked: tried after the
/// machine's own files, and never final.
struct AmbientLogins(Vec<credentials::Login>);

impl AmbientSource for AmbientLogins {
    fn find(&self, host: &str, _repository: &str) -> Result<Lookup, CredentialError> {
        let found = self.0.iter().find(|login| login.target.split('/').next() == Some(host));
        let credential = found.map(|login| Credential::Password {
            username: login.username.clone(),
            password: login.password.clone(),
        });
        let from = found.map(|login| login.source.clone()).unwrap_or_default();
        Ok(Lookup { credential, from, warnings: Vec::new() })
    }

    fn secrets(&self) -> Vec<Secret> {
        self.0.iter().map(|login| login.password.clone()).collect()
    }
}

/// Another build on the same state directory keeps it; that is no failure.
fn wipe(state_dir: &Path) {
    match store::purge(state_dir) {
        Ok(()) | Err(store::Error::InUse { .. }) => {}
        Err(error) => say(&format!("warning: the state directory is not wiped: {error}\n")),
    }
}

fn failure(error: DoorError) -> Failure {
    Failure { kind: error.kind(), report: error.to_report() }
}

fn refused(kind: ErrorKind, error: &dyn std::error::Error) -> Failure {
    Failure { kind, report: format!("error: {error}\n") }
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
