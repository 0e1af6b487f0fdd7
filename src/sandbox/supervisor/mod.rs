//! The supervisor of a RUN: answers system calls that need /proc, devices or
//! identity where no mount and no namespace gives them. Not there yet: RUN
//! goes without /proc.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::spec::RunSpec;

/// Which parts are switched on, and what they need.
pub(super) struct Parts;

impl Parts {
    /// What the rung `chroot` needs for `spec`, whose tree is at `root`.
    pub(super) fn of(_spec: &RunSpec, _root: &Path) -> Self {
        Self
    }
}

/// A supervisor at work, in a thread of its own.
pub(super) struct Supervisor;

impl Supervisor {
    pub(super) fn start(_listener: OwnedFd, _parts: Parts) -> io::Result<Self> {
        Ok(Self)
    }

    /// From now on fork(2) is refused.
    pub(super) fn refuse_new_processes(&self) {}
}

/// Installs the filter whose listener a supervisor holds.
pub(super) fn install() -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}
