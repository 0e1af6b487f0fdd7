//! The way in: from an ordinary process to the builder, root in a user
//! namespace of its own.
//!
//! One clone(2) is probe and entry at once. The child, mapped by its parent,
//! tries everything a RUN needs in children of its own; if that works it *is*
//! the builder, if not it ends and the first process goes on without RUN.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::PathBuf;
use std::str::FromStr;

use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{self, Gid, Pid, Uid};

use super::probe::{self, Report, Trial};
use super::refusal::{Attempt, Circumstances, explain};
use super::scratch::{self, Scratch};
use super::supervise::{Signals, supervise};
use super::sys::{self, Side};
use super::{Error, IdMap, Refusal, Rung, chroot, idmap, mounting, raw};

/// What the caller wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// This rung or an error; none: the best that works.
    pub isolation: Option<Rung>,
    /// This storage; none: overlay where it works.
    pub storage: Option<StorageKind>,
    /// The probes run below it, because what works depends on its file
    /// system. Made if it is missing.
    pub state_dir: PathBuf,
}

/// How the tree of a RUN is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKind {
    /// Layers stacked by overlayfs.
    Overlay,
    /// One directory, with a scan for changes.
    Plain,
}

impl FromStr for StorageKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "overlay" => Ok(Self::Overlay),
            "plain" => Ok(Self::Plain),
            other => Err(format!("`{other}` is not a storage (expected `overlay` or `plain`)")),
        }
    }
}

/// How the tree of a RUN is kept here, and if not the fast way, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Layers stacked by overlayfs.
    Overlay,
    /// One directory, with a scan for changes.
    Plain {
        /// Why overlayfs is not used.
        reason: String,
    },
}

/// What was had.
#[derive(Clone, Debug)]
pub struct Entered {
    /// The rung of every RUN.
    pub rung: Rung,
    /// How their trees are kept.
    pub storage: Storage,
    /// Which owners files can have.
    pub id_map: IdMap,
    /// The rungs that were tried before this one.
    pub refusals: Vec<Refusal>,
    /// What this rung has to do without: a new /proc, `--network=none`, a host
    /// name of its own, overlay.
    pub shortfalls: Vec<Refusal>,
}

/// Enters the best rung there is. Called before any thread exists and before
/// anything was printed. With a rung, this returns in the builder, a child;
/// the first process never returns from it: it forwards signals and ends as
/// the builder ends. Without one, it returns in the first process, and only
/// RUN will be an error.
///
/// # Errors
/// When a forced rung or storage cannot be had, or the state directory cannot
/// be used.
pub fn enter(wish: &Wish) -> Result<Entered, Error> {
    match wish.isolation {
        Some(Rung::None) => without_rung(Vec::new()),
        Some(rung) if !rung.is_built() => Err(Error::NotBuilt(rung)),
        Some(Rung::Mounts) => take_mounts(wish)?.map_err(Error::Refused),
        Some(Rung::Chroot) => enter_chroot(wish)?.map_err(Error::Refused),
        Some(Rung::Single) => enter_user_namespace(Rung::Single, wish)?.map_err(Error::Refused),
        forced => match enter_user_namespace(Rung::Namespaces, wish)? {
            Ok(entered) => Ok(entered),
            Err(refusal) if forced.is_some() => Err(Error::Refused(refusal)),
            Err(refusal) => without_namespaces(wish, refusal),
        },
    }
}

fn without_namespaces(wish: &Wish, first: Refusal) -> Result<Entered, Error> {
    let second = match take_mounts(wish)? {
        Ok(entered) => return Ok(Entered { refusals: vec![first], ..entered }),
        Err(second) => second,
    };
    let third = match enter_user_namespace(Rung::Single, wish)? {
        Ok(entered) => return Ok(Entered { refusals: vec![first, second], ..entered }),
        Err(third) => third,
    };
    match enter_chroot(wish)? {
        Ok(entered) => Ok(Entered { refusals: vec![first, second, third], ..entered }),
        Err(fourth) => without_rung(vec![first, second, third, fourth]),
    }
}

/// Nothing to enter: this process is the builder.
fn take_mounts(wish: &Wish) -> Result<Result<Entered, Refusal>, Error> {
    let scratch = Scratch::below(&wish.state_dir)?;
    let around = circumstances()?;
    match mounting::probe(scratch.path(), around) {
        Ok(report) => entered(Rung::Mounts, wish, &report, around).map(Ok),
        Err(refusal) => Ok(Err(refusal)),
    }
}

