//! From what the settings mean to what the build is asked to do. Whatever is
//! understood but not there yet is said here: refused where going on without it
//! would not be what was asked for, a warning otherwise.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use coracle::build::{
    BuildRequest, CachePolicy, ContextSource, Destination, DockerfileSource, Output, SecretSource,
};
use coracle::ci::{Environment, Files, System};
use coracle::fetch::Location;
use coracle::image::Platform;
use coracle::plan::Network;
use coracle::secret::Secret;
use coracle::ssh::{Agent, AgentSource};

use crate::door::Door;
use crate::labels::{self, LabelSources};
use crate::normalise::{Login, Normalised, Unmatched, is_google, is_off};
use crate::outputs::Reports;
use crate::settings::{
    CLOUD_TOKENS, Code, Effect, Finding, Findings, Key, Pairs, Reader, SecretFrom, Settings, TABLE, Written,
    shown,
};

/// Everything that is left to do.
#[derive(Debug)]
pub(crate) struct Job {
    /// The build.
    pub(crate) request: BuildRequest,
    /// How to run it.
    pub(crate) door: Door,
    /// What to write when it succeeded.
    pub(crate) reports: Reports,
}

/// The names isolation may be forced to, best first.
const RUNGS: [&str; 6] = ["namespaces", "mounts", "single", "chroot", "virtual", "none"];

/// Makes the job. `now` is in seconds since 1970.
pub(crate) fn job(
    normalised: Normalised,
    settings: &Settings,
    environment: &Environment,
    files: &dyn Files,
    now: i64,
    findings: &mut Findings,
) -> Job {
    let mut reader = Reader { settings, environment, files, findings };
    let reader = &mut reader;
    report_later(reader);
    let isolation = reader.word(Key::Isolation, &RUNGS);
    let door = Door {
        state_dir: reader.text(Key::StateDir).map(PathBuf::from),
        isolation,
        disk_quota: reader.text(Key::DiskQuota),
        insecure_registries: normalised.insecure.clone(),
        skip_tls_verify: normalised.skip_tls_verify.clone(),
        logins: logins(reader, &normalised),
        docker_config: normalised.credentials.config.clone(),
        quiet: is_quiet(reader),
        environment: environment.clone(),
        purge: normalised.purge,
    };
    let reports = Reports::of(reader, &normalised);
    let request = request(reader, normalised, now);
    Job { request, door, reports }
}

fn request(reader: &mut Reader<'_>, normalised: Normalised, now: i64) -> BuildRequest {
    let epoch = source_date_epoch(reader, &normalised);
    let default_labels = default_labels(reader, &normalised, epoch, now);
    let context = context(reader, &normalised.context);
    let dockerfile = dockerfile(reader.files, normalised.dockerfile.as_deref(), &context);
    BuildRequest {
        dockerfile,
        context,
        target: reader.text(Key::Target),
        platform: platform(reader, &normalised.platforms),
        destinations: destinations(reader, &normalised),
        outputs: outputs(reader),
        secrets: secrets(reader, &normalised),
        ssh: agents(reader),
        extra_hosts: extra_hosts(reader),
        shm_size: None,
        ulimits: Vec::new(),
        cache: CachePolicy { disabled: reader.flag(Key::NoCache).unwrap_or(false), ..CachePolicy::default() },
        pull: reader.flag(Key::PullImage).unwrap_or(true),
        network: Network::Default,
        // There is no setting for it, and the job's network is what every RUN has.
        host_network: true,
        dry_run: reader.flag(Key::Check).unwrap_or(false),
        push: normalised.push && normalised.unmatched != Some(Unmatched::Build),
        source_date_epoch: epoch,
        default_labels,
        build_args: normalised.build_arguments,
        labels: normalised.labels,
        proxy_args: normalised.proxies,
        named_contexts: BTreeMap::new(),
        annotations: Vec::new(),
    }
}

