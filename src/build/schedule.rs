//! Which stages must work, and all of them at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::error::Error;
use super::stage::{self, Site, StageResult};
use crate::plan::{CopyFrom, Mount, MountSource, Op, StageBase, StageId, Step};

/// More steps than this at once only make each other slower.
pub(super) const STEPS_AT_ONCE: usize = 8;

/// Builds the target and every stage it needs; the target's result.
pub(super) async fn run(site: Arc<Site>) -> Result<Arc<StageResult>, Error> {
    let mut tasks = JoinSet::new();
    for id in demanded(&site)? {
        tasks.spawn(stage::build(Arc::clone(&site), id));
    }
    let mut failure: Option<Error> = None;
    while let Some(ended) = tasks.join_next().await {
        let error = match ended {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(panic) => Error::Internal(panic.to_string()),
        };
        // The first failure stops the others; what they say then is an echo of it.
        site.cancel.cancel();
        if failure.as_ref().is_none_or(|known| matches!(known, Error::Cancelled)) {
            failure = Some(error);
        }
    }
    match failure {
        Some(error) => Err(error),
        None => site.result(site.plan.target).await.map_err(|_| Error::Cancelled),
    }
}

/// Says what a build would do, step by step.
pub(super) fn describe(site: &Site) -> Result<(), Error> {
    let demanded = demanded(site)?;
    for id in &demanded {
        let stage = site.stage(*id);
        for (position, step) in stage.steps.iter().enumerate() {
            let state = match matches!(step.op, Op::Config) || site.knows(*id, position)? {
                true => "known",
                false => "to do",
            };
            site.reporter.info(format!("{} {state}", stage::label(stage, position, step)));
        }
    }
    let unused = site.plan.stages.len() - demanded.len();
    if unused > 0 {
        site.reporter.info(format!("stages not needed, because what reads them is known: {unused}"));
    }
    Ok(())
}

/// The target, the stages that demanded stages are based on, and those that
/// their unknown steps read.
fn demanded(site: &Site) -> Result<BTreeSet<StageId>, Error> {
    let mut demanded = BTreeSet::new();
    let mut open = vec![site.plan.target];
    while let Some(id) = open.pop() {
        if !demanded.insert(id) {
            continue;
        }
        let stage = site.stage(id);
        if let StageBase::Stage(below) = stage.base {
            open.push(below);
        }
        for (position, step) in stage.steps.iter().enumerate() {
            let read = stages_read(step);
            if !read.is_empty() && !site.knows(id, position)? {
                open.extend(read);
            }
        }
    }
    Ok(demanded)
}

fn stages_read(step: &Step) -> Vec<StageId> {
    match &step.op {
        Op::Copy(op) => match op.from {
            CopyFrom::Stage(id) => vec![id],
            _ => Vec::new(),
        },
        Op::Run(op) => op.mounts.iter().filter_map(mounted_stage).collect(),
        Op::Workdir(_) | Op::Config => Vec::new(),
    }
}

fn mounted_stage(mount: &Mount) -> Option<StageId> {
    let from = match mount {
        Mount::Bind(bind) => &bind.from,
        Mount::Cache(cache) => &cache.from,
        Mount::Tmpfs(_) | Mount::Secret(_) | Mount::Ssh(_) => return None,
    };
    match from {
        MountSource::Stage(id) => Some(*id),
        _ => None,
    }
}
