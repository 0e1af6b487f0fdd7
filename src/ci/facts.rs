//! What the CI says about this build, normalised.

use std::path::Path;

use super::{Environment, Files, System, git, sources};

/// What made the pipeline run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A push to a branch.
    Push,
    /// A git tag.
    Tag,
    /// A pull or merge request.
    PullRequest,
    /// A release made in the forge.
    Release,
    /// A schedule.
    Cron,
    /// A person.
    Manual,
    /// A deployment, promotion or rollback.
    Deployment,
    /// Anything else.
    Other,
}

impl EventKind {
    /// Its name in the reference's spelling.
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Tag => "tag",
            Self::PullRequest => "pull_request",
            Self::Release => "release",
            Self::Cron => "cron",
            Self::Manual => "manual",
            Self::Deployment => "deployment",
            Self::Other => "other",
        }
    }

    /// The event of that name in any CI system's words; [`EventKind::Other`] for the rest.
    pub fn named(name: &str) -> Self {
        match name {
            "push" => Self::Push,
            "tag" => Self::Tag,
            "pull_request"
            | "pull_request_target"
            | "pull_request_closed"
            | "pull_request_metadata"
            | "merge_request_event"
            | "external_pull_request_event" => Self::PullRequest,
            "release" => Self::Release,
            "cron" | "schedule" => Self::Cron,
            "manual" | "web" | "workflow_dispatch" => Self::Manual,
            "deployment" | "deploy" | "promote" | "rollback" => Self::Deployment,
            _ => Self::Other,
        }
    }
}

/// Facts about the commit and the pipeline. Whatever the CI does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Which CI system this is.
    pub system: System,
    /// The commit.
    pub sha: Option<String>,
    /// `refs/heads/…`, `refs/tags/…`, `refs/pull/…`.
    pub ref_name: Option<String>,
    /// The branch that is built: of a pull request, its source. Absent on tag builds.
    pub branch: Option<String>,
    /// The git tag.
    pub tag: Option<String>,
    /// The repository's default branch.
    pub default_branch: Option<String>,
    /// Of a pull request: the branch it wants to go to.
    pub target_branch: Option<String>,
    /// Number of the pull request.
    pub pull_request: Option<u64>,
    /// What made the pipeline run.
    pub event: Option<EventKind>,
    /// `owner/repository`.
    pub repository_slug: Option<String>,
    /// The repository's page, cleaned of credentials.
    pub repository_url: Option<String>,
    /// The page of this build.
    pub build_url: Option<String>,
    /// Its number.
    pub build_number: Option<String>,
    /// The page of the commit.
    pub commit_url: Option<String>,
    /// When the commit was made, in seconds since 1970.
    pub commit_time: Option<i64>,
    /// Where the CI checked the repository out.
    pub workspace: Option<String>,
}

impl Facts {
    /// Recognises the CI system and reads what it says; what it leaves open comes
    /// from `.git` in the working directory, without a git program.
    pub fn detect(environment: &Environment, files: &dyn Files) -> Self {
        let system = System::detect(environment, files);
        let mut facts = Self::of(system, environment, files);
        facts.fill_from_git(files);
        facts
    }

    /// What the variables of `system` say, `.git` left aside.
    pub fn of(system: System, environment: &Environment, files: &dyn Files) -> Self {
        let mut facts = sources::read(system, environment, files);
        facts.system = system;
        let is_pull_request = facts.pull_request.is_some() || facts.event == Some(EventKind::PullRequest);
        if !is_pull_request {
            facts.target_branch = None;
        }
        if facts.tag.is_some() {
            facts.branch = None;
        }
        facts.derive_ref();
        facts
    }

    /// The first eight characters of the commit.
    pub fn sha_short(&self) -> Option<&str> {
        self.sha.as_deref().map(|sha| sha.get(..8).unwrap_or(sha))
    }

    /// Whether this is a pull request by any of its marks. On GitHub's
    /// `pull_request_target` the ref is the base branch: the ref alone does not tell.
    pub fn is_pull_request(&self) -> bool {
        self.pull_request.is_some()
            || self.target_branch.is_some()
            || self.event == Some(EventKind::PullRequest)
    }

    fn derive_ref(&mut self) {
        if self.ref_name.is_some() {
            return;
        }
        self.ref_name = match (&self.tag, self.pull_request, &self.branch) {
            (Some(tag), _, _) => Some(format!("refs/tags/{tag}")),
            (None, Some(number), _) => Some(format!("refs/pull/{number}/head")),
            (None, None, Some(branch)) => Some(format!("refs/heads/{branch}")),
            (None, None, None) => None,
        };
    }

