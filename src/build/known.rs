//! What the recipe keys know before anything runs.
//!
//! Answered once, at the start, so that the schedule and the stages agree on
//! what has to work. An answer counts only behind answers: where an earlier step
//! of the stage, or the stage it stands on, works again, its layers may be others
//! than those that the later recipe keys were stored with, and the content key
//! decides. The same goes for whatever reads a stage that must not use the cache.

use super::error::Error;
use super::inputs::StageKeys;
use super::schedule::stages_read;
use super::stage::Made;
use crate::image::Digest;
use crate::plan::{BuildPlan, Op, StageBase, StageId, Step};

/// The known results of every stage's steps, by position.
pub(super) struct Known(Vec<Vec<Option<Made>>>);

impl Known {
    /// Asks `look_up` for every recipe key that may be asked; `uncached` says by
    /// stage whether it must not use the cache.
    pub(super) fn ask(
        plan: &BuildPlan,
        keys: &[StageKeys],
        uncached: &[bool],
        look_up: &dyn Fn(&Digest) -> Result<Option<Made>, Error>,
    ) -> Result<Self, Error> {
        // A stage stands on and reads earlier ones only.
        let mut renewed: Vec<bool> = Vec::with_capacity(plan.stages.len());
        let mut complete: Vec<bool> = Vec::with_capacity(plan.stages.len());
        let mut known = Vec::with_capacity(plan.stages.len());
        for (number, stage) in plan.stages.iter().enumerate() {
            let below = match stage.base {
                StageBase::Stage(StageId(below)) => (renewed[below], complete[below]),
                _ => (false, true),
            };
            let reads_renewed =
                |step: &Step| stages_read(step).into_iter().any(|StageId(read)| renewed[read]);
            let mut open = below.1 && !below.0 && !uncached[number];
            let mut answers = Vec::with_capacity(stage.steps.len());
            for (step, key) in stage.steps.iter().zip(&keys[number].steps) {
                if matches!(step.op, Op::Config) {
                    answers.push(None);
                    continue;
                }
                let answer = if open && !reads_renewed(step) { look_up(key.as_digest())? } else { None };
                open = answer.is_some();
                answers.push(answer);
            }
            renewed.push(uncached[number] || below.0 || stage.steps.iter().any(reads_renewed));
            complete.push(open);
            known.push(answers);
        }
        Ok(Self(known))
    }

    /// The result of a step, if it is known.
    pub(super) fn step(&self, StageId(stage): StageId, position: usize) -> Option<&Made> {
        self.0[stage][position].as_ref()
    }
}