/// Settings that are known and not there yet.
fn report_later(reader: &mut Reader<'_>) {
    let pair_given = reader.settings.is_written(Key::Username) && reader.settings.is_written(Key::Password);
    for setting in TABLE.iter().filter(|setting| reader.settings.is_written(setting.key)) {
        if is_off(reader.settings, setting.key) {
            continue;
        }
        let written = reader.settings.written(setting.key);
        // Tokens of a cloud are not missed by one who brings a pair.
        let is_cloud_key = setting.effect == CLOUD_TOKENS;
        let (code, reason) = match setting.effect {
            Effect::LaterWarning(reason) => (Code::NoEffectWarning, reason),
            Effect::LaterError(reason) if is_cloud_key && pair_given => (Code::NoEffectWarning, reason),
            Effect::LaterError(reason) => (Code::Unsupported, reason),
            _ => continue,
        };
        reader.findings.add(Finding::new(code, &written, format!("not there yet: {reason}")));
    }
    if reader.word(Key::LogFormat, &["text", "color", "json"]) == Some("json") {
        let written = reader.settings.written(Key::LogFormat);
        let problem = "not there yet: lines of text are written instead of JSON";
        reader.findings.add(Finding::new(Code::NoEffectWarning, &written, problem));
    }
    if reader.flag(Key::PushOnly) == Some(true) && reader.settings.is_written(Key::SourceTarPath) {
        let written = reader.settings.written(Key::PushOnly);
        let problem = "not there yet: a tar cannot be pushed without building";
        reader.findings.add(Finding::new(Code::Unsupported, &written, problem));
    }
}

fn is_quiet(reader: &mut Reader<'_>) -> bool {
    let level = reader.text(Key::Verbosity).unwrap_or_default().to_ascii_lowercase();
    reader.flag(Key::Quiet).unwrap_or(false) || matches!(level.as_str(), "error" | "fatal" | "panic")
}

/// What CI systems give their jobs: the host, the user and the password, in
/// variables. The last column is the host where no variable names it.
const FROM_CI: [(Option<System>, &str, &str, &str, &str); 4] = [
    (Some(System::GitLab), "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD", "CI_REGISTRY", ""),
    (
        Some(System::GitLab),
        "CI_DEPENDENCY_PROXY_USER",
        "CI_DEPENDENCY_PROXY_PASSWORD",
        "CI_DEPENDENCY_PROXY_SERVER",
        "",
    ),
    (None, "HARBOR_USERNAME", "HARBOR_PASSWORD", "HARBOR_HOST", ""),
    (Some(System::GitHub), "GITHUB_ACTOR", "GITHUB_TOKEN", "", "ghcr.io"),
];

/// Pairs the CI gives: they come after the files and are never final.
fn ambient_logins(reader: &Reader<'_>, system: System) -> Vec<Login> {
    let mut logins = Vec::new();
    for (only, user, password, host, fixed) in FROM_CI {
        if only.is_some_and(|only| only != system) {
            continue;
        }
        let registry = reader.variable(host).or(Some(fixed)).filter(|host| !host.is_empty());
        if let (Some(registry), Some(username), Some(password)) =
            (registry, reader.variable(user), reader.variable(password))
        {
            let registry = registry.split_once("://").map_or(registry, |(_, rest)| rest);
            logins.push(Login {
                registry: registry.trim_end_matches('/').to_ascii_lowercase(),
                username: username.to_owned(),
                password: Secret::new(password),
                source: user,
                ambient: true,
            });
        }
    }
    logins
}

/// All pairs; a Google key becomes one for each of Google's hosts.
fn logins(reader: &Reader<'_>, normalised: &Normalised) -> Vec<Login> {
    let mut logins = normalised.credentials.logins.clone();
    if let Some(key) = &normalised.credentials.json_key {
        let hosts = normalised.destinations.iter().map(|name| name.host.clone()).chain(["gcr.io".to_owned()]);
        for registry in hosts.filter(|host| is_google(host)) {
            if !logins.iter().any(|login| login.registry == registry) {
                logins.push(Login {
                    registry,
                    username: "_json_key".to_owned(),
                    password: key.clone(),
                    source: "setting:json_key",
                    ambient: false,
                });
            }
        }
    }
    logins.extend(ambient_logins(reader, normalised.facts.system));
    logins
}

/// `SOURCE_DATE_EPOCH`, else under `reproducible` the commit's time, else 1970.
fn source_date_epoch(reader: &mut Reader<'_>, normalised: &Normalised) -> Option<i64> {
    if let Some(text) = reader.variable("SOURCE_DATE_EPOCH") {
        let epoch = text.trim().parse::<i64>().ok().filter(|epoch| *epoch >= 0);
        if epoch.is_none() {
            let problem = format!("`{}` is not a time", shown(text));
            let expected = "seconds since 1970";
            reader.wrong(Code::Int, &Written::named("SOURCE_DATE_EPOCH"), problem, expected, "1722617519");
        }
        return epoch;
    }
    let reproducible = reader.flag(Key::Reproducible).unwrap_or(false);
    reproducible.then(|| normalised.facts.commit_time.unwrap_or(0))
}

