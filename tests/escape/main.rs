//! The escape suite: what a hostile RUN tries, on every rung that works here.
//!
//! Each attempt (`table.rs`) is made twice. Under all protections nothing outside
//! may show a sign of it; with the protections against it left out, and nothing
//! else changed, something must: so it is known to bite. Signs (`world.rs`) are
//! looked for outside, and all of them after every attempt.
//!
//! ```text
//! this program        trials; starts one builder per rung
//! └─ --on RUNG        the builder: enters the rung, is the victim, judges
//!    └─ --attack NAME the RUN (`attacks/`)
//! ```
//!
//! Inside the containers of CI systems (runc, as root) the attempts are made once
//! more, without controls: engines refuse much of it themselves there.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "all of this crate is a test, though it brings its own main"
)]
#![expect(unreachable_pub, reason = "one program: nothing here is seen from outside")]

mod attacks;
mod builder;
mod raw;
mod table;
mod world;

#[path = "../sandboxes/bundle.rs"]
#[expect(dead_code, reason = "this program uses a part of it")]
mod bundle;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "this program uses a part of it")]
mod support;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use builder::Verdict;
use bundle::{Kit, Sandbox, Volume};
use coracle::sandbox::{self, Rung};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use table::{ATTEMPTS, Attempt, Control};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = sandbox::stub(&arguments) {
        return code.into();
    }
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        [attacks::MARK, name, ..] => attacks::make(name),
        [world::VICTIM, ..] => world::be_a_victim(),
        [builder::MARK, rung, state, rest @ ..] => builder::judge_all(rung, Path::new(state), rest),
        _ => try_all(&Arguments::from_iter(arguments)),
    }
}

/// Attempts that must have been seen to succeed once their protection was gone.
const ENOUGH: usize = 40;

/// A RUN that was told to execute what carries it, and found no such program: the
/// supervisor leads to files of the tree alone. That is as good as a refusal.
fn found_no_carrier(attempt: &Attempt, verdict: &Verdict) -> bool {
    attempt.name == "change_the_carrier" && verdict.said.contains("NotExecutable")
}

fn try_all(arguments: &Arguments) -> ExitCode {
    let filter = arguments.filter.clone().unwrap_or_default();
    let places = if arguments.list { Vec::new() } else { places(&filter) };
    let mut trials = Vec::new();
    let mut bitten: Vec<&str> = Vec::new();
    for place in &places {
        if let Err(reason) = place.verdicts.clone() {
            let all = move || Ok(Completion::ignored_with(reason));
            trials.push(Trial::ignorable_test(place.name.clone(), all));
            continue;
        }
        for attempt in ATTEMPTS {
            let control = attempt.control(place.rung);
            if matches!(control, Control::Untried) || (attempt.heavy && !place.controls) {
                continue;
            }
            if kernel() < attempt.since {
                trials.push(place.too_old(attempt));
                continue;
            }
            trials.push(place.attempt(attempt));
            if place.controls {
                let trial = place.control(attempt, control);
                if place.bit(attempt) {
                    bitten.push(attempt.name);
                }
                trials.push(trial);
            }
        }
    }
    bitten.sort_unstable();
    bitten.dedup();
    if filter.is_empty() && places.iter().any(|place| place.controls && place.verdicts.is_ok()) {
        trials.push(Trial::test("enough_attempts_bite", move || match bitten.len() {
            count if count >= ENOUGH => Ok(()),
            count => Err(Failed::from(format!("{count} attempts are known to bite: {bitten:?}"))),
        }));
    }
    libtest_mimic::run(arguments, trials).exit_code()
}

/// Somewhere a builder was started, and what came of it.
struct Place {
    name: String,
    rung: Rung,
    controls: bool,
    /// By `attempt` and `control`; or why there is no builder.
    verdicts: Result<BTreeMap<(String, bool), Verdict>, String>,
}

impl Place {
    fn verdict(&self, attempt: &Attempt, control: bool) -> Result<Verdict, String> {
        let verdicts = self.verdicts.as_ref().map_err(Clone::clone)?;
        let verdict = verdicts.get(&(attempt.name.to_owned(), control));
        Ok(verdict.cloned().unwrap_or_else(|| Verdict::broken(attempt.name, control, "no verdict")))
    }

