//! RUN as a step: a tree, a sandbox, and what changed.

use std::sync::Arc;

use super::error::{Error, StepError};
use super::material::blocking;
use super::mounts;
use super::run::{self, Lines};
use super::stage::{Made, Work, step_failed};
use super::tree::LayersTree;
use crate::layer::PackedLayer;
use crate::plan::{RunOp, Step};
use crate::progress::StepId;
use crate::rootfs::Rootfs;
use crate::sandbox::Exit;

/// How a RUN ended, with its last lines.
struct Ended {
    exit: Exit,
    tail: Vec<String>,
    /// Its layer and tree, when it succeeded.
    packed: Option<(PackedLayer, Rootfs)>,
}

/// Runs the step and keeps what it made.
pub(super) async fn run(
    work: &mut Work,
    step: &Step,
    op: &RunOp,
    sources: &mounts::Sources,
    event: StepId,
) -> Result<Made, Error> {
    let ended = match perform(work, op, sources, event).await {
        Ok(ended) => ended,
        Err(error) => return Err(work.failed(step, error)),
    };
    match (ended.exit, ended.packed) {
        (Exit::Code(0), Some((packed, rootfs))) => {
            keep(work, packed, rootfs).map_err(|error| work.failed(step, error))
        }
        (exit, _) => Err(broken(work, step, exit, &ended.tail)),
    }
}

fn broken(work: &Work, step: &Step, exit: Exit, tail: &[String]) -> Error {
    if work.site.cancel.is_cancelled() {
        return Error::Cancelled;
    }
    let source = match exit {
        Exit::Code(code) => StepError::ExitCode(code),
        Exit::Signal(signal) => StepError::Signal(signal),
    };
    Error::Step { place: work.site.place(step, step_failed(step), tail), source: Box::new(source) }
}

async fn perform(
    work: &mut Work,
    op: &RunOp,
    sources: &mounts::Sources,
    event: StepId,
) -> Result<Ended, StepError> {
    work.site.sandbox.ready().map_err(StepError::Sandbox)?;
    let trees = work.site.materials.trees(&work.chain).await?;
    let scratch = work.scratch(event)?;
    let prepared = mounts::prepare(work, op, sources, &scratch).await?;
    let writer = work.writer()?;
    let (site, op, previous) = (Arc::clone(&work.site), op.clone(), work.rootfs.take());
    blocking(move || {
        let key = &site.materials.record_key;
        let mut rootfs =
            Rootfs::prepare(&site.storage, &trees, &scratch, key, previous).map_err(StepError::Rootfs)?;
        let view = LayersTree::of_trees("this stage".to_owned(), &trees);
        let mut spec = run::spec(&op, &view, rootfs.root(), &site.surroundings, prepared.specs)?;
        spec.record_key = Some(key.clone());
        let mut lines = Lines::new(Arc::clone(&site.reporter), event);
        let (cancel, watch) = (site.cancel.clone(), site.quota.watch());
        let should_end = || cancel.is_cancelled() || watch.is_passed();
        let ended = site.sandbox.run(&spec, &mut |stream, chunk| lines.take(stream, chunk), &should_end);
        site.quota.check()?;
        let exit = ended.map_err(StepError::Sandbox)?;
        drop((prepared.held, prepared.agents));
        let tail = lines.finish();
        let packed = match exit {
            Exit::Code(0) => Some(rootfs.pack(writer).map_err(StepError::Rootfs)?),
            _ => None,
        };
        Ok(Ended { exit, tail, packed: packed.map(|packed| (packed, rootfs)) })
    })
    .await
}

fn keep(work: &mut Work, packed: PackedLayer, mut rootfs: Rootfs) -> Result<Made, StepError> {
    let diff_id = packed.layer.diff_id;
    let made = work.keep(packed)?;
    if let Some(tree) = rootfs.take_tree() {
        work.site.materials.store.adopt_tree(&tree, &diff_id).map_err(StepError::Store)?;
    }
    work.rootfs = Some(rootfs);
    Ok(made)
}