fn default_labels(reader: &Reader<'_>, normalised: &Normalised, epoch: Option<i64>, now: i64) -> Pairs {
    if !normalised.auto_label {
        return Pairs::new();
    }
    let (link, suffix) = (reader.text(Key::Link), reader.text(Key::AutoTagSuffix));
    let sources = LabelSources {
        link: link.as_deref(),
        default_tag: suffix.as_deref().unwrap_or(&normalised.default_tag),
        created: Some(epoch.unwrap_or(now)),
    };
    labels::automatic(normalised, &sources)
}

/// The context, with the directory below it that counts.
fn context(reader: &mut Reader<'_>, text: &str) -> ContextSource {
    let written = reader.settings.written(Key::Context);
    let expected = "a directory, `tar://FILE`, a git address or `https://…`";
    let remote = |text: &str| match Location::of_context(text) {
        None => Err(format!("`{}` is no address of a context", shown(text))),
        Some(Err(error)) => Err(error.to_string()),
        Some(Ok(_)) => Ok(ContextSource::Remote(text.to_owned())),
    };
    let found = match text.split_once("://") {
        None if Location::of_context(text).is_none() => Ok(ContextSource::Directory(text.into())),
        Some(("dir", directory)) => Ok(ContextSource::Directory(directory.into())),
        Some(("tar", "stdin")) => Ok(ContextSource::Stdin),
        Some(("tar", path)) => Ok(ContextSource::Archive(path.into())),
        Some(("s3" | "gs", _)) => {
            let problem = format!("`{}`: object stores are not supported", shown(text));
            reader.wrong(Code::Unsupported, &written, problem, expected, "context: app");
            return ContextSource::Empty;
        }
        Some(("git", rest)) => remote(&over_https(rest)),
        _ => remote(text),
    };
    let found = found.unwrap_or_else(|problem| {
        reader.wrong(Code::Value, &written, problem, expected, "context: https://example.com/app.git#main");
        ContextSource::Empty
    });
    below(reader, found)
}

/// What kaniko writes as `git://host/repository.git#ref#commit` and fetches by
/// HTTPS; nobody serves git's own protocol to CI jobs any more.
fn over_https(rest: &str) -> String {
    let mut parts = rest.split('#');
    let (address, reference, commit) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    // The address alone must show that it is a repository.
    let ending = if address.ends_with(".git") { "" } else { ".git" };
    let wanted = commit.filter(|commit| !commit.is_empty()).or(reference);
    format!("https://{address}{ending}{}", wanted.map(|wanted| format!("#{wanted}")).unwrap_or_default())
}

/// Applies `context_sub_path`.
fn below(reader: &mut Reader<'_>, context: ContextSource) -> ContextSource {
    let Some(sub) = reader.text(Key::ContextSubPath) else { return context };
    let written = reader.settings.written(Key::ContextSubPath);
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    match context {
        ContextSource::Directory(path) if Path::new(&sub).components().all(inside) => {
            ContextSource::Directory(path.join(sub))
        }
        ContextSource::Directory(path) => {
            let problem = format!("`{}` leads out of the context", shown(&sub));
            reader.wrong(Code::Value, &written, problem, "a relative path without `..`", "services/api");
            ContextSource::Directory(path)
        }
        other => {
            let problem = "the context is no directory".to_owned();
            let expected = "a directory as context; in a git address, `#REF:DIRECTORY`";
            reader.wrong(
                Code::Unsupported,
                &written,
                problem,
                expected,
                "context: https://example.com/app.git#main:api",
            );
            other
        }
    }
}

/// A Dockerfile that is named is looked up by the build. The default is looked
/// up here: first where docker would, in the working directory.
fn dockerfile(files: &dyn Files, named: Option<&str>, context: &ContextSource) -> DockerfileSource {
    if let Some(path) = named {
        let is_address = ["https://", "http://"].iter().any(|scheme| path.starts_with(scheme));
        return match is_address {
            true => DockerfileSource::Remote(path.to_owned()),
            false => DockerfileSource::Path(PathBuf::from(path)),
        };
    }
    let ContextSource::Directory(context) = context else { return DockerfileSource::Default };
    let here = |name: &str| files.is_file(Path::new(name));
    let below = |name: &str| files.is_file(&context.join(name));
    match () {
        () if here("Dockerfile") => DockerfileSource::Path("Dockerfile".into()),
        () if below("Dockerfile") => DockerfileSource::Default,
        () if here("Containerfile") => DockerfileSource::Path("Containerfile".into()),
        () => DockerfileSource::Default,
    }
}

