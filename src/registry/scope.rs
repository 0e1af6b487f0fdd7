//! What a request asks to be allowed, and with which credential.

use super::challenge::Challenge;
use super::credentials::{Candidate, Credential};

/// What a request wants to do where.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// `docker.io`, or `host[:port]`, as in references.
    pub(super) registry: String,
    /// The repository worked on.
    pub(super) repository: String,
    /// `pull` or `push`.
    pub(super) action: &'static str,
    /// A repository of the same registry that blobs are mounted from.
    pub(super) mount_from: Option<String>,
}

impl Access {
    /// One scope per repository, the one worked on first; none for the registry itself.
    fn scopes(&self) -> Vec<String> {
        if self.repository.is_empty() {
            return Vec::new();
        }
        let actions = if self.action == "push" { "pull,push" } else { "pull" };
        let mut scopes = vec![format!("repository:{}:{actions}", self.repository)];
        scopes.extend(self.mount_from.iter().map(|from| format!("repository:{from}:pull")));
        scopes
    }
}

/// How one request came to be let in.
pub(super) struct Attempt {
    pub(super) number: usize,
    pub(super) candidate: Candidate,
    pub(super) scopes: Vec<String>,
    /// What the registry was known to want when the request was made.
    pub(super) challenge: Option<Challenge>,
    widened: bool,
    pub(super) renewed: bool,
}

impl Attempt {
    pub(super) fn new(access: &Access, number: usize, list: &[Candidate]) -> Self {
        let candidate = list[number].clone();
        Self { number, candidate, scopes: access.scopes(), challenge: None, widened: false, renewed: false }
    }

    pub(super) fn username(&self) -> Option<String> {
        match &self.candidate.credential {
            Some(Credential::Password { username, .. }) => Some(username.clone()),
            _ => None,
        }
    }

    /// Adds what the registry says is missing, once; false when nothing is.
    pub(super) fn widen(&mut self, wanted: Option<&str>) -> bool {
        let before = self.scopes.clone();
        if !std::mem::replace(&mut self.widened, true) {
            for scope in wanted.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty()) {
                add(&mut self.scopes, scope);
            }
        }
        self.scopes != before
    }
}

/// Adds the actions of one scope to those asked for: one entry per repository.
fn add(scopes: &mut Vec<String>, wanted: &str) {
    let Some((name, actions)) = wanted.rsplit_once(':') else { return };
    let same = |scope: &&mut String| scope.rsplit_once(':').is_some_and(|(known, _)| known == name);
    let Some(scope) = scopes.iter_mut().find(same) else {
        scopes.push(wanted.to_owned());
        return;
    };
    for action in actions.split(',').filter(|action| !action.is_empty()) {
        let listed = scope[name.len() + 1..].split(',').any(|known| known == action);
        if !listed {
            scope.push(',');
            scope.push_str(action);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_an_access() {
        let access = Access {
            registry: "r.io".into(),
            repository: "a/b".into(),
            action: "push",
            mount_from: Some("base".into()),
        };
        assert_eq!(access.scopes(), ["repository:a/b:pull,push", "repository:base:pull"]);
    }

    #[test]
    fn widening_happens_once_and_only_for_something_new() {
        let access =
            Access { registry: "r".into(), repository: "a".into(), action: "pull", mount_from: None };
        let mut attempt = Attempt::new(&access, 0, &[Candidate::nobody()]);
        assert!(!attempt.widen(Some("repository:a:pull")));
        let mut attempt = Attempt::new(&access, 0, &[Candidate::nobody()]);
        assert!(attempt.widen(Some("repository:a:push,pull repository:mirror/a:pull")));
        assert_eq!(attempt.scopes, ["repository:a:pull,push", "repository:mirror/a:pull"]);
        assert!(!attempt.widen(Some("repository:c:pull")));
    }
}