    fn bit(&self, attempt: &Attempt) -> bool {
        self.verdict(attempt, true).is_ok_and(|verdict| !verdict.signs.is_empty())
    }

    fn attempt(&self, attempt: &Attempt) -> Trial {
        let verdict = self.verdict(attempt, false);
        let refused = verdict.as_ref().is_ok_and(|verdict| found_no_carrier(attempt, verdict));
        Trial::ignorable_test(format!("{}::{}", self.name, attempt.name), move || match verdict {
            Err(reason) => Ok(Completion::ignored_with(reason)),
            Ok(verdict) if !verdict.signs.is_empty() => {
                Err(Failed::from(format!("it got out: {:?}\n{}", verdict.signs, verdict.said)))
            }
            Ok(_) if refused => Ok(Completion::Completed),
            Ok(verdict) if !verdict.made => Err(Failed::from(format!("it was not made:\n{}", verdict.said))),
            Ok(_) => Ok(Completion::Completed),
        })
    }

    fn too_old(&self, attempt: &Attempt) -> Trial {
        let (major, minor) = attempt.since;
        let reason = format!("the kernel has nothing against it before Linux {major}.{minor}");
        let name = format!("{}::{}", self.name, attempt.name);
        Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason)))
    }

    fn control(&self, attempt: &Attempt, control: Control) -> Trial {
        let verdict = self.verdict(attempt, true);
        Trial::ignorable_test(format!("{}::{}::control", self.name, attempt.name), move || {
            match (verdict, control) {
                (_, Control::Refused(reason)) => Ok(Completion::ignored_with(reason)),
                (Err(reason), _) => Ok(Completion::ignored_with(reason)),
                (Ok(verdict), _) if verdict.signs.is_empty() => Err(Failed::from(format!(
                    "it does not succeed without its protection either:\n{}",
                    verdict.said
                ))),
                _ => Ok(Completion::Completed),
            }
        })
    }
}

/// Its version.
pub fn kernel() -> (u32, u32) {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).flat_map(str::parse);
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn places(filter: &str) -> Vec<Place> {
    let root = rustix::process::geteuid().is_root();
    let mut places = Vec::new();
    for rung in [Rung::Namespaces, Rung::Mounts, Rung::Single, Rung::Chroot] {
        if root || matches!(rung, Rung::Namespaces | Rung::Single) {
            // Controls need real root for what a mapped one could not do anyway.
            let verdicts = on_this_machine(rung, root, filter);
            places.push(Place { name: rung.name().to_owned(), rung, controls: root, verdicts });
        }
    }
    let kit = Kit::new(&std::env::current_exe().unwrap());
    for (sandbox, rung) in [
        ("docker-default", Rung::Chroot),
        ("docker-admin", Rung::Mounts),
        ("podman-default", Rung::Namespaces),
        ("restricted-podman", Rung::Single),
    ] {
        let verdicts =
            kit.as_ref().map_err(Clone::clone).and_then(|kit| in_a_container(kit, sandbox, rung, filter));
        places.push(Place { name: sandbox.to_owned(), rung, controls: false, verdicts });
    }
    if let Ok(kit) = &kit {
        kit.remove();
    }
    places
}

fn on_this_machine(
    rung: Rung,
    controls: bool,
    filter: &str,
) -> Result<BTreeMap<(String, bool), Verdict>, String> {
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).or_else(|_| tempfile::tempdir()).unwrap();
    // A copy, which an attempt on the builder's own program may spoil.
    let program: PathBuf = state.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command.arg(builder::MARK).arg(rung.name()).arg(state.path());
    if controls {
        command.arg(builder::WITH_CONTROLS);
    }
    let output = builder::prepared(&mut command, filter).output().unwrap();
    builder::read_verdicts(&output)
}

fn in_a_container(
    kit: &Kit,
    sandbox: &str,
    rung: Rung,
    filter: &str,
) -> Result<BTreeMap<(String, bool), Verdict>, String> {
    let sandbox = Sandbox::named(sandbox).ok_or("no such sandbox")?;
    let volumes = [Volume { source: kit.volume(&sandbox), target: "/state", read_only: false }];
    let nonce = builder::nonce();
    let arguments = ["/usr/bin/coracle", builder::MARK, rung.name(), "/state", &nonce, filter];
    builder::read_verdicts(&kit.run(&sandbox, &volumes, &arguments)?)
}
