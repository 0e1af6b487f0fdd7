//! From a syntax tree to a graph of steps. Pure: no disk, no network.
//!
//! In two halves, because `ENV PATH=$PATH:/x` needs the base image's
//! environment and ONBUILD sits in its config: [`outline`] says which stages
//! the target needs and which bases those need; the conductor fetches their
//! configs; [`resolve`] finishes the plan. Variables are expanded here and
//! never later.
//!
//! ```text
//! Dockerfile + Options ─ globals ─→ graph ─→ drafts, one per needed stage ─→ BuildPlan
//!                        ARG, FROM           metadata · run · mount · copy    key: names of results
//! ```
//!
//! Mistakes are collected, with their places, and come all at once. What each
//! instruction means is what BuildKit's Dockerfile frontend 1.26 makes of it.

mod check;
mod copy;
mod draft;
mod duration;
mod expose;
mod from;
mod globals;
mod graph;
mod history;
mod key;
mod metadata;
mod mount;
mod op;
mod options;
mod path;
mod report;
mod request;
mod resolve;
mod run;
mod scope;
mod signal;
mod source;
#[cfg(test)]
mod tests;

pub use key::{StepKey, base_key, chain_key, content_key, recipe_key};
pub use op::{
    AddOptions, BindMount, BuildPlan, CacheMount, CacheSharing, Chmod, CopyFrom, CopyOp, CopySource, Mount,
    MountSource, Network, Op, RunOp, SecretMount, SshMount, Stage, StageBase, StageId, Step, StepId,
    TmpfsMount, WorkdirOp,
};
pub use options::{BaseImage, Bases, NamedContext, Options, Outline, PlanError};
pub use request::{
    ArgSummary, CacheSummary, ContextSource, Findings, GivenSummary, Summary, TargetSummary, checks,
    images_to_check, lint, summary, targets,
};
pub use resolve::{outline, resolve};