fn platform(reader: &mut Reader<'_>, platforms: &[String]) -> Option<Platform> {
    if platforms.len() > 1 {
        let written = reader.settings.written(Key::Platforms);
        let problem = "not there yet: one build is for one platform";
        reader.wrong(Code::Unsupported, &written, problem, "one platform a step", "platforms: linux/amd64");
    }
    // What does not parse was reported by the normaliser.
    platforms.first().and_then(|platform| platform.parse().ok())
}

fn destinations(reader: &mut Reader<'_>, normalised: &Normalised) -> Vec<Destination> {
    let written = reader.settings.written(Key::Repo);
    let mut found = Vec::new();
    for name in &normalised.destinations {
        match name.reference().parse() {
            Ok(reference) => found.push(Destination { reference }),
            Err(error) => {
                let problem = error.to_string();
                reader.wrong(Code::Repo, &written, problem, "a repository", "registry.example.com/team/app");
            }
        }
    }
    found
}

fn outputs(reader: &Reader<'_>) -> Vec<Output> {
    let tar = reader.text(Key::TarPath).map(|path| Output::DockerArchive(Some(PathBuf::from(path))));
    let layout = reader.text(Key::OciLayoutPath).map(|path| Output::OciDirectory(PathBuf::from(path)));
    tar.into_iter().chain(layout).collect()
}

fn secrets(reader: &Reader<'_>, normalised: &Normalised) -> BTreeMap<String, SecretSource> {
    let source = |from: &SecretFrom| match from {
        SecretFrom::File(path) => SecretSource::File(PathBuf::from(path)),
        SecretFrom::Variable(name) => {
            let value = reader.environment.get(name).map(String::as_str).unwrap_or_default();
            SecretSource::Value(Secret::new(value))
        }
    };
    normalised.secrets.iter().map(|secret| (secret.id.clone(), source(&secret.from))).collect()
}

/// The agent `default` has the one key there is.
fn agents(reader: &mut Reader<'_>) -> BTreeMap<String, AgentSource> {
    let Some(given) = reader.given(Key::SshAgentKey) else { return BTreeMap::new() };
    let source = AgentSource::Key(Secret::new(given.value));
    if let Err(error) = Agent::open(&source) {
        let written = reader.settings.written(Key::SshAgentKey);
        let expected = "a private key without a passphrase, `-----BEGIN … PRIVATE KEY-----`";
        reader.wrong(
            Code::Value,
            &written,
            error.to_string(),
            expected,
            "ssh_agent_key: { from_secret: key }",
        );
    }
    BTreeMap::from([("default".to_owned(), source)])
}

fn extra_hosts(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let written = reader.settings.written(Key::AddHost);
    let mut hosts = Vec::new();
    for item in reader.list(Key::AddHost) {
        let pair = item.split_once(['=', ':']).map(|(name, address)| (name.trim(), address.trim()));
        match pair {
            Some((name, address)) if !name.is_empty() && is_address(address) => {
                hosts.push((name.to_owned(), address.trim_matches(['[', ']']).to_owned()));
            }
            _ => {
                let problem = format!("`{}` is not a host and its address", shown(&item));
                reader.wrong(Code::Value, &written, problem, "`name:address`", "db:10.0.0.5");
            }
        }
    }
    hosts
}

