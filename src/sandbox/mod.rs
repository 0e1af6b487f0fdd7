//! Where a RUN runs: namespaces, mounts, identity, and nothing of the builder.
//!
//! A door calls [`stub`] first (this very program is executed again for each
//! RUN, with a fresh environment), then [`enter`] before any thread exists.
//! `enter` tries the rungs of the isolation ladder by really doing what they
//! need. On [`Rung::Namespaces`] and [`Rung::Single`] the first process stays
//! outside, forwards signals and passes on the exit status; the builder is its
//! child, root in a user namespace of its own. On [`Rung::Mounts`] and [`Rung::Chroot`] it is
//! the builder itself.
//! [`survey`] tries them all and enters none.
//!
//! ```text
//! first process      writes the id map, forwards signals, waits
//! └─ builder         root in the user namespace; threads, network, state
//!    └─ stub         this program again from a sealed memfd; waits, reports
//!       └─ RUN       pid 1 of new pid, mount, ipc and uts namespaces
//! ```
//!
//! What is promised to the builder: a RUN sees the root it was given and nothing
//! else of the host's files; it has at most Docker's 14 capabilities; it cannot
//! read the builder's memory, environment or descriptors; when [`Sandbox::run`]
//! returns, no process of it is left; mount points made for it leave no trace.
//!
//! `unsafe` lives in `sys` and `raw` alone, in small wrappers. Further rungs slot in as
//! another implementation of [`Sandbox`] and another attempt in `enter`.

mod child;
mod chroot;
mod copy;
mod devices;
mod enter;
mod error;
mod filter;
mod filter_foreign;
mod idmap;
mod instructions;
mod limit;
mod linked;
mod message;
mod mounting;
mod mounts;
mod namespaces;
mod objects;
mod overlay;
mod probe;
mod protections;
mod raw;
mod refusal;
mod rung;
mod scratch;
mod single;
mod spec;
mod stub;
mod supervise;
mod supervisor;
mod survey;
mod sys;
mod target;
mod tasks;
mod tracing;

pub use enter::{Entered, Storage, StorageKind, Wish, enter};
pub use error::Error;
pub use idmap::{IdMap, IdRange};
pub use limit::Ulimit;
pub use linked::{Linked, Touched};
pub use overlay::MOST_LOWERS;
pub use protections::{Protection, Protections};
pub use refusal::Refusal;
pub use rung::{Rung, UnknownRung};
pub use spec::{Exit, MountSpec, OutputStream, Root, RunSpec};
pub use stub::stub;
pub use survey::{Finding, Outcome, Survey, survey};

/// A way to run one command in a root of its own.
pub trait Sandbox: Send + Sync {
    /// Which rung of the ladder this is.
    fn rung(&self) -> Rung;

    /// Asked before a tree is prepared for a RUN.
    ///
    /// # Errors
    /// [`Error::NoRung`] where no RUN can run.
    fn ready(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Runs `spec` to its end. Chunks of its output go to `output` as they
    /// come; `cancelled` is asked at least every 100 ms, and once it says yes
    /// everything the RUN started is killed and the call is
    /// [`Error::Cancelled`].
    ///
    /// When this returns, no process of the RUN is left, and mount points
    /// that were made for it are gone from the root.
    ///
    /// # Errors
    /// When the RUN could not be started. A program that ran and failed is no
    /// error but an [`Exit`]; one that was not found or not executable is an
    /// error with an [`Error::exit_code`].
    fn run(
        &self,
        spec: &RunSpec,
        output: &mut dyn FnMut(OutputStream, &[u8]),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Exit, Error>;
}

/// The sandbox of the rung that was entered. Without a rung it is one whose
/// `run` is [`Error::NoRung`], with everything that was refused.
pub fn sandbox(entered: &Entered) -> Box<dyn Sandbox> {
    match entered.rung {
        rung @ (Rung::Namespaces | Rung::Mounts) => Box::new(namespaces::Namespaces::new(rung)),
        Rung::Single => Box::new(namespaces::Namespaces::with_marker(Rung::Single, single::MARKER)),
        Rung::Chroot => Box::new(chroot::Chroot::new()),
        _ => Box::new(NoSandbox { refusals: entered.refusals.clone() }),
    }
}

/// No RUN here: only FROM, COPY, ADD and metadata build.
struct NoSandbox {
    refusals: Vec<Refusal>,
}

impl Sandbox for NoSandbox {
    fn rung(&self) -> Rung {
        Rung::None
    }

    fn ready(&self) -> Result<(), Error> {
        Err(Error::NoRung { refusals: self.refusals.clone() })
    }

    fn run(
        &self,
        _: &RunSpec,
        _: &mut dyn FnMut(OutputStream, &[u8]),
        _: &dyn Fn() -> bool,
    ) -> Result<Exit, Error> {
        Err(Error::NoRung { refusals: self.refusals.clone() })
    }
}
