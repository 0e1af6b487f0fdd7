//! Ambient pairs in environment variables: per host for coracle and kaniko,
//! and what CI systems hand to their jobs.

use std::collections::BTreeMap;

use super::{AmbientSource, Credential, CredentialError, Login, Lookup, key};
use crate::secret::Secret;

/// `PREFIX_HOST_USERNAME` and `PREFIX_HOST_PASSWORD`, for any host.
pub(super) struct PerHost {
    environment: BTreeMap<String, String>,
}

/// Prefix, suffix of the user name and suffix of the password.
const SPELLINGS: [(&str, &str, &str); 2] =
    [("CORACLE_AUTH_", "_USERNAME", "_PASSWORD"), ("KANIKO_", "_USER", "_PASSWORD")];

/// Host variable, user name variable, password variable.
const CI: [(&str, &str, &str); 3] = [
    ("CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"),
    ("CI_DEPENDENCY_PROXY_SERVER", "CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD"),
    ("HARBOR_HOST", "HARBOR_USERNAME", "HARBOR_PASSWORD"),
];

impl PerHost {
    /// Keeps the variables that can matter.
    pub(super) fn new(environment: &BTreeMap<String, String>) -> Self {
        let ours = |name: &str| SPELLINGS.iter().any(|(prefix, ..)| name.starts_with(prefix));
        let kept = environment.iter().filter(|(name, _)| ours(name));
        Self { environment: kept.map(|(name, value)| (name.clone(), value.clone())).collect() }
    }
}

impl AmbientSource for PerHost {
    fn find(&self, host: &str, _repository: &str) -> Result<Lookup, CredentialError> {
        for name in names(&key::normalise(host)) {
            for (prefix, user, password) in SPELLINGS {
                let variable = format!("{prefix}{name}{user}");
                let pair = pair(&self.environment, &variable, &format!("{prefix}{name}{password}"));
                if let Some(credential) = pair {
                    return Ok(Lookup {
                        credential: Some(credential),
                        from: format!("${variable}"),
                        warnings: Vec::new(),
                    });
                }
            }
        }
        Ok(Lookup::default())
    }

    fn secrets(&self) -> Vec<Secret> {
        let passwords = self.environment.iter().filter(|(name, _)| name.ends_with("_PASSWORD"));
        passwords.map(|(_, value)| Secret::new(value.as_str())).collect()
    }
}

/// A login is an ambient source too: one that has something for one place.
impl AmbientSource for Login {
    fn find(&self, host: &str, repository: &str) -> Result<Lookup, CredentialError> {
        let target = key::normalise(&self.target);
        if !key::chain(host, repository).any(|key| key == target) {
            return Ok(Lookup::default());
        }
        let (username, password) = (self.username.clone(), self.password.clone());
        let credential = Some(Credential::Password { username, password });
        Ok(Lookup { credential, from: self.source.clone(), warnings: Vec::new() })
    }

    fn secrets(&self) -> Vec<Secret> {
        vec![self.password.clone()]
    }
}

/// The logins a CI system hands to its jobs.
pub(super) fn of_ci(environment: &BTreeMap<String, String>) -> Vec<Login> {
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let mut logins = Vec::new();
    for (host, user, password) in CI {
        let found = (value(host), value(user), value(password));
        if let (Some(host), Some(username), Some(password)) = found {
            logins.push(login(host, username, password, &format!("${user}")));
        }
    }
    let in_actions = value("GITHUB_ACTIONS").is_some_and(|text| text == "true");
    if let (true, Some(actor), Some(token)) = (in_actions, value("GITHUB_ACTOR"), value("GITHUB_TOKEN")) {
        logins.push(login("ghcr.io", actor, token, "$GITHUB_TOKEN"));
    }
    logins
}

/// The job's own pair for the project's own images. In GitLab,
/// `DOCKER_AUTH_CONFIG` is usually a login that may only pull: this goes first.
pub(super) fn of_own_project(environment: &BTreeMap<String, String>) -> Option<Login> {
    let image = environment.get("CI_REGISTRY_IMAGE").filter(|value| !value.is_empty())?;
    let own = of_ci(environment).into_iter().find(|login| login.source == "$CI_REGISTRY_USER")?;
    let image_host = key::normalise(image);
    let same_host = key::host_of(&image_host) == key::normalise(&own.target);
    same_host.then(|| Login { target: image.clone(), ..own })
}

fn login(target: &str, username: &str, password: &str, source: &str) -> Login {
    Login {
        target: target.to_owned(),
        username: username.to_owned(),
        password: Secret::new(password),
        source: source.to_owned(),
    }
}

fn pair(environment: &BTreeMap<String, String>, user: &str, password: &str) -> Option<Credential> {
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    Some(Credential::Password {
        username: value(user)?.clone(),
        password: Secret::new(value(password)?.as_str()),
    })
}

/// The host as a part of a variable's name: whole first, then without its
/// leading labels, down to two (one would be every `.com`).
fn names(host: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = host;
    loop {
        let spelled = rest.to_ascii_uppercase().replace(['.', '-', ':'], "_");
        names.push(spelled);
        match rest.split_once('.') {
            Some((_, shorter)) if shorter.contains('.') => rest = shorter,
            _ => return names,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn hosts_as_names() {
        assert_eq!(
            names("eu.my-reg.example.com"),
            ["EU_MY_REG_EXAMPLE_COM", "MY_REG_EXAMPLE_COM", "EXAMPLE_COM"]
        );
        assert_eq!(names("localhost:5000"), ["LOCALHOST_5000"]);
    }

    fn check(source: &dyn AmbientSource, host: &str, repository: &str, expected: &str) {
        let found = source.find(host, repository).unwrap();
        assert_eq!(found.from, expected, "{host}/{repository}");
        assert_eq!(found.credential.is_some(), !expected.is_empty());
    }

    #[test]
    fn pairs_per_host() {
        let source = PerHost::new(&map(&[
            ("CORACLE_AUTH_EXAMPLE_COM_USERNAME", "u"),
            ("CORACLE_AUTH_EXAMPLE_COM_PASSWORD", "p"),
            ("KANIKO_GHCR_IO_USER", "u"),
            ("KANIKO_GHCR_IO_PASSWORD", "p"),
            ("KANIKO_HALF_IO_USER", "u"),
        ]));
        check(&source, "r.example.com", "a", "$CORACLE_AUTH_EXAMPLE_COM_USERNAME");
        check(&source, "ghcr.io", "a", "$KANIKO_GHCR_IO_USER");
        check(&source, "half.io", "a", "");
        check(&source, "other.com", "a", "");
    }

    #[test]
    fn jobs_have_logins() {
        let environment = map(&[
            ("CI_REGISTRY", "registry.example.com"),
            ("CI_REGISTRY_IMAGE", "registry.example.com/team/app"),
            ("CI_REGISTRY_USER", "gitlab-ci-token"),
            ("CI_REGISTRY_PASSWORD", "t"),
            ("GITHUB_ACTOR", "me"),
            ("GITHUB_TOKEN", "t"),
        ]);
        assert_eq!(of_ci(&environment).len(), 1, "no GitHub outside of Actions");
        check(&of_ci(&environment)[0], "registry.example.com", "x", "$CI_REGISTRY_USER");
        let own = of_own_project(&environment).unwrap();
        check(&own, "registry.example.com", "team/app/cache", "$CI_REGISTRY_USER");
        check(&own, "registry.example.com", "team/apple", "");
    }
}