fn without_rung(refusals: Vec<Refusal>) -> Result<Entered, Error> {
    let id_map = IdMap::current().map_err(during("read the id map"))?;
    let storage = Storage::Plain { reason: "RUN cannot run here".to_owned() };
    Ok(Entered { rung: Rung::None, storage, id_map, refusals, shortfalls: Vec::new() })
}

/// Nothing is entered: the first process is the builder.
fn enter_chroot(wish: &Wish) -> Result<Result<Entered, Refusal>, Error> {
    scratch::sweep(&wish.state_dir);
    let scratch = Scratch::below(&wish.state_dir)?;
    let shortfalls = match chroot::probe(scratch.path()).map_err(during("probe the rung `chroot`"))? {
        Ok(shortfalls) => shortfalls,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if wish.storage == Some(StorageKind::Overlay) {
        return Err(Error::OverlayRefused(chroot::no_overlay()));
    }
    let storage = Storage::Plain { reason: "there is no mount(2) on the rung `chroot`".to_owned() };
    let id_map = IdMap::current().map_err(during("read the id map"))?;
    Ok(Ok(Entered { rung: Rung::Chroot, storage, id_map, refusals: Vec::new(), shortfalls }))
}

/// The inner result is the builder's, or the refusal as the first process sees it.
fn enter_user_namespace(rung: Rung, wish: &Wish) -> Result<Result<Entered, Refusal>, Error> {
    let scratch = Scratch::below(&wish.state_dir)?;
    let around = circumstances()?;
    let (map_written, tell_map) = io::pipe().map_err(during("make a pipe"))?;
    let (verdict, tell_verdict) = io::pipe().map_err(during("make a pipe"))?;
    let signals = Signals::hold().map_err(during("hold signals"))?;
    let first = unistd::getpid();
    match sys::clone_process(libc::CLONE_NEWUSER) {
        Ok(Side::Child) => {
            drop((tell_map, verdict));
            let report = inside(rung, first, map_written, &scratch, tell_verdict);
            signals.release().map_err(during("release signals"))?;
            entered(rung, wish, &report, around).map(Ok)
        }
        Ok(Side::Parent(child)) => {
            drop((map_written, tell_verdict));
            let refusal = outside(rung, child, tell_map, verdict, around, &signals);
            signals.release().map_err(during("release signals"))?;
            Ok(Err(refusal))
        }
        Err(error) => {
            signals.release().map_err(during("release signals"))?;
            match error.raw_os_error() {
                Some(libc::EBUSY) => Err(during("enter a user namespace with threads running")(error)),
                errno => Ok(Err(explain_on(rung, Attempt::UserNamespace, errno.unwrap_or(0), around))),
            }
        }
    }
}

pub(super) fn circumstances() -> Result<Circumstances, Error> {
    let status = fs::read_to_string("/proc/self/status").map_err(during("read /proc/self/status"))?;
    Ok(Circumstances::parse(&status))
}

/// The child's half. Returns only when this process is fit to be the builder.
fn inside(
    rung: Rung,
    first: Pid,
    mut map_written: PipeReader,
    scratch: &Scratch,
    mut tell: PipeWriter,
) -> Report {
    // End of file without a byte: the parent gave up.
    if map_written.read_exact(&mut [0]).is_err() {
        sys::exit_now(1);
    }
    let mut report = Report::default();
    report.note(Attempt::BecomeRoot, become_root());
    // After the change of ids, which clears it.
    let death = prctl::set_pdeathsig(Signal::SIGKILL);
    if death.is_err() || unistd::getppid() != first {
        sys::exit_now(1);
    }
    if report.failure().is_none() {
        probe::probe(scratch.path(), trial(rung), &mut report);
    }
    // Whoever cannot be told is gone, and so is this process in a moment.
    let told = serde_json::to_vec(&report).map_err(io::Error::from).and_then(|text| tell.write_all(&text));
    if told.is_err() || report.failure().is_some() {
        // The first process owns the scratch directory too, but cannot enter
        // what overlayfs left in it.
        let _ = fs::remove_dir_all(scratch.path());
        sys::exit_now(1);
    }
    report
}

/// What is tried in the user namespace of `rung`.
pub(super) fn trial(rung: Rung) -> Trial {
    if rung == Rung::Single { Trial::Single } else { Trial::Namespaces }
}

/// The map of `rung` for `child`, which waits for it.
///
/// # Errors
/// The refusal to report.
pub(super) fn write_map(rung: Rung, child: Pid, around: Circumstances) -> Result<(), Refusal> {
    if rung != Rung::Single {
        return idmap::write(child, around);
    }
    idmap::write_single(child)
        .map_err(|error| explain_on(rung, Attempt::WriteMap, error.raw_os_error().unwrap_or(0), around))
}

/// Supplementary groups stay: they let an ordinary user read its own files,
/// and every RUN sets its own.
pub(super) fn become_root() -> io::Result<()> {
    unistd::setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
    unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
    Ok(())
}

/// The parent's half. Returns only when there is no builder.
fn outside(
    rung: Rung,
    child: Pid,
    mut tell_map: PipeWriter,
    mut verdict: PipeReader,
    around: Circumstances,
    signals: &Signals,
) -> Refusal {
    let report = write_map(rung, child, around).map(|()| {
        let mut text = Vec::new();
        // A child that died in between leaves the text empty.
        let _ = tell_map.write_all(&[1]).and_then(|()| verdict.read_to_end(&mut text));
        serde_json::from_slice::<Report>(&text).unwrap_or_default()
    });
    let refusal = match report {
        Ok(report) if report.is_complete() => supervise(child, signals),
        Ok(report) => {
            let (attempt, errno) = report.failure().unwrap_or((Attempt::Namespaces, 0));
            explain_on(rung, attempt, errno, around)
        }
        Err(refusal) => refusal,
    };
    // The child ends by itself once the pipe closes; make sure.
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
    refusal
}

fn entered(rung: Rung, wish: &Wish, report: &Report, around: Circumstances) -> Result<Entered, Error> {
    scratch::sweep(&wish.state_dir);
    let shortfalls = shortfalls(rung, report, around);
    let storage = match (wish.storage, refused_overlay(rung, report, around)) {
        (Some(StorageKind::Plain), _) => Storage::Plain { reason: "it was asked for".to_owned() },
        (Some(StorageKind::Overlay), Some(refusal)) => return Err(Error::OverlayRefused(refusal)),
        (None, Some(refusal)) => Storage::Plain { reason: refusal.to_string() },
        (_, None) => Storage::Overlay,
    };
    let id_map = IdMap::current().map_err(during("read the id map"))?;
    Ok(Entered { rung, storage, id_map, refusals: Vec::new(), shortfalls })
}

/// What `rung` has to do without.
pub(super) fn shortfalls(rung: Rung, report: &Report, around: Circumstances) -> Vec<Refusal> {
    let tried = report.shortfalls().map(|(attempt, errno)| explain_on(rung, attempt, errno, around));
    tried.chain(without_scopes(rung)).collect()
}

/// A RUN mostly shares the network namespace, in which abstract sockets are names.
fn without_scopes(rung: Rung) -> Option<Refusal> {
    if sys::landlock_version().is_ok_and(|version| version >= raw::SCOPES_SINCE) {
        return None;
    }
    let cause = "this kernel has no scopes of Landlock: a RUN can connect to abstract unix sockets of the \
                 network that it shares";
    Some(Refusal {
        rung,
        call: "landlock_create_ruleset(scoped)".to_owned(),
        errno: libc::EOPNOTSUPP,
        cause: cause.to_owned(),
        change: "use a node with Linux 6.12 or later, or `--network=none`".to_owned(),
    })
}

/// Why there is no overlayfs.
pub(super) fn refused_overlay(rung: Rung, report: &Report, around: Circumstances) -> Option<Refusal> {
    report.errno(Attempt::Overlay).map(|errno| explain_on(rung, Attempt::Overlay, errno, around))
}

/// The same failure has other causes outside a user namespace.
pub(super) fn explain_on(rung: Rung, attempt: Attempt, errno: i32, around: Circumstances) -> Refusal {
    match rung {
        Rung::Mounts => mounting::explain_mounts(attempt, errno, around),
        rung => Refusal { rung, ..explain(attempt, errno, around) },
    }
}

pub(super) fn during(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Enter { action, source }
}
