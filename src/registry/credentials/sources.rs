//! The places where credentials lie, in the order in which they are asked:
//! files, `DOCKER_AUTH_CONFIG`, and the variables of the environment.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::variables::{self, PerHost};
use super::{ConfigFile, CredentialError, Credentials, Explicit, HelperPrograms, Helpers};

/// No sane config file is longer.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

impl Credentials {
    /// The explicit sources, then what the machine has: `REGISTRY_AUTH_FILE`,
    /// `DOCKER_CONFIG`, containers' auth files, the files below the home
    /// directory, kaniko's, the text in `DOCKER_AUTH_CONFIG`, variables per host,
    /// and the CI system's own. Files are read now.
    ///
    /// # Errors
    /// When an explicit config is not one. An ambient file that cannot be used
    /// is a warning ([`Credentials::warnings`]).
    pub fn from_environment(
        environment: &BTreeMap<String, String>,
        explicit: Vec<Explicit>,
    ) -> Result<Self, CredentialError> {
        let helpers: Arc<dyn Helpers> = Arc::new(HelperPrograms::new(environment));
        let mut credentials = Self::default();
        for source in explicit {
            credentials.add_explicit(source, &helpers)?;
        }
        for file in files(environment) {
            credentials.add_file(&file, &helpers);
        }
        if let Some(own) = variables::of_own_project(environment) {
            credentials.add_ambient(Arc::new(own));
        }
        if let Some(text) = set(environment, "DOCKER_AUTH_CONFIG") {
            credentials.add_text(text.as_bytes(), "$DOCKER_AUTH_CONFIG", &helpers);
        }
        credentials.add_ambient(Arc::new(PerHost::new(environment)));
        for login in variables::of_ci(environment) {
            credentials.add_ambient(Arc::new(login));
        }
        Ok(credentials)
    }

    fn add_explicit(&mut self, source: Explicit, helpers: &Arc<dyn Helpers>) -> Result<(), CredentialError> {
        match source {
            Explicit::Main(login) => self.main.push(login),
            Explicit::Login(login) => self.logins.push(login),
            Explicit::Config { text, source } => {
                let config = ConfigFile::parse(text.expose(), &source, helpers.clone())?;
                self.configs.push(Arc::new(config));
            }
        }
        Ok(())
    }

    fn add_file(&mut self, file: &Source, helpers: &Arc<dyn Helpers>) {
        match read(&file.path) {
            Ok(text) => self.add_text(&text, &file.label, helpers),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !file.named => {}
            Err(error) => self.warnings.push(format!("W_CONFIG_UNREADABLE: {}: {error}", file.label)),
        }
    }

