//! What can be asked about a Dockerfile besides building it: BuildKit's
//! sub-requests `check`, `outline` and `targets`. What rests on the config of a base
//! image is not judged where that config is not given.

mod args;

use super::graph::Reach;
use super::options::{Bases, Options, PlanError};
use super::report::{self, Report};
use super::resolve::Drafted;
use super::{BuildPlan, CopyFrom, CopySource, Mount, Op, Step};
use crate::dockerfile::{Checks, Diagnostic, Dockerfile, Span, Stage};
use crate::image::{Platform, Reference};

/// What a check of the plan says.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Errors and warnings, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
    /// What COPY and ADD read from the build context, for `CopyIgnoredFile`.
    pub context_sources: Vec<ContextSource>,
}

/// A path or pattern in the build context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextSource {
    /// As expanded.
    pub path: String,
    /// The instruction.
    pub span: Span,
}

/// Which checks are wanted: the build argument wins over the directive.
pub fn checks(dockerfile: &Dockerfile, options: &Options) -> Checks {
    report::checks(dockerfile, options, &mut Report::default())
}

fn reach(options: &Options) -> Reach {
    let has_target = options.target.as_ref().is_some_and(|target| !target.is_empty());
    if has_target { Reach::Target } else { Reach::Everything }
}

/// The images that a check wants to know the configs of, given those it
/// knows. A Dockerfile that is wrong may want fewer.
pub fn images_to_check(
    dockerfile: &Dockerfile,
    options: &Options,
    known: &Bases,
) -> Vec<(Reference, Platform)> {
    let drafted = Drafted::of(dockerfile, options, known, reach(options), &mut Report::default());
    let wanted = drafted.map(|drafted| drafted.stage_images()).unwrap_or_default();
    wanted.into_iter().filter(|image| !known.contains_key(image)).collect()
}

/// Looks into the stages that the target needs; without a target into all.
pub fn lint(dockerfile: &Dockerfile, options: &Options, known: &Bases) -> Findings {
    let mut report = Report::default();
    let checks = report::checks(dockerfile, options, &mut report);
    let mut findings = Findings::default();
    match Drafted::of(dockerfile, options, known, reach(options), &mut report) {
        Ok(drafted) => {
            let steps = drafted.drafts.values().flat_map(|draft| &draft.steps);
            findings.context_sources = steps.flat_map(context_sources).collect();
        }
        Err(PlanError::Diagnostics(wrong)) => wrong.into_iter().for_each(|wrong| report.push(wrong)),
        Err(other) => report.error(Span::default(), other.to_string()),
    }
    findings.diagnostics = report.finish(&checks).unwrap_or_else(|all| all);
    findings
}

impl BuildPlan {
    /// What the stages of the plan read from the build context.
    pub fn context_sources(&self) -> Vec<ContextSource> {
        self.stages.iter().flat_map(|stage| &stage.steps).flat_map(context_sources).collect()
    }
}

/// What a COPY or ADD reads from the build context.
fn context_sources(step: &Step) -> Vec<ContextSource> {
    let Op::Copy(op) = &step.op else { return Vec::new() };
    if op.from != CopyFrom::Context {
        return Vec::new();
    }
    let span = step.span.unwrap_or(step.from_span);
    let path = |source: &CopySource| match source {
        CopySource::Path(path) => Some(ContextSource { path: path.clone(), span }),
        _ => None,
    };
    op.sources.iter().filter_map(path).collect()
}

/// `--call=outline`: what the target takes from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The target's name, where it has one.
    pub name: Option<String>,
    /// The comment above its FROM.
    pub description: Option<String>,
    /// ARGs that count, with the values they have.
    pub args: Vec<ArgSummary>,
    /// Secrets.
    pub secrets: Vec<GivenSummary>,
    /// SSH agents.
    pub ssh: Vec<GivenSummary>,
    /// Cache mounts.
    pub caches: Vec<CacheSummary>,
}

