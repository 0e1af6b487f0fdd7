//! Recognising the CI system.

use std::fmt;
use std::path::Path;

use super::{Environment, Files};

/// A CI system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum System {
    /// Woodpecker.
    Woodpecker,
    /// Drone and Harness.
    Drone,
    /// GitLab CI.
    GitLab,
    /// Forgejo Actions.
    Forgejo,
    /// Gitea Actions.
    Gitea,
    /// GitHub Actions.
    GitHub,
    /// Jenkins.
    Jenkins,
    /// CircleCI.
    CircleCi,
    /// Azure Pipelines.
    Azure,
    /// Bitbucket Pipelines.
    Bitbucket,
    /// Google Cloud Build.
    CloudBuild,
    /// Tekton.
    Tekton,
    /// Argo Workflows.
    Argo,
    /// No CI that is known.
    #[default]
    None,
}

const NAMES: [(System, &str); 14] = [
    (System::Woodpecker, "woodpecker"),
    (System::Drone, "drone"),
    (System::GitLab, "gitlab"),
    (System::Forgejo, "forgejo"),
    (System::Gitea, "gitea"),
    (System::GitHub, "github"),
    (System::Jenkins, "jenkins"),
    (System::CircleCi, "circleci"),
    (System::Azure, "azure"),
    (System::Bitbucket, "bitbucket"),
    (System::CloudBuild, "cloudbuild"),
    (System::Tekton, "tekton"),
    (System::Argo, "argo"),
    (System::None, "none"),
];

impl System {
    /// The first system whose mark is in the environment. `CORACLE_CI` forces
    /// the answer; a name there that is not in [`System::names`] is passed over
    /// (the door reports it).
    pub fn detect(environment: &Environment, files: &dyn Files) -> Self {
        if let Some(forced) = environment.get("CORACLE_CI").and_then(|name| Self::named(name.trim())) {
            return forced;
        }
        let is = |name: &str, value: &str| environment.get(name).is_some_and(|given| given == value);
        let has = |name: &str| environment.get(name).is_some_and(|given| !given.trim().is_empty());
        // The order is the reference's: some systems carry another's marks.
        let marks = [
            (is("CI", "woodpecker") || is("CI_SYSTEM_NAME", "woodpecker"), Self::Woodpecker),
            (is("DRONE", "true") || has("DRONE_SYSTEM_VERSION"), Self::Drone),
            (is("GITLAB_CI", "true"), Self::GitLab),
            (is("FORGEJO_ACTIONS", "true"), Self::Forgejo),
            (is("GITEA_ACTIONS", "true"), Self::Gitea),
            (is("GITHUB_ACTIONS", "true"), Self::GitHub),
            (has("JENKINS_URL") || jenkins_tag(environment), Self::Jenkins),
            (is("CIRCLECI", "true"), Self::CircleCi),
            (environment.get("TF_BUILD").is_some_and(|v| v.eq_ignore_ascii_case("true")), Self::Azure),
            (has("BITBUCKET_BUILD_NUMBER"), Self::Bitbucket),
            (has("BUILDER_OUTPUT"), Self::CloudBuild),
            (files.is_directory(Path::new("/tekton/results")), Self::Tekton),
            (has("ARGO_TEMPLATE"), Self::Argo),
        ];
        marks.into_iter().find_map(|(found, system)| found.then_some(system)).unwrap_or(Self::None)
    }

    /// The system of that name, as `CORACLE_CI` takes it.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(system, _)| *system)
    }

    /// All names, for messages.
    pub fn names() -> Vec<&'static str> {
        NAMES.iter().map(|(_, name)| *name).collect()
    }

    /// Its name, as `CORACLE_CI` takes it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(system, _)| *system == self).map_or("none", |(_, name)| name)
    }

    /// GitHub Actions or one of the systems that run its workflows.
    pub fn is_github_family(self) -> bool {
        matches!(self, Self::GitHub | Self::Gitea | Self::Forgejo)
    }
}

fn jenkins_tag(environment: &Environment) -> bool {
    environment.get("BUILD_TAG").is_some_and(|tag| tag.starts_with("jenkins-"))
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryFiles;
    use super::*;

    fn check(pairs: &[(&str, &str)], expected: System) {
        let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(System::detect(&environment, &MemoryFiles::default()), expected, "{pairs:?}");
    }

    #[test]
    fn first_match_wins() {
        check(&[], System::None);
        check(&[("DRONE_COMMIT_SHA", "x"), ("CI", "woodpecker")], System::Woodpecker);
        check(&[("DRONE_SYSTEM_VERSION", "2"), ("CI", "drone")], System::Drone);
        check(&[("GITHUB_ACTIONS", "true"), ("GITEA_ACTIONS", "true")], System::Gitea);
        check(&[("BUILD_TAG", "jenkins-r-3")], System::Jenkins);
        check(&[("TF_BUILD", "TRUE")], System::Azure);
        check(&[("BUILDER_OUTPUT", "/builder/outputs")], System::CloudBuild);
        check(&[("ARGO_TEMPLATE", "{}")], System::Argo);
        check(&[("CORACLE_CI", "none"), ("GITLAB_CI", "true")], System::None);
        check(&[("CORACLE_CI", "nonsense"), ("GITLAB_CI", "true")], System::GitLab);
    }

    #[test]
    fn tekton_is_a_directory() {
        let files = MemoryFiles([("/tekton/results/x".into(), vec![])].into());
        assert_eq!(System::detect(&Environment::new(), &files), System::Tekton);
    }
}
