//! Which CI system this is, what it says about the commit, and how its log
//! wants to be written.
//!
//! Pure: the environment arrives as a map and files through [`Files`], so
//! every answer can be tested from a table. Only the detected system's
//! variables are read: Woodpecker sets some `DRONE_*`, Drone some `CI_*`,
//! Forgejo claims to be Gitea and GitHub.

mod dialect;
mod facts;
mod files;
mod git;
mod git_object;
mod sources;
mod system;
mod url;

pub use dialect::{Dialect, ErrorPlace, colour};
pub use facts::{EventKind, Facts};
pub use files::{Files, MemoryFiles};
pub use system::System;
pub use url::{clean_url, url_path};

/// The environment of the process, handed in by a `main.rs`.
pub type Environment = std::collections::BTreeMap<String, String>;
