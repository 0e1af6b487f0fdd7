//! The rung `chroot`: a stock container, root with Docker's 14 capabilities
//! and its seccomp profile, where neither mounts nor namespaces can be had.
//!
//! A RUN gets chroot(2) into the plain tree, a Landlock domain that ends at
//! that tree, nine capabilities and no_new_privs. What mounts do elsewhere is
//! done by renaming into the tree and back ([`swap`]). A supervisor beside it
//! answers what needs /proc and what needs devices (the room next door).
//!
//! ```text
//! builder            swaps directories in, follows the stub, swaps them out
//! └─ stub            child subreaper; supervisor thread; kills what is left
//!    └─ RUN          in the tree
//! ```

mod carry;
mod child;
mod fixtures;
mod guard;
mod limits;
mod probe;
mod swap;

use super::namespaces::Namespaces;
use super::spec::{Exit, OutputStream, Root, RunSpec};
use super::{Error, Rung, Sandbox};

pub(super) use carry::carry_order;
pub(super) use fixtures::NODES;
pub(super) use limits::Limits;
pub(super) use probe::{no_overlay, probe};

/// What the stub of this rung is told.
pub(super) const MARKER: &str = "--coracle-chroot-stub";

/// RUN in a chroot.
pub(super) struct Chroot {
    flow: Namespaces,
}

impl Chroot {
    pub(super) fn new() -> Self {
        Self { flow: Namespaces::with_marker(Rung::Chroot, MARKER) }
    }
}

impl Sandbox for Chroot {
    fn rung(&self) -> Rung {
        Rung::Chroot
    }

    fn run(
        &self,
        spec: &RunSpec,
        output: &mut dyn FnMut(OutputStream, &[u8]),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Exit, Error> {
        let Root::Plain(root) = &spec.root else { return Err(Error::OverlayRefused(no_overlay())) };
        if spec.network_none {
            let source = std::io::Error::from_raw_os_error(nix::libc::EPERM);
            return Err(Error::NoNetworkNamespace { source });
        }
        let swaps = fixtures::put(root, spec)?;
        let ended = self.flow.run(spec, output, cancelled);
        // Whatever the RUN did, the tree and the caches get back what is theirs.
        let restored = swaps.undo();
        let exit = ended?;
        restored?;
        Ok(exit)
    }
}
