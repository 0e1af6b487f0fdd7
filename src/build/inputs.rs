//! The digests of what steps read from outside, and the recipe keys that follow.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bases::Bases;
use super::error::{Error, StepError};
use super::outside::Outside;
use crate::context::{self, DirectoryContext, Owners, SelectOptions, Selection, SourceTree};
use crate::image::{Digest, Platform};
use crate::plan::{
    self, BuildPlan, CopyFrom, CopyOp, CopySource, Mount, MountSource, Op, RunOp, StageBase, StageId, Step,
    StepKey,
};

/// The recipe keys of one stage: one per step, and the last one's.
#[derive(Clone, Debug)]
pub(super) struct StageKeys {
    pub(super) steps: Vec<StepKey>,
    pub(super) last: StepKey,
}

/// Recipe keys of every step of the plan, stage by stage.
///
/// # Errors
/// When a source that a COPY names is not in the context: nothing has run yet.
pub(super) fn recipe_keys(
    plan: &BuildPlan,
    bases: &Bases,
    contexts: &Contexts,
    draw: &dyn Fn(&Step, StepError) -> Error,
) -> Result<Vec<StageKeys>, Error> {
    let mut keys: Vec<StageKeys> = Vec::with_capacity(plan.stages.len());
    for stage in &plan.stages {
        let mut parent = match (&stage.base, plan::base_key(&stage.base)) {
            (StageBase::Stage(id), _) => keys[id.0].last,
            (_, Some(key)) => key,
            (_, None) => unreachable!("only a stage based on a stage has no key of its own"),
        };
        let mut steps = Vec::with_capacity(stage.steps.len());
        for step in &stage.steps {
            let inputs = Inputs { bases, contexts, keys: &keys };
            let digests = inputs.of_step(step).map_err(|error| draw(step, error))?;
            let key = plan::recipe_key(&parent, step, &digests);
            if !matches!(step.op, Op::Config) {
                parent = key;
            }
            steps.push(key);
        }
        keys.push(StageKeys { steps, last: parent });
    }
    Ok(keys)
}

/// The directories that steps read.
pub(super) struct Contexts {
    pub(super) main: Option<Arc<DirectoryContext>>,
    /// `--build-context name=directory`.
    pub(super) named: BTreeMap<String, Arc<DirectoryContext>>,
    /// What ADD reads from elsewhere.
    pub(super) outside: Outside,
    /// What images of `--from` are for.
    pub(super) platform: Platform,
    /// Of what RUN finds around it, where that is not the usual.
    pub(super) surroundings: Option<Digest>,
}

impl Contexts {
    fn named(&self, name: &str) -> Result<&Arc<DirectoryContext>, StepError> {
        self.named.get(name).ok_or_else(no_context)
    }
}

struct Inputs<'a> {
    bases: &'a Bases,
    contexts: &'a Contexts,
    keys: &'a [StageKeys],
}

impl Inputs<'_> {
    fn of_step(&self, step: &Step) -> Result<Vec<Digest>, StepError> {
        match &step.op {
            Op::Copy(op) => self.of_copy(op),
            Op::Run(op) => self.of_run(op),
            Op::Workdir(_) | Op::Config => Ok(Vec::new()),
        }
    }

    fn of_copy(&self, op: &CopyOp) -> Result<Vec<Digest>, StepError> {
        let mut digests = self.of_tree(op)?;
        digests.extend(self.contexts.outside.digests(op));
        Ok(digests)
    }

    fn of_tree(&self, op: &CopyOp) -> Result<Vec<Digest>, StepError> {
        match &op.from {
            CopyFrom::Context => match &self.contexts.main {
                Some(context) => {
                    digest_sources(context.as_ref(), op, Owners::Ignore).map(|digest| vec![digest])
                }
                None if !op.sources.iter().any(|source| matches!(source, CopySource::Path(_))) => {
                    Ok(Vec::new())
                }
                None => Err(no_context()),
            },
            CopyFrom::Stage(id) => Ok(vec![self.stage(*id)]),
            CopyFrom::Image(reference) => Ok(vec![self.image(reference)]),
            CopyFrom::Named(name) => {
                let context = self.contexts.named(name)?;
                digest_sources(context.as_ref(), op, Owners::Ignore).map(|digest| vec![digest])
            }
        }
    }

    fn of_run(&self, op: &RunOp) -> Result<Vec<Digest>, StepError> {
        let mut digests = Vec::from_iter(self.contexts.surroundings);
        for mount in &op.mounts {
            // What a cache mount holds never counts: it may be empty at any time.
            let Mount::Bind(bind) = mount else { continue };
            digests.push(match &bind.from {
                MountSource::Context => {
                    context_below(self.contexts.main.as_deref().ok_or_else(no_context)?, &bind.source)?
                }
                MountSource::Stage(id) => self.stage(*id),
                MountSource::Image(reference) => self.image(reference),
                MountSource::Named(name) => context_below(self.contexts.named(name)?, &bind.source)?,
                MountSource::Empty => Digest::of("empty"),
            });
        }
        Ok(digests)
    }

    fn stage(&self, id: StageId) -> Digest {
        *self.keys[id.0].last.as_digest()
    }

    fn image(&self, reference: &crate::image::Reference) -> Digest {
        let key = (reference.clone(), self.contexts.platform.clone());
        self.bases.configs.get(&key).map_or_else(|| Digest::of(reference.to_string()), |base| base.digest)
    }
}

fn context_below(context: &DirectoryContext, source: &str) -> Result<Digest, StepError> {
    let selection =
        context::select(context, &[source], &SelectOptions::default()).map_err(StepError::Source)?;
    context::digest(context, &selection, Owners::Ignore).map_err(StepError::Source)
}

/// A COPY or mount of a context that is not there.
pub(super) fn no_context() -> StepError {
    StepError::Unsupported("there is no build context to read from".to_owned())
}

/// The digest of everything a COPY reads from `tree`: its content key's input,
/// and for the build context its recipe key's too.
pub(super) fn digest_sources(
    tree: &dyn SourceTree,
    op: &CopyOp,
    owners: Owners,
) -> Result<Digest, StepError> {
    match pick(tree, op)? {
        Some(selection) => context::digest(tree, &selection, owners).map_err(StepError::Source),
        None => Ok(Digest::of("inline only")),
    }
}

/// What the paths and patterns of a COPY find; `None` when it has none.
pub(super) fn pick(tree: &dyn SourceTree, op: &CopyOp) -> Result<Option<Selection>, StepError> {
    let path = |source: &CopySource| match source {
        CopySource::Path(pattern) => Some(pattern.clone()),
        CopySource::Inline { .. } | CopySource::Http(_) | CopySource::Git(_) => None,
    };
    let patterns: Vec<String> = op.sources.iter().filter_map(path).collect();
    if patterns.is_empty() {
        return Ok(None);
    }
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let options = SelectOptions { exclude: op.exclude.clone(), parents: op.parents };
    context::select(tree, &patterns, &options).map(Some).map_err(StepError::Source)
}
