//! Where each CI system keeps its facts: one function per system, each a column
//! of the reference's tables.

use std::path::Path;

use super::facts::{EventKind, Facts};
use super::{Environment, Files, System, clean_url, url_path};

/// Reads the variables of `system`, and of no other.
pub(super) fn read(system: System, environment: &Environment, files: &dyn Files) -> Facts {
    let variables = Variables(environment);
    match system {
        System::Drone => drone(&variables),
        System::Woodpecker => woodpecker(&variables),
        System::GitLab => gitlab(&variables),
        System::GitHub | System::Gitea | System::Forgejo => github(&variables, files),
        System::Jenkins => jenkins(&variables),
        System::CircleCi => circleci(&variables),
        System::Azure => azure(&variables),
        System::Bitbucket => bitbucket(&variables),
        System::CloudBuild | System::Tekton | System::Argo | System::None => Facts::default(),
    }
}

struct Variables<'a>(&'a Environment);

impl Variables<'_> {
    /// The first of `names` that is set to something.
    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.0.get(*name).filter(|value| !value.trim().is_empty())).cloned()
    }

    fn one(&self, name: &str) -> Option<String> {
        self.first(&[name])
    }

    fn url(&self, name: &str) -> Option<String> {
        self.one(name).map(|url| clean_url(&url))
    }

    /// A positive number; the first variable that holds one.
    fn number(&self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| positive(self.0.get(*name)?.trim()))
    }

    fn event(&self, name: &str) -> Option<EventKind> {
        self.one(name).map(|event| EventKind::named(&event))
    }
}

