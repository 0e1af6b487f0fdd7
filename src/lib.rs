//! Builds and pushes container images inside CI: no daemon, no privileged mode,
//! no change to the runner.
//!
//! The house has floors: a room imports from lower floors only, never sideways
//! (ARCHITECTURE.md has the picture, `tests/architecture.rs` the table). The
//! walk of a build is `BuildRequest` → `BuildPlan` → layers → `Image`.

pub mod build;
pub mod ci;
pub mod cli;
pub mod context;
pub mod dockerfile;
pub mod fetch;
pub mod image;
pub mod layer;
pub mod metadata;
pub mod net;
pub mod plan;
pub mod progress;
pub mod registry;
pub mod rootfs;
pub mod sandbox;
pub mod secret;
pub mod ssh;
pub mod store;