/// An ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgSummary {
    /// Its name.
    pub name: String,
    /// The comment above it.
    pub description: Option<String>,
    /// What it is in this build.
    pub value: Option<String>,
    /// The instruction.
    pub span: Span,
}

/// A secret or agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenSummary {
    /// Its id.
    pub id: String,
    /// Whether a RUN fails without it.
    pub required: bool,
    /// The first RUN that mounts it.
    pub span: Span,
}

/// A cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSummary {
    /// Its id.
    pub id: String,
    /// The first RUN that mounts it.
    pub span: Span,
}

/// Tells what the target takes from outside.
///
/// # Errors
/// The mistakes that [`outline`](super::outline) would say.
pub fn summary(dockerfile: &Dockerfile, options: &Options) -> Result<Summary, PlanError> {
    let mut report = Report::default();
    let drafted = Drafted::of(dockerfile, options, &Bases::new(), Reach::Target, &mut report)?;
    report.finish(&Checks::default()).map_err(PlanError::Diagnostics)?;
    let target = &drafted.graph.nodes[drafted.graph.target];
    let mut summary = Summary {
        name: target.ast.from.name.as_ref().map(|name| name.text.clone()),
        description: stage_description(target.ast),
        ..Summary::default()
    };
    summary.args = args::used(dockerfile, options, &drafted);
    for step in drafted.drafts.values().flat_map(|draft| &draft.steps) {
        take_mounts(&mut summary, step);
    }
    Ok(summary)
}

fn take_mounts(summary: &mut Summary, step: &Step) {
    let Op::Run(op) = &step.op else { return };
    let span = step.span.unwrap_or(step.from_span);
    for (_, id, required) in &op.secret_env {
        give(&mut summary.secrets, id, *required, span);
    }
    for mount in &op.mounts {
        match mount {
            Mount::Secret(secret) => give(&mut summary.secrets, &secret.id, secret.required, span),
            Mount::Ssh(ssh) => give(&mut summary.ssh, &ssh.id, ssh.required, span),
            Mount::Cache(cache) if summary.caches.iter().all(|known| known.id != cache.id) => {
                summary.caches.push(CacheSummary { id: cache.id.clone(), span });
            }
            Mount::Cache(_) | Mount::Bind(_) | Mount::Tmpfs(_) => {}
        }
    }
}

fn give(list: &mut Vec<GivenSummary>, id: &str, required: bool, span: Span) {
    match list.iter_mut().find(|known| known.id == id) {
        Some(known) => known.required |= required,
        None => list.push(GivenSummary { id: id.to_owned(), required, span }),
    }
}

/// `--call=targets`: a stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSummary {
    /// Its name; stages without one cannot be asked for, but the last is built anyway.
    pub name: Option<String>,
    /// The comment above its FROM.
    pub description: Option<String>,
    /// The image or stage it starts from, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// Built when no target is named.
    pub is_default: bool,
    /// The FROM line.
    pub span: Span,
}

/// All stages, in order.
pub fn targets(dockerfile: &Dockerfile) -> Vec<TargetSummary> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let stages = dockerfile.stages.iter().enumerate();
    let target = |(index, stage): (usize, &Stage)| TargetSummary {
        name: stage.from.name.as_ref().map(|name| name.text.to_lowercase()),
        description: stage_description(stage),
        base: stage.from.image.text.clone(),
        platform: stage.from.platform.as_ref().map(|platform| platform.text.clone()),
        is_default: index == last,
        span: stage.from.span,
    };
    stages.map(target).collect()
}

fn stage_description(stage: &Stage) -> Option<String> {
    described(stage.from.comment.as_deref(), &stage.from.name.as_ref()?.text)
}

/// `# name what it is` → `what it is`.
pub(super) fn described(comment: Option<&str>, name: &str) -> Option<String> {
    let line = |line: &str| {
        let (first, rest) = line.trim().split_once(' ')?;
        first.eq_ignore_ascii_case(name).then(|| rest.trim().to_owned())
    };
    comment?.lines().find_map(line)
}
