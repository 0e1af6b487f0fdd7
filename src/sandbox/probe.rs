//! Trying what a RUN needs by doing it, in a scratch directory on the state
//! volume. Versions and sysctls say nothing: security modules interfere.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::waitpid;
use nix::unistd;
use serde::{Deserialize, Serialize};

use super::refusal::Attempt;
use super::sys::{self, Side};
use super::{mounts, overlay, single};

/// The namespaces of a RUN.
pub(super) const RUN_NAMESPACES: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// What a RUN can do without.
const OPTIONAL: [Attempt; 4] = [Attempt::Overlay, Attempt::Proc, Attempt::Network, Attempt::Chroot];

/// For which rung is tried: they ask for slightly different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// Root of many ids, who can leave the groups it came with.
    Namespaces,
    /// The same without a user namespace. Where a filter refuses pivot_root(2)
    /// the root is moved over `/`, then chroot(2).
    Mounts,
    /// Root of one id: setgroups(2) is denied there.
    Single,
}

/// What was tried, with 0 or the error of each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    tried: Vec<(Attempt, i32)>,
}

impl Report {
    pub(super) fn note(&mut self, attempt: Attempt, result: io::Result<()>) -> bool {
        let errno = result.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
        self.tried.push((attempt, errno));
        errno == 0
    }

    /// The error of one attempt.
    pub(super) fn errno(&self, attempt: Attempt) -> Option<i32> {
        self.failures().find(|(tried, _)| *tried == attempt).map(|(_, errno)| errno)
    }

    /// The first failure a RUN cannot do without.
    pub(super) fn failure(&self) -> Option<(Attempt, i32)> {
        self.failures().find(|(attempt, _)| !OPTIONAL.contains(attempt))
    }

    /// The failures it can do without.
    pub(super) fn shortfalls(&self) -> impl Iterator<Item = (Attempt, i32)> {
        self.failures().filter(|(attempt, _)| OPTIONAL.contains(attempt))
    }

    /// Whether everything needed was tried and worked.
    pub(super) fn is_complete(&self) -> bool {
        let last = [Attempt::Detach, Attempt::MoveRoot];
        self.failure().is_none() && self.tried.iter().any(|(attempt, _)| last.contains(attempt))
    }

    fn failures(&self) -> impl Iterator<Item = (Attempt, i32)> {
        self.tried.iter().copied().filter(|(_, errno)| *errno != 0)
    }
}

/// Tries everything, in children of this process.
pub(super) fn probe(scratch: &Path, trial: Trial, report: &mut Report) {
    if let Err(error) = try_namespaces(scratch, trial, report) {
        report.note(Attempt::Namespaces, Err(error));
        return;
    }
    report.note(Attempt::Network, try_network());
    if trial == Trial::Single && report.failure().is_none() {
        single::probe(report);
    }
}

fn try_namespaces(scratch: &Path, trial: Trial, report: &mut Report) -> io::Result<()> {
    let (mut reader, mut writer) = io::pipe()?;
    match sys::clone_process(RUN_NAMESPACES)? {
        Side::Child => {
            let mut found = Report::default();
            try_all(scratch, trial, &mut found);
            let written = serde_json::to_vec(&found).map_err(io::Error::from);
            let written = written.and_then(|text| writer.write_all(&text));
            sys::exit_now(i32::from(written.is_err()))
        }
        Side::Parent(child) => {
            drop(writer);
            let mut text = Vec::new();
            reader.read_to_end(&mut text)?;
            waitpid(child, None)?;
            let found: Report = serde_json::from_slice(&text).map_err(io::Error::from)?;
            report.tried.extend(found.tried);
            Ok(())
        }
    }
}

fn try_network() -> io::Result<()> {
    match sys::clone_process(libc::CLONE_NEWNET)? {
        Side::Child => sys::exit_now(0),
        Side::Parent(child) => waitpid(child, None).map(drop).map_err(io::Error::from),
    }
}

/// In the new namespaces, as pid 1. Ends at the first failure that matters.
fn try_all(scratch: &Path, trial: Trial, report: &mut Report) {
    let root = scratch.join("root");
    let groups = match trial {
        Trial::Single => Ok(()),
        Trial::Namespaces | Trial::Mounts => unistd::setgroups(&[]).map_err(io::Error::from),
    };
    let _ = report.note(Attempt::BecomeRoot, groups)
        && report.note(Attempt::Slave, mounts::make_private())
        && {
            report.note(Attempt::Overlay, try_overlay(scratch));
            report.note(Attempt::Bind, bind_root(&root))
        }
        && {
            report.note(Attempt::Proc, try_proc(&root.join("proc")));
            change_root(&root, trial, report)
        }
        && report.note(Attempt::Chroot, unistd::chroot("/").map_err(io::Error::from));
}

fn bind_root(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root.join("proc"))?;
    Ok(mount(Some(root), root, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?)
}

fn try_proc(target: &Path) -> io::Result<()> {
    Ok(mount(Some("proc"), target, Some("proc"), MsFlags::empty(), None::<&str>)?)
}

fn change_root(root: &Path, trial: Trial, report: &mut Report) -> bool {
    let pivoted = unistd::chdir(root).and_then(|()| unistd::pivot_root(".", ".")).map_err(io::Error::from);
    match (pivoted, trial) {
        (Err(_), Trial::Mounts) => report.note(Attempt::MoveRoot, mounts::move_to_root()),
        (pivoted, _) => {
            report.note(Attempt::PivotRoot, pivoted)
                && report.note(Attempt::Detach, umount2(".", MntFlags::MNT_DETACH).map_err(io::Error::from))
        }
    }
}

/// Mounts an overlay, deletes through it and writes through it, and looks
/// whether the upper directory has both: a whiteout is a device node, an
/// opaque directory needs `user.*` attributes.
fn try_overlay(scratch: &Path) -> io::Result<()> {
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| scratch.join(name));
    for directory in [&lower, &upper, &work] {
        fs::create_dir_all(directory)?;
    }
    fs::write(lower.join("gone"), "")?;
    rustix::fs::setxattr(&lower, "user.coracle.probe", b"y", rustix::fs::XattrFlags::empty())?;
    let stack = overlay::Stack::open(std::slice::from_ref(&lower), &upper, &work)?;
    let point = mounts::open_path(&upper)?;
    stack.mount(&point)?;
    let merged = mounts::open_path(&upper)?;
    let merged = mounts::link(&merged);
    fs::remove_file(merged.join("gone"))?;
    fs::create_dir(merged.join("new"))?;
    Ok(umount2(&upper, MntFlags::MNT_DETACH)?)
}