fn positive(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

fn trailing_number(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    positive(&text[text.len() - digits..])
}

fn cut_prefix(text: String, prefix: &str) -> String {
    match text.strip_prefix(prefix) {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

fn drone(variables: &Variables<'_>) -> Facts {
    let pull_request = variables.number(&["DRONE_PULL_REQUEST"]);
    let event = variables.event("DRONE_BUILD_EVENT");
    let is_request = pull_request.is_some() || event == Some(EventKind::PullRequest);
    let source = if is_request { variables.one("DRONE_SOURCE_BRANCH") } else { None };
    Facts {
        sha: variables.first(&["DRONE_COMMIT_SHA", "DRONE_COMMIT"]),
        ref_name: variables.one("DRONE_COMMIT_REF"),
        tag: variables.one("DRONE_TAG"),
        branch: source.or_else(|| variables.one("DRONE_BRANCH")),
        target_branch: variables.one("DRONE_TARGET_BRANCH"),
        default_branch: variables.one("DRONE_REPO_BRANCH"),
        pull_request,
        event,
        repository_slug: variables.one("DRONE_REPO"),
        repository_url: variables.url("DRONE_REPO_LINK"),
        build_url: variables.one("DRONE_BUILD_LINK"),
        build_number: variables.one("DRONE_BUILD_NUMBER"),
        commit_url: variables.one("DRONE_COMMIT_LINK"),
        workspace: variables.one("DRONE_WORKSPACE"),
        ..Facts::default()
    }
}

fn woodpecker(variables: &Variables<'_>) -> Facts {
    let pull_request = variables.number(&["CI_COMMIT_PULL_REQUEST"]);
    let event = variables.event("CI_PIPELINE_EVENT");
    let is_request = pull_request.is_some() || event == Some(EventKind::PullRequest);
    let source = if is_request { variables.one("CI_COMMIT_SOURCE_BRANCH") } else { None };
    Facts {
        sha: variables.one("CI_COMMIT_SHA"),
        ref_name: variables.one("CI_COMMIT_REF"),
        tag: variables.one("CI_COMMIT_TAG"),
        branch: source.or_else(|| variables.one("CI_COMMIT_BRANCH")),
        target_branch: variables.one("CI_COMMIT_TARGET_BRANCH"),
        default_branch: variables.one("CI_REPO_DEFAULT_BRANCH"),
        pull_request,
        event,
        repository_slug: variables.one("CI_REPO"),
        repository_url: variables.url("CI_REPO_URL"),
        build_url: variables.first(&["CI_STEP_URL", "CI_PIPELINE_URL"]),
        build_number: variables.one("CI_PIPELINE_NUMBER"),
        commit_url: variables.one("CI_PIPELINE_FORGE_URL"),
        commit_time: variables.one("CI_COMMIT_TIMESTAMP").and_then(|epoch| epoch.trim().parse().ok()),
        workspace: variables.one("CI_WORKSPACE"),
        ..Facts::default()
    }
}

fn gitlab(variables: &Variables<'_>) -> Facts {
    let tag = variables.one("CI_COMMIT_TAG");
    let pull_request = variables.number(&["CI_MERGE_REQUEST_IID", "CI_EXTERNAL_PULL_REQUEST_IID"]);
    let event = match (&tag, pull_request) {
        (Some(_), _) => Some(EventKind::Tag),
        (None, Some(_)) => Some(EventKind::PullRequest),
        (None, None) => variables.event("CI_PIPELINE_SOURCE"),
    };
    let commit_time = variables
        .one("CI_COMMIT_TIMESTAMP")
        .and_then(|text| text.trim().parse::<jiff::Timestamp>().ok())
        .map(jiff::Timestamp::as_second);
    Facts {
        sha: variables.one("CI_COMMIT_SHA"),
        ref_name: variables.one("CI_MERGE_REQUEST_REF_PATH"),
        tag,
        branch: variables.first(&["CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_BRANCH"]),
        target_branch: variables.one("CI_MERGE_REQUEST_TARGET_BRANCH_NAME"),
        default_branch: variables.one("CI_DEFAULT_BRANCH"),
        pull_request,
        event,
        repository_slug: variables.one("CI_PROJECT_PATH"),
        // Never CI_REPOSITORY_URL: it contains the job's token.
        repository_url: variables.url("CI_PROJECT_URL"),
        build_url: variables.first(&["CI_JOB_URL", "CI_PIPELINE_URL"]),
        build_number: variables.one("CI_PIPELINE_IID"),
        commit_time,
        workspace: variables.one("CI_PROJECT_DIR"),
        ..Facts::default()
    }
}

fn github(variables: &Variables<'_>, files: &dyn Files) -> Facts {
    let ref_name = variables.one("GITHUB_REF");
    let of_type = |wanted: &str| {
        let name = variables.one("GITHUB_REF_NAME");
        name.filter(|_| variables.one("GITHUB_REF_TYPE").as_deref() == Some(wanted))
    };
    let tag = of_type("tag");
    let pull_request = ref_name.as_deref().and_then(github_pull_request);
    let event = if tag.is_some() { Some(EventKind::Tag) } else { variables.event("GITHUB_EVENT_NAME") };
    let is_request = pull_request.is_some() || event == Some(EventKind::PullRequest);
    let branch = variables.one("GITHUB_HEAD_REF");
    let repository_slug = variables.one("GITHUB_REPOSITORY");
    let repository_url = match (variables.one("GITHUB_SERVER_URL"), &repository_slug) {
        (Some(server), Some(slug)) => Some(clean_url(&format!("{}/{slug}", server.trim_end_matches('/')))),
        _ => None,
    };
    let build_url = match (&repository_url, variables.one("GITHUB_RUN_ID")) {
        (Some(url), Some(run)) => Some(format!("{url}/actions/runs/{run}")),
        _ => None,
    };
    Facts {
        sha: variables.one("GITHUB_SHA"),
        branch: branch.or_else(|| of_type("branch").filter(|_| !is_request)),
        target_branch: variables.one("GITHUB_BASE_REF"),
        default_branch: github_default_branch(variables, files),
        ref_name,
        tag,
        pull_request,
        event,
        repository_slug,
        repository_url,
        build_url,
        build_number: variables.one("GITHUB_RUN_NUMBER"),
        workspace: variables.one("GITHUB_WORKSPACE"),
        ..Facts::default()
    }
}

fn github_pull_request(ref_name: &str) -> Option<u64> {
    let (number, _) = ref_name.strip_prefix("refs/pull/")?.split_once('/')?;
    positive(number)
}

fn github_default_branch(variables: &Variables<'_>, files: &dyn Files) -> Option<String> {
    let event = files.read(Path::new(&variables.one("GITHUB_EVENT_PATH")?)).ok()?;
    let event: serde_json::Value = serde_json::from_slice(&event).ok()?;
    let branch = event.get("repository")?.get("default_branch")?.as_str()?;
    (!branch.is_empty()).then(|| branch.to_owned())
}

fn jenkins(variables: &Variables<'_>) -> Facts {
    let tag = variables.one("TAG_NAME");
    let change = variables.one("CHANGE_ID");
    let branch = match change {
        Some(_) => variables.one("CHANGE_BRANCH"),
        None => variables
            .one("BRANCH_NAME")
            .or_else(|| variables.one("GIT_BRANCH").map(|b| cut_prefix(b, "origin/"))),
    };
    let event = match (&tag, &change) {
        (Some(_), _) => EventKind::Tag,
        (None, Some(_)) => EventKind::PullRequest,
        (None, None) => EventKind::Push,
    };
    let is_primary = variables.one("BRANCH_IS_PRIMARY").as_deref() == Some("true");
    let repository_url = variables.url("GIT_URL");
    Facts {
        sha: variables.one("GIT_COMMIT"),
        tag,
        target_branch: variables.one("CHANGE_TARGET"),
        default_branch: branch.clone().filter(|_| is_primary),
        branch,
        pull_request: variables.number(&["CHANGE_ID"]),
        event: Some(event),
        repository_slug: repository_url.as_deref().and_then(url_path).map(str::to_owned),
        repository_url,
        build_url: variables.first(&["RUN_DISPLAY_URL", "BUILD_URL"]),
        build_number: variables.one("BUILD_NUMBER"),
        workspace: variables.one("WORKSPACE"),
        ..Facts::default()
    }
}

/// Systems that name no event: it follows from what is there.
fn event_of(tag: Option<&String>, pull_request: Option<u64>) -> Option<EventKind> {
    Some(match (tag, pull_request) {
        (Some(_), _) => EventKind::Tag,
        (None, Some(_)) => EventKind::PullRequest,
        (None, None) => EventKind::Push,
    })
}

fn circleci(variables: &Variables<'_>) -> Facts {
    let tag = variables.one("CIRCLE_TAG");
    let pull_request = variables
        .one("CIRCLE_PULL_REQUEST")
        .and_then(|url| trailing_number(&url))
        .or_else(|| variables.number(&["CIRCLE_PR_NUMBER"]));
    let owner = variables.one("CIRCLE_PROJECT_USERNAME");
    let name = variables.one("CIRCLE_PROJECT_REPONAME");
    Facts {
        sha: variables.one("CIRCLE_SHA1"),
        branch: variables.one("CIRCLE_BRANCH"),
        event: event_of(tag.as_ref(), pull_request),
        tag,
        pull_request,
        repository_slug: owner.zip(name).map(|(owner, name)| format!("{owner}/{name}")),
        repository_url: variables.url("CIRCLE_REPOSITORY_URL"),
        build_url: variables.one("CIRCLE_BUILD_URL"),
        build_number: variables.one("CIRCLE_BUILD_NUM"),
        ..Facts::default()
    }
}

fn azure(variables: &Variables<'_>) -> Facts {
    // Never BUILD_SOURCEBRANCHNAME: it is only the last path segment.
    let ref_name = variables.one("BUILD_SOURCEBRANCH");
    let cut = |prefix: &str| ref_name.as_deref().and_then(|r| r.strip_prefix(prefix)).map(str::to_owned);
    let head = |name: &str| variables.one(name).map(|b| cut_prefix(b, "refs/heads/"));
    let tag = cut("refs/tags/");
    let pull_request =
        variables.number(&["SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"]);
    let source = pull_request.and_then(|_| head("SYSTEM_PULLREQUEST_SOURCEBRANCH"));
    let build =
        ["SYSTEM_COLLECTIONURI", "SYSTEM_TEAMPROJECT", "BUILD_BUILDID"].map(|name| variables.one(name));
    let build_url = match build {
        [Some(collection), Some(project), Some(id)] => {
            Some(format!("{collection}{project}/_build/results?buildId={id}"))
        }
        _ => None,
    };
    Facts {
        sha: variables.one("BUILD_SOURCEVERSION"),
        branch: source.or_else(|| cut("refs/heads/")),
        target_branch: head("SYSTEM_PULLREQUEST_TARGETBRANCH"),
        event: event_of(tag.as_ref(), pull_request),
        tag,
        pull_request,
        ref_name,
        repository_slug: variables.one("BUILD_REPOSITORY_NAME"),
        repository_url: variables.url("BUILD_REPOSITORY_URI"),
        build_url,
        build_number: variables.one("BUILD_BUILDNUMBER"),
        workspace: variables.one("BUILD_SOURCESDIRECTORY"),
        ..Facts::default()
    }
}

fn bitbucket(variables: &Variables<'_>) -> Facts {
    let tag = variables.one("BITBUCKET_TAG");
    let pull_request = variables.number(&["BITBUCKET_PR_ID"]);
    Facts {
        sha: variables.one("BITBUCKET_COMMIT"),
        branch: variables.one("BITBUCKET_BRANCH"),
        target_branch: variables.one("BITBUCKET_PR_DESTINATION_BRANCH"),
        event: event_of(tag.as_ref(), pull_request),
        tag,
        pull_request,
        repository_slug: variables.one("BITBUCKET_REPO_FULL_NAME"),
        repository_url: variables.url("BITBUCKET_GIT_HTTP_ORIGIN"),
        build_number: variables.one("BITBUCKET_BUILD_NUMBER"),
        workspace: variables.one("BITBUCKET_CLONE_DIR"),
        ..Facts::default()
    }
}
