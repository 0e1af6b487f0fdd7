//! What every rung would come to here, without entering any: for `coracle doctor`.
//!
//! Each rung is tried by doing what it needs, in children of this process and
//! a scratch directory on the state volume; nothing is read off versions.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::Path;

use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::enter::{
    become_root, circumstances, during, explain_on, refused_overlay, shortfalls, trial, write_map,
};
use super::probe::{self, Report};
use super::refusal::{Attempt, Circumstances};
use super::scratch::Scratch;
use super::sys::{self, Side};
use super::{Error, IdMap, Refusal, Rung, Storage, chroot, mounting};

/// What this machine has to offer.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Every rung, best first.
    pub rungs: Vec<Finding>,
    /// `NoNewPrivs` of this process.
    pub no_new_privileges: bool,
    /// A seccomp filter is in force.
    pub seccomp: bool,
    /// The version of Landlock, if the kernel has it.
    pub landlock: Option<u32>,
}

/// One rung here.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which.
    pub rung: Rung,
    /// What came out.
    pub outcome: Outcome,
}

/// What trying a rung came to.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It works.
    Works {
        /// How trees would be kept.
        storage: Storage,
        /// Which owners files could have.
        id_map: IdMap,
        /// What it would have to do without.
        shortfalls: Vec<Refusal>,
    },
    /// Something it needs is refused.
    Refused(Refusal),
    /// This version does not try.
    Untried,
}

impl Survey {
    /// The rung that a build takes: the best one that works and is built.
    pub fn taken(&self) -> &Finding {
        let usable =
            |finding: &&Finding| finding.rung.is_built() && matches!(finding.outcome, Outcome::Works { .. });
        self.rungs.iter().find(usable).expect("the rung `none` always works")
    }
}

/// Tries every rung. The process must have one thread.
///
/// # Errors
/// When the state directory cannot be used, or the machine is out of processes.
pub fn survey(state_dir: &Path) -> Result<Survey, Error> {
    let around = circumstances()?;
    let rungs = Rung::ALL
        .into_iter()
        .map(|rung| Ok(Finding { rung, outcome: try_rung(rung, state_dir, around)? }))
        .collect::<Result<_, Error>>()?;
    Ok(Survey {
        rungs,
        no_new_privileges: around.no_new_privileges,
        seccomp: around.seccomp,
        landlock: sys::landlock_version().ok(),
    })
}

fn try_rung(rung: Rung, state_dir: &Path, around: Circumstances) -> Result<Outcome, Error> {
    let scratch = Scratch::below(state_dir)?;
    let tried = match rung {
        Rung::Namespaces | Rung::Single => try_user_namespace(rung, scratch.path(), around)?,
        Rung::Mounts => match mounting::probe(scratch.path(), around) {
            Ok(report) => Ok((report, IdMap::current().map_err(during("read the id map"))?)),
            Err(refusal) => Err(refusal),
        },
        Rung::None => return Ok(nothing(IdMap::current().map_err(during("read the id map"))?)),
        Rung::Chroot => return try_chroot(scratch.path()),
        Rung::Virtual => return Ok(Outcome::Untried),
    };
    Ok(match tried {
        Err(refusal) => Outcome::Refused(refusal),
        Ok((report, id_map)) => match report.failure() {
            Some((attempt, errno)) => Outcome::Refused(explain_on(rung, attempt, errno, around)),
            None => works(rung, &report, id_map, around),
        },
    })
}

fn works(rung: Rung, report: &Report, id_map: IdMap, around: Circumstances) -> Outcome {
    let storage = match refused_overlay(rung, report, around) {
        Some(refusal) => Storage::Plain { reason: refusal.to_string() },
        None => Storage::Overlay,
    };
    Outcome::Works { storage, id_map, shortfalls: shortfalls(rung, report, around) }
}

