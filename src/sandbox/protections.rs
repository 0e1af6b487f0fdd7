//! What keeps a RUN in, each under a name, so that a test can leave one out.
//!
//! The escape suite (`tests/escape`) shows of every attempt that it fails, and
//! that it succeeds once its protection is gone: only then it tests anything.
//! Leaving one out exists in builds with debug assertions only. In a release
//! build the set is empty and [`Protections::keep`] the constant `true`, so that
//! nothing, neither an argument nor the environment nor a message, can turn one
//! off.

use serde::{Deserialize, Serialize};

/// One thing that keeps a RUN in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Builder and stub cannot be read or traced by processes of their user.
    Undumpable,
    /// A RUN inherits standard input, output and error, and nothing else.
    Descriptors,
    /// The filters of refused system calls.
    Seccomp,
    /// At most Docker's capabilities; fewer on `chroot`.
    Capabilities,
    /// A process namespace of its own.
    Processes,
    /// A namespace of its own for System V memory, semaphores and queues.
    Ipc,
    /// A network of its own under `--network=none`.
    Network,
    /// The old root is detached, not just out of sight.
    NewRoot,
    /// /proc and /sys are masked and read-only where they are the host's.
    Masks,
    /// Device nodes on a RUN's mounts are names only.
    InertNodes,
    /// The few devices that can be opened cannot be changed.
    FixedNodes,
    /// A read-only mount is one.
    ReadOnlyMounts,
    /// Landlock: signals and abstract sockets end at the RUN.
    Scopes,
    /// Landlock: files end at the tree.
    Files,
    /// The stub runs from a sealed copy of this program.
    SealedProgram,
    /// Links of the image lead nowhere outside when mount points are made.
    Targets,
    /// /proc is served from an allow-list.
    ServedProc,
    /// mknod(2) is answered with a placeholder.
    ServedNodes,
    /// Extended attributes are set by the supervisor, which writes no record for a RUN.
    Attributes,
    /// chroot(2) to anywhere but here is refused.
    OneRoot,
    /// Calls that name a process name one of the RUN.
    Neighbours,
    /// Nobody gains rights by executing a file.
    NoNewPrivileges,
    /// Whatever is left is killed when a RUN ends.
    KillAll,
    /// Too many processes end a RUN.
    ProcessLimit,
    /// The kernel gives a RUN so many tasks, where it can be told.
    TaskLimit,
}

/// Under which protections a RUN is: all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protections {
    /// A bit for each that a test left out.
    #[cfg(debug_assertions)]
    left_out: u64,
}

#[cfg(debug_assertions)]
impl Protections {
    /// All but these. For tests that show what the others are worth.
    pub fn without(protections: &[Protection]) -> Self {
        let left_out = protections.iter().fold(0, |bits, protection| bits | 1 << *protection as u64);
        Self { left_out }
    }

    pub(super) fn keep(self, protection: Protection) -> bool {
        self.left_out & 1 << protection as u64 == 0
    }
}

#[cfg(not(debug_assertions))]
impl Protections {
    pub(super) const fn keep(self, _: Protection) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_everything_by_default() {
        assert!(Protections::default().keep(Protection::Undumpable));
        assert!(Protections::default().keep(Protection::ProcessLimit));
    }

    #[cfg(debug_assertions)]
    #[test]
    fn leaves_out_what_it_is_told() {
        let some = Protections::without(&[Protection::Seccomp, Protection::KillAll]);
        assert!(!some.keep(Protection::Seccomp) && !some.keep(Protection::KillAll));
        assert!(some.keep(Protection::Undumpable) && some.keep(Protection::Files));
    }
}
