//! Dockerfile text in, a compact text of the plan out.
//!
//! [`Case`] holds the options; its `plan`, `config`, `run`, `history` … each compare
//! one aspect, so that a row is one line of Dockerfile and one of expectation.

mod copying;
mod errors;
mod keys;
mod metadata;
mod random;
mod requests;
mod running;
mod stages;
mod variables;

use super::*;
use crate::dockerfile::{Diagnostic, Severity, parse};
use crate::image::{Digest, ImageConfig, Platform, Reference};

/// A build to plan.
struct Case {
    options: Options,
}

impl Default for Case {
    fn default() -> Self {
        let platform = platform("linux/amd64");
        Self {
            options: Options {
                target: None,
                build_args: Default::default(),
                platform: platform.clone(),
                build_platform: platform,
                named_contexts: Default::default(),
                labels: Vec::new(),
                default_labels: Vec::new(),
                proxy_args: Vec::new(),
                network: Network::Default,
                host_network: true,
            },
        }
    }
}

impl Case {
    fn arg(mut self, name: &str, value: &str) -> Self {
        self.options.build_args.insert(name.to_owned(), value.to_owned());
        self
    }

    fn target(mut self, name: &str) -> Self {
        self.options.target = Some(name.to_owned());
        self
    }

    fn context(mut self, name: &str, context: NamedContext) -> Self {
        self.options.named_contexts.insert(name.to_owned(), context);
        self
    }

    fn try_resolve(&self, text: &str) -> Result<(BuildPlan, Vec<Diagnostic>), PlanError> {
        let parsed = parse("Dockerfile", text.as_bytes());
        let errors: Vec<_> = parsed.diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "the parser refuses the test's text: {errors:?}\n{text}");
        resolve(&parsed.dockerfile, &self.options, &bases())
    }

    fn resolve(&self, text: &str) -> BuildPlan {
        self.try_resolve(text).unwrap_or_else(|error| panic!("{error:?}\n{text}")).0
    }

    /// Stages, bases and steps.
    #[track_caller]
    fn plan(&self, text: &str, expected: &str) {
        let plan = self.resolve(text);
        let mut lines = Vec::new();
        for stage in &plan.stages {
            lines.push(format!("{} from {}", stage.name, dump::base(stage, &plan)));
            lines.extend(stage.steps.iter().filter_map(|step| Some(format!("  {}", dump::op(step, &plan)?))));
        }
        let target = &plan.stages[plan.target.0].name;
        if plan.target.0 + 1 != plan.stages.len() {
            lines.push(format!("target {target}"));
        }
        lines.extend(plan.images.iter().map(|(image, platform)| format!("reads {image} {platform}")));
        lines.extend(plan.contexts.iter().map(|name| format!("reads context {name}")));
        assert_eq!(lines.join("\n"), unindent(expected), "\n{text}");
    }

    /// The last step that does something.
    #[track_caller]
    fn last(&self, text: &str, expected: &str) {
        let plan = self.resolve(text);
        let steps = &plan.stages[plan.target.0].steps;
        let found = steps.iter().rev().find_map(|step| dump::op(step, &plan));
        assert_eq!(found.as_deref(), Some(expected), "\n{text}");
    }

    /// One field of the target's config, as it is in JSON; `-` where it is missing.
    #[track_caller]
    fn config(&self, text: &str, field: &str, expected: &str) {
        let plan = self.resolve(text);
        let bytes = plan.stages[plan.target.0].config.to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let found = json["config"].get(field).or(json.get(field)).map(|value| value.to_string());
        assert_eq!(found.as_deref().unwrap_or("-"), expected, "{field}\n{text}");
    }

    /// `created_by` of the last step; `+` in front where it makes a layer.
    #[track_caller]
    fn history(&self, text: &str, expected: &str) {
        let plan = self.resolve(text);
        let step = plan.stages[plan.target.0].steps.last().unwrap();
        let mark = if step.history.empty_layer { "" } else { "+ " };
        assert_eq!(format!("{mark}{}", step.history.created_by), expected, "\n{text}");
        assert_eq!(step.history.comment, "buildkit.dockerfile.v0");
    }

    /// Errors as `line:column message`.
    #[track_caller]
    fn refused(&self, text: &str, expected: &[&str]) {
        let found = match self.try_resolve(text) {
            Ok(_) => Vec::new(),
            Err(PlanError::Diagnostics(all)) => said(&all, Severity::Error),
            Err(other) => vec![other.to_string()],
        };
        assert_eq!(found, expected, "\n{text}");
    }

    /// Warnings as `line Check message`.
    #[track_caller]
    fn warned(&self, text: &str, expected: &[&str]) {
        let (_, warnings) = self.try_resolve(text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        let found: Vec<String> = warnings
            .iter()
            .map(|d| format!("{} {} {}", d.span.start.line, d.check.unwrap_or_default(), d.message))
            .collect();
        assert_eq!(found, expected, "\n{text}");
    }
}