fn try_chroot(scratch: &Path) -> Result<Outcome, Error> {
    let probed = chroot::probe(scratch).map_err(during("probe the rung `chroot`"))?;
    let id_map = IdMap::current().map_err(during("read the id map"))?;
    let storage = Storage::Plain { reason: "there is no mount(2) on the rung `chroot`".to_owned() };
    Ok(match probed {
        Ok(shortfalls) => Outcome::Works { storage, id_map, shortfalls },
        Err(refusal) => Outcome::Refused(refusal),
    })
}

fn nothing(id_map: IdMap) -> Outcome {
    let storage = Storage::Plain { reason: "RUN cannot run there".to_owned() };
    Outcome::Works { storage, id_map, shortfalls: Vec::new() }
}

type Tried = Result<(Report, IdMap), Refusal>;

fn try_user_namespace(rung: Rung, scratch: &Path, around: Circumstances) -> Result<Tried, Error> {
    let (map_written, tell_map) = io::pipe().map_err(during("make a pipe"))?;
    let (verdict, tell_verdict) = io::pipe().map_err(during("make a pipe"))?;
    match sys::clone_process(libc::CLONE_NEWUSER) {
        Ok(Side::Child) => {
            drop((tell_map, verdict));
            inside(rung, scratch, map_written, tell_verdict)
        }
        Ok(Side::Parent(child)) => {
            drop((map_written, tell_verdict));
            let tried = outside(rung, child, tell_map, verdict, around);
            waitpid(child, None).map_err(|errno| during("wait for the probe")(errno.into()))?;
            tried
        }
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            Err(during("try a user namespace with threads running")(error))
        }
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            Ok(Err(explain_on(rung, Attempt::UserNamespace, errno, around)))
        }
    }
}

fn inside(rung: Rung, scratch: &Path, mut map_written: PipeReader, mut tell: PipeWriter) -> ! {
    // End of file without a byte: there is no map.
    if map_written.read_exact(&mut [0]).is_err() {
        sys::exit_now(1);
    }
    let mut report = Report::default();
    if report.note(Attempt::BecomeRoot, become_root()) {
        probe::probe(scratch, trial(rung), &mut report);
    }
    // The first process cannot enter what overlayfs left there.
    let _ = fs::remove_dir_all(scratch);
    let told = serde_json::to_vec(&report).map_err(io::Error::from).and_then(|text| tell.write_all(&text));
    sys::exit_now(i32::from(told.is_err()))
}

fn outside(
    rung: Rung,
    child: Pid,
    mut tell_map: PipeWriter,
    mut verdict: PipeReader,
    around: Circumstances,
) -> Result<Tried, Error> {
    if let Err(refusal) = write_map(rung, child, around) {
        return Ok(Err(refusal));
    }
    let id_map = IdMap::of(&child.to_string()).map_err(during("read the id map of the probe"))?;
    let mut text = Vec::new();
    let heard = tell_map.write_all(&[1]).and_then(|()| verdict.read_to_end(&mut text));
    heard.map_err(during("hear from the probe"))?;
    match serde_json::from_slice::<Report>(&text) {
        Ok(report) => Ok(Ok((report, id_map))),
        Err(error) => Err(during("understand the probe")(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(rung: Rung, works: bool) -> Finding {
        let outcome = if works { nothing(IdMap::default()) } else { Outcome::Untried };
        Finding { rung, outcome }
    }

    #[test]
    fn takes_the_best_that_works_and_is_built() {
        for (works, expected) in [
            (&[Rung::Namespaces, Rung::Mounts][..], Rung::Namespaces),
            (&[Rung::Mounts, Rung::Single], Rung::Mounts),
            (&[Rung::Virtual], Rung::None),
        ] {
            let rungs = Rung::ALL
                .into_iter()
                .map(|rung| finding(rung, works.contains(&rung) || rung == Rung::None))
                .collect();
            let survey = Survey { rungs, no_new_privileges: false, seccomp: false, landlock: None };
            assert_eq!(survey.taken().rung, expected);
        }
    }
}
