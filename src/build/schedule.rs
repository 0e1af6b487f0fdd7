//! Which stages must work, and all of them at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::error::Error;
use super::stage::{self, Site, StageResult};
use crate::plan::{CopyFrom, Mount, MountSource, Op, StageBase, StageId, Step};

/// More steps than this at once only make each other slower.
pub(super) const STEPS_AT_ONCE: usize = 8;

/// How long a failure waits for the other stages to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// Builds the target and every stage it needs; the target's result.
pub(super) async fn run(site: Arc<Site>) -> Result<Arc<StageResult>, Error> {
    let mut tasks = JoinSet::new();
    for id in demanded(&site) {
        tasks.spawn(stage::build(Arc::clone(&site), id));
    }
    let mut failure: Option<Error> = None;
    loop {
        let ended = match failure {
            None => tasks.join_next().await,
            // They notice the cancellation, but one may wait for a network.
            Some(_) => tokio::time::timeout(PATIENCE, tasks.join_next()).await.unwrap_or(None),
        };
        let error = match ended {
            None => break,
            Some(Ok(Ok(()))) => continue,
            Some(Ok(Err(error))) => error,
            Some(Err(panic)) => Error::Internal(panic.to_string()),
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
pub(super) fn describe(site: &Site) {
    let demanded = demanded(site);
    for id in &demanded {
        let stage = site.stage(*id);
        for (position, step) in stage.steps.iter().enumerate() {
            let known = matches!(step.op, Op::Config) || site.known.step(*id, position).is_some();
            let state = if known { "known" } else { "to do" };
            site.reporter.info(format!("{} {state}", stage::label(stage, position, step)));
        }
    }
    let unused = site.plan.stages.len() - demanded.len();
    if unused > 0 {
        site.reporter.info(format!("stages not needed, because what reads them is known: {unused}"));
    }
}

/// The target, the stages that demanded stages are based on, and those that
/// their unknown steps read.
fn demanded(site: &Site) -> BTreeSet<StageId> {
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
            if site.known.step(id, position).is_none() {
                open.extend(stages_read(step));
            }
        }
    }
    demanded
}

/// The stages that a step copies from or mounts.
pub(super) fn stages_read(step: &Step) -> Vec<StageId> {
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
