//! From a syntax tree to a graph of steps. Pure: no disk, no network.
//!
//! In two halves, because `ENV PATH=$PATH:/x` needs the base image's
//! environment and ONBUILD sits in its config: [`outline`] says which stages
//! the target needs and which bases those need; the conductor fetches their
//! configs; [`resolve`] finishes the plan. Variables are expanded here and
//! never later.

mod op;

pub use op::{
    AddOptions, BindMount, BuildPlan, CacheMount, CacheSharing, Chmod, CopyFrom, CopyOp, CopySource, Mount,
    MountSource, Network, Op, RunOp, SecretMount, SshMount, Stage, StageBase, StageId, Step, StepId,
    TmpfsMount, WorkdirOp,
};
