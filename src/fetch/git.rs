//! The git program, on a short leash.
//!
//! It sees no configuration but ours, runs no hook, asks nobody, speaks the
//! protocols we name, and gets a remote's address through its configuration:
//! never as an argument, where it could be an option or be seen by others.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::process::Command;

use super::{Error, Fetcher, GitLocation};
use crate::net::Url;

/// What git may speak (git(1), GIT_ALLOW_PROTOCOL). `ext` runs programs, and
/// `file` reads this machine.
const PROTOCOLS: &str = "https:http:ssh:git";

/// For the home directory of one repository.
const CONFIG: &str = "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\taskPass =\n\tsymlinks = true\n\tautocrlf = false\n\
                      [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[credential]\n\thelper =\n\
                      [advice]\n\tdetachedHead = false\n[init]\n\tdefaultBranch = main\n\
                      [protocol \"ext\"]\n\tallow = never\n[submodule]\n\trecurse = false\n";

/// Variables of ours that git gets: how to reach the world.
const PASSED: [&str; 10] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSH_AUTH_SOCK",
];

/// One repository and a private place to work on it.
pub(super) struct Git<'a> {
    fetcher: &'a Fetcher,
    location: &'a GitLocation,
    /// Holds the configuration, and nothing git could take for something else.
    home: PathBuf,
}

impl<'a> Git<'a> {
    /// Prepares `home`, a directory that does not exist yet.
    pub(super) fn new(fetcher: &'a Fetcher, location: &'a GitLocation, home: PathBuf) -> Result<Self, Error> {
        let failed = |source| Error::File { path: home.clone(), source };
        fs::DirBuilder::new().mode(0o700).create(&home).map_err(failed)?;
        fs::create_dir(home.join("template")).map_err(failed)?;
        let git = Self { fetcher, location, home };
        let config = git.home.join("config");
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let text = format!("{CONFIG}{}", git.authorization().unwrap_or_default());
        let written =
            options.open(&config).and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(|source| Error::File { path: config, source })?;
        Ok(git)
    }

    /// Runs git and gives what it printed.
    pub(super) async fn run(
        &self,
        action: &'static str,
        directory: &Path,
        arguments: &[&str],
    ) -> Result<String, Error> {
        let output = self.output(directory, arguments).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Git { action, url: self.location.shown(), said: self.said(&output) })
    }

    async fn output(&self, directory: &Path, arguments: &[&str]) -> Result<Output, Error> {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(directory).stdin(Stdio::null()).kill_on_drop(true);
        self.set_environment(&mut command);
        command.output().await.map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::NoGit { url: self.location.shown() },
            _ => Error::File { path: PathBuf::from("git"), source },
        })
    }

    fn set_environment(&self, command: &mut Command) {
        let environment = &self.fetcher.options.net.environment;
        command.env_clear();
        for name in PASSED {
            if let Some(value) = environment.get(name).filter(|value| !value.is_empty()) {
                command.env(name, value);
            }
        }
        if let Some(certificates) = environment.get("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
            command.env("GIT_SSL_CAINFO", certificates);
        }
        if let Some(agent) = &self.fetcher.options.ssh_agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        let mut protocols = PROTOCOLS.to_owned();
        for protocol in &self.fetcher.options.further_protocols {
            protocols.push(':');
            protocols.push_str(protocol);
        }
        command
            .env("HOME", &self.home)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.home.join("config"))
            .env("GIT_TEMPLATE_DIR", self.home.join("template"))
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "remote.origin.url")
            .env("GIT_CONFIG_VALUE_0", &self.location.remote)
            .env("GIT_ALLOW_PROTOCOL", protocols)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
            .env("GIT_CEILING_DIRECTORIES", &self.fetcher.options.unfinished)
            .env("LC_ALL", "C");
    }

    /// The last lines of what git complained about, without the password.
    fn said(&self, output: &Output) -> String {
        let text =
            String::from_utf8_lossy(&output.stderr).replace(&self.location.remote, &self.location.shown());
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(3)..];
        if last.is_empty() { output.status.to_string() } else { last.join("; ") }
    }

    /// `http.<host>.extraHeader` from the secrets, for this host only.
    fn authorization(&self) -> Option<String> {
        let url = Url::parse(&self.location.remote).ok()?;
        let host = self.location.authority()?;
        if url.scheme() != "https" && !(url.scheme() == "http" && crate::net::is_loopback(&host)) {
            return None;
        }
        // Those of the host go before those of every host, as in BuildKit.
        let secrets = &self.fetcher.options.secrets;
        let of = |name: String| {
            let text = secrets.get(&name)?.expose_str()?.trim();
            is_header(text).then(|| text.to_owned())
        };
        let basic = |token: String| format!("basic {}", STANDARD.encode(format!("x-access-token:{token}")));
        let value = [format!(".{host}"), String::new()].into_iter().find_map(|suffix| {
            let header = of(format!("GIT_AUTH_HEADER{suffix}"));
            header.or_else(|| of(format!("GIT_AUTH_TOKEN{suffix}")).map(basic))
        })?;
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        Some(format!("[http \"{}://{host}/\"]\n\textraHeader = \"Authorization: {quoted}\"\n", url.scheme()))
    }
}

fn is_header(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}
