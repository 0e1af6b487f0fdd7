//! Credential helper programs: `docker-credential-NAME get`, the key on
//! standard input, JSON back (docker-credential-helpers protocol).

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Credential, CredentialError};
use crate::secret::Secret;

/// What a helper said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A credential.
    Found(Credential),
    /// It has none for the key.
    NotFound,
    /// There is no such program.
    Missing,
}

/// Asks helper programs; a trait so that tests need none.
pub trait Helpers: Send + Sync {
    /// Asks `docker-credential-PROGRAM` for `key`. May block.
    ///
    /// # Errors
    /// When the program fails, takes too long or talks nonsense.
    fn get(&self, program: &str, key: &str) -> Result<Answer, CredentialError>;
}

/// Real programs, from the absolute entries of a `PATH`: a relative one would
/// let the directory being built supply the program that gets to see passwords.
#[derive(Clone, Debug)]
pub struct HelperPrograms {
    directories: Vec<PathBuf>,
    environment: Vec<(String, String)>,
    limit: Duration,
}

/// How long a helper may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How much a helper may say.
const OUTPUT_LIMIT: u64 = 1024 * 1024;

impl HelperPrograms {
    /// Programs on `PATH` of `environment`, run with that environment.
    pub fn new(environment: &std::collections::BTreeMap<String, String>) -> Self {
        let path = environment.get("PATH").map(String::as_str).unwrap_or_default();
        Self {
            directories: path.split(':').map(PathBuf::from).filter(|path| path.is_absolute()).collect(),
            environment: environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            limit: LIMIT,
        }
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        // The name comes from a file: it must not lead out of the directories.
        let legal = !name.is_empty() && !name.contains('/') && !name.contains('\0');
        let file = format!("docker-credential-{name}");
        self.directories.iter().map(|directory| directory.join(&file)).find(|path| legal && path.is_file())
    }

    fn ask(&self, program: &Path, key: &str) -> Result<(bool, Vec<u8>), String> {
        let mut child = Command::new(program)
            .arg("get")
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("it cannot be started: {error}"))?;
        if let Some(mut input) = child.stdin.take() {
            // A helper that does not read its input fails in its own way below.
            let _ = input.write_all(key.as_bytes());
        }
        let output = read_aside(&mut child);
        let status = wait(&mut child, Instant::now() + self.limit)?;
        let text = output.recv_timeout(Duration::from_secs(1)).map_err(|_| "it left its output open")?;
        Ok((status, text))
    }
}

impl Helpers for HelperPrograms {
    fn get(&self, program: &str, key: &str) -> Result<Answer, CredentialError> {
        let failed = |reason: String| CredentialError::Helper {
            program: program.to_owned(),
            key: key.to_owned(),
            reason,
        };
        let Some(path) = self.program(program) else { return Ok(Answer::Missing) };
        let (success, output) = self.ask(&path, key).map_err(failed)?;
        if success {
            return parse(&output).map_err(failed);
        }
        // The protocol has no code for it: the message is the only mark.
        let text = String::from_utf8_lossy(&output);
        if text.contains("credentials not found") || text.contains("no credentials") {
            return Ok(Answer::NotFound);
        }
        Err(failed("it exited with an error".to_owned()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    username: String,
    secret: String,
}

fn parse(output: &[u8]) -> Result<Answer, String> {
    let reply: Reply =
        serde_json::from_slice(output).map_err(|_| "its answer is not the expected JSON".to_owned())?;
    if reply.username.is_empty() && reply.secret.is_empty() {
        return Ok(Answer::NotFound);
    }
    let secret = Secret::new(reply.secret);
    Ok(Answer::Found(match reply.username.as_str() {
        "<token>" => Credential::IdentityToken(secret),
        _ => Credential::Password { username: reply.username, password: secret },
    }))
}

/// Reads the output on a thread: a helper may leave a grandchild that holds the
/// pipe open, and then the reader stays behind alone.
fn read_aside(child: &mut Child) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            let mut text = Vec::new();
            // What could be read decides; the exit status tells the rest.
            let _ = output.take(OUTPUT_LIMIT).read_to_end(&mut text);
            // Nobody listens any more once the helper took too long.
            let _ = sender.send(text);
        });
    }
    receiver
}

/// Whether it succeeded; kills it at the deadline.
fn wait(child: &mut Child, deadline: Instant) -> Result<bool, String> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                // It may have ended in between; either way it is gone and reaped.
                let _ = child.kill();
                let _ = child.wait();
                return Err("it took too long".to_owned());
            }
            Err(error) => return Err(format!("it cannot be waited for: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn programs(directory: &Path, script: &str) -> HelperPrograms {
        // Another process writes it: a descriptor open for writing here could
        // leak into a child of another test, and the script be "busy".
        let file = directory.join("docker-credential-test");
        let written = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", script])
            .arg(&file)
            .status();
        assert!(written.unwrap().success());
        let path = format!("relative:{}:/usr/bin:/bin", directory.display());
        let mut programs = HelperPrograms::new(&BTreeMap::from([("PATH".to_owned(), path)]));
        programs.limit = Duration::from_secs(5);
        programs
    }

    fn check(script: &str, expected: Result<Answer, &str>) {
        let directory = tempfile::tempdir().unwrap();
        let answer = programs(directory.path(), script).get("test", "r.io");
        let reason = |error| match error {
            CredentialError::Helper { reason, .. } => reason,
            other => other.to_string(),
        };
        assert_eq!(answer.map_err(reason), expected.map_err(str::to_owned), "{script}");
    }

    #[test]
    fn answers() {
        let pair = Credential::Password { username: "r.io".into(), password: Secret::new("p") };
        check(r#"printf '{"Username":"%s","Secret":"p"}' "$(cat)""#, Ok(Answer::Found(pair)));
        let token = Credential::IdentityToken(Secret::new("t"));
        check(r#"echo '{"ServerURL":"x","Username":"<token>","Secret":"t"}'"#, Ok(Answer::Found(token)));
        check("echo credentials not found in native keychain; exit 1", Ok(Answer::NotFound));
        check("echo broken; exit 1", Err("it exited with an error"));
        check("echo nonsense", Err("its answer is not the expected JSON"));
    }

    #[test]
    fn a_slow_helper_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let mut programs = programs(directory.path(), "exec sleep 60");
        programs.limit = Duration::from_millis(100);
        let started = Instant::now();
        assert!(matches!(programs.get("test", "r.io"), Err(CredentialError::Helper { .. })));
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn only_from_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let programs = programs(directory.path(), "true");
        assert_eq!(programs.directories.len(), 3);
        assert_eq!(programs.get("absent", "r.io"), Ok(Answer::Missing));
        assert_eq!(programs.get("../test", "r.io"), Ok(Answer::Missing));
    }
}