    /// Only what belongs to the same commit is taken: a CI that names another
    /// commit than the checkout keeps its own word.
    fn fill_from_git(&mut self, files: &dyn Files) {
        let complete = self.sha.is_some() && self.commit_time.is_some() && self.default_branch.is_some();
        if complete {
            return;
        }
        let Some(checkout) = git::read(files, Path::new(".git")) else { return };
        if self.default_branch.is_none() {
            self.default_branch = checkout.default_branch;
        }
        let said_nothing = self.sha.is_none() && self.ref_name.is_none();
        if said_nothing {
            self.tag = checkout.tag;
            self.branch = if self.tag.is_some() { None } else { checkout.branch };
            self.derive_ref();
        }
        let same_commit = self.sha.as_ref().is_none_or(|sha| *sha == checkout.sha);
        if same_commit {
            self.commit_time = self.commit_time.or(checkout.commit_time);
            self.sha = Some(checkout.sha);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::{Map, Value};

    use super::super::MemoryFiles;
    use super::*;

    #[derive(Deserialize)]
    struct Vector {
        id: String,
        note: String,
        env: BTreeMap<String, String>,
        expect: Map<String, Value>,
    }

    fn as_json(facts: &Facts) -> Map<String, Value> {
        let mut map = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(name.to_owned(), value);
            }
        };
        let text = |value: &Option<String>| value.clone().map(Value::from);
        put("ci", Some(facts.system.name().into()));
        put("sha", text(&facts.sha));
        put("sha_short", facts.sha_short().map(Value::from));
        put("ref", text(&facts.ref_name));
        put("branch", text(&facts.branch));
        put("tag", text(&facts.tag));
        put("default_branch", text(&facts.default_branch));
        put("target_branch", text(&facts.target_branch));
        put("pr", facts.pull_request.map(Value::from));
        put("event", facts.event.map(|event| event.name().into()));
        put("repo_slug", text(&facts.repository_slug));
        put("repo_url", text(&facts.repository_url));
        put("build_url", text(&facts.build_url));
        put("build_number", text(&facts.build_number));
        put("commit_url", text(&facts.commit_url));
        put("commit_time", facts.commit_time.map(Value::from));
        put("workspace", text(&facts.workspace));
        map
    }

    #[test]
    fn vectors() {
        let text = include_str!("../../tests/vectors/ci-env.json");
        let vectors: Vec<Vector> = serde_json::from_str(text).unwrap();
        assert!(vectors.len() >= 23);
        for Vector { id, note, env, expect } in vectors {
            let facts = Facts::detect(&env, &MemoryFiles::default());
            assert_eq!(as_json(&facts), expect, "{id}: {note}");
        }
    }

    fn detect(pairs: &[(&str, &str)], files: &[(&str, &str)]) -> Facts {
        let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let files = files.iter().map(|(k, v)| ((*k).into(), v.as_bytes().to_vec())).collect();
        Facts::detect(&environment, &MemoryFiles(files))
    }

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn git_fills_what_is_missing() {
        let head = [
            (".git/HEAD", "ref: refs/heads/topic\n"),
            (".git/refs/heads/topic", "0123456789abcdef0123456789abcdef01234567\n"),
            (".git/refs/remotes/origin/HEAD", "ref: refs/remotes/origin/main\n"),
        ];
        let facts = detect(&[], &head);
        assert_eq!(facts.sha.as_deref(), Some(SHA));
        assert_eq!(facts.ref_name.as_deref(), Some("refs/heads/topic"));
        assert_eq!(facts.default_branch.as_deref(), Some("main"));
        let facts = detect(&[("DRONE", "true"), ("DRONE_COMMIT_SHA", "f00"), ("DRONE_BRANCH", "b")], &head);
        assert_eq!(facts.sha.as_deref(), Some("f00"), "the CI's word stands");
        assert_eq!(facts.branch.as_deref(), Some("b"));
    }

    #[test]
    fn github_event_file_names_the_default_branch() {
        let facts = detect(
            &[("GITHUB_ACTIONS", "true"), ("GITHUB_EVENT_PATH", "/e.json"), ("GITHUB_REF", "refs/heads/x")],
            &[("/e.json", r#"{"repository":{"default_branch":"trunk"}}"#)],
        );
        assert_eq!(facts.default_branch.as_deref(), Some("trunk"));
    }

    #[test]
    fn pull_request_zero_is_none() {
        let facts = detect(&[("DRONE", "true"), ("DRONE_PULL_REQUEST", "0"), ("DRONE_BRANCH", "b")], &[]);
        assert_eq!(facts.pull_request, None);
        assert!(!facts.is_pull_request());
    }

    /// Copies of the shared references must not drift from them.
    #[test]
    fn vectors_equal_the_shared_ones() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let Ok(shared) = std::fs::read(root.join("../shared/reference/vectors/ci-env.json")) else { return };
        assert_eq!(shared, std::fs::read(root.join("tests/vectors/ci-env.json")).unwrap());
    }
}