    fn add_text(&mut self, text: &[u8], origin: &str, helpers: &Arc<dyn Helpers>) {
        match ConfigFile::parse(text, origin, helpers.clone()) {
            Ok(config) => self.ambient.push(Arc::new(config)),
            Err(error) => self.warnings.push(format!("W_CONFIG_IGNORED: {error}")),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Source {
    path: PathBuf,
    /// As the user would call it.
    label: String,
    /// The user pointed at it: not finding it is worth a warning.
    named: bool,
}

fn files(environment: &BTreeMap<String, String>) -> Vec<Source> {
    let mut files = Vec::new();
    let mut add = |path: PathBuf, label: String, named| files.push(Source { path, label, named });
    if let Some(path) = set(environment, "REGISTRY_AUTH_FILE") {
        add(path.into(), "$REGISTRY_AUTH_FILE".to_owned(), true);
    }
    if let Some(path) = set(environment, "DOCKER_CONFIG") {
        let path = PathBuf::from(path);
        let file = if path.is_file() { path } else { path.join("config.json") };
        // CI images set it to a directory that stays empty until someone logs in.
        add(file, "$DOCKER_CONFIG/config.json".to_owned(), false);
    }
    let home = set(environment, "HOME");
    if let Some(run) = set(environment, "XDG_RUNTIME_DIR") {
        let path = Path::new(run).join("containers/auth.json");
        add(path, "$XDG_RUNTIME_DIR/containers/auth.json".to_owned(), false);
    }
    match (set(environment, "XDG_CONFIG_HOME"), home) {
        (Some(config), _) => {
            let path = Path::new(config).join("containers/auth.json");
            add(path, "$XDG_CONFIG_HOME/containers/auth.json".to_owned(), false);
        }
        (None, Some(home)) => {
            let path = Path::new(home).join(".config/containers/auth.json");
            add(path, "~/.config/containers/auth.json".to_owned(), false);
        }
        (None, None) => {}
    }
    for name in [".docker/config.json", ".dockercfg"] {
        if let Some(home) = home {
            add(Path::new(home).join(name), format!("~/{name}"), false);
        }
    }
    let kaniko = "/kaniko/.docker/config.json";
    add(kaniko.into(), kaniko.to_owned(), false);
    unique(files)
}

/// `DOCKER_CONFIG` often points at `~/.docker`: reading it twice would try its
/// credential twice.
fn unique(files: Vec<Source>) -> Vec<Source> {
    let mut kept: Vec<Source> = Vec::new();
    for file in files {
        if !kept.iter().any(|known| known.path == file.path) {
            kept.push(file);
        }
    }
    kept
}

fn set<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(FILE_LIMIT).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::credentials::{Credential, Login};
    use crate::secret::Secret;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn order_of_files() {
        let environment = map(&[
            ("HOME", "/h"),
            ("REGISTRY_AUTH_FILE", "/a.json"),
            ("DOCKER_CONFIG", "/h/.docker"),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
        ]);
        let paths: Vec<String> =
            files(&environment).into_iter().map(|file| file.path.display().to_string()).collect();
        assert_eq!(
            paths,
            [
                "/a.json",
                "/h/.docker/config.json",
                "/run/user/1/containers/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.dockercfg",
                "/kaniko/.docker/config.json",
            ]
        );
    }

    fn login(target: &str, username: &str) -> Login {
        Login {
            target: target.to_owned(),
            username: username.to_owned(),
            password: Secret::new("p"),
            source: format!("login {username}"),
        }
    }

    /// Who is shown, best first.
    fn users(credentials: &Credentials, host: &str, repository: &str) -> Vec<String> {
        let found = credentials.candidates(host, repository).unwrap();
        found
            .list
            .iter()
            .map(|candidate| match &candidate.credential {
                Some(Credential::Password { username, .. }) => username.clone(),
                Some(other) => format!("{other:?}"),
                None => "nobody".to_owned(),
            })
            .collect()
    }

    #[test]
    fn explicit_is_final_and_ambient_are_tried_in_turn() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        fs::write(&file, r#"{"auths":{"r.io":{"auth":"ZmlsZTpw"},"e.io":{"auth":"ZmlsZTpw"}}}"#).unwrap();
        let environment = map(&[
            ("CI_REGISTRY", "r.io"),
            ("CI_REGISTRY_IMAGE", "r.io/own"),
            ("CI_REGISTRY_USER", "job"),
            ("CI_REGISTRY_PASSWORD", "p"),
            ("CORACLE_AUTH_R_IO_USERNAME", "variable"),
            ("CORACLE_AUTH_R_IO_PASSWORD", "p"),
            ("DOCKER_CONFIG", directory.path().to_str().unwrap()),
            ("DOCKER_AUTH_CONFIG", r#"{"auths":{"r.io":{"auth":"dGV4dDpw"}}}"#),
        ]);
        let explicit = vec![
            Explicit::Login(login("https://e.io/team", "team")),
            Explicit::Login(login("e.io", "all")),
            Explicit::Login(login("m.io/x", "x")),
            Explicit::Main(login("m.io", "main")),
        ];
        let credentials = Credentials::from_environment(&environment, explicit).unwrap();
        for (host, repository, expected) in [
            ("r.io", "app", &["file", "text", "variable", "job", "nobody"][..]),
            ("r.io", "own/app", &["file", "job", "text", "variable", "nobody"]),
            ("e.io", "team/app", &["team"]),
            ("e.io", "other/app", &["all"]),
            ("m.io", "x", &["main"]),
            ("n.io", "x", &["nobody"]),
        ] {
            assert_eq!(users(&credentials, host, repository), expected, "{host}/{repository}");
        }
        assert!(credentials.covers("e.io") && !credentials.covers("r.io"));
    }

    #[test]
    fn a_broken_ambient_file_is_a_warning() {
        let environment = map(&[("REGISTRY_AUTH_FILE", "/nonexistent"), ("DOCKER_AUTH_CONFIG", "{")]);
        let credentials = Credentials::from_environment(&environment, vec![]).unwrap();
        let codes: Vec<_> =
            credentials.warnings().iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(codes, ["W_CONFIG_UNREADABLE", "W_CONFIG_IGNORED"]);
    }
}