fn is_address(text: &str) -> bool {
    text.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use coracle::ci::{Facts, MemoryFiles};

    use super::*;
    use crate::{normalise, settings};

    fn make(pairs: &[(&str, &str)], files: &[&str], facts: &Facts) -> (Job, Vec<&'static str>) {
        let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let files = MemoryFiles(files.iter().map(|name| (name.into(), Vec::new())).collect());
        let mut findings = Findings::default();
        let raw = settings::read(&environment, &mut findings);
        let normalised = normalise::normalise(&raw, facts, &environment, &files, &mut findings);
        let job = job(normalised, &raw, &environment, &files, 86_400, &mut findings);
        let codes = findings.errors().chain(findings.warnings()).map(|f| f.code.name()).collect();
        (job, codes)
    }

    fn codes(pairs: &[(&str, &str)], expected: &[&str]) {
        let all: Vec<(&str, &str)> = [("PLUGIN_REPO", "me/app")].iter().chain(pairs).copied().collect();
        let (_, codes) = make(&all, &[], &Facts::default());
        assert_eq!(codes, expected, "{pairs:?}");
    }

    #[test]
    fn not_there_yet() {
        codes(&[("PLUGIN_SQUASH", "true")], &["E_UNSUPPORTED"]);
        codes(&[("PLUGIN_SQUASH", "false")], &[]);
        codes(&[("PLUGIN_CACHE_REPO", "me/c")], &["W_NO_EFFECT"]);
        codes(&[("PLUGIN_PLATFORMS", "linux/amd64,linux/arm64")], &["E_UNSUPPORTED"]);
        codes(&[("PLUGIN_CONTEXT", "s3://bucket")], &["E_UNSUPPORTED"]);
        codes(&[("PLUGIN_CONTEXT_SUB_PATH", "../x")], &["E_VALUE"]);
        codes(&[("PLUGIN_ISOLATION", "magic")], &["E_VALUE"]);
        codes(&[("PLUGIN_ADD_HOST", "db:10.0.0.5,six:[::1]")], &[]);
        codes(&[("PLUGIN_ADD_HOST", "db")], &["E_VALUE"]);
        codes(&[("PLUGIN_SSH_AGENT_KEY", "swordfish")], &["E_VALUE"]);
        codes(
            &[("PLUGIN_ACCESS_KEY", "k"), ("PLUGIN_USERNAME", "u"), ("PLUGIN_PASSWORD", "p")],
            &["W_NO_EFFECT"],
        );
        codes(&[("PLUGIN_ACCESS_KEY", "k")], &["E_UNSUPPORTED"]);
        codes(&[("SOURCE_DATE_EPOCH", "yesterday")], &["E_INT"]);
    }

    #[test]
    fn everything_arrives() {
        // A seed of nines; in pieces, because it looks like a secret and is none.
        let key = ["MC4CAQAwBQYDK2VwBCIEIA", "kJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ"].concat();
        let key = format!("-----BEGIN {0}-----\\n{key}\\n-----END {0}-----", "PRIVATE KEY");
        let (job, codes) = make(
            &[
                ("PLUGIN_REPO", "r.io/a"),
                ("PLUGIN_TAGS", "1,2"),
                ("PLUGIN_TARGET", "t"),
                ("PLUGIN_CONTEXT", "dir://app"),
                ("PLUGIN_CONTEXT_SUB_PATH", "sub"),
                ("PLUGIN_TAR_PATH", "out/x.tar"),
                ("PLUGIN_SECRET", "id=s,env=S"),
                ("S", "value"),
                ("PLUGIN_JSON_KEY", "{}"),
                ("PLUGIN_STATE_DIR", "/state"),
                ("PLUGIN_SSH_AGENT_KEY", &key),
            ],
            &[],
            &Facts::default(),
        );
        assert_eq!(codes, ["E_UNSUPPORTED"; 0]);
        let request = job.request;
        assert_eq!(request.context, ContextSource::Directory("app/sub".into()));
        assert_eq!(request.target.as_deref(), Some("t"));
        assert_eq!(request.destinations.len(), 2);
        assert!(request.push && request.pull && !request.dry_run);
        assert_eq!(request.outputs, [Output::DockerArchive(Some("out/x.tar".into()))]);
        assert_eq!(request.secrets["s"], SecretSource::Value(Secret::new("value")));
        assert_eq!(request.ssh["default"], AgentSource::Key(Secret::new(key)));
        assert_eq!(job.door.logins[0].username, "_json_key");
        assert_eq!(job.door.state_dir, Some("/state".into()));
    }

    #[test]
    fn contexts() {
        let check = |text: &str, expected: ContextSource, codes: &[&str]| {
            let (job, found) =
                make(&[("PLUGIN_REPO", "a"), ("PLUGIN_CONTEXT", text)], &[], &Facts::default());
            assert_eq!((job.request.context, found), (expected, codes.to_vec()), "{text}");
        };
        let remote = |text: &str| ContextSource::Remote(text.to_owned());
        check("app", ContextSource::Directory("app".into()), &[]);
        check("dir://app", ContextSource::Directory("app".into()), &[]);
        check("tar://x.tar.gz", ContextSource::Archive("x.tar.gz".into()), &[]);
        check("tar://stdin", ContextSource::Stdin, &[]);
        check("https://x.io/a.git#main:sub", remote("https://x.io/a.git#main:sub"), &[]);
        check("git://x.io/a#refs/heads/main", remote("https://x.io/a.git#refs/heads/main"), &[]);
        check("git://x.io/a.git#main#f00", remote("https://x.io/a.git#f00"), &[]);
        check("git@x.io:a.git", remote("git@x.io:a.git"), &[]);
        check("https://x.io/a.tar.gz", remote("https://x.io/a.tar.gz"), &[]);
        check("s3://bucket/x", ContextSource::Empty, &["E_UNSUPPORTED"]);
        check("https://x.io/a.git#a b", ContextSource::Empty, &["E_VALUE"]);
    }

    #[test]
    fn pairs_of_the_ci() {
        let variables = [
            ("PLUGIN_REPO", "r.gitlab.com/g/p"),
            ("CI_REGISTRY", "r.gitlab.com"),
            ("CI_REGISTRY_USER", "gitlab-ci-token"),
            ("CI_REGISTRY_PASSWORD", "t"),
            ("GITHUB_ACTOR", "a"),
            ("GITHUB_TOKEN", "t"),
        ];
        let check = |system, expected: &[(&str, &str)]| {
            let logins = make(&variables, &[], &Facts { system, ..Facts::default() }).0.door.logins;
            let found: Vec<_> = logins.iter().map(|login| (login.registry.as_str(), login.source)).collect();
            assert_eq!(found, expected, "{system}");
            assert!(logins.iter().all(|login| login.ambient));
        };
        check(System::GitLab, &[("r.gitlab.com", "CI_REGISTRY_USER")]);
        check(System::GitHub, &[("ghcr.io", "GITHUB_ACTOR")]);
        check(System::None, &[]);
    }

    #[test]
    fn default_dockerfile() {
        let check = |files: &[&str], expected: DockerfileSource| {
            let (job, _) = make(&[("PLUGIN_REPO", "a"), ("PLUGIN_CONTEXT", "c")], files, &Facts::default());
            assert_eq!(job.request.dockerfile, expected, "{files:?}");
        };
        check(&["Dockerfile", "c/Dockerfile"], DockerfileSource::Path("Dockerfile".into()));
        check(&["c/Dockerfile", "Containerfile"], DockerfileSource::Default);
        check(&["Containerfile", "c/Containerfile"], DockerfileSource::Path("Containerfile".into()));
        check(&[], DockerfileSource::Default);
    }

    #[test]
    fn automatic_labels() {
        let facts = Facts {
            sha: Some("f00".to_owned()),
            tag: Some("v1.2.3".to_owned()),
            repository_url: Some("https://g.example.com/o/r".to_owned()),
            commit_time: Some(7),
            ..Facts::default()
        };
        let labels = |pairs: &[(&str, &str)], facts: &Facts| -> BTreeMap<String, String> {
            let all: Vec<(&str, &str)> = [("PLUGIN_REPO", "a")].iter().chain(pairs).copied().collect();
            let labels = make(&all, &[], facts).0.request.default_labels;
            labels
                .into_iter()
                .map(|(k, v)| (k.trim_start_matches("org.opencontainers.image.").to_owned(), v))
                .collect()
        };
        let found = labels(&[("PLUGIN_REPO_LINK", "https://x")], &facts);
        let expected = [
            ("created", "1970-01-02T00:00:00Z"),
            ("ref.name", "v1.2.3"),
            ("revision", "f00"),
            ("source", "https://g.example.com/o/r"),
            ("url", "https://x"),
            ("version", "1.2.3"),
        ];
        assert_eq!(found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
        assert_eq!(labels(&[("PLUGIN_REPRODUCIBLE", "1")], &facts)["created"], "1970-01-01T00:00:07Z");
        assert_eq!(labels(&[("PLUGIN_TAGS", "latest,edge")], &Facts::default())["version"], "edge");
        assert!(labels(&[("PLUGIN_AUTO_LABEL", "no")], &facts).is_empty());
    }
}