fn said(diagnostics: &[Diagnostic], severity: Severity) -> Vec<String> {
    let wanted = diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity);
    wanted.map(|d| format!("{}:{} {}", d.span.start.line, d.span.start.column, d.message)).collect()
}

fn unindent(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let indent = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines.iter().map(|line| line[indent..].trim_end()).collect::<Vec<_>>().join("\n")
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// The images of the tests, for two platforms.
fn bases() -> Bases {
    let configs = [
        ("debian", r#"{"Env":["PATH=/bin","LANG=C"],"Cmd":["bash"]}"#),
        ("bare", "{}"),
        (
            "app",
            r#"{"User":"app","Env":["PATH=/p","V=base"],"WorkingDir":"/srv/","Entrypoint":["/e"],"Cmd":["c"],
                "Labels":{"from":"base","ci":"base"},"ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"StopSignal":"SIGINT",
                "Shell":["/bin/bash","-ec"],"Healthcheck":{"Test":["NONE"]}}"#,
        ),
        (
            "trigger",
            r#"{"Env":["PATH=/p"],"OnBuild":["ENV T=1","COPY --from=tools /t /t","RUN --mount=from=extra,target=/x make"]}"#,
        ),
        ("badtrigger", r#"{"OnBuild":["COPPY a b","STOPSIGNAL nope"]}"#),
    ];
    let mut bases = Bases::new();
    for (name, config) in configs {
        for text in ["linux/amd64", "linux/arm64"] {
            let platform = platform(text);
            let (os, architecture) = text.split_once('/').unwrap();
            let json = format!(
                r#"{{"created":"2024-01-01T00:00:00Z","architecture":"{architecture}","os":"{os}","config":{config},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
            );
            let config = ImageConfig::parse(json.as_bytes()).unwrap();
            let digest = Digest::of(format!("{name} {text}"));
            bases.insert((reference(name), platform), BaseImage { digest, config });
        }
    }
    bases
}

/// Short texts of plan parts.
mod dump {
    use super::*;

    pub(super) fn base(stage: &Stage, plan: &BuildPlan) -> String {
        match &stage.base {
            StageBase::Scratch => "scratch".to_owned(),
            StageBase::Image { reference, platform, .. } => format!("{} {platform}", short(reference)),
            StageBase::Stage(id) => plan.stages[id.0].name.clone(),
        }
    }

    fn short(reference: &Reference) -> String {
        let text = reference.to_string();
        let text = text.strip_prefix("docker.io/library/").unwrap_or(&text);
        text.strip_suffix(":latest").unwrap_or(text).to_owned()
    }

    /// `None` for steps that change the config only.
    pub(super) fn op(step: &Step, plan: &BuildPlan) -> Option<String> {
        match &step.op {
            Op::Config => None,
            Op::Workdir(WorkdirOp { path, user }) => Some(format!("WORKDIR {path} user={user}")),
            Op::Run(op) => Some(run(op, plan)),
            Op::Copy(op) => Some(copy(op, plan)),
        }
    }

    fn run(run: &RunOp, plan: &BuildPlan) -> String {
        let mut words = vec![format!("RUN {:?}", run.argv)];
        // PATH is everywhere; what else there is matters.
        let env: Vec<String> =
            run.env.iter().filter(|(n, _)| n != "PATH").map(|(n, v)| format!("{n}={v}")).collect();
        if !env.is_empty() {
            words.push(format!("env[{}]", env.join(" ")));
        }
        if !run.hidden_env.is_empty() {
            let hidden: Vec<String> = run.hidden_env.iter().map(|(n, v)| format!("{n}={v}")).collect();
            words.push(format!("hidden[{}]", hidden.join(" ")));
        }
        if run.cwd != "/" {
            words.push(format!("cwd={}", run.cwd));
        }
        if !run.user.is_empty() {
            words.push(format!("user={}", run.user));
        }
        words.extend(run.mounts.iter().map(|m| mount(m, plan)));
        if run.network != Network::Default {
            words.push(format!("network={:?}", run.network));
        }
        words.extend(run.scripts.iter().map(|(name, body)| format!("script({name} {body:?})")));
        words.extend(
            run.secret_env.iter().map(|(name, id, required)| format!("secret({name} {id} {required})")),
        );
        words.join(" ")
    }

    fn mount_source(source: &MountSource, plan: &BuildPlan) -> String {
        match source {
            MountSource::Context => "context".to_owned(),
            MountSource::Stage(id) => plan.stages[id.0].name.clone(),
            MountSource::Image(reference) => format!("image:{}", short(reference)),
            MountSource::Named(name) => format!("named:{name}"),
            MountSource::Empty => "empty".to_owned(),
        }
    }

    fn mount(mount: &Mount, plan: &BuildPlan) -> String {
        match mount {
            Mount::Bind(BindMount { from, source, target, writable }) => {
                let mode = if *writable { "rw" } else { "ro" };
                format!("bind({}:{source} {target} {mode})", mount_source(from, plan))
            }
            Mount::Cache(CacheMount { id, target, from, source, sharing, readonly, mode, uid, gid }) => {
                let ro = if *readonly { " ro" } else { "" };
                format!(
                    "cache({id} {target} {}:{source} {sharing:?} {mode:o} {uid}:{gid}{ro})",
                    mount_source(from, plan)
                )
            }
            Mount::Tmpfs(TmpfsMount { target, size }) => format!("tmpfs({target} {size:?})"),
            Mount::Secret(SecretMount { id, target, required, mode, uid, gid }) => {
                format!("secret({id} {target} {required} {mode:o} {uid}:{gid})")
            }
            Mount::Ssh(SshMount { id, target, required, mode, uid, gid }) => {
                format!("ssh({id} {target:?} {required} {mode:o} {uid}:{gid})")
            }
        }
    }

    fn copy(copy: &CopyOp, plan: &BuildPlan) -> String {
        let mut words = vec![if copy.add.is_some() { "ADD" } else { "COPY" }.to_owned()];
        match &copy.from {
            CopyFrom::Context => {}
            CopyFrom::Stage(id) => words.push(format!("from={}", plan.stages[id.0].name)),
            CopyFrom::Image(reference) => words.push(format!("from=image:{}", short(reference))),
            CopyFrom::Named(name) => words.push(format!("from=named:{name}")),
        }
        words.extend(copy.chown.iter().map(|chown| format!("chown={chown}")));
        words.extend(copy.chmod.iter().map(|chmod| match chmod {
            Chmod::Octal(mode) => format!("chmod={mode:04o}"),
            Chmod::Symbolic(text) => format!("chmod={text}"),
        }));
        words.extend(copy.link.then(|| "link".to_owned()));
        words.extend(copy.parents.then(|| "parents".to_owned()));
        words.extend(copy.exclude.iter().map(|pattern| format!("exclude={pattern}")));
        if let Some(AddOptions { checksum, keep_git_dir, unpack }) = &copy.add {
            words.extend(checksum.iter().map(|checksum| format!("checksum={}", &checksum[..12])));
            words.extend(keep_git_dir.then(|| "keep-git-dir".to_owned()));
            words.extend(unpack.map(|unpack| format!("unpack={unpack}")));
        }
        words.extend(copy.sources.iter().map(|source| match source {
            CopySource::Path(path) => format!("{path:?}"),
            CopySource::Inline { name, content } => format!("<<{name} {content:?}"),
            CopySource::Http(url) => format!("http({url})"),
            CopySource::Git(url) => format!("git({url})"),
        }));
        format!("{} -> {}", words.join(" "), copy.destination)
    }
}
